"""The check checks: a store that is right has no finding, and each way of breaking it is named.

The store is one as it is in the middle of things: servers that run and one that is being made, an admin, a host that is
behind. Each case breaks one thing behind the back of the commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from nova_fast.commands import registry
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.base import Record
from nova_fast.model.commands.identity import Bootstrap, CatalogEntry
from nova_fast.model.keyed import KeyedAnswer
from nova_fast.model.networks import FixedIp
from nova_fast.model.server_groups import ServerGroup
from nova_fast.model.servers import Server, UserData
from nova_fast.model.states import TaskState, VmState
from nova_fast.model.workflows import Direction
from nova_fast.queries.check.recount import recount
from nova_fast.state import schema as tables
from nova_fast.state.table import Index, Table
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.player import Cloud

Break = Callable[["World"], object]


class World:
    """A cloud in the middle of things, and ways around its commands."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        url = "http://127.0.0.1:8774/v2.1"
        entry = CatalogEntry(type="compute", name="nova", public_url=url, internal_url=url, admin_url=url)
        request = Bootstrap(admin_password_hash="x", token_key=bytes(32), region="R", catalog=(entry,))
        store.run(lambda tx: registry.run(tx, request))
        self.cloud = Cloud(store)
        self.active = self.cloud.active(user_data=b"#cloud-config")
        self.other = self.cloud.active()
        self.building = self.cloud.create()

    def findings(self) -> list[str]:
        return [found.sentence for found in self.store.read(lambda r: list(recount(r)))]

    def change(self, table: Table[Any], key: Any, **changes: Any) -> None:
        """A record changed with its index entries, and nothing else."""

        def work(tx: Transaction) -> None:
            tx.put(table, msgspec.structs.replace(tx.need(table, key, "Row"), **changes))

        self.store.run(work)

    def delete(self, table: Table[Any], key: Any) -> None:
        self.store.run(lambda tx: tx.delete(table, key))

    def put(self, table: Table[Any], record: Record) -> None:
        self.store.run(lambda tx: tx.put(table, record))

    def raw(self, name: str, key: bytes, value: bytes | None) -> None:
        with self.store.store._environment.begin(write=True) as txn:
            database = self.store.store._databases[name]
            if value is None:
                assert txn.delete(key, db=database)
            else:
                txn.put(key, value, db=database)

    def entry(self, index: Index[Any]) -> tuple[bytes, bytes]:
        """The first entry of an index."""
        return self.store.read(lambda r: next(r.raw(index.name)))

    def first(self, table: Table[Any]) -> Any:
        return self.store.read(lambda r: next(r.scan(table)))

    def port(self, server_id: str) -> Any:
        return self.cloud.ports(server_id)[0]

    def server(self, server_id: str) -> Server:
        return self.cloud.server(server_id)


@pytest.fixture(scope="module")
def _registered() -> None:
    registry.load_all()


@pytest.fixture
def world(_registered: None) -> Iterator[World]:
    with memory_store() as store:
        yield World(store)


def test_a_store_in_the_middle_of_things_is_right(world: World) -> None:
    assert world.findings() == []


def drop_entry(index: Index[Any]) -> Break:
    return lambda w: w.raw(index.name, w.entry(index)[0], None)


def stray_entry(w: World) -> None:
    w.raw(tables.SERVERS_BY_HOST.name, b"h9\0" + w.active.encode() + b"\0", w.active.encode() + b"\0")


def entry_of_nobody(w: World) -> None:
    w.raw(tables.FLAVORS_BY_NAME.name, b"ghost\0", b"99\0")


def unreadable(w: World) -> None:
    w.raw(tables.SERVERS.name, w.active.encode() + b"\0", b"\xc1garbage")


def wrong_key(w: World) -> None:
    w.raw(tables.REGIONS.name, b"elsewhere\0", msgspec.msgpack.encode(tables.Region(id="R2")))


def double_mac(w: World) -> None:
    """Two ports with one address: the unique index can lead to one of them only."""
    one, two = w.port(w.active), w.port(w.other)
    both = msgspec.structs.replace(two, mac_address=one.mac_address, fixed_ips=one.fixed_ips)
    w.raw(tables.PORTS.name, tables.PORTS.primary(two.id), msgspec.msgpack.encode(both))


def gap_in_events(w: World) -> None:
    w.delete(tables.EVENTS, (2,))


def end_of_events(w: World) -> None:
    w.delete(tables.EVENTS, (w.store.read(lambda r: r.generation()),))


def number_behind(w: World) -> None:
    w.raw("meta", b"number:servers", (1).to_bytes(8, "big"))


def foreign_subnet(w: World) -> None:
    port = w.port(w.active)
    w.change(tables.PORTS, port.id, fixed_ips=(FixedIp(subnet_id=port.fixed_ips[0].subnet_id, ip_address="10.9.9.9"),))


def open_action(w: World) -> None:
    action = next(iter(w.cloud.actions(w.active).values()))
    events = tuple(msgspec.structs.replace(event, finish_at_us=0) for event in action.events)
    w.change(tables.SERVER_ACTIONS, (w.active, action.request_id), events=events)


def rack(number: int, *hosts: str, zone: str) -> Aggregate:
    metadata = {"availability_zone": zone} if zone else {}
    identity = f"{number:08d}-0000-4000-8000-000000000000"
    return Aggregate(id=identity, number=number, name=f"rack{number}", created_at_us=1, hosts=hosts, metadata=metadata)


def group(policy: str) -> ServerGroup:
    return ServerGroup(id="g", project_id="a" * 32, user_id="alice", name="g", policy=policy, created_at_us=1)


def group_broken(policy: str) -> Break:
    """Two members on one host, or on two."""

    def damage(w: World) -> None:
        w.put(tables.SERVER_GROUPS, group(policy))
        w.change(tables.SERVERS, w.active, group_id="g")
        w.change(tables.SERVERS, w.other, group_id="g", host="h2" if policy == "affinity" else "h1")

    return damage


def task_of(w: World) -> str:
    workflow = w.cloud.workflow(w.building)
    assert workflow is not None
    return workflow.task_id


BROKEN: dict[str, tuple[Break, str]] = {
    "an index lost an entry": (drop_entry(tables.SERVERS_BY_HOST), "servers_by_host of servers is missing"),
    "a unique index lost an entry": (drop_entry(tables.PORTS_BY_ADDRESS), "ports_by_address of ports is missing"),
    "an index has an old entry": (stray_entry, "servers_by_host has an entry of .* that is not its"),
    "an index leads nowhere": (entry_of_nobody, "flavors_by_name has an entry of 99, which flavors lacks"),
    "a record is damaged": (unreadable, "the record .* of servers cannot be read"),
    "a record lies elsewhere": (wrong_key, "elsewhere of regions lies under a key that is not its"),
    "two ports share an address": (double_mac, "ports_by_mac of ports leads to"),
    "a quota drifted": (
        lambda w: w.change(tables.USAGES, "a" * 32, cores=7),
        "project a+ is counted to have 7 cores, and has 3",
    ),
    "a usage row is gone": (lambda w: w.delete(tables.USAGES, "a" * 32), "counted to have 0 instances, and has 3"),
    "a claim drifted": (
        lambda w: w.change(tables.HOST_USAGE, "h1", ram_mib=1),
        "1 ram_mib are counted as taken of host h1, its servers take 1024",
    ),
    "a claim without a server": (lambda w: w.change(tables.SERVERS, w.active, host="h2"), "servers are counted as"),
    "a host is gone": (lambda w: w.delete(tables.HOSTS, "h1"), "2 servers are on host h1, which is not there"),
    "a port is bound elsewhere": (
        lambda w: w.change(tables.PORTS, w.port(w.active).id, host="h2"),
        "is bound to host 'h2', but its server .* is on 'h1'",
    ),
    "a port is an orphan": (
        lambda w: w.change(tables.PORTS, w.port(w.active).id, device_id="gone"),
        "was made for server gone, which is gone",
    ),
    "an address is outside its subnet": (foreign_subnet, "has the address 10.9.9.9, which is not in subnet"),
    "a subnet is gone": (lambda w: w.delete(tables.SUBNETS, w.first(tables.SUBNETS).id), "of subnet .*, which is gone"),
    "a network is gone": (lambda w: w.delete(tables.NETWORKS, w.cloud.network_id), "names the network .* not there"),
    "a group is gone": (
        lambda w: w.delete(tables.SECURITY_GROUPS, w.first(tables.SECURITY_GROUPS).id),
        "names the security group",
    ),
    "user data is lost": (lambda w: w.delete(tables.USER_DATA, w.active), "has lost its user data"),
    "user data is left": (
        lambda w: w.put(tables.USER_DATA, UserData(server_id="gone", data=b"")),
        "user data is left of server gone",
    ),
    "user data is unknown": (
        lambda w: w.put(tables.USER_DATA, UserData(server_id=w.other, data=b"")),
        "has user data that it does not know of",
    ),
    "a decision is left": (
        lambda w: w.put(
            tables.PLACEMENT_DECISIONS, msgspec.structs.replace(w.first(tables.PLACEMENT_DECISIONS), server_id="gone")
        ),
        "a decision placed server gone, which is gone",
    ),
    "a decision is of another host": (
        lambda w: w.change(tables.PLACEMENT_DECISIONS, w.active, host="h7"),
        "server .* was placed on h7, and is on h1",
    ),
    "an action is left": (
        lambda w: w.put(
            tables.SERVER_ACTIONS, msgspec.structs.replace(w.first(tables.SERVER_ACTIONS), server_id="gone")
        ),
        "is left of server gone",
    ),
    "an action never ends": (open_action, "has not ended, but nothing carries it on"),
    "a workflow is lost": (lambda w: w.delete(tables.WORKFLOWS, w.building), "but nothing is being done to it"),
    "a task is lost": (lambda w: w.delete(tables.TASKS, task_of(w)), "waits for task .*, which is gone"),
    "a task is forgotten": (lambda w: w.change(tables.WORKFLOWS, w.building, task_id=""), "waits for nothing"),
    "a task nobody waits for": (
        lambda w: w.put(tables.TASKS, msgspec.structs.replace(w.first(tables.TASKS), id="f" * 32)),
        "is not what the workflow of server .* waits for",
    ),
    "a workflow of nobody": (
        lambda w: w.put(tables.WORKFLOWS, msgspec.structs.replace(w.first(tables.WORKFLOWS), server_id="gone")),
        "is of a server that is gone",
    ),
    "a workflow unwinds for nothing": (
        lambda w: w.change(tables.WORKFLOWS, w.building, direction=Direction.UNWIND),
        "unwinds without a reason",
    ),
    "a server is stuck": (
        lambda w: w.change(tables.SERVERS, w.active, task_state=TaskState.REBOOTING),
        "shows the task state rebooting, but nothing is being done to it",
    ),
    "a server is stuck in BUILD": (
        lambda w: w.change(tables.SERVERS, w.active, vm_state=VmState.BUILDING),
        "is building, but nothing is being done to it",
    ),
    "a server hides its workflow": (
        lambda w: w.change(tables.SERVERS, w.building, task_state=None),
        "has a workflow, but shows no task state",
    ),
    "events have a gap": (gap_in_events, "event 3 follows event 1"),
    "the last event is lost": (end_of_events, "the log ends at event"),
    "an event is damaged": (lambda w: w.change(tables.EVENTS, (3,), body=b"\xc1"), "event 3 cannot be read"),
    "a number is ahead": (number_behind, "has the number 3, but only 1 were given out"),
    "a number was given twice": (
        lambda w: w.change(tables.SERVERS, w.active, number=w.server(w.other).number),
        "which another has as well",
    ),
    "a host is ahead of its networks": (
        lambda w: w.change(tables.HOST_NETWORKS, "h1", applied_generation=99),
        "the networks of host h1 are at 99",
    ),
    "a server is in a group that is gone": (
        lambda w: w.change(tables.SERVERS, w.active, group_id="g"),
        "server .* is in group g, which is gone",
    ),
    "an affinity is broken": (group_broken("affinity"), "group g is to be on one host, and is on h1, h2"),
    "an anti-affinity is broken": (group_broken("anti-affinity"), "may have 1 servers on a host, and has 2 on h1"),
    "a server group is not counted": (
        lambda w: w.put(tables.SERVER_GROUPS, group("affinity")),
        "is counted to have 0 server_groups, and has 1",
    ),
    "an aggregate has a host that is gone": (
        lambda w: w.put(tables.AGGREGATES, rack(1, "h9", zone="")),
        "aggregate rack1 has host h9, which is not there",
    ),
    "an aggregate has a host twice": (
        lambda w: w.put(tables.AGGREGATES, rack(1, "h1", "h1", zone="")),
        "rack1 has a host twice",
    ),
    "a host is not in the zone of its aggregate": (
        lambda w: w.put(tables.AGGREGATES, rack(1, "h1", zone="east")),
        "host h1 is in zone nova, and should be in east",
    ),
    "a host is in a zone of nobody": (
        lambda w: w.change(tables.HOSTS, "h1", zone="west"),
        "host h1 is in zone west, and should be in nova",
    ),
    "a host is in two zones": (
        lambda w: [w.put(tables.AGGREGATES, rack(n, "h1", zone=zone)) for n, zone in ((1, "nova"), (2, "east"))],
        "aggregates put host h1 into zones nova and east",
    ),
    "an aggregate has a number of the future": (
        lambda w: w.put(tables.AGGREGATES, rack(7, zone="")),
        "has the number 7, but only 0 were given out",
    ),
    "a keyed answer is not counted": (
        lambda w: w.put(
            tables.KEYED_ANSWERS,
            KeyedAnswer(id="f" * 32, owner="alice", at_us=1, fingerprint=b"", sealed=b"", result=b""),
        ),
        "0 keyed answers are counted for alice, and 1 are kept",
    ),
    "a user is gone": (lambda w: w.delete(tables.USERS, w.first(tables.USERS).id), "names the user .* not there"),
    "a service is gone": (
        lambda w: w.delete(tables.CATALOG_SERVICES, w.first(tables.CATALOG_SERVICES).id),
        "names the service",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named(world: World, name: str) -> None:
    damage, sentence = BROKEN[name]
    damage(world)
    with pytest.raises(AssertionError, match=sentence):
        assert world.findings() == [], "\n".join(world.findings())


def test_every_table_and_index_is_looked_at(world: World) -> None:
    """A damaged record and a stray entry are found wherever they are, in tables that are empty today as well."""
    for table in tables.TABLES:
        world.raw(table.name, b"\x01damaged", b"\xc1")
        for index in table.indexes:
            world.raw(index.name, b"\x01stray", b"\x01nobody")
    found = "\n".join(world.findings())
    for table in tables.TABLES:
        assert f"damaged of {table.name} cannot be read" in found
        for index in table.indexes:
            assert f"the index {index.name} has an entry of" in found
