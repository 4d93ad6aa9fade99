"""Aggregates, and the zones of hosts that follow from them: in one transaction, and told to whoever follows hosts."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from nova_fast.commands import aggregates as commands
from nova_fast.commands.hosts import record_host_report, remove_host
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.base import Message
from nova_fast.model.commands.aggregates import (
    AddAggregateHost,
    CreateAggregate,
    DeleteAggregate,
    RemoveAggregateHost,
    SetAggregateMetadata,
    UpdateAggregate,
)
from nova_fast.model.commands.hosts import RemoveHost
from nova_fast.model.errors import BadRequest, Conflict, NotFound, NovaFastError
from nova_fast.model.events import AggregateChanged, AggregateRemoved, HostChanged, HostRemoved
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import Host, HostResources, HostUsage
from nova_fast.model.identity import Caller
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import HostReport
from nova_fast.queries import aggregates, hosts
from nova_fast.queries.check.recount import recount
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import Transaction

ADMIN = Caller(user_id="a", project_id="p", roles=("admin",))
RESOURCES = HostResources(
    vcpus=4, ram_mib=8192, disk_gib=100, architecture="x86_64", hypervisor_type="QEMU", hypervisor_version=7,
    virt_type="kvm",
)  # fmt: skip
COMMANDS = {
    CreateAggregate: commands.create_aggregate,
    UpdateAggregate: commands.update_aggregate,
    SetAggregateMetadata: commands.set_aggregate_metadata,
    AddAggregateHost: commands.add_aggregate_host,
    RemoveAggregateHost: commands.remove_aggregate_host,
    DeleteAggregate: commands.delete_aggregate,
}


def a_server(tx: Transaction, host: str) -> Server:
    return Server(
        id=tx.new_uuid(), number=tx.next_number("servers"), project_id="p", user_id="u", name="vm", hostname="vm",
        created_at_us=1, updated_at_us=1, vm_state=VmState.ACTIVE, task_state=None, power_state=PowerState.RUNNING,
        flavor=Flavor(id="1", name="f", vcpus=1, ram_mib=1, disk_gib=1), image_id="", image_properties={},
        reservation_id="r", host=host,
    )  # fmt: skip


class World:
    """A store, whose events a watcher follows as the scheduler does."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.hosts: dict[str, Host] = {}
        self.aggregates: dict[str, Aggregate] = {}

    def run(self, work: Any) -> list[Any]:
        """Run something in one transaction; the events that it made, which the watcher has followed."""

        def events(tx: Transaction) -> list[Any]:
            work(tx)
            return [event for _generation, event in tx.events]

        found: list[Any] = self.store.run(events)
        for event in found:
            if isinstance(event, HostChanged):
                self.hosts[event.host.name] = event.host
            elif isinstance(event, HostRemoved):
                del self.hosts[event.host]
            elif isinstance(event, AggregateChanged):
                self.aggregates[event.aggregate.id] = event.aggregate
            elif isinstance(event, AggregateRemoved):
                del self.aggregates[event.aggregate_id]
        return found

    def do(self, kind: Any, **fields: Any) -> list[Any]:
        request: Message = kind(caller=ADMIN, **fields)
        return self.run(lambda tx: COMMANDS[kind](tx, request))

    def report(self, name: str, zone: str = "nova") -> list[Any]:
        return self.run(lambda tx: record_host_report(tx, HostReport(host=name, zone=zone, resources=RESOURCES)))

    def zone(self, name: str) -> str:
        return self.store.read(lambda reader: hosts.get(reader, name)).zone

    def fill(self, name: str, servers: int) -> None:
        for _ in range(servers):
            self.run(lambda tx: tx.put(tables.SERVERS, a_server(tx, name)))

    def agrees(self) -> None:
        """Nothing disagrees in the store, and the watcher knows what is there."""
        assert self.store.read(lambda reader: [found.sentence for found in recount(reader)]) == []
        there = self.store.read(aggregates.listing)
        assert {one.id: one for one in there} == self.aggregates
        for host in self.store.read(hosts.listing):
            seen = self.hosts[host.name]
            assert (seen.zone, seen.default_zone) == (host.zone, host.default_zone)


@pytest.fixture
def world() -> Iterator[World]:
    with memory_store() as store:
        made = World(store)
        for name in ("h1", "h2", "h3"):
            made.report(name)
        yield made


def test_a_host_is_in_the_zone_of_its_aggregate_and_keeps_its_own_for_later(world: World) -> None:
    world.do(CreateAggregate, name="rack", zone="east")
    changed, moved = world.do(AddAggregateHost, number=1, host="h1")
    assert changed.aggregate.hosts == ("h1",)
    assert (moved.host.name, moved.host.zone, moved.host.default_zone) == ("h1", "east", "nova")
    assert world.report("h1") == []  # a heartbeat says its own zone, which is no news
    assert [event.host.zone for event in world.report("h1", "attic")] == ["east"]
    assert [type(event) for event in world.do(RemoveAggregateHost, number=1, host="h1")] == [
        AggregateChanged,
        HostChanged,
    ]
    assert world.zone("h1") == "attic"
    world.agrees()


def test_a_record_of_before_aggregates_keeps_its_zone_as_its_own(world: World) -> None:
    old = world.store.read(lambda reader: hosts.get(reader, "h1"))
    world.run(lambda tx: tx.put(tables.HOSTS, msgspec.structs.replace(old, default_zone="")))
    world.do(CreateAggregate, name="rack", zone="east")
    world.do(AddAggregateHost, number=1, host="h1")
    world.do(RemoveAggregateHost, number=1, host="h1")
    assert world.zone("h1") == "nova"
    world.agrees()


def test_an_aggregate_becomes_another_zone_with_all_its_hosts(world: World) -> None:
    world.do(CreateAggregate, name="rack")
    for host in ("h1", "h2"):
        assert len(world.do(AddAggregateHost, number=1, host=host)) == 1  # no zone, so no host moves
    assert len(world.do(SetAggregateMetadata, number=1, metadata={"ssd": "true", "availability_zone": "east"})) == 3
    assert len(world.do(UpdateAggregate, number=1, zone="west")) == 3
    assert [world.zone(name) for name in ("h1", "h2", "h3")] == ["west", "west", "nova"]
    [event] = world.do(SetAggregateMetadata, number=1, metadata={"ssd": None, "fast": "yes", "missing": None})
    assert event.aggregate.metadata == {"availability_zone": "west", "fast": "yes"}
    world.agrees()


def test_a_host_is_in_one_zone_at_most(world: World) -> None:
    for name, zone in (("a", "east"), ("b", "west"), ("c", "east"), ("d", "")):
        world.do(CreateAggregate, name=name, zone=zone)
    world.do(AddAggregateHost, number=1, host="h1")
    with pytest.raises(Conflict, match=r"Cannot add host to aggregate 2\. .*already in .*'east'"):
        world.do(AddAggregateHost, number=2, host="h1")
    assert len(world.do(AddAggregateHost, number=3, host="h1")) == 1  # the same zone
    world.do(AddAggregateHost, number=4, host="h1")
    for refused in ("west", ""):
        with pytest.raises(BadRequest):
            world.do(SetAggregateMetadata, number=4, metadata={"availability_zone": refused or None})
        with pytest.raises(BadRequest):
            world.do(UpdateAggregate, number=3, zone=refused)
    assert len(world.do(RemoveAggregateHost, number=1, host="h1")) == 1  # the other keeps it in east
    world.agrees()


def test_no_server_changes_its_zone(world: World) -> None:
    world.do(CreateAggregate, name="east", zone="east")
    world.do(CreateAggregate, name="plain")
    world.do(CreateAggregate, name="same", zone="nova")
    world.fill("h1", 2)
    with pytest.raises(Conflict, match="would change from 'nova' to 'east' but the host already has 2 instance"):
        world.do(AddAggregateHost, number=1, host="h1")
    world.do(AddAggregateHost, number=3, host="h1")  # it is there already
    world.store.run(lambda tx: tx.put(tables.HOST_USAGE, HostUsage(host="h2", servers=1)))  # a consumer, no server
    world.do(AddAggregateHost, number=1, host="h2")
    world.do(AddAggregateHost, number=2, host="h3")
    for host in ("h2", "h3"):
        world.fill(host, 1)
    with pytest.raises(Conflict, match="would change from 'east' to 'nova'"):
        world.do(RemoveAggregateHost, number=1, host="h2")
    for change in (
        {"kind": UpdateAggregate, "number": 1, "zone": "west"},
        {"kind": SetAggregateMetadata, "number": 2, "metadata": {"availability_zone": "west"}},
    ):
        with pytest.raises(BadRequest, match="contain instances in this zone"):
            world.do(**change)
    assert world.do(UpdateAggregate, number=1, zone="east", name="renamed")  # no change of the zone
    world.do(RemoveAggregateHost, number=2, host="h3")


def test_names_are_unique_and_only_an_empty_aggregate_can_go(world: World) -> None:
    world.do(CreateAggregate, name="rack")
    with pytest.raises(Conflict, match="Aggregate rack already exists"):
        world.do(CreateAggregate, name="rack")
    world.do(CreateAggregate, name="other")
    with pytest.raises(Conflict):
        world.do(UpdateAggregate, number=2, name="rack")
    world.do(AddAggregateHost, number=1, host="h1")
    with pytest.raises(Conflict, match="Aggregate 1 already has host h1"):
        world.do(AddAggregateHost, number=1, host="h1")
    with pytest.raises(BadRequest, match="Host aggregate is not empty"):
        world.do(DeleteAggregate, number=1)
    world.do(RemoveAggregateHost, number=1, host="h1")
    assert isinstance(world.do(DeleteAggregate, number=1)[0], AggregateRemoved)
    world.agrees()


def test_what_is_not_there_is_not_found(world: World) -> None:
    world.do(CreateAggregate, name="rack")
    for kind, fields in (
        (UpdateAggregate, {"number": 9}),
        (DeleteAggregate, {"number": 9}),
        (SetAggregateMetadata, {"number": 9, "metadata": {}}),
        (AddAggregateHost, {"number": 9, "host": "h1"}),
        (AddAggregateHost, {"number": 1, "host": "nobody"}),
        (RemoveAggregateHost, {"number": 9, "host": "h1"}),
        (RemoveAggregateHost, {"number": 1, "host": "h1"}),
        (RemoveAggregateHost, {"number": 1, "host": "nobody"}),
    ):
        with pytest.raises(NotFound):
            world.do(kind, **fields)


def test_a_host_that_is_forgotten_leaves_its_aggregates_and_does_not_come_back_to_them(world: World) -> None:
    world.do(CreateAggregate, name="rack", zone="east")
    world.do(AddAggregateHost, number=1, host="h1")
    events = world.run(lambda tx: remove_host(tx, RemoveHost(caller=ADMIN, host="h1")))
    assert [type(event) for event in events] == [AggregateChanged, HostRemoved]
    assert events[0].aggregate.hosts == ()
    world.report("h1")
    assert world.zone("h1") == "nova"
    world.agrees()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_zones_follow_and_watchers_know(world: World, seed: int) -> None:
    """Random changes, most of them possible: after each the whole agrees, and a refusal changed nothing."""
    rng = random.Random(seed)
    for name in ("a", "b", "c"):
        world.do(CreateAggregate, name=name)
    for _ in range(60):
        with contextlib.suppress(NovaFastError):
            change_something(world, rng)
        world.agrees()


def change_something(world: World, rng: random.Random) -> None:
    number, host, name = rng.randint(1, 4), f"h{rng.randint(1, 4)}", f"n{rng.randint(1, 5)}"
    zone = rng.choice(["east", "west", None])
    removal = RemoveHost(caller=ADMIN, host=host)
    rng.choice(
        [
            lambda: world.do(AddAggregateHost, number=number, host=host),
            lambda: world.do(AddAggregateHost, number=number, host=host),
            lambda: world.do(RemoveAggregateHost, number=number, host=host),
            lambda: world.do(SetAggregateMetadata, number=number, metadata={"availability_zone": zone}),
            lambda: world.do(UpdateAggregate, number=number, zone=zone or "east", name=name),
            lambda: world.report(host, rng.choice(["nova", "attic"])),
            lambda: world.run(lambda tx: remove_host(tx, removal)),
            lambda: world.do(DeleteAggregate, number=number),
            lambda: world.do(CreateAggregate, name=name, zone=zone or ""),
        ]
    )()
