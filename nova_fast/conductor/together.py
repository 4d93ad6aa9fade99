"""Moves several workflows on at once where all goes as it should: as one by one would, in less time.

What is unusual (a failure, an undo, an answer that nobody waits for, a refusal, a defect) is not for here: then the
engine takes everything back and looks at each alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from msgspec.structs import replace

from nova_fast.commands.guests import note_stray
from nova_fast.commands.servers import save_servers
from nova_fast.conductor.workflows import RECIPES
from nova_fast.conductor.workflows.recipe import Answered, Step, host_down
from nova_fast.model.base import Message
from nova_fast.model.errors import Failure, NovaFastError
from nova_fast.model.servers import Server
from nova_fast.model.workflows import Direction, Task, Workflow
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction, WriteFailed

log = logging.getLogger(__name__)

US_PER_S = 1_000_000
TOGETHER_MIN = 3  # workflows; fewer take as long one by one
_RANDOM_BYTES = 9  # of a task's id


class Move(NamedTuple):
    """A workflow that waits for nothing, its server, and the server as the store has it."""

    workflow: Workflow
    server: Server
    stored: Server


class Question(NamedTuple):
    """What a workflow has come to ask, of whom."""

    workflow: Workflow
    server: Server
    peer: str
    step: str
    timeout_s: float | None


def waiting(reader: Reader, task_id: str) -> tuple[Workflow, Server, Step] | None:
    """Who waits for a task: the workflow, its server, and the step at which it is."""
    task = reader.get(tables.TASKS, task_id)
    if task is None:
        return None
    workflow = reader.get(tables.WORKFLOWS, task.server_id)
    server = reader.get(tables.SERVERS, task.server_id)
    assert workflow is not None and server is not None and workflow.task_id == task_id, f"task {task_id} has no owner"
    return workflow, server, RECIPES[workflow.kind].steps[workflow.step]


def alike(answers: Sequence[tuple[str, Message]]) -> list[list[tuple[str, Message]]]:
    """Answers to tasks, those of one kind together and in their order; what is told again stands apart."""
    found: dict[type[Message], dict[str, Message]] = {}
    again: list[list[tuple[str, Message]]] = []
    for task_id, answer in answers:
        some = found.setdefault(type(answer), {})
        if task_id in some:
            again.append([(task_id, answer)])
        else:
            some[task_id] = answer
    return [list(some.items()) for some in found.values()] + again


def take(tx: Transaction, answers: Sequence[tuple[str, Message]], timeout_s: float) -> list[Task] | None:
    """Record what several tasks came to, and move their workflows on; the tasks that are asked, to be written.

    None, and nothing has happened, when they are to be looked at one by one.
    """
    return _at_once(tx, partial(_answered, tx, answers), len(answers), timeout_s)


def move(tx: Transaction, ready: Sequence[Workflow], timeout_s: float) -> list[Task] | None:
    """The same for workflows that wait for nothing."""
    return _at_once(tx, partial(_ready, tx, ready), len(ready), timeout_s)


def _at_once(
    tx: Transaction, moves: Callable[[], list[Move] | None], count: int, timeout_s: float
) -> list[Task] | None:
    if count < TOGETHER_MIN:
        return None
    mark = tx.savepoint()
    try:
        found = moves()
        if found is not None:
            return _go_on(tx, found, timeout_s)
    except WriteFailed:
        raise  # the transaction itself is lost
    except NovaFastError:
        pass  # one of them is refused
    except Exception:
        log.exception("%d workflows could not be moved together; each is tried alone", count)
    tx.rollback(mark)
    return None


def _ready(tx: Transaction, ready: Sequence[Workflow]) -> list[Move] | None:
    if any(workflow.direction is not Direction.FORWARD for workflow in ready):
        return None
    servers = [tx.need(tables.SERVERS, workflow.server_id, "Instance") for workflow in ready]
    return [Move(workflow, server, server) for workflow, server in zip(ready, servers, strict=True)]


def _answered(tx: Transaction, answers: Sequence[tuple[str, Message]]) -> list[Move] | None:
    """The workflows behind the answers of these tasks; None when one of them is not as it should be."""
    told: list[Answered] = []
    steps: list[Step] = []
    for task_id, answer in answers:
        found = waiting(tx, task_id)
        if found is None or isinstance(answer, Failure) or found[0].direction is not Direction.FORWARD:
            return None
        workflow, server, step = found
        tx.delete(tables.TASKS, task_id)
        told.append((server, workflow, answer))
        steps.append(step)
    changed = _done(tx, steps, told)
    if changed is None:
        return None
    return [
        Move(replace(workflow, task_id="", step=workflow.step + 1), server, stored)
        for server, (stored, workflow, _) in zip(changed, told, strict=True)
    ]


def _done(tx: Transaction, steps: list[Step], told: list[Answered]) -> list[Server] | None:
    together = steps[0].done_together
    if together is not None and all(step is steps[0] for step in steps):
        return together(tx, told)
    return [step.done(tx, *one) for step, one in zip(steps, told, strict=True)]


def _go_on(tx: Transaction, moves: Sequence[Move], timeout_s: float) -> list[Task]:
    """Move each on until it waits or ends; the tasks that are asked, whose rows the caller writes."""
    asked: list[Question] = []
    changed: list[Server] = []
    over: list[str] = []
    for workflow, server, stored in moves:
        recipe = RECIPES[workflow.kind]
        peer = None
        begin = at = workflow.step
        for step in recipe.steps[begin:]:
            server = step.begin(tx, server, workflow)
            if step.host_finds_out and host_down(tx, server):
                note_stray(tx, server.host)
            elif step.message is not None:
                peer = step.peer(tx, server, workflow)
                if peer is not None:
                    moved = workflow if at == begin else replace(workflow, step=at)
                    asked.append(Question(moved, server, peer, step.name, step.timeout_s))
                    break
            server = step.finish(tx, server, workflow)
            at += 1
        left: Server | None = server
        if peer is None:
            left = recipe.ended(tx, server, workflow)
            over.append(workflow.server_id)
        if left is not None and left is not stored:
            changed.append(left)
    save_servers(tx, changed)
    for server_id in over:
        tx.delete(tables.WORKFLOWS, server_id)
    return ask(tx, asked, timeout_s)


def ask(tx: Transaction, asked: Sequence[Question], timeout_s: float) -> list[Task]:
    """The tasks of these, to be written by the caller; their workflows wait for them.

    PERF: the next is behind the last, so that tasks come and go at one place of their table.
    """
    digits = tx.random_bytes(_RANDOM_BYTES * len(asked)).hex()
    size = 2 * _RANDOM_BYTES
    tasks: list[Task] = []
    for number, (workflow, server, peer, step, step_timeout_s) in enumerate(asked):
        deadline_us = tx.time_us + int((step_timeout_s or timeout_s) * US_PER_S)
        wanted = tx.get(tables.HOST_NETWORKS, server.host) if peer.startswith("network@") else None
        task = Task(
            id=f"{deadline_us:014x}{digits[number * size : (number + 1) * size]}",
            server_id=server.id,
            peer=peer,
            step=step,
            deadline_us=deadline_us,
            generation=wanted.wanted_generation if wanted is not None else 0,
        )
        tx.put(tables.WORKFLOWS, replace(workflow, task_id=task.id))
        tasks.append(task)
    return tasks
