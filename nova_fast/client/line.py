"""The way to the cloud: one link to one API worker, and another when that one is gone.

A call that has no answer is made again on the next link, with the same id: the worker that had it already knows it, and
another finds the Idempotency-Key of a change in the store.
"""

from __future__ import annotations

import asyncio
import os
import random

from nova_fast.client.settings import Settings
from nova_fast.config import ConfigError, HubConfig
from nova_fast.hub.contracts import SDK
from nova_fast.hub.keys import key_name
from nova_fast.hub.limits import Limits
from nova_fast.hub.peer import Peer
from nova_fast.hub.wire import CallIds
from nova_fast.model.base import Message
from nova_fast.model.errors import Kind, NovaFastError, Unavailable

#: Before another worker is tried, when the link is lost or cannot be made.
PATIENCE_S = 0.5
_PATIENCE_S_MAX = 4.0
_AGAIN_S = 0.02
_CONFIG = HubConfig(heartbeat_s=1.0, down_after_s=4.0, credits=64)
_LIMITS = Limits(message_bytes_max=32 << 20, resend_after_s=5.0, reopen_after_s=1.0, reopen_after_s_max=8.0)


def peer_name(public: bytes) -> str:
    """A new name that nobody else has: of the key's family over tcp."""
    return f"client.{key_name(public) + '-' if public else ''}{os.urandom(16).hex()}"


class Line:
    """Calls to whichever worker answers."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for addresses that cannot be used."""
        if not settings.addresses:
            raise ConfigError("a client needs the address of at least one API worker")
        self._settings = settings
        self._name = peer_name(settings.keys.public if settings.keys is not None else b"")
        self._addresses = list(settings.addresses)
        self._at = random.randrange(len(self._addresses))  # noqa: S311 - clients spread over workers
        self._ids = CallIds(os.urandom)
        self._timer: asyncio.TimerHandle | None = None
        self._patience_s = PATIENCE_S
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.workers_met = 0  # processes, counted at each first welcome

    async def open(self) -> None:
        """Connect. Raises Unavailable or the refusal when no worker lets us in in time."""
        self._loop = asyncio.get_running_loop()
        end_s = self._loop.time() + self._settings.connect_timeout_s
        while True:
            self._peer = self._new_peer()
            await self._peer.start()
            left_s = end_s - self._loop.time()
            try:
                await self._peer.connected(max(0.01, min(left_s, 4 * PATIENCE_S) if self._has_others else left_s))
                return
            except NovaFastError as error:
                await self._peer.close()
                if error.kind is not Kind.UNAVAILABLE or self._loop.time() >= end_s:
                    raise
                self._at = (self._at + 1) % len(self._addresses)
                await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        """Hang up; calls without an answer fail."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._peer.close()

    async def call(self, message: Message, timeout_s: float) -> Message:
        """The answer to a message. Raises what it raised there, or Unavailable after the time."""
        call_id = self._ids.next()
        end_s = self._loop.time() + timeout_s
        while True:
            peer = self._peer
            try:
                return await peer.call(message, timeout_s=end_s - self._loop.time(), call_id=call_id)
            except Unavailable as error:
                if error.code != "hub_closed" or self._closed or self._loop.time() >= end_s:
                    raise
            if peer is self._peer:
                await asyncio.sleep(_AGAIN_S)

    @property
    def _has_others(self) -> bool:
        return len(self._addresses) > 1

    def _new_peer(self) -> Peer:
        address = self._addresses[self._at]
        keys = self._settings.keys if address.startswith("tcp://") else None
        peer = Peer(self._name, address, config=_CONFIG, keys=keys, limits=_LIMITS, contracts=SDK)
        peer.on_connected = self._met
        peer.on_disconnected = self._look_soon
        return peer

    def _met(self, new_worker: bool) -> None:
        self._patience_s = PATIENCE_S
        self.workers_met += new_worker

    def _look_soon(self) -> None:
        if self._timer is None and self._has_others and not self._closed:
            self._timer = self._loop.call_later(self._patience_s, self._look)

    def _look(self) -> None:
        """Whether the link is back; if not, go to the next worker."""
        self._timer = None
        if self._peer.is_connected or self._closed:
            return
        self._at = (self._at + 1) % len(self._addresses)
        self._patience_s = min(2 * self._patience_s, _PATIENCE_S_MAX)
        before, self._peer = self._peer, self._new_peer()
        before.on_disconnected = None
        for task in (self._loop.create_task(self._peer.start()), self._loop.create_task(before.close())):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._look_soon()
