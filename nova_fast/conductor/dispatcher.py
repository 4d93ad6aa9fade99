"""Sends recorded tasks to the daemons and brings their answers back into the store.

A task is a row before it is sent, so this file holds nothing that a restart could lose: on start every row is sent
again. Compute tasks go one by one, their messages made from one snapshot for all of a commit. Placements that wait
together are asked for in one message. Network tasks of a host share one message with the host's whole wanted state, and
are answered when what has been applied is new enough.

Answers that arrive together are recorded together; the engine keeps what one of them breaks from the others.

A task fails when its peer says so or at its deadline, never because this process ends or has too much to do.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec

from nova_fast.conductor.engine import Engine, message_of
from nova_fast.conductor.network_sync import NetworkSync
from nova_fast.conductor.workflows.create_server import placement_request
from nova_fast.conductor.writer import Committed, Job, Outcome, Writer
from nova_fast.hub.server import HubServer
from nova_fast.model.base import Message
from nova_fast.model.errors import InternalError, NovaFastError
from nova_fast.model.tasks import Done, Placement, PlacementRequest, SelectHosts, Selection
from nova_fast.model.workflows import Task
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.store import Store
from nova_fast.state.transaction import Transaction

log = logging.getLogger(__name__)

PLACEMENTS_MAX = 256  # in one message
ANSWERS_MAX = 64  # recorded in one piece of work: one that is refused as a whole is tried again one by one
SCHEDULER = "scheduler"
AGAIN_S = 1.0
_Answer = tuple[Task, Outcome]
#: Errors of our own end of the hub: they say nothing of the task.
_OURS = frozenset({"hub_closed", "queue_full"})

_encode = msgspec.msgpack.Encoder().encode


class Dispatcher:
    """Runs on the conductor's loop."""

    def __init__(self, store: Store, writer: Writer, engine: Engine, hub: HubServer) -> None:
        self._store = store
        self._writer = writer
        self._engine = engine
        self._hub = hub
        self._clock = writer.clock
        self._placements: list[Task] = []
        self._placing = False
        self._answers: list[_Answer] = []  # that have arrived in this turn of the loop
        self._resumed = sys.maxsize  # at this commit: what it and those before it asked is sent by ``resume``
        self._closed = False
        self._running: set[asyncio.Task[None]] = set()
        self.networks = NetworkSync(store, self._record, hub, self, writer.clock)

    def resume(self) -> None:
        """Send every task that is recorded and has no answer. Nothing is sent before."""
        with self._store.snapshot() as snapshot:
            self._resumed = snapshot.commit()
            tasks = list(snapshot.scan(tables.TASKS))
        self._send(tasks)

    def committed(self, committed: Committed) -> None:
        """Send what a commit asked. The writer is heard of later than the store shows it, so it may have been sent."""
        if committed.commit > self._resumed:
            self._send(committed.tasks)
        self.networks.after_commit()

    def _send(self, tasks: list[Task]) -> None:
        others: list[Task] = []
        for task in tasks:
            if task.peer == SCHEDULER:
                self._placements.append(task)
            elif task.peer.startswith("network@"):
                self.networks.wait(task)
            else:
                others.append(task)
        if others:
            # PERF: what is asked of one host in a row leaves as one frame, also when there are more than leave at once.
            self._ask(sorted(others, key=attrgetter("peer")))
        if self._placements and not self._placing:
            self._placing = True
            self.spawn(self._place())

    def answer(self, task: Task, outcome: Outcome) -> None:
        """Bring the answer of a task into the store, however long the store cannot be written."""
        if not self._answers:
            asyncio.get_running_loop().call_soon(self._record_answers)
        self._answers.append((task, outcome))

    def _record_answers(self) -> None:
        answers, self._answers = self._answers, []
        for begin in range(0, len(answers), ANSWERS_MAX):
            self._record_some(answers[begin : begin + ANSWERS_MAX])

    def _record_some(self, answers: list[_Answer]) -> None:
        """Record answers in one piece of work.

        Why it could not be written the writer has logged, once for the whole batch.
        """
        told = [(task.id, out.failure() if isinstance(out, NovaFastError) else out) for task, out in answers]

        def work(tx: Transaction) -> Message:
            self._engine.take_all(tx, told)
            return Done()

        def recorded(result: Outcome) -> None:
            if isinstance(result, NovaFastError):
                self.spawn(self._record_later(answers))

        self._writer.submit(Job(work=work, done=recorded, must=True))

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something beside, and hold on to it until it ends. Nothing is begun any more after closing."""
        if self._closed:
            coroutine.close()
            return
        running = asyncio.ensure_future(coroutine)
        self._running.add(running)
        running.add_done_callback(self._ended)

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        if not running.cancelled() and running.exception() is not None:
            log.error("a dispatch failed in a way nobody foresaw", exc_info=running.exception())

    async def close(self) -> None:
        """Stop waiting; what is recorded is sent again at the next start."""
        self._closed = True
        self.networks.close()
        for running in list(self._running):
            running.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _record_later(self, answers: list[_Answer]) -> None:
        """Each alone, so that one which cannot be recorded does not hold up the others."""
        await asyncio.sleep(AGAIN_S)
        for answer in answers:
            self._record_some([answer])

    async def _record(self, work: Any) -> None:
        await self._writer.run(work)

    # ------------------------------------------------------------------ computes
    def _ask(self, tasks: list[Task]) -> None:
        """Ask what these tasks say; one that nobody waits for any more is forgotten.

        PERF: one snapshot for all of them, and no coroutine for any.
        """
        if self._closed:
            return
        with self._store.snapshot() as snapshot:
            messages = [self._message(snapshot, task) for task in tasks]
        for task, message in zip(tasks, messages, strict=True):
            if isinstance(message, NovaFastError):
                self.answer(task, message)
            elif message is not None:
                self._hub.ask(
                    task.peer,
                    message,
                    timeout_s=self._left_s(task.deadline_us),
                    call_id=bytes.fromhex(task.id),
                    ended=partial(self._heard, task),
                )

    def _message(self, reader: Reader, task: Task) -> Message | NovaFastError | None:
        try:
            return message_of(reader, task)
        except NovaFastError as error:
            return error
        except Exception:
            log.exception("task %s (%s) of %s could not be asked", task.id, task.step, task.server_id)
            return InternalError("An unexpected error occurred.")

    def _heard(self, task: Task, outcome: Outcome) -> None:
        """What the peer says, or why it says nothing; what is trouble of our own is tried again until the deadline."""
        if self._closed:
            return
        ours = isinstance(outcome, NovaFastError) and outcome.code in _OURS
        if ours and self._left_s(task.deadline_us) > 0:
            asyncio.get_running_loop().call_later(AGAIN_S, self._ask, [task])
        else:
            self.answer(task, outcome)

    def _left_s(self, deadline_us: int) -> float:
        """How long it is until a deadline."""
        return (deadline_us - self._clock.steady_us()) / 1e6

    # ------------------------------------------------------------------ placements
    async def _place(self) -> None:
        """Ask for all placements that wait, in as few messages as may be."""
        try:
            while self._placements:
                tasks, self._placements = self._placements[:PLACEMENTS_MAX], self._placements[PLACEMENTS_MAX:]
                await self._place_some(tasks)
        finally:
            self._placing = False

    async def _place_some(self, tasks: list[Task]) -> None:
        """Place these servers. What fails for many is asked for one by one, so that one cannot spoil the others."""
        wanted, requests = self._requests(tasks)
        if not requests:
            return
        try:
            placements = await self._select(wanted, requests)
        except NovaFastError as error:
            await self._not_placed(list(wanted.values()), error)
            return
        except Exception:
            log.exception("the hosts of %d servers could not be asked for", len(requests))
            await self._not_placed(list(wanted.values()), InternalError("An unexpected error occurred."))
            return
        for placement in placements:
            task = wanted.pop(placement.server_id, None)
            if task is not None:
                self.answer(task, placement)
        for task in wanted.values():
            self.answer(task, InternalError("The scheduler gave no answer for this server."))

    def _requests(self, tasks: list[Task]) -> tuple[dict[str, Task], list[PlacementRequest]]:
        wanted: dict[str, Task] = {}
        requests: list[PlacementRequest] = []
        with self._store.snapshot() as snapshot:
            for task in tasks:
                workflow = snapshot.get(tables.WORKFLOWS, task.server_id)
                server = snapshot.get(tables.SERVERS, task.server_id)
                if workflow is not None and server is not None and workflow.task_id == task.id:
                    wanted[task.server_id] = task
                    requests.append(placement_request(snapshot, server, workflow))
        return wanted, requests

    async def _select(self, wanted: dict[str, Task], requests: list[PlacementRequest]) -> tuple[Placement, ...]:
        deadline_us = min(task.deadline_us for task in wanted.values())
        selection = await self._hub.call(
            SCHEDULER, SelectHosts(requests=alike(requests)), timeout_s=self._left_s(deadline_us)
        )
        assert isinstance(selection, Selection), f"the scheduler answered {type(selection).__name__}"
        return selection.placements

    async def _not_placed(self, tasks: list[Task], error: NovaFastError) -> None:
        time_us = self._clock.steady_us()
        waiting = [task for task in tasks if task.deadline_us > time_us]
        for task in tasks:
            if task.deadline_us <= time_us:
                self.answer(task, error)
        if error.code == "deadline_passed":  # of the one that has waited longest; the others go on waiting
            self._placements = waiting + self._placements
        elif error.code in _OURS:
            await asyncio.sleep(AGAIN_S)
            self._placements = waiting + self._placements
        elif len(waiting) == 1:
            self.answer(waiting[0], error)
        else:
            for task in waiting:
                await self._place_some([task])


def alike(requests: list[PlacementRequest]) -> tuple[PlacementRequest, ...]:
    """Requests with the same wishes as one, in the order of the first of each: the scheduler looks at it once."""
    by_wishes: dict[bytes, list[PlacementRequest]] = {}
    for request in requests:
        by_wishes.setdefault(_encode(msgspec.structs.replace(request, server_id="")), []).append(request)
    return tuple(
        [
            msgspec.structs.replace(first, alike=tuple([other.server_id for other in others])) if others else first
            for first, *others in by_wishes.values()
        ]
    )
