"""Cells, CPUs and devices of hosts are given once: by the scheduler, in the transaction that claims, after a restart.

The conductor's engine and store and the scheduler are the real ones; only the hub between them is left out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from nova_fast.cli.explain import text
from nova_fast.commands.placement_hosts import set_inventories
from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import Claim, HostUsage, Inventory
from nova_fast.model.placement import inventories_of
from nova_fast.model.states import VmState
from nova_fast.model.tasks import (
    AskCapacity,
    Done,
    Placement,
    PlacementRequest,
    SelectHosts,
    SpawnGuest,
)
from nova_fast.model.topology import GuestTopology, PlacedCell
from nova_fast.queries import hosts, placement
from nova_fast.queries.capacity import request_of
from nova_fast.queries.check.recount import recount
from nova_fast.queries.claims import fleet
from nova_fast.queries.decisions import described, explanation
from nova_fast.scheduler.select import Scheduler
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.placing import PINNED, PlacingCloud
from tests.unit.conductor.player import IMAGE_ID
from tests.unit.recount import assert_nothing_left

KEPT = {"fake_vcpus": 8, "cpu_dedicated_set": "4-7", "cpu_shared_set": "0-3"}


@pytest.fixture
def cloud() -> Iterator[PlacingCloud]:
    with memory_store() as store:
        placing = PlacingCloud(store)
        placing.with_flavor(PINNED)
        placing.report("h1", **KEPT)
        yield placing


def test_servers_have_cpus_of_their_own_until_there_are_no_more(cloud: PlacingCloud) -> None:
    first, second = cloud.placed(), cloud.placed()
    pins = [cpu for one in (first, second) for cell in cloud.topology(one).cells for _, cpu in cell.pins]
    assert sorted(pins) == [4, 5, 6, 7] == cloud.cpus("h1")
    assert (cloud.usage("h1").vcpus, cloud.usage("h1").resources) == (0, {"PCPU": 4})
    third = cloud.create(flavor_id=PINNED.id)
    assert cloud.place(third).host == ""
    assert cloud.server(third).vm_state is VmState.ERROR
    cloud.delete(first)
    cloud.settle()
    assert len(cloud.cpus("h1")) == 2
    assert cloud.topology(cloud.placed()).cells[0].pins != cloud.topology(second).cells[0].pins


def test_the_guest_is_made_with_what_was_chosen(cloud: PlacingCloud) -> None:
    server_id = cloud.create(flavor_id=PINNED.id)
    cloud.place(server_id)
    cloud.answer(cloud.next("network"))
    message = cloud.message(cloud.next("spawn"))
    assert isinstance(message, SpawnGuest) and message.guest.topology == cloud.topology(server_id)


def test_a_scheduler_that_starts_knows_what_is_taken(cloud: PlacingCloud) -> None:
    first = cloud.placed()
    cloud.start_scheduler()
    second = cloud.placed()
    cells = [cloud.topology(one).cells[0] for one in (first, second)]
    assert not set(cells[0].cpus) & set(cells[1].cpus)
    cloud.start_scheduler()
    assert cloud.place(cloud.create(flavor_id=PINNED.id)).host == ""
    for server_id in (first, second):
        cloud.delete(server_id)
        cloud.settle()
    assert cloud.usage("h1") == HostUsage(host="h1")


def test_a_cpu_that_is_somebody_elses_is_a_lost_race(cloud: PlacingCloud) -> None:
    """The store has the last word: whoever claims a CPU that is taken is placed again."""
    first = cloud.placed()
    second = cloud.create(flavor_id=PINNED.id)
    claim = cloud.server(first).claim
    cloud.answer(cloud.next("schedule"), Placement(server_id=second, host="h1", claim=claim))
    assert cloud.server(second).host == ""
    assert cloud.conflicts(second) == 1
    assert cloud.cpus("h1") == list(cloud.topology(first).cells[0].cpus)


@pytest.mark.parametrize(
    "cell",
    [
        PlacedCell(host_cell=9, vcpus=(0,), ram_mib=64),
        PlacedCell(host_cell=0, vcpus=(0,), pins=((0, 0),), cpus=(0,), ram_mib=64),  # for those who share
        PlacedCell(host_cell=0, vcpus=(0,), ram_mib=64, page_kib=1048576, own_pages=True),
        PlacedCell(host_cell=0, vcpus=(0,), ram_mib=64, page_kib=2048, own_pages=True),  # it has none of these
        PlacedCell(host_cell=0, vcpus=(0,), ram_mib=99999),
        PlacedCell(host_cell=1, vcpus=(0,), ram_mib=64),  # without CPUs to share
    ],
)
def test_what_a_host_has_not_is_not_claimed(cloud: PlacingCloud, cell: PlacedCell) -> None:
    server_id = cloud.create(flavor_id=PINNED.id)
    claim = Claim(vcpus=0, ram_mib=1, disk_gib=1, topology=GuestTopology(cells=(cell,)))
    cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host="h1", claim=claim))
    assert cloud.server(server_id).host == ""
    assert cloud.conflicts(server_id) == 1


def test_what_could_not_be_built_is_given_back(cloud: PlacingCloud) -> None:
    server_id = cloud.create(flavor_id=PINNED.id)
    cloud.place(server_id)
    assert len(cloud.cpus("h1")) == 2
    cloud.fail(cloud.next("network"))
    assert cloud.usage("h1") == HostUsage(host="h1")
    assert cloud.server(server_id).claimed is None
    assert cloud.scheduler is not None and cloud.scheduler.hosts["h1"].taken.cells == ()


def test_a_host_that_keeps_no_cpus_gives_its_shared_ones(cloud: PlacingCloud) -> None:
    """Nova's second query: without cpu_dedicated_set a pinned server takes vCPUs, and its CPUs all the same."""
    cloud.report("h1", fake_vcpus=4)
    first = cloud.placed()
    assert (cloud.usage("h1").vcpus, cloud.usage("h1").resources) == (2, {})
    assert len(cloud.cpus("h1")) == 2
    assert cloud.server(first).claim.vcpus == 2
    strict = Scheduler(SchedulerConfig(disable_fallback_pcpu_query=True), random.Random(1))
    strict.load(*cloud.store.read(fleet))
    second = cloud.create(flavor_id=PINNED.id)
    request = cloud.message(cloud.pending[0])
    assert isinstance(request, PlacementRequest)
    assert strict.select(SelectHosts(requests=(request,))).placements[0].host == ""
    assert cloud.place(second).host == "h1"


def test_an_image_asks_as_a_flavor_does(cloud: PlacingCloud) -> None:
    def change(tx: Any) -> Done:
        image = tx.need(tables.IMAGES, IMAGE_ID, "Image")
        tx.put(tables.IMAGES, msgspec.structs.replace(image, properties={"hw_cpu_policy": "dedicated"}))
        return Done()

    cloud.commit(change)
    server_id = cloud.create()
    cloud.place(server_id)
    assert cloud.usage("h1").resources == {"PCPU": 1}
    assert len(cloud.cpus("h1")) == 1
    cloud.settle()
    cloud.delete(server_id)
    cloud.settle()
    cloud.store.read(assert_nothing_left)


def test_placement_shows_the_kept_cpus_and_who_has_them(cloud: PlacingCloud) -> None:
    server_id = cloud.placed()

    def look(reader: Any) -> None:
        host = hosts.get(reader, "h1")
        provider = placement.of_host(reader, host)
        assert (provider.inventories["PCPU"].total, provider.inventories["VCPU"].total) == (4, 4)
        assert (provider.used["PCPU"], provider.used["VCPU"]) == (2, 0)
        (taken,) = placement.taken_of(reader, provider)
        assert (taken.consumer, taken.resources["PCPU"], "VCPU" in taken.resources) == (server_id, 2, False)

    cloud.store.read(look)


def test_a_server_of_amounts_alone_is_counted_in_no_cell(cloud: PlacingCloud) -> None:
    server_id = cloud.create()
    assert cloud.place(server_id).claim is None
    assert cloud.usage("h1").cells == () and cloud.server(server_id).claimed is None


def test_cells_of_a_guest_and_their_pages_are_counted(cloud: PlacingCloud) -> None:
    specs = {"hw:numa_nodes": "2", "hw:mem_page_size": "2048"}
    cloud.with_flavor(Flavor(id="n", name="numa", vcpus=2, ram_mib=512, disk_gib=1, extra_specs=specs))
    cloud.report("h1", fake_vcpus=8, fake_huge_pages=200)
    server_id = cloud.create(flavor_id="n")
    cloud.place(server_id)
    assert [(c.number, c.vcpus, c.ram_mib, c.pages) for c in cloud.usage("h1").cells] == [
        (0, 1, 256, {2048: 128}),
        (1, 1, 256, {2048: 128}),
    ]
    cloud.settle()
    assert cloud.place(cloud.create(flavor_id="n")).host == "", "72 pages are left in each cell"


def test_a_post_that_contradicts_itself_is_refused_in_novas_words(cloud: PlacingCloud) -> None:
    specs = {"hw:cpu_policy": "shared", "hw:cpu_thread_policy": "require"}
    cloud.with_flavor(msgspec.structs.replace(PINNED, id="s", name="threads", extra_specs=specs))
    error = cloud.refused(cloud.wish(flavor_id="s"))
    assert isinstance(error, BadRequest) and error.field == "flavorRef"
    assert error.message == "Cannot set cpu thread pinning policy in a non dedicated cpu pinning policy"
    cloud.with_flavor(msgspec.structs.replace(PINNED, id="e", name="secret", extra_specs={"hw:mem_encryption": "true"}))
    assert "Memory encryption is requested by hw:mem_encryption" in cloud.refused(cloud.wish(flavor_id="e")).message


def test_devices_are_given_by_address_and_once(cloud: PlacingCloud) -> None:
    alias = '{"name": "qat", "vendor_id": "8086", "product_id": "0443"}'
    cloud.options = SchedulerConfig(pci_alias=(alias,))
    cloud.start_scheduler()
    specs = {"pci_passthrough:alias": "qat:2", "hw:numa_nodes": "1"}
    cloud.with_flavor(Flavor(id="d", name="devices", vcpus=1, ram_mib=512, disk_gib=1, extra_specs=specs))
    cloud.report("h1", fake_vcpus=8, fake_pci_devices=5)
    placed = [cloud.create(flavor_id="d") for _ in range(1)]
    assert cloud.place(placed[0]).host == "h1"
    assert len(cloud.usage("h1").devices) == 2
    cell = cloud.topology(placed[0]).cells[0].host_cell
    even = {"0000:01:00.0", "0000:01:02.0", "0000:01:04.0"}
    assert set(cloud.topology(placed[0]).devices) <= (even if cell == 0 else {"0000:01:01.0", "0000:01:03.0"})
    cloud.settle()
    cloud.start_scheduler()
    second = cloud.create(flavor_id="d")
    assert cloud.place(second).host == "h1"
    assert len(set(cloud.usage("h1").devices)) == 4
    cloud.settle()
    assert cloud.place(cloud.create(flavor_id="d")).host == "", "one device is left"
    assert cloud.scheduler is not None and cloud.scheduler.hosts.state_in(0).pci_free == 1
    stolen = cloud.create()
    claim = Claim(vcpus=1, ram_mib=1, disk_gib=1, topology=GuestTopology(devices=cloud.topology(second).devices))
    cloud.answer(cloud.next("schedule"), Placement(server_id=stolen, host="h1", claim=claim))
    assert cloud.conflicts(stolen) == 1
    cloud.delete(second)
    cloud.settle()
    assert len(cloud.usage("h1").devices) == 2


def test_devices_by_a_name_that_nobody_knows_are_refused(cloud: PlacingCloud) -> None:
    specs = {"pci_passthrough:alias": "qat:1,gpu:1"}
    cloud.with_flavor(Flavor(id="d", name="devices", vcpus=1, ram_mib=512, disk_gib=1, extra_specs=specs))
    assert cloud.refused(cloud.wish(flavor_id="d", pci_aliases=("qat",))).message == "PCI alias gpu is not defined"
    cloud.create(flavor_id="d", pci_aliases=("gpu", "qat"))


def test_what_if_counts_cells_and_devices_as_they_would_be_given(cloud: PlacingCloud) -> None:
    """Two CPUs in each cell: two servers of two, though four of one would fit; and no more cards than there are."""

    def fit(**specs: str) -> tuple[int, str]:
        flavor = Flavor(id="w", name="w", vcpus=2, ram_mib=512, disk_gib=1, extra_specs=specs)
        cloud.with_flavor(flavor)
        assert cloud.scheduler is not None
        found = cloud.scheduler.capacity(cloud.store.read(lambda reader: request_of(reader, AskCapacity(flavor="w"))))
        return found.servers, found.last

    cloud.options = SchedulerConfig(pci_alias=('{"name": "qat", "vendor_id": "8086", "product_id": "0443"}',))
    cloud.start_scheduler()
    assert fit(**{"hw:cpu_policy": "dedicated"}) == (2, "h1")
    cloud.report("h1", fake_vcpus=6, fake_pci_devices=5)  # keeps none: three CPUs in each cell, vCPUs four times over
    assert fit(**{"hw:cpu_policy": "dedicated"}) == (2, "h1")
    assert fit(**{"pci_passthrough:alias": "qat:2"}) == (2, "h1")
    before = cloud.usage("h1"), cloud.scheduler.hosts.state_in(0) if cloud.scheduler else None
    server_id = cloud.placed()
    assert fit(**{"hw:cpu_policy": "dedicated"}) == (1, "h1")
    cloud.delete(server_id)
    cloud.settle()
    assert (cloud.usage("h1"), cloud.scheduler.hosts.state_in(0) if cloud.scheduler else None) == before


def test_the_check_finds_a_cpu_that_two_servers_have_and_a_count_that_is_wrong(cloud: PlacingCloud) -> None:
    first, second = cloud.placed(), cloud.placed()

    def found() -> list[str]:
        return [finding.sentence for finding in cloud.store.read(lambda reader: list(recount(reader)))]

    def tamper(tx: Any) -> Done:
        server = cloud.server(second)
        tx.put(tables.SERVERS, msgspec.structs.replace(server, claimed=cloud.server(first).claim))
        return Done()

    assert found() == []
    cloud.store.run(tamper)
    double, counted = found()
    assert "has what another has" in double
    assert "are counted as taken of the cells of host h1" in counted


def test_placement_may_not_change_what_the_configuration_keeps(cloud: PlacingCloud) -> None:
    def put(total: int, reserved: int = 0) -> Any:
        def work(tx: Any) -> Done:
            host = hosts.get(tx, "h1")
            kept = Inventory(resource_class="PCPU", total=total, reserved=reserved, max_unit=4)
            given = {
                **inventories_of(host),
                "PCPU": kept,
                "FPGA": Inventory(resource_class="FPGA", total=2),
            }
            set_inventories(tx, host, given)
            return Done()

        return cloud.commit(work)

    put(4)
    host = cloud.store.read(lambda reader: hosts.get(reader, "h1"))
    assert [own.resource_class for own in host.inventories] == ["FPGA"], "PCPU is the machine's"
    for total, reserved in ((5, 0), (4, 1)):
        with pytest.raises(Conflict, match="its configuration keeps"):
            put(total, reserved)


def test_the_decision_tells_what_was_given(cloud: PlacingCloud) -> None:
    server_id = cloud.placed()
    shown = described(cloud.store.read(lambda reader: explanation(reader, cloud.server(server_id))))
    (cell,) = shown["decision"]["cells"]
    assert (cell["memory_mb"], len(cell["cpus"]), shown["decision"]["devices"]) == (512, 2, [])
    assert f"NUMA cell {cell['cell']}: 512 MiB, CPUs of its own" in text(shown)
