"""Hosts and requests for the scheduler's tests."""

from __future__ import annotations

import random
from typing import Any

from nova_fast._ext.rows import HostRow
from nova_fast.config import SchedulerConfig
from nova_fast.model.hosts import Claim, Host, HostResources, HostUsage
from nova_fast.model.tasks import Placement, PlacementRequest, SelectHosts
from nova_fast.scheduler.select import Scheduler

SMALL = Claim(vcpus=1, ram_mib=1024, disk_gib=10)


def make_host(name: str, vcpus: int = 4, ram_mib: int = 8192, disk_gib: int = 100, **changes: Any) -> Host:
    """A host with no ratios and nothing reserved, unless said otherwise."""
    architecture = changes.pop("architecture", "x86_64")
    own = {name: changes.pop(name) for name in ("numa", "pci", "pcpus") if name in changes}
    defaults: dict[str, Any] = {
        "uuid": f"uuid-{name}",
        "service_uuid": f"service-{name}",
        "number": 1,
        "zone": "nova",
        "created_at_us": 0,
        "reported_at_us": 0,
        "cpu_ratio": 1.0,
        "reserved_ram_mib": 0,
    }
    resources = HostResources(
        vcpus=vcpus,
        ram_mib=ram_mib,
        disk_gib=disk_gib,
        architecture=architecture,
        hypervisor_type="fake",
        hypervisor_version=1,
        virt_type="qemu",
        **own,
    )
    return Host(name=name, resources=resources, **(defaults | changes))


def unused(*hosts: Host) -> list[tuple[Host, HostUsage]]:
    return [(host, HostUsage(host=host.name)) for host in hosts]


def ask(server_id: str, claim: Claim = SMALL, **wishes: Any) -> PlacementRequest:
    return PlacementRequest(server_id=server_id, claim=claim, **wishes)


def make_scheduler(*hosts: Host, seed: int = 1, **options: Any) -> Scheduler:
    scheduler = Scheduler(SchedulerConfig(**options), random.Random(seed))
    scheduler.load(unused(*hosts))
    return scheduler


def place(scheduler: Scheduler, *requests: PlacementRequest) -> list[Placement]:
    return list(scheduler.select(SelectHosts(requests=requests)).placements)


def free(scheduler: Scheduler, name: str) -> tuple[int, ...]:
    row = HostRow(*scheduler.hosts.table.get(scheduler.hosts[name].row))
    return row.ram_free, row.vcpus_free, row.disk_free, row.io_ops, row.servers
