"""A compute host as a provider: what placement writes is the host's, and what others take of it is counted on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from nova_fast.commands import hosts as host_commands
from nova_fast.commands import placement_allocations, placement_contents, placement_names, placement_providers
from nova_fast.commands.claims import take_host
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.commands.hosts import RemoveHost, UpdateComputeService
from nova_fast.model.commands.placement import (
    CreateProvider,
    PutInventory,
    PutResourceClass,
    PutTrait,
    RemoveAllocations,
    RemoveInventory,
    RemoveProvider,
    SetAggregates,
    SetAllocations,
    SetInventories,
    SetTraits,
    UpdateProvider,
    WantedConsumer,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.events import AggregateChanged, Claimed, HostChanged, Released
from nova_fast.model.hosts import Claim, Host, HostResources, HostUsage, Inventory
from nova_fast.model.identity import Caller
from nova_fast.model.placement import Provider, ProviderShare
from nova_fast.model.tasks import HostReport
from nova_fast.queries import claims, hosts, placement
from nova_fast.queries.check.hosts import hosts as recount_hosts
from nova_fast.queries.check.placement import placement as recount_placement
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store
from tests.api.host_world import SMALL
from tests.unit.commands.placement_world import CONSUMER, OTHER, new_server

ADMIN = Caller(user_id="a", project_id="p", roles=("admin",))
RESOURCES = HostResources(
    vcpus=8, ram_mib=8192, disk_gib=100, architecture="x86_64", hypervisor_type="QEMU", hypervisor_version=7,
    virt_type="kvm", traits=("HW_CPU_X86_AVX2",),
)  # fmt: skip
REPORT = HostReport(host="node-1", zone="nova", resources=RESOURCES)


class World:
    """One host, and what can be done to it."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.events: list[Any] = []
        self.report()

    def report(self, **changes: Any) -> None:
        message = msgspec.structs.replace(REPORT, **changes)
        self._run(lambda tx: host_commands.record_host_report(tx, message))

    def do(self, work: Any, command: Any) -> Any:
        """Run a command; what it emitted is in ``events``."""
        return self._run(lambda tx: work(tx, command))

    def _run(self, work: Any) -> Any:
        def all_of_it(tx: Any) -> Any:
            result = work(tx)
            self.events = [event for _generation, event in tx.events]
            return result

        return self.store.run(all_of_it)

    @property
    def host(self) -> Host:
        return self.store.read(lambda reader: hosts.get(reader, "node-1"))

    @property
    def usage(self) -> HostUsage:
        return self.store.read(lambda reader: hosts.usage(reader, "node-1"))

    @property
    def provider(self) -> Provider:
        return self.store.read(lambda reader: placement.need(reader, self.host.uuid))

    def put(self, name: str, *, new: bool = False, generation: int | None = None, **amounts: Any) -> Provider:
        own = Inventory(resource_class=name, **amounts)
        command = PutInventory(caller=ADMIN, uuid=self.host.uuid, generation=generation, inventory=own, new=new)
        return self.do(placement_contents.put_inventory, command).provider

    def allocate(self, consumer: str, resources: dict[str, int], **said: Any) -> None:
        shares = (ProviderShare(provider=self.host.uuid, resources=resources),) if resources else ()
        wanted = WantedConsumer(uuid=consumer, shares=shares, project_id="p", user_id="u", **said)
        command = SetAllocations(caller=ADMIN, consumers=(wanted,), compare_generations=bool(said))
        self.do(placement_allocations.set_allocations, command)

    def findings(self) -> list[str]:
        subjects = (recount_hosts, recount_placement)
        return [f.sentence for one in subjects for f in self.store.read(lambda r, one=one: list(one(r)))]


@pytest.fixture
def world() -> Iterator[World]:
    with memory_store() as store:
        made = World(store)
        yield made
        assert made.findings() == []


# ------------------------------------------------------------------------------------------------ inventories
def test_a_ratio_that_is_written_is_the_hosts_and_outlives_its_reports(world: World) -> None:
    generation = world.provider.generation
    world.put("VCPU", total=8, allocation_ratio=16.0, reserved=1, generation=generation)
    assert [type(event) for event in world.events] == [HostChanged]
    assert (world.host.cpu_ratio, world.host.reserved_vcpus) == (16.0, 1)
    assert world.provider.generation != generation
    world.report(cpu_ratio=2.0, ram_ratio=1.5)
    assert (world.host.cpu_ratio, world.host.ram_ratio) == (16.0, 1.5)  # what nobody decided follows the report
    remove = RemoveInventory(caller=ADMIN, uuid=world.host.uuid, resource_class="VCPU")
    world.do(placement_contents.remove_inventory, remove)
    assert (world.host.cpu_ratio, world.host.reserved_vcpus) == (2.0, 0)
    assert world.provider.inventories["VCPU"].total == 8


def test_what_is_written_back_unchanged_decides_nothing(world: World) -> None:
    own = tuple(world.provider.inventories.values())
    command = SetInventories(caller=ADMIN, uuid=world.host.uuid, generation=world.provider.generation, inventories=own)
    world.do(placement_contents.set_inventories, command)
    assert world.events == []
    world.report(cpu_ratio=3.0, reserved_ram_mib=1024)
    assert (world.host.cpu_ratio, world.host.reserved_ram_mib) == (3.0, 1024)


@pytest.mark.parametrize(
    ("amounts", "said"),
    [
        ({"total": 9}, "is what the machine of host node-1 has: 8"),
        ({"total": 8, "max_unit": 7}, "max_unit is 8"),
        ({"total": 8, "min_unit": 2}, "min_unit and step_size are 1"),
        ({"total": 8, "step_size": 2}, "min_unit and step_size are 1"),
        ({"total": 8, "allocation_ratio": 3e38}, "more VCPU than 2147483647"),
    ],
)
def test_what_the_machine_decides_cannot_be_written(world: World, amounts: dict[str, int], said: str) -> None:
    before = world.host
    with pytest.raises(Conflict, match=said):
        world.put("VCPU", **amounts)
    assert world.host == before


def test_another_generation_is_refused_and_nothing_is_changed(world: World) -> None:
    before = world.host
    with pytest.raises(Conflict, match="generation conflict") as error:
        world.put("VCPU", total=8, allocation_ratio=1.0, generation=world.provider.generation + 1)
    assert error.value.code == "placement.concurrent_update"
    assert world.host == before


def test_a_custom_class_is_the_hosts_and_goes_with_all_others(world: World) -> None:
    with pytest.raises(BadRequest, match="No such resource class CUSTOM_GOLD"):
        world.put("CUSTOM_GOLD", new=True, total=4)
    world.do(placement_names.put_resource_class, PutResourceClass(caller=ADMIN, name="CUSTOM_GOLD"))
    world.put("CUSTOM_GOLD", new=True, total=4)
    assert world.host.inventories == (Inventory(resource_class="CUSTOM_GOLD", total=4),)
    with pytest.raises(Conflict, match="already"):
        world.put("CUSTOM_GOLD", new=True, total=4)
    world.allocate(CONSUMER, {"CUSTOM_GOLD": 2})
    nothing = SetInventories(caller=ADMIN, uuid=world.host.uuid, generation=None, inventories=())
    with pytest.raises(Conflict, match="in use"):
        world.do(placement_contents.set_inventories, nothing)
    world.allocate(CONSUMER, {})
    world.do(placement_contents.set_inventories, nothing)
    assert world.host.inventories == ()


# ------------------------------------------------------------------------------------------------ traits, aggregates
def test_traits_of_operators_stand_beside_what_the_driver_vouches_for(world: World) -> None:
    own = set(world.provider.traits)
    assert {"HW_CPU_X86_AVX2", "HW_ARCH_X86_64", "COMPUTE_NODE"} <= own
    world.do(placement_names.put_trait, PutTrait(caller=ADMIN, name="CUSTOM_FAST"))
    wanted = ("CUSTOM_FAST", "HW_CPU_X86_AVX2", "STORAGE_DISK_SSD", "COMPUTE_STATUS_DISABLED")
    command = SetTraits(caller=ADMIN, uuid=world.host.uuid, generation=None, traits=wanted)
    world.do(placement_contents.set_traits, command)
    assert [type(event) for event in world.events] == [HostChanged]
    assert world.host.traits == ("CUSTOM_FAST", "STORAGE_DISK_SSD")
    assert set(world.provider.traits) == own | {"CUSTOM_FAST", "STORAGE_DISK_SSD"}
    world.do(host_commands.update_compute_service, UpdateComputeService(caller=ADMIN, host="node-1", enabled=False))
    assert "COMPUTE_STATUS_DISABLED" in world.provider.traits
    with pytest.raises(BadRequest, match="No such trait CUSTOM_SLOW"):
        world.do(placement_contents.set_traits, msgspec.structs.replace(command, traits=("CUSTOM_SLOW",)))
    world.do(placement_contents.set_traits, msgspec.structs.replace(command, traits=()))
    assert world.host.traits == ()


def test_aggregates_of_a_host_are_those_of_the_compute_api_and_others(world: World) -> None:
    aggregate = Aggregate(id="11111111-0000-4000-8000-000000000001", number=1, name="rack-1", created_at_us=1)
    world.store.run(lambda tx: tx.insert(tables.AGGREGATES, aggregate))
    command = SetAggregates(
        caller=ADMIN, uuid=world.host.uuid, generation=world.provider.generation, aggregates=(aggregate.id, OTHER)
    )
    generation = world.provider.generation
    world.do(placement_contents.set_aggregates, command)
    assert {type(event) for event in world.events} == {AggregateChanged, HostChanged}
    kept = world.store.read(lambda reader: reader.get(tables.AGGREGATES, aggregate.id))
    assert kept is not None
    assert kept.hosts == ("node-1",)
    assert world.host.aggregates == (OTHER,)
    assert world.provider.aggregates == tuple(sorted((aggregate.id, OTHER)))
    assert world.provider.generation != generation
    world.do(placement_contents.set_aggregates, msgspec.structs.replace(command, generation=None, aggregates=()))
    assert world.provider.aggregates == ()
    assert world.host.aggregates == ()


def test_a_host_does_not_leave_the_zone_of_its_servers_by_way_of_placement(world: World) -> None:
    zones = [
        Aggregate(id=f"{number}1111111-0000-4000-8000-000000000001", number=number, name=zone, created_at_us=1,
                  metadata={"availability_zone": zone})
        for number, zone in ((1, "east"), (2, "west"))
    ]  # fmt: skip
    for aggregate in zones:
        world.store.run(lambda tx, aggregate=aggregate: tx.insert(tables.AGGREGATES, aggregate))
    east, west = (aggregate.id for aggregate in zones)
    command = SetAggregates(caller=ADMIN, uuid=world.host.uuid, generation=None, aggregates=(east,))
    world.do(placement_contents.set_aggregates, command)
    assert world.host.zone == "east"
    with pytest.raises(Conflict, match="already in availability zone"):
        world.do(placement_contents.set_aggregates, msgspec.structs.replace(command, aggregates=(east, west)))
    world.do(placement_contents.set_aggregates, msgspec.structs.replace(command, aggregates=(west,)))
    server = new_server(flavor=SMALL)
    world.store.run(lambda tx: tx.put(tables.SERVERS, take_host(tx, server, "node-1")))
    with pytest.raises(Conflict, match="zone of the host would change"):
        world.do(placement_contents.set_aggregates, msgspec.structs.replace(command, aggregates=()))
    assert world.host.zone == "west"


# ------------------------------------------------------------------------------------------------ the provider itself


# ------------------------------------------------------------------------------------------------ the provider itself
def test_a_host_is_neither_renamed_nor_removed_as_a_provider(world: World) -> None:
    uuid = world.host.uuid
    with pytest.raises(Conflict, match="is the compute host node-1"):
        world.do(placement_providers.remove_provider, RemoveProvider(caller=ADMIN, uuid=uuid))
    rename = UpdateProvider(caller=ADMIN, uuid=uuid, name="other")
    with pytest.raises(Conflict, match="its name is the host's"):
        world.do(placement_providers.update_provider, rename)
    same = world.do(placement_providers.update_provider, msgspec.structs.replace(rename, name="node-1"))
    assert same.provider == world.provider
    with pytest.raises(Conflict, match="name: node-1 already exists"):
        world.do(placement_providers.create_provider, CreateProvider(caller=ADMIN, name="node-1"))


def test_a_host_with_something_below_it_or_taken_of_it_is_not_forgotten(world: World) -> None:
    forget = RemoveHost(caller=ADMIN, host="node-1")
    below = world.do(
        placement_providers.create_provider, CreateProvider(caller=ADMIN, name="nic", parent=world.host.uuid)
    ).provider
    assert below.root == world.host.uuid
    with pytest.raises(Conflict, match="others below it"):
        world.do(host_commands.remove_host, forget)
    world.do(placement_providers.remove_provider, RemoveProvider(caller=ADMIN, uuid=below.uuid))
    world.allocate(CONSUMER, {"VCPU": 1})
    with pytest.raises(Conflict, match="consumers that are no servers"):
        world.do(host_commands.remove_host, forget)
    world.do(placement_allocations.remove_allocations, RemoveAllocations(caller=ADMIN, consumer=CONSUMER))
    world.do(host_commands.remove_host, forget)


# ------------------------------------------------------------------------------------------------ allocations
def test_what_another_consumer_takes_is_charged_to_the_host_and_told(world: World) -> None:
    world.allocate(CONSUMER, {"VCPU": 3, "MEMORY_MB": 512})
    claim = Claim(vcpus=3, ram_mib=512, disk_gib=0)
    assert world.events == [Claimed(server_id=CONSUMER, host="node-1", claim=claim)]
    assert world.usage == HostUsage(host="node-1", vcpus=3, ram_mib=512, servers=1)
    [(_, usage)] = world.store.read(claims.fleet).hosts
    assert usage == world.usage  # which is all that a scheduler needs to start from
    world.allocate(CONSUMER, {"VCPU": 2}, generation=1)
    smaller = Claim(vcpus=2, ram_mib=0, disk_gib=0)
    assert world.events == [
        Released(server_id=CONSUMER, host="node-1", claim=claim),
        Claimed(server_id=CONSUMER, host="node-1", claim=smaller),
    ]
    world.allocate(CONSUMER, {"VCPU": 2})
    assert world.events == []  # the same again is no news to who counts
    world.do(placement_allocations.remove_allocations, RemoveAllocations(caller=ADMIN, consumer=CONSUMER))
    assert world.events == [Released(server_id=CONSUMER, host="node-1", claim=smaller)]
    assert world.usage == HostUsage(host="node-1")
    with pytest.raises(NotFound):
        world.do(placement_allocations.remove_allocations, RemoveAllocations(caller=ADMIN, consumer=CONSUMER))


def test_a_server_does_not_get_what_another_consumer_took(world: World) -> None:
    world.put("VCPU", total=8, allocation_ratio=1.0)
    world.allocate(CONSUMER, {"VCPU": 7})
    server = new_server(flavor=SMALL)
    with pytest.raises(Conflict, match="no more room"):
        world.store.run(lambda tx: take_host(tx, server, "node-1"))
    world.allocate(CONSUMER, {"VCPU": 6})
    world.store.run(lambda tx: tx.put(tables.SERVERS, take_host(tx, server, "node-1")))
    with pytest.raises(Conflict, match="exceed the capacity"):
        world.allocate(CONSUMER, {"VCPU": 7})
    with pytest.raises(Conflict, match="exceed the capacity"):
        world.allocate(OTHER, {"VCPU": 1})


def test_an_overfull_host_may_be_made_less_full_and_no_fuller(world: World) -> None:
    world.allocate(CONSUMER, {"VCPU": 8})
    world.allocate(OTHER, {"VCPU": 8})
    world.put("VCPU", total=8, allocation_ratio=1.0)
    world.allocate(OTHER, {"VCPU": 7})
    world.allocate(OTHER, {"VCPU": 7, "DISK_GB": 1})
    with pytest.raises(Conflict, match="exceed the capacity"):
        world.allocate(OTHER, {"VCPU": 8})


def test_what_a_server_takes_is_not_written_here(world: World) -> None:
    server = new_server(flavor=SMALL)
    world.store.run(lambda tx: tx.put(tables.SERVERS, take_host(tx, server, "node-1")))
    truth = {"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 12}
    world.allocate(server.id, truth, generation=1)
    assert world.events == []
    for wrong in ({**truth, "VCPU": 1}, {"VCPU": 2}, {}):
        with pytest.raises(Conflict, match="is a server"):
            world.allocate(server.id, wrong)
    with pytest.raises(Conflict, match="consumer generation conflict - expected 1 but got 2"):
        world.allocate(server.id, truth, generation=2)
    with pytest.raises(Conflict, match="is a server"):
        world.do(placement_allocations.remove_allocations, RemoveAllocations(caller=ADMIN, consumer=server.id))
    assert world.usage.servers == 1


def test_all_of_a_request_is_done_or_nothing(world: World) -> None:
    uuid = world.host.uuid

    def wanted(consumer: str, amount: int) -> WantedConsumer:
        share = ProviderShare(provider=uuid, resources={"MEMORY_MB": amount})
        return WantedConsumer(uuid=consumer, shares=(share,), project_id="p", user_id="u")

    free = 8192 - 512
    both = SetAllocations(
        caller=ADMIN, consumers=(wanted(CONSUMER, free - 100), wanted(OTHER, 200)), compare_generations=True
    )
    with pytest.raises(Conflict, match="exceed the capacity"):
        world.do(placement_allocations.set_allocations, both)
    assert world.usage == HostUsage(host="node-1")
    fits = msgspec.structs.replace(both, consumers=(wanted(CONSUMER, free - 100), wanted(OTHER, 100)))
    world.do(placement_allocations.set_allocations, fits)
    assert (world.usage.ram_mib, world.usage.servers) == (free, 2)
    swapped = tuple(
        msgspec.structs.replace(wanted(consumer, amount), generation=1)
        for consumer, amount in ((CONSUMER, 100), (OTHER, free - 100))
    )
    world.do(placement_allocations.set_allocations, msgspec.structs.replace(both, consumers=swapped))
    assert world.usage.ram_mib == free
