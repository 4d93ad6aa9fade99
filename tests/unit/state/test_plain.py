"""Whatever a transaction does, it leaves the bytes that plain writes leave: the oracle is in ``plain``."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nova_fast.model.events import HostRemoved
from nova_fast.model.flavors import Flavor
from nova_fast.model.identity import Project
from nova_fast.model.networks import FixedIp, Port
from nova_fast.model.quotas import Usage
from nova_fast.model.servers import UserData
from nova_fast.model.workflows import Direction, Workflow
from nova_fast.state import schema as tables
from nova_fast.state.table import Index, Key, Table, _encode_parts, encode_key
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import DuplicateKey, Transaction
from tests.lengths import repeats
from tests.unit.state.plain import PlainTransaction
from tests.unit.state.test_store import contents

Step = Callable[[Transaction], Any]

_NUMBERS = st.integers(0, 2)  # few, so that they meet


def _port(number: int, ips: tuple[int, ...], host: int, name: int) -> Port:
    return Port(
        id=f"p{number}", network_id="n", project_id="a", name=f"x{name}", mac_address=f"m{number}", created_at_us=1,
        updated_at_us=1, host="h" * host, security_groups=("g", "g2")[:host],
        fixed_ips=tuple(FixedIp(subnet_id="s", ip_address=str(ip)) for ip in ips),
    )  # fmt: skip


_PORTS = st.builds(_port, _NUMBERS, st.lists(_NUMBERS, max_size=2).map(tuple), st.integers(0, 2), _NUMBERS)
_FLAVORS = st.builds(
    lambda n, name, ram: Flavor(id=str(n), name=f"f{name}", vcpus=1, ram_mib=ram, disk_gib=1),
    _NUMBERS, _NUMBERS, _NUMBERS,
)  # fmt: skip
_PROJECTS = st.builds(lambda n: Project(id=f"p{n}", name=f"n{n}", domain_id="d", parent_id="d"), _NUMBERS)
_WORKFLOWS = st.builds(
    lambda n, task, queued, action: Workflow(
        server_id=f"s{n}", kind="k", step=0, direction=Direction.FORWARD, request_id="r", started_at_us=n,
        task_id="t" * task, queued=queued, action=f"a{action}",
    ),
    _NUMBERS, _NUMBERS, st.booleans(), _NUMBERS,
)  # fmt: skip
_USAGES = st.builds(lambda n, m: Usage(project_id=f"p{n}", instances=m), _NUMBERS, _NUMBERS)
_ROWS = st.one_of(
    st.tuples(st.just(tables.WORKFLOWS), _WORKFLOWS),
    st.tuples(st.just(tables.WORKFLOWS), _WORKFLOWS),  # twice as often: what is held back and has an index
    st.tuples(st.just(tables.USAGES), _USAGES),
    st.tuples(st.just(tables.PORTS), _PORTS),
    st.tuples(st.just(tables.FLAVORS), _FLAVORS),
    st.tuples(st.just(tables.PROJECTS), _PROJECTS),
)


#: A field of each that is changed.
_FREE: dict[Table[Any], str] = {
    tables.PORTS: "name", tables.FLAVORS: "name", tables.PROJECTS: "name", tables.WORKFLOWS: "action",
    tables.USAGES: "instances",
}  # fmt: skip


def _put(row: tuple[Table[Any], Any]) -> Step:
    return lambda tx: tx.put(*row)


def _insert(row: tuple[Table[Any], Any]) -> Step:
    table, record = row
    return lambda tx: tx.insert(table, record) if tx.get(table, table.key(record)) is None else None


def _change(row: tuple[Table[Any], Any]) -> Step:
    """Read and write again, as commands do."""
    table, record = row

    def step(tx: Transaction) -> Any:
        found = tx.get(table, table.key(record))
        if found is not None:
            tx.put(table, msgspec.structs.replace(found, **{_FREE[table]: getattr(record, _FREE[table])}))
        return found

    return step


def _delete(row: tuple[Table[Any], Any]) -> Step:
    table, record = row
    key = table.key(record)
    return lambda tx: tx.delete(table, key) if tx.get(table, key) is not None else None


def _run(first: int, count: int, clash: bool) -> Step:
    """Many at once, far from the others; one with an address that another may have."""
    numbers = range(100 + 20 * first, 100 + 20 * first + count)
    ports = [_port(n, (n, n) if n != numbers[0] or not clash else (first,), n % 2, 0) for n in reversed(numbers)]

    def step(tx: Transaction) -> Any:
        if any(tx.get(tables.PORTS, port.id) is not None for port in ports):
            return None
        tx.insert_all(tables.PORTS, ports)
        tx.emit_all([HostRemoved(host=port.id) for port in ports])
        return list(tx.next_numbers("ports", count))

    return step


def _count(_number: int) -> Step:
    def step(tx: Transaction) -> Any:
        tx.emit(HostRemoved(host="h"))
        return tx.next_number("n"), tx.generation(), tx.identity_generation(), tx.counters()

    return step


def _walk(how: int) -> Step:
    """Whoever looks for more than one record sees what was written before."""
    ready = tables.WORKFLOWS_READY

    def step(tx: Transaction) -> Any:
        ways: tuple[Callable[[], Any], ...] = (
            lambda: list(tx.scan_index(ready)),
            lambda: list(tx.walk_index(ready)),
            lambda: list(tx.scan(tables.USAGES)),
            lambda: (tx.size(tables.WORKFLOWS), tx.size(tables.EVENTS), tx.raw_size(ready.name)),
            lambda: (tx.count(ready), tx.select(ready, "s1")),
            lambda: [bytes(key) for key in tx.index_keys(ready)],
            lambda: [(bytes(key), bytes(value)) for key, value in tx.raw(tables.WORKFLOWS.name)],
            lambda: tx.raw_get(tables.USAGES.name, encode_key(("p1",))),
            lambda: tx.of_keys(tables.WORKFLOWS, tx.index_keys(ready)),
            lambda: tx.delete_until(tables.EVENTS, (tx.generation() - 1,), 2),
            lambda: tx.delete_until(tables.USAGES, ("p1",), 2),
        )
        return ways[how]()

    return step


_STEPS = st.one_of(
    _ROWS.map(_put), _ROWS.map(_insert), _ROWS.map(_change), _ROWS.map(_delete), _NUMBERS.map(_count),
    st.integers(0, 10).map(_walk), st.builds(_run, _NUMBERS, st.sampled_from((3, 15, 16, 20)), st.booleans()),
)  # fmt: skip
#: Commands: their steps, and whether each is refused at its end.
_COMMANDS = st.lists(st.tuples(st.lists(_STEPS, min_size=1, max_size=8), st.booleans()), min_size=1, max_size=4)


def _batch(tx: Transaction, commands: list[tuple[list[Step], bool]]) -> list[Any]:
    told: list[Any] = []
    for steps, refused in commands:
        mark = tx.savepoint()
        try:
            told += [step(tx) for step in steps]
        except DuplicateKey:
            told.append("duplicate")
            refused = True
        if refused:
            tx.rollback(mark)
    return [told, tx.events]


def _as_plain(store: MemoryStore, work: Callable[[Transaction], Any]) -> Any:
    def plain(tx: Transaction) -> Any:
        tx.__class__ = PlainTransaction
        return work(tx)

    return store.run(plain)


@settings(max_examples=repeats(200, 5000), deadline=None)
@given(st.lists(_COMMANDS, min_size=1, max_size=2))
def test_a_transaction_leaves_the_bytes_of_plain_writes(batches: list[list[tuple[list[Step], bool]]]) -> None:
    with memory_store() as fast, memory_store() as plain:
        for commands in batches:

            def work(tx: Transaction, commands: Any = commands) -> list[Any]:
                return _batch(tx, commands)

            assert fast.run(work) == _as_plain(plain, work)
            assert contents(fast) == contents(plain)


_RANDOM = st.binary(min_size=16, max_size=16)


@settings(max_examples=20, deadline=None)
@given(st.lists(_RANDOM, min_size=1, max_size=20))
def test_uuids_are_of_version_4_and_in_order(drawn: list[bytes]) -> None:
    with memory_store() as store, store.store.transaction(1, lambda count: b"".join(drawn)[:count]) as tx:
        assert tx.new_uuids(len(drawn)) == sorted(str(uuid.UUID(bytes=raw, version=4)) for raw in drawn)
        assert tx.new_uuid() == str(uuid.UUID(bytes=drawn[0], version=4))


def test_many_of_which_one_is_refused_leave_what_was_there() -> None:
    with memory_store() as store:
        store.run(lambda tx: tx.put(tables.PORTS, _port(0, (1,), 0, 0)))
        before = contents(store)

        def work(tx: Transaction) -> None:
            mark = tx.savepoint()
            with pytest.raises(DuplicateKey):
                _run(1, 20, True)(tx)
            tx.rollback(mark)

        store.run(work)
        assert contents(store) == before


def test_two_of_many_that_clash_leave_nothing() -> None:
    """Behind all that is there, where the engine is given them in one call."""
    with memory_store() as store:
        before = contents(store)

        def work(tx: Transaction) -> None:
            mark = tx.savepoint()
            ports = [_port(number, (number % 19,), 0, 0) for number in range(20)]
            with pytest.raises(DuplicateKey):
                tx.insert_all(tables.PORTS, ports)
            tx.rollback(mark)

        store.run(work)
        assert contents(store) == before


def test_events_that_were_looked_at_and_taken_back_are_not_missed_later() -> None:
    """Some of them had been given to the engine before the mark, some behind it."""

    def work(tx: Transaction) -> list[Any]:
        said = []
        for begin in range(3):
            tx.emit(HostRemoved(host=f"kept {begin}"))
            mark = tx.savepoint()
            tx.emit_all([HostRemoved(host="taken back"), HostRemoved(host="too")])
            said.append(tx.size(tables.EVENTS))
            tx.rollback(mark)
            if begin == 1:
                said.append([row.generation for row in tx.scan(tables.EVENTS)])
        tx.emit(HostRemoved(host="last"))
        return [*said, tx.events]

    with memory_store() as fast, memory_store() as plain:
        assert fast.run(work) == _as_plain(plain, work)
        assert contents(fast) == contents(plain)
        assert fast.read(lambda reader: reader.size(tables.EVENTS)) == 4


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20), st.integers(0, 2**57), st.integers(1, 99)
)
def test_timed_uuids_are_of_version_7_and_in_the_order_of_time(drawn: list[bytes], now_us: int, later_us: int) -> None:
    with memory_store() as store:
        found = []
        for time_us in (now_us, now_us + later_us):
            with store.store.transaction(time_us, lambda count: b"".join(drawn)[:count]) as tx:
                found.append(tx.new_timed_uuids(len(drawn)))
    first, second = found
    for made, time_us in ((first, now_us), (second, now_us + later_us)):
        assert made == sorted(made)
        for text in made:
            parsed = uuid.UUID(text)
            assert (str(parsed), parsed.version, parsed.variant) == (text, 7, uuid.RFC_4122)
            assert parsed.int >> 80 == time_us // 1000
        assert {uuid.UUID(text).int & (1 << 62) - 1 for text in made} == {
            int.from_bytes(raw, "big") & (1 << 62) - 1 for raw in drawn
        }
    assert first[-1] < second[0] or first[0][:18] == second[0][:18]


_ODD_PARTS = st.one_of(
    st.text(max_size=3), st.text(alphabet="\0a\ud800", max_size=2), st.just("x" * 255), st.just("x" * 503),
    st.integers(), st.sampled_from((-(2**63), 2**63 - 1, -(2**63) - 1, 2**63)), st.booleans(),
)  # fmt: skip


@settings(max_examples=repeats(300, 10_000))
@given(st.lists(_ODD_PARTS, max_size=4).map(tuple))
@example(("a\0b", 1))
@example((1, "a"))
def test_a_key_is_its_parts_one_after_the_other(parts: Key) -> None:
    try:
        wanted = _encode_parts(parts)
    except ValueError:
        with pytest.raises(ValueError):
            encode_key(parts)
    else:
        assert encode_key(parts) == wanted


_KEYS = st.lists(
    st.tuples(st.text(max_size=3) | st.just("é" * 127) | st.just("é" * 256) | st.just("a\0b"), st.text(max_size=2)),
    max_size=3,
)


@settings(max_examples=repeats(200, 5000), deadline=None)
@given(st.lists(_KEYS, max_size=4), st.booleans())
def test_the_entries_of_many_are_those_of_each(keys_of: list[list[Key]], unique: bool) -> None:
    table = Table("t", Flavor, lambda r: (r.id,))
    index = Index(table, "i", lambda r: keys_of[r.vcpus], unique=unique)
    rows = [
        (encode_key((str(n),)), Flavor(id=str(n), name="", vcpus=n, ram_mib=1, disk_gib=1)) for n in range(len(keys_of))
    ]
    try:
        wanted = sorted((entry, primary) for primary, record in rows for entry in index.entries(record, primary))
    except ValueError:
        with pytest.raises(ValueError):
            index.pairs(rows)
    else:
        assert sorted(index.pairs(rows)) == wanted


def test_what_is_remembered_of_a_row_is_not_taken_for_other_bytes() -> None:
    """A row is remembered by its bytes: what lies in the engine counts, whoever wrote it."""
    key = encode_key(("p",))
    with memory_store() as store:
        store.run(lambda tx: tx.put(tables.USAGES, Usage(project_id="p", instances=1)))
        assert store.run(lambda tx: tx.get(tables.USAGES, "p")) == Usage(project_id="p", instances=1)
        store.run(lambda tx: tx.put(tables.USAGES, Usage(project_id="p", instances=2)))
        other = msgspec.msgpack.encode(Usage(project_id="p", instances=3))
        with store.store.snapshot() as before:
            with store.store._environment.begin(write=True) as txn:
                txn.put(key, other, db=store.store._databases[tables.USAGES.name])
            assert before.get(tables.USAGES, "p") == Usage(project_id="p", instances=2)
        assert store.read(lambda reader: reader.get(tables.USAGES, "p")) == Usage(project_id="p", instances=3)
        assert store.run(lambda tx: tx.get(tables.USAGES, "p")) == Usage(project_id="p", instances=3)
        store.run(lambda tx: tx.delete(tables.USAGES, "p"))
        assert store.read(lambda reader: reader.get(tables.USAGES, "p")) is None
        assert store.run(lambda tx: tx.get(tables.USAGES, "p")) is None


def test_what_is_remembered_of_rows_is_bounded() -> None:
    """Neither many rows nor large ones stay: a hundred kept answers of 512 KiB would be the process's memory."""
    small, large = UserData(server_id="small", data=b"x"), UserData(server_id="large", data=b"x" * 60_000)
    with memory_store() as store:
        store.run(lambda tx: tx.insert_all(tables.USER_DATA, [small, large]))
        for _ in range(2):
            store.run(lambda tx: [tx.get(tables.USER_DATA, name) for name in ("small", "large")])
        assert set(store.store._memory.of(tables.USER_DATA)) == {("small",)}
        for begin in range(0, 20_000, 1_000):
            names = [f"s{number}" for number in range(begin, begin + 1_000)]
            store.run(lambda tx: [tx.put(tables.USER_DATA, UserData(server_id=name, data=b"x")) for name in names])  # noqa: B023
        assert len(store.store._memory.of(tables.USER_DATA)) <= 5_096
