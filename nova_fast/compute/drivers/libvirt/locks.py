"""One operation at a time for each server, and a way to tell the one under way not to wait any longer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Hold:
    """The right to work on one server."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.hurry = asyncio.Event()  # somebody more important waits
        self.users = 0  # who holds or waits


class ServerLocks:
    """A lock for each server that somebody works on; nothing is kept of the others."""

    def __init__(self) -> None:
        self._holds: dict[str, Hold] = {}

    def held(self, server_id: str) -> bool:
        """Whether an operation on the server is under way."""
        return server_id in self._holds and self._holds[server_id].lock.locked()

    @contextlib.asynccontextmanager
    async def hold(self, server_id: str, *, hurry_others: bool = False) -> AsyncIterator[Hold]:
        """Wait for the server and keep it; with ``hurry_others`` the one who has it stops waiting for its guest."""
        hold = self._holds.setdefault(server_id, Hold())
        if hurry_others and hold.lock.locked():
            hold.hurry.set()
        hold.users += 1
        try:
            async with hold.lock:
                hold.hurry.clear()
                yield hold
        finally:
            hold.users -= 1
            if hold.users == 0:
                del self._holds[server_id]
