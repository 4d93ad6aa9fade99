"""Moves workflows on, inside the transaction that records what happened.

Pure: given what the store says, it decides the next step, records the task it asks of a daemon, and collects it for the
dispatcher, which sends it only after the commit. Whoever crashes when, the rows say what was asked and what is done.

Every workflow that waits has a task, and every task ends: with its answer, when its host is known to be down, or at its
deadline. A defect in a recipe ends that one workflow in ERROR; it neither stops the others nor is tried for ever.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import msgspec

from nova_fast.commands.guests import note_stray
from nova_fast.commands.servers import save_server
from nova_fast.commands.workflows import finish_action, forget_task
from nova_fast.conductor import together
from nova_fast.conductor.turns import Turns
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
from nova_fast.state.table import text_parts
from nova_fast.state.transaction import Transaction, WriteFailed

log = logging.getLogger(__name__)

_STEPS_MAX = 64  # of one workflow in one transaction: more is a loop that does not end
_NOTHING = Claim(vcpus=0, ram_mib=0, disk_gib=0)

#: The task a workflow waits for now, how it goes on, and its server.
_Moved = tuple[Task | None, Workflow, Server]


class Engine:
    """Moves workflows on in one transaction and remembers which tasks were asked."""

    def __init__(self, task_timeout_s: float) -> None:
        self._task_timeout_s = task_timeout_s
        self._asked_in: Transaction | None = None
        self._asked: list[Task] = []  # in that transaction
        self._turns = Turns()
        self.behind = False  # more are queued than the last transaction began

    @property
    def crowded(self) -> bool:
        """Whether the engine is behind because a crowd is being taken in."""
        return self.behind and self._turns.crowded

    def advance_ready(self, tx: Transaction, commands: int = 0) -> list[Task]:
        """Move on every workflow that waits for nothing.

        The last thing to do in a transaction, which has done so many ``commands``; returns the tasks that were asked in
        it, to send after the commit. Of those that are queued a few begin, so that nobody waits long for the
        transaction, and fewer when many commands come: there is another while the engine is ``behind``.
        """
        self._begin(tx)
        self._turns.taken(commands)
        before = len(self._asked)
        ready = self._ready(tx)
        asked = together.move(tx, ready, self._task_timeout_s)
        if asked is None:
            for workflow in ready:
                self._contained(tx, workflow.server_id, partial(self._move, tx, workflow))
        self._asked += asked or ()
        tx.insert_all(tables.TASKS, self._asked[before:])
        asked, self._asked, self._asked_in = self._asked, [], None
        return asked

    def _ready(self, tx: Transaction) -> list[Workflow]:
        found: list[Workflow] = []
        left: int | None = None  # of those that are queued
        self.behind = False
        for workflow in tx.walk_index(tables.WORKFLOWS_READY):
            if workflow.queued:
                if left is None:
                    left = self._turns.begin_max(tx.now_us - workflow.started_at_us)
                if left == 0:
                    self.behind = True
                    break
                left -= 1
                workflow = msgspec.structs.replace(workflow, queued=False)
            found.append(workflow)
        return found

    def take_answer(self, tx: Transaction, task_id: str, answer: Message) -> None:
        """Record the answer to a task and move its workflow on. One that is waited for no more changes nothing."""
        self.take_all(tx, [(task_id, answer)])

    def take_failure(self, tx: Transaction, task_id: str, failure: Failure) -> None:
        """Record that a task failed or its deadline passed.

        A failed undo counts as done: its host finds out by itself.
        """
        self.take_all(tx, [(task_id, failure)])

    def take_all(self, tx: Transaction, answers: Sequence[tuple[str, Message]]) -> None:
        """Record what several tasks came to: an answer, or a Failure. What is asked because of it is written together.

        When this raises, the transaction must be taken back to where it was.
        """
        self._begin(tx)
        before = len(self._asked)
        try:
            for alike in together.alike(answers):
                asked = together.take(tx, alike, self._task_timeout_s)
                if asked is None:
                    for task_id, answer in alike:
                        self._take(tx, task_id, answer)
                self._asked += asked or ()
            tx.insert_all(tables.TASKS, self._asked[before:])
        except BaseException:
            del self._asked[before:]
            raise

    def _move(self, tx: Transaction, workflow: Workflow) -> None:
        server = tx.get(tables.SERVERS, workflow.server_id)
        assert server is not None, f"a workflow of {workflow.server_id}, which is gone"
        self._run(tx, workflow, server, server)

    def _take(self, tx: Transaction, task_id: str, answer: Message) -> None:
        found = together.waiting(tx, task_id)
        if found is None:
            if isinstance(answer, Placement) and answer.host:
                _no_choice(tx, answer.server_id)
            return
        workflow, server, step = found
        behind = _failed if isinstance(answer, Failure) else _answered
        self._contained(tx, server.id, lambda: self._run(tx, *behind(tx, workflow, server, step, answer), server))

    def host_down(self, tx: Transaction, host: str) -> None:
        """End the tasks that a host which is down is not waited for: it cleans up by itself when it is back."""
        for workflow in _workflows_on(tx, host):
            found = together.waiting(tx, workflow.task_id) if workflow.task_id else None
            if found is None:
                continue
            workflow, server, step = found
            dispensable = workflow.direction is Direction.UNWIND or step.host_finds_out
            asked = tx.need(tables.TASKS, workflow.task_id, "Task")
            if asked.peer == f"compute@{host}" and dispensable and host_down(tx, server):
                failure = Unavailable(f"Host {host} is down.", code="host_down").failure()
                self.take_failure(tx, workflow.task_id, failure)

    def hosts_down(self, tx: Transaction) -> None:
        """The same for every host that is asked for something."""
        peers = [task.peer.partition("@") for task in tx.scan(tables.TASKS)]
        for name in sorted({name for kind, _, name in peers if kind == "compute"}):
            host = tx.get(tables.HOSTS, name)
            if host is None or not host.up or host.forced_down:
                self.host_down(tx, name)

    def expire(self, tx: Transaction, before_us: int, limit: int = 1000) -> int:
        """Fail the tasks whose deadline was before a time, at most ``limit``; returns how many.

        The dispatcher fails a task at its deadline; this is for those it has lost.
        """
        late = list(islice((task for task in tx.scan(tables.TASKS) if task.deadline_us < before_us), limit))
        for task in late:
            log.warning("task %s of %s (%s) was lost and is given up", task.id, task.server_id, task.step)
            error = Unavailable(f"{task.peer} did not answer in time.", code="deadline_passed", hint="try again")
            self.take_failure(tx, task.id, error.failure())
        return len(late)

    # ------------------------------------------------------------------ one workflow
    def _begin(self, tx: Transaction) -> None:
        """What was asked in a transaction that came to nothing was never asked."""
        if self._asked_in is not tx:
            self._asked_in, self._asked = tx, []

    def _run(self, tx: Transaction, workflow: Workflow, server: Server, stored: Server) -> None:
        """Move one workflow on until it waits or ends.

        PERF: workflow and server are written where it stops, not at each step: what begins and ends in one transaction
        nobody can see. ``stored`` is the server as the store has it.
        """
        recipe = RECIPES[workflow.kind]
        for _ in range(_STEPS_MAX):
            following: Workflow | None
            task: Task | None = None
            if workflow.direction is Direction.UNWIND and workflow.step < 0:
                following, server = _over(tx, recipe, _saved(tx, server, stored), workflow)
                stored = server
            elif workflow.direction is Direction.UNWIND:
                task, following, server = self._undo(tx, recipe.steps[workflow.step], server, workflow)
            elif workflow.step >= len(recipe.steps):
                left = recipe.ended(tx, server, workflow)
                if left is not None:
                    _saved(tx, left, stored)
                following = None
            else:
                task, following, server = self._do(tx, recipe.steps[workflow.step], server, workflow)
            if task is not None:
                _saved(tx, server, stored)
                self._asked.append(task)
                return
            if following is None:
                tx.delete(tables.WORKFLOWS, workflow.server_id)
                return
            recipe, workflow = RECIPES[following.kind], following
        raise AssertionError(f"the workflow {workflow.kind} of {workflow.server_id} does not end")

    def _do(self, tx: Transaction, step: Step, server: Server, workflow: Workflow) -> _Moved:
        mark = tx.savepoint()
        try:
            begun = step.begin(tx, server, workflow)
            task = None
            if step.host_finds_out and host_down(tx, begun):
                note_stray(tx, begun.host)
            else:
                task = self._ask(tx, workflow, begun, _Question(step.name, step.peer, step.message, step.timeout_s))
            if task is None:
                begun = step.finish(tx, begun, workflow)
        except NovaFastError as error:
            tx.rollback(mark)
            return None, _unwinding(workflow, error.failure(), server), server
        return task, msgspec.structs.replace(workflow, step=workflow.step + 1), begun

    def _undo(self, tx: Transaction, step: Step, server: Server, workflow: Workflow) -> _Moved:
        if not host_down(tx, server):
            question = _Question(step.name, step.undo_peer, step.undo_message, step.timeout_s)
            task = self._ask(tx, workflow, server, question)
            if task is not None:
                return task, workflow, server
        elif step.undo_message is not None:
            note_stray(tx, server.host)
        server = step.undo(tx, server, workflow)
        return None, msgspec.structs.replace(workflow, step=workflow.step - 1), server

    def _ask(self, tx: Transaction, workflow: Workflow, server: Server, question: _Question) -> Task | None:
        peer = question.peer(tx, server, workflow) if question.message is not None else None
        if peer is None:
            return None
        asked = together.Question(workflow, server, peer, question.step, question.timeout_s)
        return together.ask(tx, [asked], self._task_timeout_s)[0]

    def _contained(self, tx: Transaction, server_id: str, move: Callable[[], None]) -> None:
        """Move a workflow; a defect must not stop the others, nor leave a server in between."""
        mark, asked = tx.savepoint(), len(self._asked)
        try:
            move()
        except WriteFailed:
            raise  # the transaction itself is lost
        except Exception:
            log.exception("the workflow of %s failed in a way nobody foresaw", server_id)
            tx.rollback(mark)
            del self._asked[asked:]
            _give_up(tx, server_id)


def _workflows_on(tx: Transaction, host: str) -> list[Workflow]:
    """What is under way on the servers of a host."""
    keys = tx.index_keys(tables.SERVERS_BY_HOST, host, limit=sys.maxsize)
    found = [tx.get(tables.WORKFLOWS, text_parts(key)[0]) for key in keys]
    return [workflow for workflow in found if workflow is not None]


class _Question(msgspec.Struct, frozen=True):
    """What a step, or its undo, asks of whom."""

    step: str
    peer: PeerOf
    message: MessageOf | None
    timeout_s: float | None


def message_of(reader: Reader, task: Task) -> Message | None:
    """The message of a task as the store has it now; None when nobody waits for it any more."""
    workflow = reader.get(tables.WORKFLOWS, task.server_id)
    if workflow is None or workflow.task_id != task.id:
        return None
    server = reader.get(tables.SERVERS, task.server_id)
    assert server is not None, f"a workflow of {task.server_id}, which is gone"
    step = RECIPES[workflow.kind].steps[workflow.step]
    make = step.message if workflow.direction is Direction.FORWARD else step.undo_message
    assert make is not None, f"step {step.name} has nothing to ask"
    return make(reader, server, workflow)


def _answered(
    tx: Transaction, workflow: Workflow, server: Server, step: Step, answer: Message
) -> tuple[Workflow, Server]:
    """The workflow and its server behind the answer."""
    tx.delete(tables.TASKS, workflow.task_id)
    workflow = msgspec.structs.replace(workflow, task_id="")
    if workflow.direction is Direction.UNWIND:
        return _undone(tx, workflow, server, step)
    mark = tx.savepoint()
    try:
        changed = step.done(tx, server, workflow, answer)
    except NovaFastError as error:
        tx.rollback(mark)
        return _unwinding(workflow, error.failure(), server), server
    return msgspec.structs.replace(workflow, step=workflow.step + 1), changed


def _failed(
    tx: Transaction, workflow: Workflow, server: Server, step: Step, failure: Message
) -> tuple[Workflow, Server]:
    """The workflow and its server behind the failure of a task."""
    assert isinstance(failure, Failure), f"{step.name} failed with {type(failure).__name__}"
    tx.delete(tables.TASKS, workflow.task_id)
    workflow = msgspec.structs.replace(workflow, task_id="")
    if workflow.direction is Direction.UNWIND:
        note_stray(tx, server.host)
        return _undone(tx, workflow, server, step)
    if step.host_finds_out:
        note_stray(tx, server.host)
        log.warning("%s did not do %s of %s: %s", server.host, step.name, server.id, failure.message)
        return msgspec.structs.replace(workflow, step=workflow.step + 1), server
    return _unwinding(workflow, failure, server), server


def _undone(tx: Transaction, workflow: Workflow, server: Server, step: Step) -> tuple[Workflow, Server]:
    return msgspec.structs.replace(workflow, step=workflow.step - 1), step.undo(tx, server, workflow)


def _saved(tx: Transaction, server: Server, stored: Server) -> Server:
    """Write a server that has been changed."""
    return server if server is stored else save_server(tx, server)


def _over(tx: Transaction, recipe: Recipe, server: Server, workflow: Workflow) -> tuple[Workflow | None, Server]:
    """What follows when all is undone, and the server, which is as the store has it before and after."""
    assert workflow.failure is not None, "a workflow unwinds for a reason"
    again = recipe.failed(tx, server, workflow, workflow.failure)
    server = tx.need(tables.SERVERS, server.id, "Instance")
    if again is not None or not workflow.then:
        return again, server
    following = Workflow(
        server_id=workflow.server_id,
        kind=workflow.then,
        step=0,
        direction=Direction.FORWARD,
        request_id=workflow.then_request_id,
        started_at_us=tx.now_us,
        action=Action.DELETE,
    )
    return following, server


def _unwinding(workflow: Workflow, failure: Failure, server: Server) -> Workflow:
    """The workflow turned round at its present step, which is undone as well: it may have been half done."""
    if server.host and "host" not in failure.details:
        failure = msgspec.structs.replace(failure, details={**failure.details, "host": server.host})
    return msgspec.structs.replace(workflow, direction=Direction.UNWIND, failure=failure)


# ---------------------------------------------------------------------- defects
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
