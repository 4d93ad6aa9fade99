"""One connection to libvirt that comes back.

When libvirtd goes away its guests go on. The session notices (the socket closes, or keep-alive questions stay
unanswered), tries again with growing pauses, registers its events again and calls ``on_reconnect``, so that what
happened meanwhile is looked up. Blocking calls run on a bounded pool of threads, each with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from nova_fast.compute.drivers.libvirt.binding import UNREACHABLE, Connection
from nova_fast.model.errors import NovaFastError, Unavailable

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

CALL_TIMEOUT_S = 60.0
OPEN_TIMEOUT_S = 30.0  # libvirtd may be looking for its QEMUs
WAIT_FOR_CONNECTION_S = 10.0
RECONNECT_FIRST_S = 0.1
RECONNECT_LAST_S = 5.0


class Session:
    """A lasting connection. ``on_event`` and ``on_reconnect`` are called on the event loop."""

    def __init__(self, uri: str, on_event: Callable[[str], None], on_reconnect: Callable[[], None]) -> None:
        self._uri = uri
        self._on_event = on_event
        self._on_reconnect = on_reconnect
        self._pool = ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1) + 2, thread_name_prefix="libvirt-call")
        self._connection: Connection | None = None
        self._connected = asyncio.Event()
        self._reconnecting: asyncio.Task[None] | None = None
        self._closed = False

    async def start(self) -> None:
        """Connect, if it is not connected. Raises Unavailable when libvirtd cannot be reached."""
        assert not self._closed
        if self._reconnecting is not None and not self._reconnecting.done():
            await self._current()  # lost since an earlier start, and on its way back
        elif self._connection is None:
            await self._open()

    async def close(self) -> None:
        """Close the connection and the pool; calls under way are not waited for."""
        self._closed = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reconnecting
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._run(connection.close, OPEN_TIMEOUT_S)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def call(self, operation: Callable[[Connection], _T], timeout_s: float = CALL_TIMEOUT_S) -> _T:
        """Run a blocking operation on the connection. Raises Unavailable past the deadline or without a connection."""
        connection = await self._current()
        try:
            return await self._run(partial(operation, connection), timeout_s)
        except NovaFastError as e:
            if e.code == UNREACHABLE:
                self._lost(connection)
            raise

    async def _run(self, blocking: Callable[[], _T], timeout_s: float) -> _T:
        future = asyncio.get_running_loop().run_in_executor(self._pool, blocking)
        try:
            return await asyncio.wait_for(future, timeout_s)
        except TimeoutError as e:
            raise Unavailable(f"libvirt did not answer in {timeout_s:g} s on this host.") from e

    async def _current(self) -> Connection:
        try:
            await asyncio.wait_for(self._connected.wait(), WAIT_FOR_CONNECTION_S)
        except TimeoutError as e:
            raise Unavailable(
                f"libvirt at {self._uri} cannot be reached.", code=UNREACHABLE, hint="Start libvirtd on this host."
            ) from e
        if self._connection is None:
            raise Unavailable("The compute driver has been closed.", code=UNREACHABLE)
        return self._connection

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        connection = Connection(self._uri)

        def from_thread(function: Callable[..., None], *arguments: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(function, *arguments)

        abandoned = threading.Event()

        def blocking() -> None:
            connection.open(partial(from_thread, self._event), partial(from_thread, self._lost, connection))
            if abandoned.is_set():
                connection.close()

        try:
            await self._run(blocking, OPEN_TIMEOUT_S)
        except BaseException:
            abandoned.set()  # should it still open, it closes again
            raise
        self._connection = connection
        self._connected.set()

    def _event(self, server_id: str) -> None:
        if not self._closed:
            self._on_event(server_id)

    def _lost(self, connection: Connection) -> None:
        if self._closed or self._connection is not connection:
            return
        _log.warning("lost the connection to libvirt at %s; guests go on, trying again", self._uri)
        self._connection = None
        self._connected.clear()
        self._reconnecting = asyncio.create_task(self._reconnect(connection), name="libvirt-reconnect")

    async def _reconnect(self, old: Connection) -> None:
        pause_s = RECONNECT_FIRST_S
        with contextlib.suppress(Unavailable):
            await self._run(old.close, OPEN_TIMEOUT_S)
        while True:
            try:
                await self._open()
                break
            except NovaFastError as e:
                _log.info("libvirt is still away: %s", e.message)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RECONNECT_LAST_S)
        _log.warning("connected to libvirt at %s again", self._uri)
        self._on_reconnect()
