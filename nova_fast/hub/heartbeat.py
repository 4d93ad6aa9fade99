"""A peer's heartbeat: a useful message if it has one, else a PING."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from nova_fast.hub import wire
from nova_fast.hub.callbacks import tell
from nova_fast.model.base import Message
from nova_fast.model.errors import NovaFastError

_log = logging.getLogger(__name__)


class Heartbeat:
    """At most one under way."""

    def __init__(self, name: str, call: Callable[..., Awaitable[Message]], offer: Callable[[bytes], object]) -> None:
        self._name = name
        self._call = call
        self._offer = offer
        self._task: asyncio.Task[None] | None = None

    def beat(
        self, make: Callable[[], Message] | None, heard: Callable[[Message], None] | None, interval_s: float
    ) -> None:
        """Send one; ``make`` makes it and ``heard`` is told the answer."""
        if make is not None and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._beat(make, heard, interval_s))
        else:
            self._offer(wire.pack(wire.PING))

    async def close(self) -> None:
        """Not even the one that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(
        self, make: Callable[[], Message], heard: Callable[[Message], None] | None, interval_s: float
    ) -> None:
        try:
            tell(heard, await self._call(make(), timeout_s=interval_s))
        except NovaFastError as error:
            _log.warning("heartbeat of %s: %s", self._name, error.message)
        except Exception:  # noqa: BLE001 - logged or answered, never fatal to others
            _log.exception("the heartbeat of %s cannot be made", self._name)
            self._offer(wire.pack(wire.PING))
