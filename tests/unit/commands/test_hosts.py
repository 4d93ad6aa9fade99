"""What reports of daemons and decisions of admins make of hosts, and which of it is news."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from nova_fast.commands import hosts as commands
from nova_fast.model.commands.hosts import RemoveHost, UpdateComputeService
from nova_fast.model.errors import Conflict, NotFound
from nova_fast.model.events import HostChanged, HostRemoved
from nova_fast.model.hosts import HostResources, HostUsage
from nova_fast.model.identity import Caller
from nova_fast.model.tasks import HostReport, ServiceReport
from nova_fast.queries import hosts
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store

ADMIN = Caller(user_id="a", project_id="p", roles=("admin",))
RESOURCES = HostResources(
    vcpus=4, ram_mib=8192, disk_gib=100, architecture="x86_64", hypervisor_type="QEMU", hypervisor_version=7,
    virt_type="kvm", uptime="1",
)  # fmt: skip
REPORT = HostReport(host="node-1", zone="nova", resources=RESOURCES)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        yield made


def report(store: MemoryStore, message: HostReport = REPORT) -> list[object]:
    """Record a report; returns the events it made."""

    def work(tx: object) -> list[object]:
        commands.record_host_report(tx, message)  # type: ignore[arg-type]
        return [event for _generation, event in tx.events]  # type: ignore[attr-defined]

    return store.run(work)


def test_the_first_report_makes_a_host_and_says_so(store: MemoryStore) -> None:
    [event] = report(store)
    host = store.read(lambda reader: hosts.get(reader, "node-1"))
    assert event == HostChanged(host=host)
    assert host.up
    assert host.enabled
    assert host.uuid != host.service_uuid
    assert store.read(lambda reader: hosts.by_uuid(reader, host.uuid)) == host
    assert store.read(lambda reader: hosts.by_number(reader, host.number)) == host
    assert store.read(lambda reader: hosts.usage(reader, "node-1")) == HostUsage(host="node-1")


def test_a_heartbeat_is_recorded_and_is_no_news(store: MemoryStore) -> None:
    report(store)
    before = store.read(lambda reader: hosts.get(reader, "node-1"))
    later = msgspec.structs.replace(REPORT, resources=msgspec.structs.replace(RESOURCES, uptime="2"))
    assert report(store, later) == []
    after = store.read(lambda reader: hosts.get(reader, "node-1"))
    assert after.reported_at_us > before.reported_at_us
    assert after.resources.uptime == "2"


@pytest.mark.parametrize(
    "changed",
    [
        msgspec.structs.replace(REPORT, zone="east"),
        msgspec.structs.replace(REPORT, resources=msgspec.structs.replace(RESOURCES, vcpus=8)),
        msgspec.structs.replace(REPORT, cpu_ratio=2.0),
        msgspec.structs.replace(REPORT, reserved_ram_mib=1024),
    ],
)
def test_other_resources_are_news_and_keep_who_the_host_is(store: MemoryStore, changed: HostReport) -> None:
    report(store)
    before = store.read(lambda reader: hosts.get(reader, "node-1"))
    assert len(report(store, changed)) == 1
    after = store.read(lambda reader: hosts.get(reader, "node-1"))
    assert (after.uuid, after.service_uuid, after.number) == (before.uuid, before.service_uuid, before.number)


def test_a_report_keeps_what_the_admin_decided(store: MemoryStore) -> None:
    report(store)
    update = UpdateComputeService(
        caller=ADMIN, host="node-1", enabled=False, disabled_reason="broken", forced_down=True
    )
    store.run(lambda tx: commands.update_compute_service(tx, update))
    report(store)
    host = store.read(lambda reader: hosts.get(reader, "node-1"))
    assert (host.enabled, host.disabled_reason, host.forced_down) == (False, "broken", True)
    assert not hosts.is_up(host)


def test_going_down_and_coming_back_is_news_once_each(store: MemoryStore) -> None:
    report(store)

    def mark(up: bool) -> int:
        def work(tx: object) -> int:
            commands.record_host_up(tx, "node-1", up)  # type: ignore[arg-type]
            return len(tx.events)  # type: ignore[attr-defined]

        return store.run(work)

    assert [mark(False), mark(False), mark(True), mark(True)] == [1, 0, 1, 0]
    assert mark(False) == 1
    assert len(report(store)) == 1  # a report shows that it is up
    assert store.run(lambda tx: commands.record_host_up(tx, "nobody", True)) is None


def test_opening_a_host_forgets_why_it_was_closed(store: MemoryStore) -> None:
    report(store)
    close = UpdateComputeService(caller=ADMIN, host="node-1", enabled=False, disabled_reason="broken")
    store.run(lambda tx: commands.update_compute_service(tx, close))
    opened = UpdateComputeService(caller=ADMIN, host="node-1", enabled=True)
    result = store.run(lambda tx: commands.update_compute_service(tx, opened))
    assert result.host.disabled_reason is None  # type: ignore[attr-defined]
    missing = UpdateComputeService(caller=ADMIN, host="nobody", enabled=True)
    with pytest.raises(NotFound):
        store.run(lambda tx: commands.update_compute_service(tx, missing))


def test_a_host_is_forgotten_only_when_it_is_empty(store: MemoryStore) -> None:
    report(store)
    store.run(lambda tx: tx.put(tables.HOST_USAGE, HostUsage(host="node-1", vcpus=1, servers=1)))
    with pytest.raises(Conflict):
        store.run(lambda tx: commands.remove_host(tx, RemoveHost(caller=ADMIN, host="node-1")))
    store.run(lambda tx: tx.put(tables.HOST_USAGE, HostUsage(host="node-1")))

    def remove(tx: object) -> list[object]:
        commands.remove_host(tx, RemoveHost(caller=ADMIN, host="node-1"))  # type: ignore[arg-type]
        return [event for _generation, event in tx.events]  # type: ignore[attr-defined]

    assert store.run(remove) == [HostRemoved(host="node-1")]
    assert store.read(lambda reader: reader.get(tables.HOST_USAGE, "node-1")) is None


def test_services_are_numbered_with_the_hosts_and_keep_their_identity(store: MemoryStore) -> None:
    report(store)
    message = ServiceReport(name="scheduler", binary="nova-scheduler", host="node-1", zone="internal")
    first = store.run(lambda tx: commands.record_service_report(tx, message))
    store.run(lambda tx: commands.record_service_up(tx, "scheduler", False))
    assert not store.read(lambda reader: reader.need(tables.SERVICES, "scheduler", "Service")).up
    again = store.run(lambda tx: commands.record_service_report(tx, message))
    assert (again.uuid, again.number, again.up) == (first.uuid, first.number, True)
    rows = store.read(lambda reader: hosts.services(reader))
    assert [(row.number, row.binary) for row in rows] == [(1, "nova-compute"), (2, "nova-scheduler")]
