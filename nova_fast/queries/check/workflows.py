"""Every operation waits for exactly one task, and every task is waited for: nothing hangs, nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.model.workflows import Direction, Task, Workflow
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, is_there, readable


def workflows(reader: Reader) -> Iterator[Finding]:
    """Workflows against servers and tasks, then tasks against workflows."""
    for workflow in readable(reader, tables.WORKFLOWS):
        for wrong in _workflow(reader, workflow):
            yield Finding(
                "workflows", workflow.server_id, f"the workflow {workflow.kind} of server {workflow.server_id} {wrong}"
            )
    for task in readable(reader, tables.TASKS):
        if wrong := _task(reader, task):
            yield Finding("workflows", task.id, f"task {task.id} ({task.step}, asked of {task.peer}) {wrong}")


def _workflow(reader: Reader, workflow: Workflow) -> Iterator[str]:
    if not is_there(reader, tables.SERVERS, workflow.server_id):
        yield "is of a server that is gone"
    if not workflow.task_id and not workflow.queued:
        yield "waits for nothing"
    elif not workflow.task_id and (workflow.step or workflow.direction is Direction.UNWIND):
        yield "is queued although it has begun"
    elif workflow.task_id and not is_there(reader, tables.TASKS, workflow.task_id):
        yield f"waits for task {workflow.task_id}, which is gone"
    if workflow.direction is Direction.UNWIND and workflow.failure is None:
        yield "unwinds without a reason"


def _task(reader: Reader, task: Task) -> str:
    workflow = find(reader, tables.WORKFLOWS, task.server_id)
    if workflow is None:
        return f"is of server {task.server_id}, to which nothing is being done"
    return "" if workflow.task_id == task.id else f"is not what the workflow of server {task.server_id} waits for"
