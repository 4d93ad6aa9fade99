"""nova-scheduler: keeps every host in memory, follows what is committed, and answers with a host or a reason."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Set
from pathlib import Path

from nova_fast.config import Config
from nova_fast.daemon import run_daemon, settle_memory, without_collector
from nova_fast.edges import REAL, Edges
from nova_fast.hub.local import local_peer
from nova_fast.model.base import Message
from nova_fast.model.errors import NovaFastError
from nova_fast.model.events import Event
from nova_fast.model.tasks import CountCapacity, Done, ReleaseClaims, SelectHosts, ServiceReport
from nova_fast.queries.claims import fleet, hosts_of, images_placed
from nova_fast.queries.reading import OpenStore, open_when_made
from nova_fast.scheduler.idle import IdleMoments
from nova_fast.scheduler.select import Scheduler

log = logging.getLogger(__name__)

TICK_S = 5

Open = Callable[[Path, asyncio.Event], Awaitable[OpenStore | None]]


def main(config: Config) -> int:
    """Run the scheduler in the foreground. Returns the exit code."""
    return run_daemon(config, lambda stop: Daemon(config).run(stop))


class Daemon:
    """The scheduler at the hub."""

    def __init__(self, config: Config, edges: Edges = REAL, open_store: Open = open_when_made) -> None:
        self._config = config
        self._open_store = open_store
        drawing = random.Random(edges.entropy(16))  # noqa: S311 - hosts are drawn, not keys
        self._scheduler = Scheduler(config.scheduler, drawing, residence=self._residence)
        self._peer = local_peer("scheduler", config, edges)
        self._store: OpenStore | None = None
        self._idle = IdleMoments(self._scheduler.tend)

    async def run(self, stop: asyncio.Event) -> int:
        """Serve until ``stop`` is set."""
        self._store = await self._open_store(self._config.store_path, stop)
        if self._store is None:
            return 0
        report = ServiceReport(name="scheduler", binary="nova-scheduler", host=self._config.host_name, zone="internal")
        self._peer.heartbeat = lambda: report
        self._peer.handle(SelectHosts, self._select)
        self._peer.handle(ReleaseClaims, self._release)
        self._peer.handle(CountCapacity, self._capacity)
        self._load()
        await self._peer.start()
        settle_memory()
        log.info("nova-scheduler knows %d hosts, policy %s", len(self._scheduler.hosts), self._config.scheduler.policy)
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), TICK_S)
            except TimeoutError:
                late = self._scheduler.tick(asyncio.get_running_loop().time())
                if late:
                    log.warning("%d choices were never committed and are given back", len(late))
        self._idle.close()
        await self._peer.close()
        self._store.close()
        return 0

    def _load(self) -> None:
        """Read all hosts and what is under way from one snapshot, and follow the events behind it."""
        assert self._store is not None
        with without_collector():
            with self._store.snapshot() as snapshot:
                generation = snapshot.generation()
                found = fleet(snapshot, self._scheduler.claims.pending)
                images = images_placed(snapshot) if self._scheduler.hosts.images.on else []
            self._scheduler.load(*found)
            self._scheduler.hosts.images.add(images)
        self._peer.subscribe(generation, self._follow, self._load)

    def _follow(self, _generation: int, event: Event) -> None:
        self._idle.heard()
        try:
            self._scheduler.apply(event)
        except NovaFastError as error:
            log.error("the host table does not follow: %s; it is read anew", error)
            raise

    def _residence(self, server_ids: Iterable[str]) -> Set[str]:
        """Where servers are that were built long ago: hints name them."""
        if self._store is None:
            return frozenset()
        with self._store.snapshot() as snapshot:
            return hosts_of(snapshot, server_ids)

    def _select(self, message: SelectHosts, _call_id: bytes) -> Message:
        self._idle.heard()
        selection = self._scheduler.select(message)
        for placement in selection.placements:
            if not placement.host:
                log.info("no valid host for %s: %s", placement.server_id, placement.filters)
        return selection

    def _capacity(self, message: CountCapacity, _call_id: bytes) -> Message:
        self._idle.heard()
        return self._scheduler.capacity(message.request)

    def _release(self, message: ReleaseClaims, _call_id: bytes) -> Message:
        self._scheduler.release(message)
        return Done()
