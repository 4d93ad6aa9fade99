"""The worker is shared: every client's asks have their turns, and HTTP has its own between them.

The asks of one message are worked off one by one, those of different clients in turn, for a bounded time in each turn
of the loop. What has to wait (for the conductor) waits beside; a client who has too much waiting gets no turns until
some of it is done. So a client who asks for much delays nobody but himself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

from nova_fast.hub.server import Incoming
from nova_fast.model.errors import InternalError, Unavailable
from nova_fast.model.sdk import Answer, Answers, Ask

log = logging.getLogger(__name__)

#: Of one turn of the loop, however many clients ask.
TURN_S = 0.002
#: Asks that wait for the conductor: of one client, and of all; below what the worker's own link to it takes.
WAITING_MAX = 64
WAITING_ALL_MAX = 1024
ANSWERS_BYTES_MAX = 8 << 20  # of one message; more are refused one by one
QUEUED_BYTES_MAX = 64 << 20  # of the bodies one client has in his queue
#: Between two looks at who does not read his answers: soon while somebody does, then less and less often.
#: PERF: a client that reads 500 servers in each of four calls was set aside for 20 of every 30 ms (`bench sdk`: 33,499
#: reads a second, 143,982 since, 2026-11-27).
STUCK_LOOK_S_MIN, STUCK_LOOK_S_MAX = 0.002, 0.032

Work = Callable[[Ask], Answer | Coroutine[Any, Any, Answer]]


class Batch:
    """The asks of one message."""

    __slots__ = ("answers", "answers_bytes", "asks", "bytes", "call", "done", "next", "work")

    def __init__(self, call: Incoming, asks: tuple[Ask, ...], work: Work) -> None:
        self.call = call
        self.asks = asks
        self.work = work
        self.bytes = sum(len(ask.body) for ask in asks)
        self.answers: list[Answer | None] = [None] * len(asks)
        self.answers_bytes = 0
        self.next = 0  # to be worked off
        self.done = 0

    def take(self, number: int, answer: Answer) -> None:
        """One is answered; with the last the message is."""
        self.answers_bytes += len(answer.body)
        self.answers[number] = answer
        self.done += 1
        if self.done == len(self.asks):
            self.call.reply(Answers(answers=tuple([one for one in self.answers if one is not None])))


class _Client:
    __slots__ = ("batches", "bytes", "queued", "waiting")

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.bytes = 0  # of bodies in the queue
        self.waiting = 0
        self.queued = False


class Turns:
    """All clients with something to do."""

    def __init__(
        self,
        too_large: Callable[[int], Answer],
        is_stuck: Callable[[str], bool],
        moment: AbstractContextManager[None] | None = None,
    ) -> None:
        """Each turn is within ``moment``."""
        self._moment = moment or contextlib.nullcontext()
        self._too_large = too_large
        self._is_stuck = is_stuck
        self._stuck: list[tuple[str, _Client]] = []
        self._stuck_timer: asyncio.TimerHandle | None = None
        self._stuck_look_s = STUCK_LOOK_S_MIN
        self._loop = asyncio.get_running_loop()
        self._clients: dict[str, _Client] = {}
        self._queue: deque[tuple[str, _Client]] = deque()
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn_due = False
        self._closed = False

    def add(self, batch: Batch) -> None:
        """Work off the asks of a message, each in its turn. Raises Unavailable when too much of a client waits."""
        name = batch.call.peer
        client = self._clients.get(name) or _Client()
        if client.bytes + batch.bytes > QUEUED_BYTES_MAX:
            raise Unavailable("Too many bytes of this client wait.", code="queue_full", hint="send them one by one")
        self._clients[name] = client
        client.bytes += batch.bytes
        client.batches.append(batch)
        self._enqueue(name, client)

    async def close(self) -> None:
        """Stop; whoever asked asks the next worker."""
        self._closed = True
        self._queue.clear()
        if self._stuck_timer is not None:
            self._stuck_timer.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _enqueue(self, name: str, client: _Client) -> None:
        if client.queued or not client.batches or client.waiting >= WAITING_MAX or self._closed:
            return
        client.queued = True
        self._queue.append((name, client))
        self._wake()

    def _wake(self) -> None:
        if not self._turn_due and self._queue and self._waiting < WAITING_ALL_MAX:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        with self._moment:
            self._serve_all(time.perf_counter() + TURN_S)
        self._wake()

    def _serve_all(self, end: float) -> None:
        """One ask of each client in turn, until this time."""
        queue, clock = self._queue, time.perf_counter
        while queue and self._waiting < WAITING_ALL_MAX:
            name, client = queue.popleft()
            if self._is_stuck(name):
                self._set_aside(name, client)
                continue
            client.queued = False
            self._serve(name, client)
            # PERF: whoever is alone goes on, without the way through the queue
            while not queue and client.batches and self._may_go_on(client) and clock() < end:
                self._serve(name, client)
            if client.batches:
                self._enqueue(name, client)
            elif not client.waiting:
                self._clients.pop(name, None)
            if clock() >= end:
                break

    def _may_go_on(self, client: _Client) -> bool:
        return client.batches[0].next > 0 and client.waiting < WAITING_MAX and self._waiting < WAITING_ALL_MAX

    def _set_aside(self, name: str, client: _Client) -> None:
        """Serve a client again when he has read what he was sent."""
        if not self._stuck:
            self._stuck_look_s = STUCK_LOOK_S_MIN
        self._stuck.append((name, client))
        self._look_later()

    def _look_later(self) -> None:
        if self._stuck_timer is None and self._stuck:
            self._stuck_timer = self._loop.call_later(self._stuck_look_s, self._look_at_stuck)

    def _look_at_stuck(self) -> None:
        self._stuck_timer = None
        looked_at, self._stuck = self._stuck, []
        before = len(self._queue)
        for name, client in looked_at:
            (self._stuck if self._is_stuck(name) else self._queue).append((name, client))
        freed = len(self._queue) > before
        self._stuck_look_s = STUCK_LOOK_S_MIN if freed else min(2 * self._stuck_look_s, STUCK_LOOK_S_MAX)
        self._look_later()
        self._wake()

    def _serve(self, name: str, client: _Client) -> None:
        """One ask of a client."""
        batch = client.batches[0]
        number = batch.next
        batch.next += 1
        late = bool(batch.call.deadline_s) and batch.call.deadline_s <= self._loop.time()
        if late or batch.next == len(batch.asks):
            client.batches.popleft()
            client.bytes -= batch.bytes
        if late:  # whoever asked has stopped waiting
            batch.call.reply(Unavailable("the call came after its deadline", code="deadline_passed"))
            return
        if batch.answers_bytes > ANSWERS_BYTES_MAX:
            batch.take(number, self._too_large(ANSWERS_BYTES_MAX))
            return
        try:
            answer = batch.work(batch.asks[number])
        except Exception as error:
            log.exception("an ask of %s failed", name)
            batch.call.reply(InternalError(f"An unexpected error occurred ({type(error).__name__})."))
            batch.done -= len(batch.asks)  # never whole any more
            return
        if isinstance(answer, Answer):
            batch.take(number, answer)
            return
        client.waiting += 1
        self._waiting += 1
        task = self._loop.create_task(self._finish(batch, number, answer))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._finished(done, name, client))

    async def _finish(self, batch: Batch, number: int, answer: Coroutine[Any, Any, Answer]) -> None:
        try:
            batch.take(number, await answer)
        except Exception as error:
            log.exception("an ask of %s failed", batch.call.peer)
            batch.call.reply(InternalError(f"An unexpected error occurred ({type(error).__name__})."))

    def _finished(self, task: asyncio.Task[None], name: str, client: _Client) -> None:
        self._tasks.discard(task)
        client.waiting -= 1
        self._waiting -= 1
        self._enqueue(name, client)
        if not client.batches and not client.waiting and self._clients.get(name) is client:
            del self._clients[name]
        self._wake()
