"""What a worker keeps of servers is never older than what it reads: whatever is written, its answers are those of a
worker that keeps nothing, byte for byte.

A command can change the store in one way only: by putting and deleting records. So these tests do not walk commands:
they change every field of every record of every table, one after the other. ``test_server_histories`` plays commands.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nova_fast.api.compute import server_answers
from nova_fast.commands.hosts import record_host_report
from nova_fast.model.base import Record
from nova_fast.model.commands.ports import CreatePorts, NewPort
from nova_fast.model.identity import Caller
from nova_fast.model.servers import Fault
from nova_fast.model.states import VmState
from nova_fast.model.tasks import HostReport
from nova_fast.state import schema as tables
from nova_fast.state import shown
from tests.api.server_twins import Twins, change
from tests.api.server_world import HOST, World

if TYPE_CHECKING:
    pass


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("identity", "compute", "network")


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
            replace(tx, table, old, new)
    except Exception:
        return None
    return new  # type: ignore[no-any-return]


def put_back(store: Any, table: Any, old: Record, new: Record) -> None:
    with store.transaction(1) as tx:
        replace(tx, table, new, old)


def replace(tx: Any, table: Any, old: Record, new: Record) -> None:
    """As commands do; only a record that gets another key is deleted (that alone would end every answer about it)."""
    if table.key(old) != table.key(new):
        assert tx.get(table, table.key(new)) is None
        tx.delete(table, table.key(old))
    tx.put(table, new)


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
    with furnished.cloud.store.snapshot() as snapshot:
        found = snapshot.need(tables.HOSTS, HOST, "Host").resources
    report = HostReport(host=HOST, zone="nova", resources=msgspec.structs.replace(found, uptime="later"))
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
        tx._keep_shown = lambda: None  # type: ignore[method-assign]  # as the release before
        tx.put(tables.SERVERS, msgspec.structs.replace(tx.need(tables.SERVERS, server_id, "Row"), name="old release"))
    assert number_of(store) == number
    twins.compare("while the old release writes")
    with store.transaction(time.time_ns() // 1000 + 2_000_000) as tx:
        tx._keep_shown = lambda: None  # type: ignore[method-assign]
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
        kept = [answer for form in twins.kept._forms.values() for answer in form.values()]
        size = sum(len(answer if isinstance(answer, bytes) else answer[1]) for answer in kept)
        assert twins.kept.size == size + len(kept) * server_answers.ENTRY_BYTES <= 6_000
        assert kept
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
