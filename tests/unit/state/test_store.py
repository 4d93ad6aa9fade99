"""The store: indexes follow their records, a command is taken back alone, and what was acknowledged is there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.model.events import HostRemoved
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import HostUsage
from nova_fast.model.identity import Project
from nova_fast.model.networks import FixedIp, Port
from nova_fast.model.servers import UserData
from nova_fast.state import datafile
from nova_fast.state import schema as tables
from nova_fast.state import store as store_module
from nova_fast.state.reader import STEADY_US
from nova_fast.state.shown import NUMBER_AND_TIME
from nova_fast.state.store import Store, StoreError
from nova_fast.state.table import descending, encode_key
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import DuplicateKey, Transaction, WriteFailed

#: Rows of the meta database that every commit changes.
TIMES = (STEADY_US, NUMBER_AND_TIME)


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        yield made


def flavor(number: int, name: str = "") -> Flavor:
    return Flavor(id=str(number), name=name or f"f{number}", vcpus=1, ram_mib=1, disk_gib=1)


def port(number: int, **fields: Any) -> Port:
    values: dict[str, Any] = {
        "id": f"p{number}", "network_id": "n", "project_id": "a", "name": "", "mac_address": f"m{number}",
        "created_at_us": 1, "updated_at_us": 1, **fields,
    }  # fmt: skip
    return Port(**values)


def addresses(*texts: str) -> tuple[FixedIp, ...]:
    return tuple(FixedIp(subnet_id="s", ip_address=text) for text in texts)


def contents(store: MemoryStore) -> dict[str, list[tuple[bytes, bytes]]]:
    """Every byte of every table and index, but for the times, which go on."""
    found = {}
    with store.store._environment.begin() as txn:
        for name, database in store.store._databases.items():
            found[name] = [(bytes(k), bytes(v)) for k, v in txn.cursor(db=database) if bytes(k) not in TIMES]
    return found


# ---------------------------------------------------------------------- keys
_PARTS = st.one_of(
    st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8),
    st.integers(-(2**63), 2**63 - 1),
)
_SHAPES = st.tuples(
    st.text(alphabet="ab~é", max_size=4), st.integers(-(2**63), 2**63 - 1), st.text(alphabet="ab~é", max_size=4)
)


@given(_SHAPES, _SHAPES)
def test_bytes_of_keys_are_ordered_as_keys_are(a: tuple[str, int, str], b: tuple[str, int, str]) -> None:
    def order(key: tuple[str, int, str]) -> tuple[bytes, int, bytes]:
        return key[0].encode(), key[1], key[2].encode()

    assert (encode_key(a) < encode_key(b)) == (order(a) < order(b))
    assert encode_key(a).startswith(encode_key(a[:2]))


@pytest.mark.parametrize("key", [(), ("a\0b",), ("x" * 512,), (1 << 63,), (-(1 << 63) - 1,), ("\ud800",)])
def test_what_cannot_be_a_key_is_refused_and_never_found(store: MemoryStore, key: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError):
        encode_key(key)
    if len(key) == 1 and isinstance(key[0], str):
        assert store.read(lambda r: r.get(tables.FLAVORS, key)) is None
        assert store.read(lambda r: r.find(tables.FLAVORS_BY_NAME, *key)) is None


def test_newest_first_is_a_falling_number() -> None:
    assert descending(2) < descending(1)


# ---------------------------------------------------------------------- indexes
def test_indexes_follow_their_records(store: MemoryStore) -> None:
    def find(address: str) -> Port | None:
        return store.read(lambda r: r.find(tables.PORTS_BY_ADDRESS, "n", address))

    store.run(lambda tx: tx.put(tables.PORTS, port(1, fixed_ips=addresses("1", "2"), host="h1")))
    assert [find(text) is not None for text in ("1", "2", "3")] == [True, True, False]
    store.run(lambda tx: tx.put(tables.PORTS, port(1, fixed_ips=addresses("2", "3"), host="h2")))
    assert [find(text) is not None for text in ("1", "2", "3")] == [False, True, True]
    assert [p.id for p in store.read(lambda r: list(r.scan_index(tables.PORTS_BY_HOST, "h2")))] == ["p1"]
    assert store.read(lambda r: r.count(tables.PORTS_BY_HOST, "h1")) == 0
    store.run(lambda tx: tx.delete(tables.PORTS, "p1"))
    assert all(rows == [] for name, rows in contents(store).items() if name.startswith("ports"))


def test_a_unique_key_has_one_record_and_a_refused_one_leaves_nothing(store: MemoryStore) -> None:
    store.run(lambda tx: tx.put(tables.PORTS, port(1, fixed_ips=addresses("1"))))
    before = contents(store)
    with pytest.raises(DuplicateKey):
        store.run(lambda tx: tx.put(tables.PORTS, port(2, fixed_ips=addresses("0", "1"))))
    assert contents(store) == before

    def one_of_a_batch(tx: Transaction) -> None:
        mark = tx.savepoint()
        with pytest.raises(DuplicateKey):
            tx.put(tables.PORTS, port(2, fixed_ips=addresses("0", "1")))
        tx.rollback(mark)

    store.run(one_of_a_batch)
    assert contents(store) == before


@given(st.lists(st.tuples(st.integers(0, 4), st.sets(st.integers(0, 5), max_size=3), st.booleans()), max_size=20))
def test_whatever_is_written_the_indexes_lead_to_what_is_there(writes: list[tuple[int, set[int], bool]]) -> None:
    model: dict[str, Port] = {}
    with memory_store() as store:
        for number, texts, remove in writes:
            made = port(number, fixed_ips=addresses(*map(str, texts)))
            taken = {ip.ip_address for other in model.values() if other.id != made.id for ip in other.fixed_ips}
            if remove and made.id in model:
                store.run(lambda tx, key=made.id: tx.delete(tables.PORTS, key))
                del model[made.id]
            elif not taken & set(map(str, texts)):
                store.run(lambda tx, record=made: tx.put(tables.PORTS, record))
                model[made.id] = made
        with store.store.snapshot() as reader:
            assert {row.id: row for row in reader.scan(tables.PORTS)} == model
            for text in map(str, range(6)):
                owners = [row for row in model.values() if text in {ip.ip_address for ip in row.fixed_ips}]
                assert reader.find(tables.PORTS_BY_ADDRESS, "n", text) == (owners[0] if owners else None)


# ---------------------------------------------------------------------- rollback
def test_one_command_of_a_batch_is_taken_back_alone(store: MemoryStore) -> None:
    store.run(lambda tx: tx.put(tables.FLAVORS, flavor(1)))

    def batch(tx: Transaction) -> None:
        tx.put(tables.FLAVORS, flavor(2))
        tx.emit(HostRemoved(host="kept"))
        kept = (tx.next_number("n"), tx.generation())
        mark = tx.savepoint()
        tx.put(tables.FLAVORS, flavor(1, "renamed"))
        tx.put(tables.FLAVORS, flavor(1, "renamed again"))
        tx.delete(tables.FLAVORS, "2")
        tx.put(tables.FLAVORS, flavor(3))
        tx.put(tables.PROJECTS, Project(id="p", name="p", domain_id="d", parent_id="d"))
        tx.emit(HostRemoved(host="lost"))
        tx.next_number("n")
        tx.rollback(mark)
        assert (tx.next_number("n") - 1, tx.generation()) == kept
        assert [event.host for _, event in tx.events if isinstance(event, HostRemoved)] == ["kept"]

    store.run(batch)
    with store.store.snapshot() as reader:
        assert [(row.id, row.name) for row in reader.scan(tables.FLAVORS)] == [("1", "f1"), ("2", "f2")]
        assert reader.find(tables.FLAVORS_BY_NAME, "renamed again") is None
        assert reader.identity_generation() == 0
        assert reader.size(tables.EVENTS) == 1


def test_an_exception_takes_the_whole_transaction_back(store: MemoryStore) -> None:
    before = contents(store)

    def fails(tx: Transaction) -> None:
        tx.put(tables.FLAVORS, flavor(1))
        raise KeyError("x")

    with pytest.raises(KeyError):
        store.run(fails)
    assert contents(store) == before


# ---------------------------------------------------------------------- scans
def test_scans_by_prefix_position_and_direction(store: MemoryStore) -> None:
    def fill(tx: Transaction) -> None:
        for number, (network, host) in enumerate([("a", "h"), ("a", "h2"), ("ab", "h"), ("b", "h"), ("a", "h")]):
            tx.put(tables.PORTS, port(number, network_id=network, host=host))

    store.run(fill)
    with store.store.snapshot() as r:
        index = tables.PORTS_BY_NETWORK

        def ids(*prefix: str, **how: Any) -> str:
            return "".join(row.id[1] for row in r.scan_index(index, *prefix, **how))

        assert (ids("a"), ids("a", "h"), ids("ab"), ids("c"), ids()) == ("041", "04", "2", "", "04123")
        assert (ids("a", reverse=True), ids("a", limit=2), ids("a", reverse=True, limit=1)) == ("140", "04", "1")
        first, last = r.need(tables.PORTS, "p0", "Port"), r.need(tables.PORTS, "p1", "Port")
        assert (ids("a", after=first), ids("a", after=last), ids("a", after=last, reverse=True)) == ("41", "", "40")
        assert [row.id for row in r.scan(tables.PORTS, after="p2")] == ["p3", "p4"]
        assert [row.id for row in r.scan(tables.PORTS, after="p2", reverse=True)] == ["p1", "p0"]
        assert [row.id for row in r.scan(tables.PORTS, after="p25")] == ["p3", "p4"]  # a marker that is gone
        with pytest.raises(AssertionError):
            ids("b", after=first)  # a page of one list cannot begin behind a row of another


# ---------------------------------------------------------------------- the file
def test_a_snapshot_does_not_see_later_commits(store: MemoryStore) -> None:
    with store.store.snapshot() as before:
        store.run(lambda tx: tx.put(tables.FLAVORS, flavor(1)))
        assert before.get(tables.FLAVORS, "1") is None
        with store.store.snapshot() as after:
            assert after.get(tables.FLAVORS, "1") is not None
        assert before.size(tables.FLAVORS) == 0


def test_two_writers_are_refused_and_the_first_may_come_again(tmp_path: Path) -> None:
    first = Store.open(tmp_path)
    with pytest.raises(StoreError, match="another process writes"):
        Store.open(tmp_path)
    first.close()
    Store.open(tmp_path).close()


def test_a_store_of_a_newer_release_is_refused_and_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "SCHEMA_VERSION", 7)
    Store.open(tmp_path).close()
    monkeypatch.undo()
    for readonly in (False, True, False):  # the lock is given up each time
        with pytest.raises(StoreError, match="newer release"):
            Store.open(tmp_path, readonly=readonly)


def test_a_reader_of_an_older_release_is_told_what_adds_the_tables_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TABLES", tables.TABLES[1:])
    Store.open(tmp_path).close()
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"an older release wrote .*`nova-fast up`"):
        Store.open(tmp_path, readonly=True)
    Store.open(tmp_path).close()
    Store.open(tmp_path, readonly=True).close()


def test_a_reader_waits_for_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Store.open(tmp_path / "nowhere", readonly=True)
    lmdb.open(str(tmp_path), max_dbs=4).close()  # made, but nothing is in it yet
    with pytest.raises(StoreError):
        Store.open(tmp_path, readonly=True)


def test_a_full_store_loses_the_transaction_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAP_BYTES", 4 << 20)
    store = Store.open(tmp_path)
    written = MemoryStore(store)
    written.run(lambda tx: tx.put(tables.FLAVORS, flavor(1)))

    def fill(tx: Transaction) -> None:
        for number in range(20_000):  # four times what there is room for
            tx.put(tables.HOST_USAGE, HostUsage(host=f"{number:0400}"))

    with pytest.raises(Exception) as failed:
        written.run(fill)
    assert failed.value.code == "store_write_failed"  # type: ignore[attr-defined]
    assert isinstance(failed.value.__cause__, WriteFailed)
    assert written.read(lambda r: (r.size(tables.FLAVORS), r.size(tables.HOST_USAGE))) == (1, 0)
    written.run(lambda tx: tx.put(tables.FLAVORS, flavor(2)))
    store.close()


def test_a_write_that_was_taken_in_part_means_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "reports errors" in datafile.unavailable(errno.EIO, tmp_path).message
    monkeypatch.setattr(datafile, "_FULL_BYTES", 1 << 60)
    assert "is full" in datafile.unavailable(errno.EIO, tmp_path).message
    assert "read-only" in datafile.unavailable(errno.EROFS, tmp_path).message


def test_a_founding_that_was_cut_off_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "data.mdb").write_bytes(b"half a store")
    store = Store.open(tmp_path)
    MemoryStore(store).run(lambda tx: tx.put(tables.FLAVORS, flavor(1)))
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.mdb", "lock.mdb", "use.lock", "writer.lock"]


def test_the_file_is_long_enough_before_a_commit_needs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafile, "GROWTH_BYTES", 0)
    store = Store.open(tmp_path)
    written, lengths = MemoryStore(store), []
    monkeypatch.setattr(datafile.DataFile, "sync_growth", lambda self: lengths.append(self._room_bytes))
    for rows in (1, 400, 3, 2000):

        def fill(tx: Transaction, rows: int = rows) -> None:
            for number in range(rows):
                tx.put(tables.FLAVORS, flavor(number, name=f"{rows}-{number}-" + "x" * (number % 7) * 60))
                if number % 50 == 0:
                    tx.put(tables.USER_DATA, UserData(server_id=f"{rows}-{number}", data=bytes(60_000)))

        written.run(fill)
        assert (tmp_path / "data.mdb").stat().st_size == lengths[-1], "LMDB made it longer than was synced"
    store.close()


_WRITER = """
import sys, time
from pathlib import Path
from nova_fast.model.hosts import HostUsage
from nova_fast.state import schema as tables
from nova_fast.state.reader import STEADY_US
from nova_fast.state.shown import NUMBER_AND_TIME
from nova_fast.state.store import Store
store = Store.open(Path(sys.argv[1]))
for batch in range(10**6):
    with store.transaction(batch) as tx:
        for row in range(5):
            tx.put(tables.HOST_USAGE, HostUsage(host=f"h{batch:06}-{row}", vcpus=batch))
    print(batch, flush=True)
"""


def test_a_writer_that_is_killed_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    for count, delay_s in ((2, 0.0), (10, 0.003), (30, 0.011)):
        folder = tmp_path / str(count)
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(count):
            writer.stdout.readline()
        time.sleep(delay_s)
        os.kill(writer.pid, signal.SIGKILL)
        last = int(([str(count - 1), *writer.stdout.read().split()])[-1])
        writer.wait(10)
        writer.stdout.close()
        store = Store.open(folder)  # the lock went with its holder
        with store.snapshot() as reader:
            rows = list(reader.scan(tables.HOST_USAGE))
        store.close()
        assert len(rows) % 5 == 0, "a transaction is there whole or not at all"
        assert len(rows) // 5 >= last + 1


def test_a_snapshot_that_is_kept_takes_no_readers_slot(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    kept = []
    for _ in range(store_module.READERS_MAX + 10):
        with store.snapshot() as snapshot:
            assert snapshot.get(tables.FLAVORS, "1") is None
            kept.append(snapshot)
    with pytest.raises(AttributeError):
        kept[0].get(tables.FLAVORS, "1")
    store.close()
