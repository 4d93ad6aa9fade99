"""The worker is shared: every client's asks have their turns, and HTTP has its own between them.

The asks of one message are worked off one by one, those of different clients in turn, for a bounded time in each turn
of the loop. What has to wait (for the conductor) waits beside; a client who has too much waiting gets no turns until
some of it is done. So a client who asks for much delays nobody but himself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from nova_fast.hub.server import Incoming
from nova_fast.model.errors import InternalError
from nova_fast.model.sdk import Answer, Answers, Ask

log = logging.getLogger(__name__)

#: Of one turn of the loop, however many clients ask.
TURN_S = 0.002
#: Asks that wait for the conductor: of one client, and of all; below what the worker's own link to it takes.
WAITING_MAX = 64
WAITING_ALL_MAX = 1024
ANSWERS_BYTES_MAX = 16 << 20  # of one message

Work = Callable[[Ask], Answer | Coroutine[Any, Any, Answer]]


class Batch:
    """The asks of one message."""

    __slots__ = ("answers", "answers_bytes", "asks", "call", "done", "next", "work")

    def __init__(self, call: Incoming, asks: tuple[Ask, ...], work: Work) -> None:
        self.call = call
        self.asks = asks
        self.work = work
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
    __slots__ = ("batches", "queued", "waiting")

    def __init__(self) -> None:
        self.batches: deque[Batch] = deque()
        self.waiting = 0
        self.queued = False


class Turns:
    """All clients with something to do."""

    def __init__(self, too_large: Callable[[int], Answer]) -> None:
        self._too_large = too_large
        self._loop = asyncio.get_running_loop()
        self._clients: dict[str, _Client] = {}
        self._queue: deque[tuple[str, _Client]] = deque()
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn_due = False
        self._closed = False

    def add(self, batch: Batch) -> None:
        """Work off the asks of a message, each in its turn."""
        name = batch.call.peer
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = _Client()
        client.batches.append(batch)
        self._enqueue(name, client)

    async def close(self) -> None:
        """Stop; whoever asked asks the next worker."""
        self._closed = True
        self._queue.clear()
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
        queue, clock = self._queue, time.perf_counter
        end = clock() + TURN_S
        while queue and self._waiting < WAITING_ALL_MAX:
            name, client = queue.popleft()
            client.queued = False
            self._serve(name, client)
            if client.batches:
                self._enqueue(name, client)
            elif not client.waiting:
                self._clients.pop(name, None)
            if clock() >= end:
                break
        self._wake()

    def _serve(self, name: str, client: _Client) -> None:
        """One ask of a client."""
        batch = client.batches[0]
        number = batch.next
        batch.next += 1
        if batch.next == len(batch.asks):
            client.batches.popleft()
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
