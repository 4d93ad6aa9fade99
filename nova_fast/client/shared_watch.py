"""One watch for everybody in a client who waits for servers: each event is fetched and read once, whoever wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import msgspec

from nova_fast.client.watching import WAIT_S, decode_event
from nova_fast.model.errors import NovaFastError, from_failure
from nova_fast.model.sdk import EVENTS_MAX, NOW, Seen, ServerEvent

T = TypeVar("T")


class News(msgspec.Struct):
    """What was told of the servers somebody follows."""

    events: list[ServerEvent] = []  # in order
    gap: bool = False  # some were missed: the servers must be read anew


class Following:
    """Somebody who wants to hear of some servers."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.ids = frozenset(ids)
        self.since = -1  # what happened up to this generation is in the servers as they are read from now on
        self.news = News()
        self.error: NovaFastError | None = None
        self.waiter: asyncio.Future[None] | None = None

    def begin(self, since: int) -> None:
        """Hear what happened after this generation, and nothing that was told meanwhile and came before it."""
        self.since, self.error = since, None
        self.news.events = [event for event in self.news.events if event.generation > since]

    def wake(self) -> None:
        """There is something to hear."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class SharedWatch:
    """The watch, running while anybody follows.

    A question that waits at the door is not taken back when the last has left: who comes next finds it running.
    """

    def __init__(self, watch: Callable[[int, int, float], Awaitable[Seen]]) -> None:
        """``watch``: events after a generation, at most so many, waiting so long (seconds)."""
        self._watch = watch
        self._followings: set[Following] = set()
        self._of: dict[str, set[Following]] = {}  # by the server's id
        self._running: asyncio.Task[None] | None = None
        self._at = 0  # everything up to this generation has been told, while it runs
        self._one_asks = asyncio.Lock()
        self._asking: asyncio.Task[int] | None = None  # where "now" is; not asked yet, so that others may join
        self._tasks: set[asyncio.Task[Any]] = set()

    async def follow(self, ids: Iterable[str]) -> Following:
        """Hear of these servers from now on: nothing that a read after this does not show is missed.

        Raises NovaFastError.
        """
        following = Following(ids)
        self._followings.add(following)
        for server_id in following.ids:
            self._of.setdefault(server_id, set()).add(following)
        try:
            now = await self._now()
        except BaseException:
            self.leave(following)
            raise
        following.begin(now)
        if self._running is None:
            self._at = now
            self._running = self._start(self._run())
        return following

    async def hear(self, following: Following, wait_s: float) -> News:
        """What has been told since the last call; waits for it, so long at most. Raises what ended the watch."""
        if not following.news.events and not following.news.gap and following.error is None:
            waiter = following.waiter = asyncio.get_running_loop().create_future()
            late = asyncio.get_running_loop().call_later(wait_s, following.wake)
            try:
                await waiter
            finally:
                late.cancel()
        if following.error is not None:
            raise from_failure(following.error.failure())
        news, following.news = following.news, News()
        return news

    def leave(self, following: Following) -> None:
        """Hear no more."""
        self._followings.discard(following)
        for server_id in following.ids:
            if others := self._of.get(server_id):
                others.discard(following)
                if not others:
                    del self._of[server_id]

    async def close(self) -> None:
        """When the line is closed: all questions have failed, and who follows has been told."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # told to those who still wait

    async def _now(self) -> int:
        """The last generation at some moment after this call; who asks together is answered together."""
        if self._asking is None:
            self._asking = self._start(self._ask_now())
        return await asyncio.shield(self._asking)

    async def _ask_now(self) -> int:
        async with self._one_asks:  # so the answers come in order
            self._asking = None  # what this question finds may be too old for who comes from here on
            return (await self._watch(NOW, 1, 0.0)).position

    # ------------------------------------------------------------------ the watch
    async def _run(self) -> None:
        try:
            while self._followings:
                seen = await self._watch(self._at, EVENTS_MAX, WAIT_S)
                self._tell(seen)
                self._at = seen.position
        except NovaFastError as error:
            for following in self._followings:
                following.error = error
                following.wake()
        finally:
            self._running = None

    def _tell(self, seen: Seen) -> None:
        if seen.gap:
            for following in self._followings:
                following.news.gap = True
                if seen.position < self._at:  # of a store that was replaced: its generations are others
                    following.since = seen.position
                following.wake()
        for raw in seen.events if self._of else ():
            event = decode_event(raw)
            if not isinstance(event, ServerEvent):
                continue
            for following in self._of.get(event.server_id, ()):
                if event.generation > following.since:
                    following.news.events.append(event)
                    following.wake()
