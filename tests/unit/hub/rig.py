"""What the hub's tests share: a hub and peers on real sockets, over ipc and over tcp with CURVE, on uvloop."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any

import uvloop
import zmq

from nova_fast.config import HubConfig
from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER
from nova_fast.hub.events import EventSource, Rows
from nova_fast.hub.keys import AllowList, PeerKeys, ServerKeys
from nova_fast.hub.limits import Limits
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer

CONFIG = HubConfig(heartbeat_s=0.2, down_after_s=1.2, credits=8)
TRANSPORTS = ("ipc", "tcp")


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an asynchronous test on uvloop, for at most two minutes."""

    async def bounded() -> None:
        async with asyncio.timeout(120):
            await test()

    uvloop.run(bounded())


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for something that must come true, as long as a busy machine may take."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is waited for is not ours to make an Event of
            await asyncio.sleep(0.01)


def in_s(seconds: float) -> int:
    """A deadline so far from now, of the hub's clock in µs."""
    return int((asyncio.get_running_loop().time() + seconds) * 1e6)


class Rig:
    """Makes hubs and peers that can meet, and closes them all at the end."""

    def __init__(self, transport: str = "ipc", *, config: HubConfig = CONFIG, limits: Limits | None = None) -> None:
        self.config = config
        self.limits = limits or Limits(hello_retry_s=0.05, reopen_after_s=0.5)
        self.folder = tempfile.TemporaryDirectory(prefix="hub-test-")
        self.address = f"ipc://{self.folder.name}/run/hub.sock" if transport == "ipc" else "tcp://127.0.0.1:0"
        self.allowed = AllowList()
        self.server_keys = ServerKeys(*zmq.curve_keypair(), self.allowed) if transport == "tcp" else None
        self._closers: list[Callable[[], Awaitable[None]]] = []

    @property
    def path(self) -> Path:
        return Path(self.folder.name)

    async def __aenter__(self) -> Rig:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for close in reversed(self._closers):
            await close()
        self.folder.cleanup()

    def new_server(self, events: EventSource | None = None) -> HubServer:
        """A hub that is not started, at this rig's address."""
        server = HubServer(self.address, config=self.config, keys=self.server_keys, events=events, limits=self.limits)
        self._closers.append(server.close)
        return server

    async def start(self, server: HubServer) -> HubServer:
        await server.start()
        self.address = server.address
        return server

    def peer_keys(self, *names: str) -> PeerKeys | None:
        """A new key that may use these names; None over ipc."""
        if self.server_keys is None:
            return None
        public, secret = zmq.curve_keypair()
        self.allowed.allow(public, names)
        return PeerKeys(public, secret, self.server_keys.public)

    def new_peer(self, name: str, keys: PeerKeys | None = None) -> Peer:
        """A peer that is not started."""
        keys = keys or self.peer_keys(name)
        peer = Peer(name, self.address, config=self.config, keys=keys, limits=self.limits)
        self._closers.append(peer.close)
        return peer

    async def join(self, peer: Peer) -> Peer:
        await peer.start()
        await peer.connected(60)
        return peer

    def raw(self, kind: int = zmq.DEALER) -> tuple[zmq.Context[zmq.Socket[bytes]], zmq.Socket[bytes]]:
        """A plain socket connected to the hub, for what no Peer would do (ipc only)."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self.address)

        async def close() -> None:
            context.destroy(0)

        self._closers.append(close)
        return context, socket


async def entered(rig: Rig, server: HubServer, name: str = "api.1", *, joined: bool = False) -> zmq.Socket[bytes]:
    """A plain socket that is linked under a name, and whose user keeps no rule."""
    _, socket = rig.raw()
    hello = wire.Hello(name=name, session=b"s" * 16, protocol=wire.PROTOCOL, joined=joined)
    socket.send(wire.pack(wire.HELLO, body=ENCODER.encode(hello)))
    await until(lambda: name in server.peers() and server.peers()[name].up)
    return socket


async def insist(send: Callable[[], object], condition: Callable[[], bool]) -> None:
    """Do something again and again until it has led to what it must lead to: one try may be lost, or too little."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(60):
        while True:
            send()
            end_s = loop.time() + 0.2
            while loop.time() < end_s:
                if condition():
                    return
                await asyncio.sleep(0.01)


def flood(socket: zmq.Socket[bytes], frames: list[bytes]) -> None:
    """Send as many as leave, however few are read."""
    socket.set(zmq.SNDHWM, 0)
    for frame in frames:
        try:
            socket.send(frame, zmq.DONTWAIT)
        except zmq.Again:
            return


def taken(socket: zmq.Socket[bytes], frames: list[bytes]) -> list[bytes]:
    """What has come until now, behind what had come before."""
    try:
        while True:
            frames.append(socket.recv(zmq.DONTWAIT))
    except zmq.Again:
        return frames


class MemoryEvents:
    """An EventSource in memory."""

    def __init__(self) -> None:
        self.rows: Rows = []
        self.first = 1
        self.reads = 0

    def add(self, generation: int, event: bytes) -> None:
        assert not self.rows or generation >= self.rows[-1][0]
        self.rows.append((generation, event))

    def trim(self, before_generation: int) -> None:
        self.rows = [row for row in self.rows if row[0] >= before_generation]
        self.first = before_generation

    def read(self, after_generation: int, limit: int) -> Rows:
        self.reads += 1
        return [row for row in self.rows if row[0] > after_generation][:limit]

    def oldest(self) -> int:
        return self.first
