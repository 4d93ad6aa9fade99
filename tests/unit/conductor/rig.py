"""A conductor without its process: the real writer, engine and dispatcher over a hub whose peers the test plays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from nova_fast.commands import registry
from nova_fast.conductor.dispatcher import Dispatcher
from nova_fast.conductor.engine import Engine
from nova_fast.conductor.writer import Outcome, Writer
from nova_fast.hub.contracts import decoder_of
from nova_fast.model.base import Message
from nova_fast.model.commands import RESULTS
from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import (
    ApplyNetworks,
    DestroyGuest,
    GuestState,
    NetworksApplied,
    Placement,
    SelectHosts,
    Selection,
    SpawnGuest,
)
from nova_fast.state.store import Store
from tests.unit.conductor.player import ALICE, Cloud
from tests.unit.recount import assert_nothing_leaks

Peer = Callable[[Message], Awaitable[Message]]


class Hub:
    """Calls the peers that are there; who is not is waited for until the deadline, as the real one does."""

    def __init__(self) -> None:
        self.peers: dict[str, Peer] = {
            "scheduler": self.scheduler,
            "compute@h1": self.compute,
            "network@h1": self.network,
        }
        self.calls: list[tuple[str, Message]] = []
        self._waiting: set[asyncio.Task[None]] = set()

    async def call(self, peer: str, message: Message, *, timeout_s: float, call_id: bytes | None = None) -> Message:
        self.calls.append((peer, message))
        end_s = time.monotonic() + timeout_s
        while peer not in self.peers:
            if time.monotonic() >= end_s:
                raise Unavailable(f"{peer} did not answer in time", code="deadline_passed")
            await asyncio.sleep(0.01)
        return await self.peers[peer](message)

    def ask(
        self, peer: str, message: Message, *, timeout_s: float, call_id: bytes, ended: Callable[[Outcome], None]
    ) -> None:
        async def wait() -> None:
            try:
                outcome: Outcome = await self.call(peer, message, timeout_s=timeout_s, call_id=call_id)
            except NovaFastError as error:
                outcome = error
            ended(outcome)

        waiting = asyncio.ensure_future(wait())
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)

    async def scheduler(self, message: Message) -> Message:
        assert isinstance(message, SelectHosts)
        servers = [server_id for request in message.requests for server_id in (request.server_id, *request.alike)]
        return Selection(placements=tuple(Placement(server_id=server_id, host="h1") for server_id in servers))

    async def compute(self, message: Message) -> Message:
        if isinstance(message, SpawnGuest):
            return GuestState(server_id=message.guest.server_id, power_state=PowerState.RUNNING)
        assert isinstance(message, DestroyGuest)
        return GuestState(server_id=message.server_id, power_state=PowerState.NOSTATE)

    async def network(self, message: Message) -> Message:
        assert isinstance(message, ApplyNetworks)
        return NetworksApplied(host=message.host, generation=message.generation)


class Rig:
    """A conductor without its process."""

    def __init__(self, cloud: Cloud, task_timeout_s: float = 30.0) -> None:
        self.cloud = cloud
        self.store: Store = cloud.store.store
        self.engine = Engine(task_timeout_s)
        self.writer = Writer(self.store, self.engine, decoder_of(RESULTS).decode)
        self.hub = Hub()
        self.dispatcher = Dispatcher(self.store, self.writer, self.engine, self.hub)  # type: ignore[arg-type]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Rig]:
        self.writer.on_commit = self.dispatcher.committed
        self.writer.start()
        async with self.running_on():
            yield self

    @asynccontextmanager
    async def running_on(self) -> AsyncIterator[Rig]:
        """The same when the writer has been started already."""
        self.dispatcher.resume()
        try:
            yield self
        finally:
            await self.dispatcher.close()
            await asyncio.to_thread(self.writer.stop)

    async def do(self, request: Message, call_id: str = "") -> Any:
        return await self.writer.run(lambda tx: registry.run(tx, request), call_id)

    async def create(self, **fields: Any) -> str:
        return str((await self.do(self.cloud.wish(ALICE, **fields))).server_ids[0])

    def server(self, server_id: str) -> Server | None:
        return self.cloud.find(server_id)

    async def until(self, true: Callable[[], bool], timeout_s: float = 60.0) -> float:
        """Wait until something holds; how long it took."""
        started = time.monotonic()
        while not true():
            assert time.monotonic() - started < timeout_s, "it did not come about"
            await asyncio.sleep(0.01)
        self.cloud.store.read(assert_nothing_leaks)
        return time.monotonic() - started

    async def state(self, server_id: str, state: VmState, timeout_s: float = 60.0) -> float:
        def there() -> bool:
            server = self.server(server_id)
            return server is not None and server.vm_state is state and server.task_state is None

        return await self.until(there, timeout_s)
