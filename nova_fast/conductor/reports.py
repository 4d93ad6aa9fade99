"""What the other daemons say by themselves: heartbeats, guests that changed, guests that are there, guests that ask.

A daemon may only speak of its own host, and ask only for the guests that are there: the name it was let in with says
which that is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from nova_fast.commands.guests import record_guest_state, record_inventory
from nova_fast.commands.hosts import (
    heard_before,
    record_host_report,
    record_host_up,
    record_service_report,
    record_service_up,
    service_heard_before,
)
from nova_fast.conductor.engine import Engine
from nova_fast.conductor.writer import Writer
from nova_fast.hub.server import HubServer
from nova_fast.model.base import Message
from nova_fast.model.errors import Forbidden, NovaFastError
from nova_fast.model.tasks import (
    AskCapacity,
    CacheAggregateImages,
    CacheImages,
    ConsoleOutput,
    CountCapacity,
    Done,
    GuestChanged,
    GuestInventory,
    HostHeard,
    HostReport,
    MetadataRequest,
    ReadConsole,
    ReadServerConsole,
    ServiceReport,
)
from nova_fast.queries import aggregates, metadata
from nova_fast.queries.capacity import request_of
from nova_fast.queries.guests import image_of
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from nova_fast.state.transaction import Transaction

log = logging.getLogger(__name__)

CONSOLE_TIMEOUT_S = 15
CACHE_TIMEOUT_S = 15  # to be told; fetching takes as long as it takes
TOLD_AT_ONCE = 8  # hosts
CAPACITY_TIMEOUT_S = 10
MISSING_AT_ONCE = 500  # hosts looked at in one transaction


class Reports:
    """Handlers of the hub that are not commands of a face."""

    def __init__(self, store: Store, writer: Writer, engine: Engine, hub: HubServer) -> None:
        self._store = store
        self._writer = writer
        self._engine = engine
        self._hub = hub
        self._clock = writer.clock
        self._connected_us: dict[str, int] = {}  # compute host → since when its present connection is there
        self._running: set[asyncio.Task[None]] = set()

    def register(self) -> None:
        """Make the hub hand these messages here."""
        self._hub.handle(HostReport, self.host_report, repeatable=True)
        self._hub.handle(ServiceReport, self.service_report, repeatable=True)
        self._hub.handle(GuestChanged, self.guest_changed)
        self._hub.handle(GuestInventory, self.guest_inventory)
        self._hub.handle(MetadataRequest, self.metadata_request, repeatable=True)
        self._hub.handle(ReadServerConsole, self.console)
        self._hub.handle(CacheAggregateImages, self.cache_images)
        self._hub.handle(AskCapacity, self.capacity)

    def host_report(self, peer: str, message: HostReport, _call_id: bytes) -> Message | Awaitable[Message]:
        """A compute's heartbeat.

        PERF: one that says nothing new is answered from a snapshot, and nothing is written.
        """
        _only_own(peer, "compute", message.host)
        with self._store.snapshot() as snapshot:
            host = heard_before(snapshot, message, self._clock.now_us())
        if host is not None:
            return HostHeard(compare=host.strays)

        def work(tx: Transaction) -> Message:
            return HostHeard(compare=record_host_report(tx, message).strays)

        return self._writer.run(work)

    def service_report(self, peer: str, message: ServiceReport, _call_id: bytes) -> Message | Awaitable[Message]:
        """Another daemon's heartbeat."""
        if peer != message.name:
            raise Forbidden(f"{peer} may not speak for {message.name}", code="not_your_name")
        with self._store.snapshot() as snapshot:
            if service_heard_before(snapshot, message, self._clock.now_us()):
                return Done()

        def work(tx: Transaction) -> Message:
            record_service_report(tx, message)
            return Done()

        return self._writer.run(work)

    async def guest_changed(self, peer: str, message: GuestChanged, _call_id: bytes) -> Message:
        """A guest changed its state by itself."""
        _only_own(peer, "compute", message.host)

        def work(tx: Transaction) -> Message:
            record_guest_state(tx, message)
            return Done()

        return await self._writer.run(work)

    async def guest_inventory(self, peer: str, message: GuestInventory, _call_id: bytes) -> Message:
        """A compute daemon has come up and says which guests it has; it is told which belong there."""
        _only_own(peer, "compute", message.host)
        since_us = self._connected_us.get(message.host, self._clock.steady_us())
        return await self._writer.run(lambda tx: record_inventory(tx, message, since_us))

    def metadata_request(self, peer: str, message: MetadataRequest, _call_id: bytes) -> Message:
        """A guest asks 169.254.169.254. Only the host on which its port works may ask for it."""
        with self._store.snapshot() as snapshot:
            port = snapshot.find(tables.PORTS_BY_ADDRESS, message.network_id, message.address)
            if port is not None:
                _only_own(peer, "network", port.host)
            return metadata.answer(snapshot, message)

    async def console(self, _peer: str, message: ReadServerConsole, _call_id: bytes) -> Message:
        """The end of a server's console log, from its host."""
        with self._store.snapshot() as snapshot:
            server = snapshot.need(tables.SERVERS, message.server_id, "Instance")
        if not server.host:
            return ConsoleOutput(text="")
        ask = ReadConsole(server_id=server.id, domain_name=server.domain_name, lines=message.lines)
        return await self._hub.call(f"compute@{server.host}", ask, timeout_s=CONSOLE_TIMEOUT_S)

    def cache_images(self, _peer: str, message: CacheAggregateImages, _call_id: bytes) -> Message:
        """Have the hosts of an aggregate that are up fetch images. Nobody waits for it, and nothing depends on it."""
        with self._store.snapshot() as snapshot:
            aggregate = aggregates.get(snapshot, message.number)
            images = tuple(image_of(snapshot, image_id, {}) for image_id in message.image_ids)
            there = [host for name in aggregate.hosts if (host := snapshot.get(tables.HOSTS, name)) is not None]
        names = [host.name for host in there if host.up and not host.forced_down]
        self._beside(f"images for aggregate {message.number}", self._cache_on(names, CacheImages(images=images)))
        return Done()

    async def _cache_on(self, hosts: list[str], message: CacheImages) -> None:
        waiting = iter(hosts)

        async def tell() -> None:
            for host in waiting:
                try:
                    await self._hub.call(f"compute@{host}", message, timeout_s=CACHE_TIMEOUT_S)
                except NovaFastError as error:
                    log.warning("host %s was not told to fetch images: %s", host, error)

        await asyncio.gather(*(tell() for _ in range(TOLD_AT_ONCE)))

    async def capacity(self, _peer: str, message: AskCapacity, _call_id: bytes) -> Message:
        """How many more servers fit, from the scheduler's table."""
        with self._store.snapshot() as snapshot:
            ask = CountCapacity(request=request_of(snapshot, message))
        return await self._hub.call("scheduler", ask, timeout_s=CAPACITY_TIMEOUT_S)

    def peer_up_or_down(self, peer: str, up: bool) -> None:
        """Record that a daemon's heartbeats arrive, or no longer."""
        kind, _, host = peer.partition("@")
        if kind == "compute" and up:
            self._connected_us[host] = self._clock.steady_us()
        elif kind == "compute":
            self._connected_us.pop(host, None)

        def work(tx: Transaction) -> Message:
            if kind == "compute":
                record_host_up(tx, host, up)
                if not up:
                    self._engine.host_down(tx, host)
            elif not kind.startswith(("api", "cli")):
                record_service_up(tx, peer, up)
            return Done()

        self._record_beside(f"{peer} {'up' if up else 'down'}", work)

    def missing_are_down(self) -> None:
        """Whoever is recorded as up and has not come back since this process began is down.

        Call it once, when everybody has had the time to come back: from then on the hub tells.
        """
        self._beside("who has not come back", self._mark_missing())

    async def _mark_missing(self) -> None:
        """PERF: 10,000 hosts take 0.9 s (bench/bench_start.py's store): in parts, so that no command waits so long."""
        behind: str | None = ""
        while behind is not None:
            there = {name for name, state in self._hub.peers().items() if state.up}

            def work(tx: Transaction, there: set[str] = there) -> Message:
                nonlocal behind
                hosts = list(tx.scan(tables.HOSTS, after=behind or None, limit=MISSING_AT_ONCE))
                behind = hosts[-1].name if len(hosts) == MISSING_AT_ONCE else None
                for host in hosts:
                    if host.up and f"compute@{host.name}" not in there:
                        log.warning("host %s has not come back", host.name)
                        record_host_up(tx, host.name, False)
                        self._engine.host_down(tx, host.name)
                for service in [s for s in tx.scan(tables.SERVICES) if s.up and s.name not in there]:
                    if service.name != "conductor":
                        record_service_up(tx, service.name, False)
                return Done()

            await self._writer.run(work)

    def _record_beside(self, what: str, work: Callable[[Transaction], Message]) -> None:
        async def record() -> None:
            await self._writer.run(work)

        self._beside(what, record())

    def _beside(self, what: str, recording: Coroutine[Any, Any, None]) -> None:
        async def record() -> None:
            try:
                await recording
            except NovaFastError as error:
                log.warning("%s could not be recorded: %s", what, error)

        running = asyncio.ensure_future(record())
        self._running.add(running)
        running.add_done_callback(self._running.discard)


def _only_own(peer: str, kind: str, host: str) -> None:
    if peer != f"{kind}@{host}":
        raise Forbidden(f"{peer} may not speak for {kind}@{host}", code="not_your_host")
