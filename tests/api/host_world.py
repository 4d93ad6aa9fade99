"""Hosts and servers for tests of what operators see, made by the commands that daemons' reports lead to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nova_fast.commands import usage
from nova_fast.commands.claims import take_host
from nova_fast.commands.hosts import record_host_report, record_service_report
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import Host, HostResources
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import HostReport, ServiceReport
from nova_fast.state import schema as tables

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud

SMALL = Flavor(id="s", name="small", vcpus=2, ram_mib=1024, disk_gib=10, ephemeral_gib=1, swap_mib=512)
RESOURCES = HostResources(
    vcpus=4,
    ram_mib=8192,
    disk_gib=100,
    architecture="x86_64",
    hypervisor_type="QEMU",
    hypervisor_version=7_002_000,
    virt_type="kvm",
    cpu_info={"model": "Haswell"},
    host_ip="192.0.2.1",
    uptime="up 1 day",
)


def now_us() -> int:
    return time.time_ns() // 1000


def add_host(cloud: Cloud, name: str, zone: str = "nova") -> Host:
    """A host that has just reported."""
    with cloud.store.transaction(now_us()) as tx:
        return record_host_report(tx, HostReport(host=name, zone=zone, resources=RESOURCES))


def add_scheduler(cloud: Cloud, host: str) -> None:
    """A scheduler that has just reported."""
    with cloud.store.transaction(now_us()) as tx:
        report = ServiceReport(name="scheduler", binary="nova-scheduler", host=host, zone="internal")
        record_service_report(tx, report)


def add_server(cloud: Cloud, owner: Client, host: str, launched_at_us: int = 0) -> Server:
    """A server that claims a host and has run since ``launched_at_us``."""
    with cloud.store.transaction(now_us()) as tx:
        server = Server(
            id=tx.new_uuid(),
            number=tx.next_number("servers"),
            project_id=owner.project_id,
            user_id=owner.user_id,
            name="one",
            hostname="one",
            created_at_us=tx.now_us,
            updated_at_us=tx.now_us,
            vm_state=VmState.ACTIVE,
            task_state=None,
            power_state=PowerState.RUNNING,
            flavor=SMALL,
            image_id="",
            image_properties={},
            reservation_id="r-00000000",
            launched_at_us=launched_at_us or tx.now_us,
        )
        server = take_host(tx, server, host)
        flavor = server.flavor
        usage.give_back(tx, server.project_id, instances=-1, cores=-flavor.vcpus, ram=-flavor.ram_mib)  # and no limit
        tx.put(tables.SERVERS, server)
        return server
