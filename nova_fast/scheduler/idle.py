"""Idle moments: small pieces of work for when nothing has arrived for a while.

Between two pieces the loop looks at what has arrived, so whoever asks waits for one piece at most, and what has begun
to arrive again ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

QUIET_S = 0.001  # nothing must have arrived for so long, and at most for twice as long


class IdleMoments:
    """Runs a piece of work again and again, as long as it is quiet and there is some."""

    def __init__(self, work: Callable[[], bool]) -> None:
        """``work`` does one short piece and says whether there may be more."""
        self._work = work
        self._quiet = False
        self._next: asyncio.Handle | None = None

    def heard(self) -> None:
        """Something has arrived, which may have made work. PERF: called for every message, it does next to nothing."""
        self._quiet = False
        if self._next is None:
            self._next = asyncio.get_running_loop().call_later(QUIET_S, self._look)

    def close(self) -> None:
        """No more."""
        if self._next is not None:
            self._next.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        if not self._quiet:
            self._quiet = True
            self._next = loop.call_later(QUIET_S, self._look)
        elif self._work():
            self._next = loop.call_soon(self._look)
        else:
            self._next = None
