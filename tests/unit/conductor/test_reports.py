"""What daemons say by themselves: only of their own host, and what silence means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nova_fast.commands.guests import note_stray
from nova_fast.commands.hosts import record_host_report
from nova_fast.conductor import reports as reports_module
from nova_fast.conductor.engine import Engine
from nova_fast.conductor.reports import Reports
from nova_fast.conductor.writer import Writer
from nova_fast.hub.contracts import decoder_of
from nova_fast.model.base import Message
from nova_fast.model.commands import RESULTS
from nova_fast.model.commands.aggregates import AddAggregateHost, CreateAggregate
from nova_fast.model.errors import Forbidden, NotFound
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import (
    CacheAggregateImages,
    Done,
    GuestChanged,
    GuestInventory,
    HostHeard,
    HostReport,
    MetadataRequest,
    ServiceReport,
    WantedGuests,
)
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ADMIN, IMAGE_ID, Cloud, resources

ID = b"\0" * 16


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def play(cloud: Cloud, story: Callable[[Reports], Awaitable[None]], up: tuple[str, ...] = ()) -> None:
    """Run a story with the reports of a conductor at whose hub these peers are up."""

    async def run() -> None:
        engine = Engine(60)
        writer = Writer(cloud.store.store, engine, decoder_of(RESULTS).decode)
        hub: Any = SimpleNamespace(peers=lambda: {name: SimpleNamespace(up=True) for name in up})
        writer.start()
        try:
            await story(Reports(cloud.store.store, writer, engine, hub))
            async with asyncio.timeout(60):
                while asyncio.all_tasks() - {asyncio.current_task()}:  # noqa: ASYNC110 - whoever runs beside tells nobody
                    await asyncio.sleep(0.005)
        finally:
            await asyncio.to_thread(writer.stop)
            await asyncio.sleep(0)

    asyncio.run(run())


async def hear(reports: Reports, report: HostReport | ServiceReport) -> Message:
    """One heartbeat; what its sender is answered."""
    if isinstance(report, HostReport):
        answer = reports.host_report(f"compute@{report.host}", report, ID)
    else:
        answer = reports.service_report(report.name, report, ID)
    return answer if isinstance(answer, Message) else await answer


HOST_REPORT = HostReport(host="h1", zone="nova", resources=resources())
NETWORK_REPORT = ServiceReport(name="network@h1", binary="nova-network", host="h1", zone="internal")


@pytest.mark.parametrize("report", [HOST_REPORT, NETWORK_REPORT], ids=["compute", "network"])
def test_heartbeats_that_say_nothing_new_are_written_once_a_minute(
    cloud: Cloud, report: HostReport | ServiceReport
) -> None:
    async def story(reports: Reports) -> None:
        now_us = 1_800_000_000_000_000
        reports._clock.now_us = lambda: now_us
        await hear(reports, report)
        written = cloud.store.read(lambda r: r.commit())
        for _ in range(11):
            now_us += 5_000_000
            await hear(reports, report)
        assert cloud.store.read(lambda r: r.commit()) == written
        now_us += 5_000_000
        await hear(reports, report)
        assert cloud.store.read(lambda r: r.commit()) == written + 1
        now_us -= 3_600_000_000  # somebody set the clock
        await hear(reports, report)
        assert cloud.store.read(lambda r: r.commit()) == written + 2

    play(cloud, story)


@pytest.mark.parametrize(
    "news",
    [
        {"zone": "east"},
        {"cpu_ratio": 2.0},
        {"ram_ratio": 2.0},
        {"disk_ratio": 2.0},
        {"reserved_ram_mib": 1},
        {"resources": resources(vcpus=9)},
        {"resources": msgspec.structs.replace(resources(), metrics={"cpu.percent": 7.0})},
    ],
    ids=str,
)
def test_a_heartbeat_that_says_something_new_is_written_at_once(cloud: Cloud, news: dict[str, Any]) -> None:
    async def story(reports: Reports) -> None:
        await hear(reports, HOST_REPORT)
        await hear(reports, HOST_REPORT)
        written = cloud.store.read(lambda r: r.commit())
        await hear(reports, msgspec.structs.replace(HOST_REPORT, **news))
        assert cloud.store.read(lambda r: r.commit()) == written + 1

    play(cloud, story)


def test_a_heartbeat_of_a_host_or_service_that_is_down_shows_that_it_is_up(cloud: Cloud) -> None:
    async def story(reports: Reports) -> None:
        await hear(reports, HOST_REPORT)
        await hear(reports, NETWORK_REPORT)
        for peer in ("compute@h1", "network@h1"):
            reports.peer_up_or_down(peer, up=False)
        async with asyncio.timeout(60):
            while reports._running:  # noqa: ASYNC110 - it is recorded beside, and nobody is told
                await asyncio.sleep(0.005)
        assert not up(cloud, "h1")
        await hear(reports, HOST_REPORT)
        await hear(reports, NETWORK_REPORT)
        assert up(cloud, "h1")
        assert cloud.store.read(lambda r: r.need(tables.SERVICES, "network@h1", "Service")).up

    play(cloud, story)


@pytest.mark.parametrize("strays", [False, True])
def test_a_heartbeat_that_is_not_written_asks_for_strays_all_the_same(cloud: Cloud, strays: bool) -> None:
    async def story(reports: Reports) -> None:
        await hear(reports, HOST_REPORT)
        inventory = GuestInventory(host="h1", guests=())
        await reports.guest_inventory("compute@h1", inventory, ID)
        if strays:
            cloud.commit(lambda tx: (note_stray(tx, "h1"), Done())[1])
        written = cloud.store.read(lambda r: r.commit())
        assert await hear(reports, HOST_REPORT) == HostHeard(compare=strays)
        assert cloud.store.read(lambda r: r.commit()) == written

    play(cloud, story)


def up(cloud: Cloud, host: str) -> bool:
    return cloud.store.read(lambda r: r.need(tables.HOSTS, host, "Host")).up


def test_a_daemon_speaks_only_of_its_own_host(cloud: Cloud) -> None:
    server_id = cloud.active()

    async def story(reports: Reports) -> None:
        report = HostReport(host="h1", zone="nova", resources=resources())
        changed = GuestChanged(host="h1", server_id=server_id, power_state=PowerState.SHUTDOWN)
        for peer in ("compute@h2", "network@h1", "api.h1.1", "scheduler"):
            with pytest.raises(Forbidden):
                await reports.host_report(peer, report, ID)
            with pytest.raises(Forbidden):
                await reports.guest_changed(peer, changed, ID)
            with pytest.raises(Forbidden):
                await reports.guest_inventory(peer, GuestInventory(host="h1", guests=()), ID)
            with pytest.raises(Forbidden):
                await reports.service_report(
                    peer, ServiceReport(name="network@h3", binary="nova-network", host="h3", zone="internal"), ID
                )
        assert cloud.server(server_id).vm_state is VmState.ACTIVE
        await reports.guest_changed("compute@h1", changed, ID)
        assert cloud.server(server_id).vm_state is VmState.STOPPED

    play(cloud, story)


def test_metadata_is_given_only_to_the_host_of_the_port(cloud: Cloud) -> None:
    server_id = cloud.active()
    request = MetadataRequest(
        network_id=cloud.network_id,
        address=cloud.ports(server_id)[0].fixed_ips[0].ip_address,
        method="GET",
        path="/latest/meta-data/instance-id",
    )

    async def story(reports: Reports) -> None:
        for peer in ("network@h2", "compute@h1", "api.h1.1"):
            with pytest.raises(Forbidden):
                reports.metadata_request(peer, request, ID)
        assert reports.metadata_request("network@h1", request, ID).status == 200  # type: ignore[attr-defined]

    play(cloud, story)


def test_an_inventory_says_nothing_of_what_its_host_told_since_it_connected(cloud: Cloud) -> None:
    server_id = cloud.active()

    async def story(reports: Reports) -> None:
        reports._clock.steady_us = lambda: 1  # it connected long ago
        reports.peer_up_or_down("compute@h1", up=True)
        reports._clock.steady_us = lambda: 1 << 60
        answer = await reports.guest_inventory("compute@h1", GuestInventory(host="h1", guests=()), ID)
        assert answer == WantedGuests(server_ids=(server_id,))
        assert cloud.server(server_id).vm_state is VmState.ACTIVE
        reports.peer_up_or_down("compute@h1", up=True)  # connected again, and the guest is still not there
        await reports.guest_inventory("compute@h1", GuestInventory(host="h1", guests=()), ID)
        assert cloud.server(server_id).vm_state is VmState.STOPPED

    play(cloud, story)


def test_who_has_not_come_back_since_the_conductor_began_is_down_and_not_waited_for(cloud: Cloud) -> None:
    server_id = cloud.active()
    cloud.delete(server_id)
    assert [task.step for task in cloud.pending] == ["destroy"]

    async def story(reports: Reports) -> None:
        reports.missing_are_down()

    play(cloud, story, up=("compute@h2",))
    assert (up(cloud, "h1"), up(cloud, "h2")) == (False, True)
    assert cloud.find(server_id) is None


@pytest.mark.parametrize("at_once", [1, 2])
def test_many_that_do_not_come_back_are_marked_in_parts(
    cloud: Cloud, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports_module, "MISSING_AT_ONCE", at_once)

    async def story(reports: Reports) -> None:
        reports.missing_are_down()

    play(cloud, story, up=("compute@h1",))
    assert (up(cloud, "h1"), up(cloud, "h2")) == (True, False)


def test_a_host_goes_down_and_comes_back(cloud: Cloud) -> None:
    async def down(reports: Reports) -> None:
        reports.peer_up_or_down("compute@h1", up=False)

    async def back(reports: Reports) -> None:
        reports.peer_up_or_down("compute@h1", up=True)

    play(cloud, down)
    assert not up(cloud, "h1")
    play(cloud, back)
    assert up(cloud, "h1")


def test_the_hosts_of_an_aggregate_that_are_up_are_told_to_fetch_images(cloud: Cloud) -> None:
    cloud.run(CreateAggregate(caller=ADMIN, name="rack"))
    for host in ("h1", "h2"):
        cloud.run(AddAggregateHost(caller=ADMIN, number=1, host=host))
    cloud.commit(
        lambda tx: record_host_report(tx, HostReport(host="h3", zone="nova", resources=resources())) and Done()
    )
    cloud.host_up("h2", False)
    told: list[tuple[str, Any]] = []

    async def call(peer: str, message: Any, *, timeout_s: float) -> Done:
        told.append((peer, message))
        return Done()

    async def story(reports: Reports) -> None:
        reports._hub.call = call  # type: ignore[method-assign, assignment]
        assert reports.cache_images("api.h1.1", CacheAggregateImages(number=1, image_ids=(IMAGE_ID,)), ID) == Done()
        with pytest.raises(NotFound):
            reports.cache_images("api.h1.1", CacheAggregateImages(number=9, image_ids=(IMAGE_ID,)), ID)

    play(cloud, story)
    [(peer, message)] = told
    assert peer == "compute@h1"
    assert [(image.id, image.disk_format) for image in message.images] == [(IMAGE_ID, "qcow2")]
