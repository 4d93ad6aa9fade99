"""Moves workflows on, inside the transaction that records what happened.

Pure: given what the store says, it decides the next step, records the task it asks of a daemon, and collects it for the
dispatcher, which sends it only after the commit. Whoever crashes when, the rows say what was asked and what is done.

Every workflow that waits has a task, and every task ends: with its answer, when its host is known to be down, or at its
deadline. A defect in a recipe ends that one workflow in ERROR; it neither stops the others nor is tried for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import msgspec

from nova_fast.commands.guests import note_stray
from nova_fast.commands.servers import save_server
from nova_fast.commands.workflows import finish_action, forget_task
from nova_fast.conductor.workflows import RECIPES
from nova_fast.conductor.workflows.recipe import MessageOf, PeerOf, Recipe, Step, fault_of, host_down
from nova_fast.model.base import Message
from nova_fast.model.errors import Failure, InternalError, NovaFastError, Unavailable
from nova_fast.model.events import Released
from nova_fast.model.hosts import Claim
from nova_fast.model.servers import Server
from nova_fast.model.states import Action, VmState
from nova_fast.model.tasks import Placement
from nova_fast.model.workflows import Direction, Task, Workflow
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction, WriteFailed

log = logging.getLogger(__name__)

US_PER_S = 1_000_000
_STEPS_MAX = 64  # of one workflow in one transaction: more is a loop that does not end
_BEHIND_IDS = "~"  # ids are hexadecimal digits
_NOTHING = Claim(vcpus=0, ram_mib=0, disk_gib=0)


class Engine:
    """Moves workflows on in one transaction and remembers which tasks were asked."""

    def __init__(self, task_timeout_s: float) -> None:
        self._task_timeout_s = task_timeout_s

    def advance_ready(self, tx: Transaction) -> list[Task]:
        """Move on every workflow that waits for nothing; returns the tasks to send after the commit."""
        tasks: list[Task] = []
        for workflow in list(tx.scan_index(tables.WORKFLOWS_READY)):

            def move(workflow: Workflow = workflow) -> None:
                task = self._run(tx, workflow)
                if task is not None:
                    tasks.append(task)

            _contained(tx, workflow.server_id, move)
        return tasks

    def take_answer(self, tx: Transaction, task_id: str, answer: Message) -> None:
        """Record the answer to a task. One that is no longer waited for changes nothing."""
        found = _waiting(tx, task_id)
        if found is None:
            if isinstance(answer, Placement) and answer.host:
                _no_choice(tx, answer.server_id)
            return
        workflow, server, step = found
        _contained(tx, server.id, lambda: _answered(tx, workflow, server, step, answer))

    def take_failure(self, tx: Transaction, task_id: str, failure: Failure) -> None:
        """Record that a task failed or its deadline passed.

        A failed undo counts as done: its host finds out by itself.
        """
        found = _waiting(tx, task_id)
        if found is None:
            return
        workflow, server, step = found
        _contained(tx, server.id, lambda: _failed(tx, workflow, server, step, failure))

    def host_down(self, tx: Transaction, host: str) -> None:
        """End the tasks that a host which is down is not waited for: it cleans up by itself when it is back."""
        for task in list(tx.scan_index(tables.TASKS_BY_PEER, f"compute@{host}")):
            found = _waiting(tx, task.id)
            if found is None:
                continue
            workflow, server, step = found
            dispensable = workflow.direction is Direction.UNWIND or step.host_finds_out
            if dispensable and host_down(tx, server):
                self.take_failure(tx, task.id, Unavailable(f"Host {host} is down.", code="host_down").failure())

    def hosts_down(self, tx: Transaction) -> None:
        """The same for every host that is asked for something."""
        behind: Task | None = None
        while (task := next(tx.scan_index(tables.TASKS_BY_PEER, after=behind, limit=1), None)) is not None:
            kind, _, name = task.peer.partition("@")
            host = tx.get(tables.HOSTS, name) if kind == "compute" else None
            if kind == "compute" and (host is None or not host.up or host.forced_down):
                self.host_down(tx, name)
            behind = msgspec.structs.replace(task, id=_BEHIND_IDS)

    def expire(self, tx: Transaction, before_us: int, limit: int = 1000) -> int:
        """Fail the tasks whose deadline was before a time, at most ``limit``; returns how many.

        The dispatcher fails a task at its deadline; this is for those it has lost.
        """
        late: list[Task] = []
        for task in tx.scan_index(tables.TASKS_BY_DEADLINE, limit=limit):
            if task.deadline_us >= before_us:
                break
            late.append(task)
        for task in late:
            log.warning("task %s of %s (%s) was lost and is given up", task.id, task.server_id, task.step)
            error = Unavailable(f"{task.peer} did not answer in time.", code="deadline_passed", hint="try again")
            self.take_failure(tx, task.id, error.failure())
        return len(late)

    # ------------------------------------------------------------------ one workflow
    def _run(self, tx: Transaction, workflow: Workflow) -> Task | None:
        """Move one workflow on until it waits or ends."""
        recipe = RECIPES[workflow.kind]
        for _ in range(_STEPS_MAX):
            server = tx.get(tables.SERVERS, workflow.server_id)
            assert server is not None, f"a workflow of {workflow.server_id}, which is gone"
            following: Workflow | None
            task: Task | None = None
            if workflow.direction is Direction.UNWIND and workflow.step == len(recipe.steps):
                # The last step was answered and a delete came, both in this transaction: all steps are to be undone.
                workflow = msgspec.structs.replace(workflow, step=workflow.step - 1)
            if workflow.direction is Direction.UNWIND and workflow.step < 0:
                following = _over(tx, recipe, server, workflow)
            elif workflow.direction is Direction.UNWIND:
                task, following = self._undo(tx, recipe.steps[workflow.step], server, workflow)
            elif workflow.step >= len(recipe.steps):
                recipe.ended(tx, server, workflow)
                following = None
            else:
                task, following = self._do(tx, recipe.steps[workflow.step], server, workflow)
            if task is not None:
                return task
            if following is None:
                tx.delete(tables.WORKFLOWS, workflow.server_id)
                return None
            tx.put(tables.WORKFLOWS, following)
            recipe, workflow = RECIPES[following.kind], following
        raise AssertionError(f"the workflow {workflow.kind} of {workflow.server_id} does not end")

    def _do(self, tx: Transaction, step: Step, server: Server, workflow: Workflow) -> tuple[Task | None, Workflow]:
        mark = tx.savepoint()
        try:
            server = step.begin(tx, server, workflow)
            task = None
            if step.host_finds_out and host_down(tx, server):
                note_stray(tx, server.host)
            else:
                task = self._ask(tx, workflow, server, _Question(step.name, step.peer, step.message, step.timeout_s))
            if task is None:
                step.finish(tx, server, workflow)
        except NovaFastError as error:
            tx.rollback(mark)
            return None, _unwinding(workflow, error.failure(), server)
        return task, msgspec.structs.replace(workflow, step=workflow.step + 1)

    def _undo(self, tx: Transaction, step: Step, server: Server, workflow: Workflow) -> tuple[Task | None, Workflow]:
        if not host_down(tx, server):
            question = _Question(step.name, step.undo_peer, step.undo_message, step.timeout_s)
            task = self._ask(tx, workflow, server, question)
            if task is not None:
                return task, workflow
        elif step.undo_message is not None:
            note_stray(tx, server.host)
        step.undo(tx, server, workflow)
        return None, msgspec.structs.replace(workflow, step=workflow.step - 1)

    def _ask(self, tx: Transaction, workflow: Workflow, server: Server, question: _Question) -> Task | None:
        peer = question.peer(tx, server, workflow) if question.message is not None else None
        if peer is None:
            return None
        timeout_s = question.timeout_s or self._task_timeout_s
        wanted = tx.get(tables.HOST_NETWORKS, server.host) if server.host else None
        task = Task(
            id=tx.new_hex(),
            server_id=server.id,
            peer=peer,
            step=question.step,
            deadline_us=tx.time_us + int(timeout_s * US_PER_S),
            generation=wanted.wanted_generation if wanted is not None else 0,
        )
        tx.put(tables.TASKS, task)
        tx.put(tables.WORKFLOWS, msgspec.structs.replace(workflow, task_id=task.id))
        return task


class _Question(msgspec.Struct, frozen=True):
    """What a step, or its undo, asks of whom."""

    step: str
    peer: PeerOf
    message: MessageOf | None
    timeout_s: float | None


def message_of(reader: Reader, task: Task) -> Message | None:
    """The message of a task as the store has it now; None when nobody waits for it any more."""
    found = _waiting(reader, task.id)
    if found is None:
        return None
    workflow, server, step = found
    make = step.message if workflow.direction is Direction.FORWARD else step.undo_message
    assert make is not None, f"step {step.name} has nothing to ask"
    return make(reader, server, workflow)


def _waiting(reader: Reader, task_id: str) -> tuple[Workflow, Server, Step] | None:
    task = reader.get(tables.TASKS, task_id)
    if task is None:
        return None
    workflow = reader.get(tables.WORKFLOWS, task.server_id)
    server = reader.get(tables.SERVERS, task.server_id)
    assert workflow is not None and server is not None and workflow.task_id == task_id, f"task {task_id} has no owner"
    return workflow, server, RECIPES[workflow.kind].steps[workflow.step]


def _answered(tx: Transaction, workflow: Workflow, server: Server, step: Step, answer: Message) -> None:
    tx.delete(tables.TASKS, workflow.task_id)
    workflow = msgspec.structs.replace(workflow, task_id="")
    if workflow.direction is Direction.UNWIND:
        _undone(tx, workflow, server, step)
        return
    mark = tx.savepoint()
    try:
        step.done(tx, server, workflow, answer)
    except NovaFastError as error:
        tx.rollback(mark)
        tx.put(tables.WORKFLOWS, _unwinding(workflow, error.failure(), server))
    else:
        tx.put(tables.WORKFLOWS, msgspec.structs.replace(workflow, step=workflow.step + 1))


def _failed(tx: Transaction, workflow: Workflow, server: Server, step: Step, failure: Failure) -> None:
    tx.delete(tables.TASKS, workflow.task_id)
    workflow = msgspec.structs.replace(workflow, task_id="")
    if workflow.direction is Direction.UNWIND:
        note_stray(tx, server.host)
        _undone(tx, workflow, server, step)
    elif step.host_finds_out:
        note_stray(tx, server.host)
        log.warning("%s did not do %s of %s: %s", server.host, step.name, server.id, failure.message)
        tx.put(tables.WORKFLOWS, msgspec.structs.replace(workflow, step=workflow.step + 1))
    else:
        tx.put(tables.WORKFLOWS, _unwinding(workflow, failure, server))


def _undone(tx: Transaction, workflow: Workflow, server: Server, step: Step) -> None:
    step.undo(tx, server, workflow)
    tx.put(tables.WORKFLOWS, msgspec.structs.replace(workflow, step=workflow.step - 1))


def _over(tx: Transaction, recipe: Recipe, server: Server, workflow: Workflow) -> Workflow | None:
    assert workflow.failure is not None, "a workflow unwinds for a reason"
    again = recipe.failed(tx, server, workflow, workflow.failure)
    if again is not None or not workflow.then:
        return again
    return Workflow(
        server_id=workflow.server_id,
        kind=workflow.then,
        step=0,
        direction=Direction.FORWARD,
        request_id=workflow.then_request_id,
        started_at_us=tx.now_us,
        action=Action.DELETE,
    )


def _unwinding(workflow: Workflow, failure: Failure, server: Server) -> Workflow:
    """The workflow turned round at its present step, which is undone as well: it may have been half done."""
    if server.host and "host" not in failure.details:
        failure = msgspec.structs.replace(failure, details={**failure.details, "host": server.host})
    return msgspec.structs.replace(workflow, direction=Direction.UNWIND, failure=failure)


# ---------------------------------------------------------------------- defects
def _contained(tx: Transaction, server_id: str, move: Callable[[], None]) -> None:
    """Move a workflow; a defect must not stop the others, nor leave a server in between."""
    mark = tx.savepoint()
    try:
        move()
    except WriteFailed:
        raise  # the transaction itself is lost
    except Exception:
        log.exception("the workflow of %s failed in a way nobody foresaw", server_id)
        tx.rollback(mark)
        _give_up(tx, server_id)


def _give_up(tx: Transaction, server_id: str) -> None:
    """The server ends in ERROR with what it holds, to be deleted."""
    workflow = tx.get(tables.WORKFLOWS, server_id)
    server = tx.get(tables.SERVERS, server_id)
    assert workflow is not None
    forget_task(tx, workflow)
    tx.delete(tables.WORKFLOWS, server_id)
    if server is None:
        return
    if not server.host:
        _no_choice(tx, server_id)
    failure = InternalError("An unexpected error occurred.").failure()
    finish_action(tx, workflow, server.host, failure)
    if workflow.then:
        finish_action(tx, msgspec.structs.replace(workflow, request_id=workflow.then_request_id), server.host, failure)
    save_server(tx, server, vm_state=VmState.ERROR, task_state=None, fault=fault_of(failure, tx.now_us))


def _no_choice(tx: Transaction, server_id: str) -> None:
    """Tell the scheduler that a host it may have chosen for a server is held for nobody."""
    tx.emit(Released(server_id=server_id, host="", claim=_NOTHING))
