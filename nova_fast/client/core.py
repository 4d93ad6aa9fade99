"""What both clients are made of: calls packed into messages, back-pressure, and a token that does not run out.

Calls that are made together travel together: whatever has been asked for in one turn of the loop goes in as few
messages as may be. Reads share messages of 64. Changes share one only when all of the messages that may be under way
are, so none waits for another without need. Who makes more calls than ``max_in_flight`` waits until some are answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from nova_fast.client.line import Line
from nova_fast.client.login import Login
from nova_fast.client.settings import Settings
from nova_fast.client.shared_watch import Following, News, SharedWatch
from nova_fast.model.errors import NovaFastError, from_failure
from nova_fast.model.sdk import ASKS_MAX, Answer, Answers, Ask, Asks, Seen, Watch

#: Messages under way; below the credits a door gives, so that watches have some too.
SLOTS = 48
#: Changes under way; a door does 64 of a client at once, and what waits there has a time.
CHANGES_MAX = 256
_UNAUTHORIZED = 401

_Lane = deque[tuple[Ask, asyncio.Future[Answer]]]


class AsyncCore:
    """One client's calls, on the loop that opened it."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError."""
        self._settings = settings
        self._line = Line(settings)
        self._login = Login(settings, self._first)
        self._shared_watch = SharedWatch(self.watch)
        self._reads: _Lane = deque()
        self._changes: _Lane = deque()
        self._under_way = 0  # calls
        self._messages = 0
        self._changing = 0  # changes in messages
        self._room: deque[asyncio.Future[None]] = deque()  # who waits to make a call
        self._slots: deque[asyncio.Future[None]] = deque()  # who waits to send a message
        self._tasks: set[asyncio.Task[None]] = set()
        self._flush_due = False

    async def open(self) -> None:
        """Connect and log in. Raises NovaFastError."""
        self._loop = asyncio.get_running_loop()
        await self._line.open()
        try:
            await self._login.start()
        except NovaFastError:
            await self._line.close()
            raise

    async def close(self) -> None:
        """Hang up; calls without an answer fail with Unavailable."""
        await self._login.close()
        await self._line.close()
        await self._shared_watch.close()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def workers_met(self) -> int:
        """How many processes have answered so far: a call may have been made twice when this has grown meanwhile."""
        return self._line.workers_met

    async def ask(self, ask: Ask, *, alone: bool = False) -> Answer:
        """One call; ``alone`` when it may take long and nobody else shall wait for it.

        Raises Unavailable when there is no answer in time. What the cloud refuses is an Answer.
        """
        answer = await self._ask(ask, alone=alone)
        if answer.status == _UNAUTHORIZED and await self._login.renew_after(answer):
            answer = await self._ask(ask, alone=alone)
        return answer

    async def ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        """Many calls, pipelined; their answers in the same order. All of them are reads, or none is."""
        answers = await self._ask_all(asks)
        refused = [number for number, answer in enumerate(answers) if answer.status == _UNAUTHORIZED]
        if refused and await self._login.renew_after(answers[refused[0]]):
            again = await self._ask_all([asks[number] for number in refused])
            for number, answer in zip(refused, again, strict=True):
                answers[number] = answer
        return answers

    async def watch(self, after: int, limit: int, wait_s: float) -> Seen:
        """What happened after a generation. Raises Unauthorized when the token has ended and there is no other."""
        try:
            return await self._watch(after, limit, wait_s)
        except NovaFastError as error:
            if not await self._login.renew_because(error):
                raise
        return await self._watch(after, limit, wait_s)

    async def follow(self, server_ids: Iterable[str]) -> Following:
        """Hear of these servers from now on, and read them after this; all who follow share a watch.

        Raises NovaFastError.
        """
        return await self._shared_watch.follow(server_ids)

    async def hear(self, following: Following, wait_s: float) -> News:
        """What happened to the servers since the last call; waits for it, so long at most. Raises NovaFastError."""
        return await self._shared_watch.hear(following, wait_s)

    async def leave(self, following: Following) -> None:
        """Hear no more of them."""
        self._shared_watch.leave(following)

    # ------------------------------------------------------------------ messages
    async def _ask(self, ask: Ask, *, alone: bool) -> Answer:
        self._login.look()
        if self._under_way >= self._settings.max_in_flight:
            await self._wait_in(self._room)
        self._under_way += 1
        try:
            if alone:
                return (await self._send((ask,)))[0]
            future: asyncio.Future[Answer] = self._loop.create_future()
            (self._reads if ask.method == "GET" else self._changes).append((ask, future))
            self._flush_soon()
            return await future
        finally:
            self._under_way -= 1
            _wake_one(self._room)

    async def _ask_all(self, asks: Sequence[Ask]) -> list[Answer]:
        self._login.look()
        try:
            if asks and asks[0].method != "GET":
                async with asyncio.TaskGroup() as group:
                    changes = [group.create_task(self._ask(one, alone=False)) for one in asks]
                return [change.result() for change in changes]
            sent: list[asyncio.Task[tuple[Answer, ...]]] = []
            async with asyncio.TaskGroup() as group:
                for begin in range(0, len(asks), ASKS_MAX):
                    await self._take_slot()
                    chunk = tuple(asks[begin : begin + ASKS_MAX])
                    sent.append(group.create_task(self._send_in_slot(chunk)))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [answer for task in sent for answer in task.result()]

    async def _send_in_slot(self, asks: tuple[Ask, ...]) -> tuple[Answer, ...]:
        try:
            return await self._send(asks)
        finally:
            self._free_slot()

    async def _send(self, asks: tuple[Ask, ...]) -> tuple[Answer, ...]:
        answered = await self._line.call(Asks(asks=asks, token=self._login.token), self._settings.timeout_s)
        assert isinstance(answered, Answers) and len(answered.answers) == len(asks), "answers that were not asked for"
        return answered.answers

    async def _first(self, ask: Ask) -> Answer:
        """A call without a token: the login's own."""
        answered = await self._line.call(Asks(asks=(ask,)), self._settings.timeout_s)
        assert isinstance(answered, Answers)
        return answered.answers[0]

    async def _watch(self, after: int, limit: int, wait_s: float) -> Seen:
        self._login.look()
        message = Watch(after=after, token=self._login.token, limit=limit, wait_s=wait_s)
        seen = await self._line.call(message, wait_s + self._settings.timeout_s)
        assert isinstance(seen, Seen)
        return seen

    # ------------------------------------------------------------------ lanes and slots
    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Pack what waits into messages, as many as may be under way."""
        self._flush_due = False
        while self._messages < SLOTS and self._reads:
            self._post(self._reads, ASKS_MAX)
        while self._messages < SLOTS and self._changes and self._changing < CHANGES_MAX:
            share = -(-len(self._changes) // (SLOTS - self._messages))
            self._changing += self._post(self._changes, min(ASKS_MAX, CHANGES_MAX - self._changing, share))

    def _post(self, lane: _Lane, size: int) -> int:
        """Send a message of so many calls that wait; how many there were. What was given up meanwhile is not sent."""
        group: list[tuple[Ask, asyncio.Future[Answer]]] = []
        while lane and len(group) < size:
            waiting = lane.popleft()
            if not waiting[1].done():
                group.append(waiting)
        if not group:
            return 0
        self._messages += 1
        task = self._loop.create_task(self._deliver(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return len(group)

    async def _deliver(self, group: list[tuple[Ask, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await self._send_in_slot(tuple([ask for ask, _ in group]))
        except NovaFastError as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(from_failure(error.failure()))
            return
        finally:
            if group[0][0].method != "GET":
                self._changing -= len(group)
                self._flush_soon()
        for (_, future), answer in zip(group, answers, strict=True):
            if not future.done():
                future.set_result(answer)

    async def _take_slot(self) -> None:
        while self._messages >= SLOTS:
            await self._wait_in(self._slots)
        self._messages += 1

    def _free_slot(self) -> None:
        self._messages -= 1
        if not _wake_one(self._slots) and (self._reads or self._changes):
            self._flush_soon()

    async def _wait_in(self, queue: deque[asyncio.Future[None]]) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        queue.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                _wake_one(queue)  # it was our turn: the next may have it
            raise


def _wake_one(queue: deque[asyncio.Future[None]]) -> bool:
    while queue:
        waiter = queue.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return True
    return False
