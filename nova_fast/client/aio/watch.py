"""What happens in the cloud, in order, without a gap that is not told, from any place that is still kept."""

from __future__ import annotations

import time
from collections import deque

from nova_fast.client.core import AsyncCore
from nova_fast.client.watching import WAIT_S, WatchEvent, events_of
from nova_fast.model.sdk import EVENTS_MAX, NOW


class AsyncWatch:
    """An iterator of events that never ends by itself, through restarts of workers and of the conductor.

    ``position`` is the place after the last event handed out: keep it, and another watch goes on from there.
    Events are ServerEvent, HostEvent, HostGone, and Gap when some are kept no more.
    """

    def __init__(self, core: AsyncCore, since: int | None) -> None:
        self._core = core
        self._position = since
        self._ahead = 0  # the place after the last event that was fetched
        self._events: deque[WatchEvent] = deque()

    @property
    def position(self) -> int | None:
        """Where to go on from; None until the place of "now" is known, see :meth:`start`."""
        return self._position

    async def start(self) -> int:
        """Find out where "now" is, so that nothing after this call is missed; the position."""
        if self._position is None:
            self._position = (await self._core.watch(NOW, 1, 0.0)).position
        self._ahead = max(self._ahead, self._position)
        return self._position

    async def next(self, timeout_s: float | None = None) -> WatchEvent | None:
        """The next event; None when there is none in time. Raises Unauthorized when the token has ended."""
        await self.start()
        end_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        while not self._events:
            left_s = end_s - time.monotonic()
            seen = await self._core.watch(self._ahead, EVENTS_MAX, max(0.0, min(left_s, WAIT_S)))
            self._ahead = seen.position
            self._events += events_of(seen)
            if not self._events:
                self._position = self._ahead
                if left_s <= 0:
                    return None
        event = self._events.popleft()
        self._position = event.generation if self._events else self._ahead
        return event

    def __aiter__(self) -> AsyncWatch:
        return self

    async def __anext__(self) -> WatchEvent:
        event = await self.next()
        assert event is not None, "without a time there is an event"
        return event
