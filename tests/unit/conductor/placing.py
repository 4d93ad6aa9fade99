"""A cloud whose servers are placed by the real scheduler, over hosts as the fake driver tells them."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from nova_fast.commands.hosts import record_host_report
from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.config import ComputeConfig, SchedulerConfig
from nova_fast.model.events import Event
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import HostUsage
from nova_fast.model.tasks import Done, HostReport, Placement, PlacementRequest, SelectHosts
from nova_fast.model.topology import GuestTopology
from nova_fast.queries import hosts
from nova_fast.queries.claims import fleet, images_placed
from nova_fast.scheduler.select import Scheduler
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore
from tests.unit.conductor.player import Cloud

PINNED = Flavor(id="p", name="pinned", vcpus=2, ram_mib=512, disk_gib=1, extra_specs={"hw:cpu_policy": "dedicated"})


class PlacingCloud(Cloud):
    """A cloud with a scheduler that follows what is committed."""

    def __init__(self, store: MemoryStore) -> None:
        self.scheduler: Scheduler | None = None
        self.options = SchedulerConfig()
        super().__init__(store)
        self.start_scheduler()

    def start_scheduler(self) -> None:
        """Another scheduler, from the store."""
        self.scheduler = Scheduler(self.options, random.Random(1))
        self.scheduler.load(*self.store.read(fleet))
        self.scheduler.hosts.images.add(self.store.read(images_placed) if self.scheduler.hosts.images.on else ())

    def heard(self, events: list[Event]) -> None:
        super().heard(events)
        for event in events if self.scheduler is not None else ():
            self.scheduler.apply(event)

    def report(self, host: str, **options: Any) -> None:
        """A compute daemon with a fake driver says what it has."""
        config = ComputeConfig(**{"fake_numa_cells": 2, "fake_ram_mib": 8192, "fake_disk_gib": 100, **options})
        resources = asyncio.run(FakeDriver(config, lambda _state: None).resources())
        self.commit(lambda tx: record_host_report(tx, HostReport(host=host, zone="nova", resources=resources)))

    def place(self, server_id: str) -> Placement:
        """Ask the scheduler as the conductor would, and answer."""
        assert self.scheduler is not None
        task = self.next("schedule")
        request = self.message(task)
        assert isinstance(request, PlacementRequest) and request.server_id == server_id
        (answer,) = self.scheduler.select(SelectHosts(requests=(request,))).placements
        self.answer(task, answer)
        return answer

    def placed(self, **wishes: Any) -> str:
        """A server that has a host and runs."""
        server_id = self.create(flavor_id=PINNED.id, **wishes)
        self.place(server_id)
        self.settle()
        return server_id

    def usage(self, host: str) -> HostUsage:
        return self.store.read(lambda reader: hosts.usage(reader, host))

    def cpus(self, host: str) -> list[int]:
        return [cpu for cell in self.usage(host).cells for cpu in cell.cpus]

    def topology(self, server_id: str) -> GuestTopology:
        found = self.server(server_id).claim.topology
        assert found is not None
        return found

    def conflicts(self, server_id: str) -> int:
        workflow = self.workflow(server_id)
        return 0 if workflow is None else workflow.conflicts

    def with_flavor(self, flavor: Flavor) -> None:
        def put(tx: Any) -> Done:
            tx.put(tables.FLAVORS, flavor)
            return Done()

        self.commit(put)
