"""What a worker keeps of servers is never older than what it reads: whatever is written, its answers are those of a
worker that keeps nothing, byte for byte.

A command can change the store in one way only: by putting and deleting records. So the first test does not walk
commands: it changes every field of every record of every table, one after the other. The second plays histories of
real commands and daemons.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nova_fast.api.app import load_face
from nova_fast.api.compute import server_answers
from nova_fast.api.compute.server_answers import Kept
from nova_fast.api.framework.build import build
from nova_fast.api.framework.request import Runtime, Services
from nova_fast.commands.guests import record_guest_state, record_inventory
from nova_fast.commands.hosts import record_host_report
from nova_fast.model.base import Record
from nova_fast.model.commands.ports import CreatePorts, NewPort
from nova_fast.model.identity import Caller
from nova_fast.model.servers import Fault, UserData
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import GuestChanged, GuestInventory, GuestState, HostReport
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from nova_fast.state import shown
from tests.api.server_world import _RESOURCES, HOST, World
from tests.lengths import repeats

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud

#: (version, whether an admin asks, the prefix of the path, the Host header)
VARIANTS = (
    ("2.1", False, "", b"a"),
    ("2.96", False, "", b"a"),
    ("2.96", True, "", b"a"),
    ("2.16", True, "", b"a"),
    ("2.90", False, "", b"b:80"),
    ("2.96", False, "project", b"a"),
)


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("identity", "compute", "network")


@pytest.fixture
def world(cloud: Cloud) -> World:
    return World(cloud)


class Twins:
    """Two workers over one store: one keeps what it makes, the other makes everything anew."""

    def __init__(self, world: World) -> None:
        cloud = world.cloud
        self._world = world
        self._port = cloud.ports["compute"]
        keeping, self._fresh = (Runtime(cloud.config, cloud.store, cloud.commander, Services()) for _ in range(2))
        self._keeping, self._forgetting = (
            build(runtime, [(self._port, load_face("compute"))]) for runtime in (keeping, self._fresh)
        )
        self.kept = keeping.kept(Kept)

    def compare(self, what: str = "") -> list[int]:
        """All variants of all views of both workers are equal; returns the statuses."""
        with self._world.cloud.store.snapshot() as snapshot:
            ids = [server.id for server in snapshot.scan(tables.SERVERS)]
        return asyncio.run(self._compare(ids, what))

    async def _compare(self, ids: list[str], what: str) -> list[int]:
        statuses = []
        for version, admin, prefix, host in VARIANTS:
            client = self._world.admin if admin else self._world.member
            before = f"/v2.1/{client.project_id}" if prefix else "/v2.1"
            everyone = b"all_tenants=1" if admin else b""
            asked = [(f"/servers/{server_id}", b"") for server_id in ids]
            asked += [("/servers", everyone), ("/servers/detail", everyone), ("/servers/detail", b"limit=1")]
            for path, query in asked:
                request = self._scope(client, before + path, query, version, host)
                status, body = await ask(self._keeping, request)
                self._fresh._kept.clear()
                self._fresh._facts.clear()
                fresh_status, fresh_body = await ask(self._forgetting, request)
                statuses.append(status)
                if fresh_status != 500:  # a state that no command makes: a port without its network
                    assert (status, body) == (fresh_status, fresh_body), (what, path, version)
        return statuses

    def _scope(self, client: Client, path: str, query: bytes, version: str, host: bytes) -> dict[str, Any]:
        headers = [
            (b"host", host),
            (b"x-auth-token", client.token.encode()),
            (b"openstack-api-version", f"compute {version}".encode()),
        ]
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "server": ("127.0.0.1", self._port), "client": ("127.0.0.1", 1), "scheme": "http", "root_path": "",
            "headers": headers, "state": {}, "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": query,
        }  # fmt: skip


async def ask(app: Any, scope: dict[str, Any]) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(dict(scope), receive, send)
    return sent[0]["status"], sent[1].get("body", b"")


@pytest.fixture
def twins(world: World) -> Twins:
    return Twins(world)


@pytest.fixture
def furnished(world: World) -> Iterator[World]:
    """Servers that show all there is to show, and one record at least of everything near them."""
    ids = [
        world.create(user_data="aGk=", metadata={"a": "b"}, description="d"),
        world.create(name="two"),
    ]
    world.settle()
    caller = Caller(user_id=world.member.user_id, project_id=world.p1.id, roles=("member", "reader"))
    world.cloud.run(CreatePorts(caller=caller, ports=(NewPort(network_id=world.network_id, name="free"),)))
    fault = Fault(code=500, message="m", details="d", created_at_us=1)
    change(world, tables.SERVERS, ids[1], vm_state=VmState.ERROR, fault=fault)
    yield world
    world.cloud.made_up_usage = True


def change(world: World, table: Any, key: Any, **fields: Any) -> None:
    with world.cloud.store.transaction(time.time_ns() // 1000) as tx:
        tx.put(table, msgspec.structs.replace(tx.need(table, key, "Row"), **fields))


def others(value: Any) -> list[Any]:
    """Other values a field might have; none when its type says too little."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, enum.Enum):
        return [member for member in type(value) if member is not value][:2]
    if isinstance(value, int | float):
        return [value + 1]
    if isinstance(value, str):
        return [value + "x", ""] if value else ["x"]
    if isinstance(value, bytes):
        return [value + b"x"]
    if isinstance(value, msgspec.Struct):
        return [
            msgspec.structs.replace(value, **{name: other})
            for name in value.__struct_fields__
            for other in others(getattr(value, name))[:1]
        ]
    if isinstance(value, tuple):
        changed = [(other, *value[1:]) for other in others(value[0])] if value else []
        return [*changed, value[1:]] if value else []
    if isinstance(value, dict):
        return [{**value, "more": "x"}, {}] if value else [{"more": "x"}]
    return ["x", "scheduling", 1] if value is None else []


def test_whatever_field_of_whatever_record_changes_is_shown_at_once(furnished: World, twins: Twins) -> None:
    store = furnished.cloud.store
    assert set(twins.compare()) == {200}
    with store.snapshot() as snapshot:
        tried = [(table, 3 if table.shown is not None else 1) for table in tables.TABLES]
        rows = [(table, record) for table, count in tried for record in list(snapshot.scan(table, limit=count))]
    seen: set[str] = set()
    for table, record in rows:
        if table.identity or table in (tables.EVENTS, tables.DONE_COMMANDS):
            continue  # another cache, with a test of its own; and what nobody shows
        for name in record.__struct_fields__:
            for other in others(getattr(record, name)):
                if changed := written(store, table, record, msgspec.structs.replace(record, **{name: other})):
                    twins.compare(f"{table.name}.{name} = {other!r:.40}")
                    put_back(store, table, record, changed)
                    seen.add(f"{table.name}.{name}")
    assert {"servers.name", "ports.fixed_ips", "ports.device_id", "networks.name", "security_groups.name"} <= seen
    assert {"hosts.zone", "hosts.up", "hosts.enabled", "hosts.forced_down", "user_data.data"} <= seen


def written(store: Any, table: Any, old: Record, new: Any) -> Record | None:
    """The record in place of the old one, if the indexes take it."""
    try:
        new = table.decode(msgspec.msgpack.encode(new))
        with store.transaction(1) as tx:
            tx.delete(table, table.key(old))
            if tx.get(table, table.key(new)) is not None:
                raise ValueError("another record has this key")
            tx.put(table, new)
    except Exception:
        return None
    return new


def put_back(store: Any, table: Any, old: Record, new: Record) -> None:
    with store.transaction(1) as tx:
        tx.delete(table, table.key(new))
        tx.put(table, old)


def test_a_record_that_goes_or_comes_is_shown_at_once(furnished: World, twins: Twins) -> None:
    store = furnished.cloud.store
    for table in (tables.PORTS, tables.HOSTS, tables.USER_DATA, tables.SERVERS):
        with store.snapshot() as snapshot:
            records = list(snapshot.scan(table))
        for record in records:
            twins.compare()
            with store.transaction(1) as tx:
                tx.delete(table, table.key(record))
            assert 200 in twins.compare(f"without {table.name}")
            with store.transaction(1) as tx:
                tx.put(table, record)
            assert set(twins.compare(f"{table.name} again")) == {200}
            with store.transaction(1) as tx:  # gone, there again and changed, in one commit
                tx.delete(table, table.key(record))
                tx.put(table, changed_somewhere(table, record))
            twins.compare(f"another {table.name}")
            with store.transaction(1) as tx:
                tx.put(table, record)


def changed_somewhere(table: Any, record: Any) -> Any:
    fields = {
        "servers": {"name": "z"},
        "hosts": {"zone": "z"},
        "user_data": {"data": b"z"},
        "ports": {"fixed_ips": ()},
    }
    return msgspec.structs.replace(record, **fields[table.name])


def test_a_name_that_very_many_show_ends_all_answers(
    furnished: World, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "PORTS_LOOKED_AT", 0)
    twins.compare()
    change(furnished, tables.NETWORKS, furnished.network_id, name="seen by thousands")
    twins.compare()
    with furnished.cloud.store.snapshot() as snapshot:
        assert snapshot.shown_changes(snapshot.shown_number()[0] - 1) is None


def test_what_is_taken_back_ends_no_answer(furnished: World, twins: Twins) -> None:
    store = furnished.cloud.store
    twins.compare()
    size = twins.kept.size
    with store.transaction(1) as tx:
        mark = tx.savepoint()
        server = next(tx.scan(tables.SERVERS))
        tx.put(tables.SERVERS, msgspec.structs.replace(server, name="never"))
        tx.put(tables.NETWORKS, msgspec.structs.replace(next(tx.scan(tables.NETWORKS)), name="never"))
        tx.rollback(mark)
    with store.snapshot() as snapshot:
        assert twins.kept.follow(snapshot)
    assert twins.kept.size == size > 0


def test_a_heartbeat_ends_no_answer(furnished: World, twins: Twins) -> None:
    twins.compare()
    size = twins.kept.size
    report = HostReport(host=HOST, zone="nova", resources=msgspec.structs.replace(_RESOURCES, uptime="later"))
    with furnished.cloud.store.transaction(time.time_ns() // 1000 + 60_000_000) as tx:
        record_host_report(tx, report)
    with furnished.cloud.store.snapshot() as snapshot:
        assert twins.kept.follow(snapshot)
    assert twins.kept.size == size > 0
    twins.compare()


def test_who_was_away_for_too_many_commits_begins_anew(
    furnished: World, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown, "ROWS", 16)
    store = furnished.cloud.store
    server_id = None
    for rounds in (shown.ROWS - 1, shown.ROWS, shown.ROWS + 1, 3):
        twins.compare()
        with store.snapshot() as snapshot:
            server_id, other_id = (server.id for server in snapshot.scan(tables.SERVERS))
        change(furnished, tables.SERVERS, other_id, name=f"other {rounds}")
        for number in range(rounds - 1):
            change(furnished, tables.SERVERS, server_id, name=f"{rounds} {number}")
        twins.compare(f"{rounds} commits")


def test_a_release_that_does_not_know_the_log_does_not_mislead_it(furnished: World, twins: Twins) -> None:
    store = furnished.cloud.store
    twins.compare()
    number = number_of(store)
    with store.snapshot() as snapshot:
        server_id = next(snapshot.scan(tables.SERVERS)).id
    with store.transaction(time.time_ns() // 1000 + 1_000_000) as tx:
        tx.keep_shown = lambda: None  # type: ignore[method-assign]  # as the release before
        tx.put(tables.SERVERS, msgspec.structs.replace(tx.need(tables.SERVERS, server_id, "Row"), name="old release"))
    assert number_of(store) == number
    twins.compare("while the old release writes")
    with store.transaction(time.time_ns() // 1000 + 2_000_000) as tx:
        tx.keep_shown = lambda: None  # type: ignore[method-assign]
        tx.put(tables.SERVERS, msgspec.structs.replace(tx.need(tables.SERVERS, server_id, "Row"), name="again"))
    with store.transaction(time.time_ns() // 1000 + 3_000_000):
        pass  # this release is back
    assert number_of(store) > number + shown.ROWS
    twins.compare("after it")


def number_of(store: Any) -> int:
    with store.snapshot() as snapshot:
        return int(snapshot.shown_number()[0])


def test_what_is_kept_is_bounded_in_bytes(furnished: World, twins: Twins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_answers, "BYTES_MAX", 6_000)
    for _ in range(3):
        twins.compare()
        kept = sum(len(row) for form in twins.kept._forms.values() for row in form.values())
        count = sum(map(len, twins.kept._forms.values()))
        assert twins.kept.size == kept + count * server_answers.ENTRY_BYTES <= 6_000
    monkeypatch.setattr(server_answers, "FORMS_MAX", 2)
    twins.kept.forget()
    twins.compare()
    assert len(twins.kept._forms) == 2
    assert twins.kept.size <= 6_000


def test_a_server_is_kept_for_those_who_may_see_it_only(world: World, twins: Twins) -> None:
    server_id = world.active()
    foreign = world.cloud.project("p2").member
    assert world.get(f"/servers/{server_id}").status == 200
    assert world.get(f"/servers/{server_id}").status == 200
    assert world.get(f"/servers/{server_id}", foreign).status == 404
    assert world.get("/servers/detail", foreign).json == {"servers": []}
    assert world.get(f"/servers/{server_id}", world.admin).json["server"]["id"] == server_id
    assert "OS-EXT-SRV-ATTR:host" not in world.get(f"/servers/{server_id}").json["server"]


# ------------------------------------------------------------------------------------------------ histories
@pytest.mark.torture
@pytest.mark.parametrize("seed", range(repeats(2, 60)))
def test_histories_of_commands_are_shown_as_they_go(world: World, twins: Twins, seed: int) -> None:
    play = random.Random(seed)
    history = History(world, play)
    for _ in range(40):
        name = play.choice([name for name in dir(history) if name.startswith("do_")])
        getattr(history, name)()
        if play.random() < 0.6:
            world.settle()
        twins.compare(name)


class History:
    """What users, operators and daemons do; a refusal is fine, the answers after it count."""

    def __init__(self, world: World, play: random.Random) -> None:
        self._world = world
        self._play = play
        self._sequence = 0

    def _server(self) -> str:
        with self._world.cloud.store.snapshot() as snapshot:
            ids = [server.id for server in snapshot.scan(tables.SERVERS)]
        return self._play.choice(ids) if ids else self._world.create()

    def _word(self) -> str:
        return self._play.choice(["red", "green", "blue"]) + str(self._play.randrange(100))

    def _ports(self) -> list[Any]:
        server_id = self._server()
        with self._world.cloud.store.snapshot() as snapshot:
            return server_ports(snapshot, server_id)

    def _network(self, method: str, path: str, body: Any = None, client: Any = None) -> Any:
        return (client or self._world.member).request(method, "network", path, json=body)

    def _compute(self, method: str, path: str, body: Any = None) -> Any:
        return self._world.admin.request(method, "compute", f"/v2.1{path}", json=body, microversion="2.96")

    def do_create(self) -> None:
        self._world.post(tags=[self._word()], metadata={"k": self._word()})

    def do_create_two(self) -> None:
        self._world.post(min_count=2, max_count=2, key_name=..., user_data="aGk=")

    def do_delete(self) -> None:
        self._world.member.delete("compute", f"/v2.1/servers/{self._server()}")

    def do_rename(self) -> None:
        self._world.member.put(
            "compute", f"/v2.1/servers/{self._server()}", json={"server": {"name": self._word()}}, microversion="2.96"
        )

    def do_act(self) -> None:
        action = self._play.choice(["os-stop", "os-start", "pause", "unpause", "suspend", "resume", "lock", "unlock"])
        self._world.act(self._server(), action)

    def do_reset_state(self) -> None:
        state = {"state": self._play.choice(["error", "active"])}
        self._world.act(self._server(), "os-resetState", state, self._world.admin)

    def do_metadata_and_tags(self) -> None:
        path = f"/v2.1/servers/{self._server()}"
        self._world.member.put("compute", f"{path}/tags/{self._word()}", microversion="2.96")
        self._world.member.post("compute", f"{path}/metadata", json={"metadata": {"k": self._word()}})

    def do_rename_network(self) -> None:
        self._network("PUT", f"/v2.0/networks/{self._world.network_id}", {"network": {"name": self._word()}})

    def do_rename_group(self) -> None:
        with self._world.cloud.store.snapshot() as snapshot:
            groups = [group.id for group in snapshot.scan(tables.SECURITY_GROUPS)]
        if groups:
            change(self._world, tables.SECURITY_GROUPS, self._play.choice(groups), name=self._word())

    def do_regroup_port(self) -> None:
        made = self._network("POST", "/v2.0/security-groups", {"security_group": {"name": self._word()}})
        for port in self._ports():
            groups = {"security_groups": [made.json["security_group"]["id"]]}
            self._network("PUT", f"/v2.0/ports/{port.id}", {"port": groups})

    def do_readdress_port(self) -> None:
        for port in self._ports():
            wish = {"fixed_ips": [{"subnet_id": ip.subnet_id} for ip in port.fixed_ips] * 2}
            self._network("PUT", f"/v2.0/ports/{port.id}", {"port": wish})

    def do_take_over_port(self) -> None:
        made = self._network("POST", "/v2.0/ports", {"port": {"network_id": self._world.network_id}})
        self._world.post(networks=[{"port": made.json["port"]["id"]}, {"uuid": self._world.network_id}])

    def do_close_host(self) -> None:
        path = "/os-services/" + self._service_id()
        body = self._play.choice([{"status": "disabled"}, {"status": "enabled"}, {"forced_down": True}])
        self._compute("PUT", path, body)
        self._compute("PUT", path, {"forced_down": False})

    def _service_id(self) -> str:
        with self._world.cloud.store.snapshot() as snapshot:
            return str(snapshot.need(tables.HOSTS, HOST, "Host").service_uuid)

    def do_move_host_to_another_zone(self) -> None:
        aggregate = {"aggregate": {"name": self._word(), "availability_zone": self._word()}}
        made = self._compute("POST", "/os-aggregates", aggregate)
        if made.status == 200:
            path = f"/os-aggregates/{made.json['aggregate']['id']}/action"
            self._compute("POST", path, {"add_host": {"host": HOST}})
            self._compute("POST", path, {"set_metadata": {"metadata": {"availability_zone": self._word()}}})
            if self._play.random() < 0.7:
                self._compute("POST", path, {"remove_host": {"host": HOST}})

    def do_tell_of_a_guest(self) -> None:
        self._sequence += 1
        state = self._play.choice(list(PowerState))
        server_id = self._server()
        with self._world.cloud.store.transaction(time.time_ns() // 1000) as tx:
            if self._play.random() < 0.5:
                record_guest_state(
                    tx, GuestChanged(host=HOST, server_id=server_id, power_state=state, sequence=self._sequence)
                )
            else:
                guests = (GuestState(server_id=server_id, power_state=state),)
                record_inventory(tx, GuestInventory(host=HOST, guests=guests, sequence=self._sequence), 0)

    def do_lose_the_host(self) -> None:
        change(self._world, tables.HOSTS, HOST, up=self._play.random() < 0.5)

    def do_write_user_data(self) -> None:
        with self._world.cloud.store.transaction(1) as tx:
            for row in list(tx.scan(tables.USER_DATA)):
                tx.put(tables.USER_DATA, UserData(server_id=row.server_id, data=self._word().encode()))
