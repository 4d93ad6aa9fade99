"""Two releases, one store: what the previous one wrote is read, what the next one wrote is kept.

The next release is played by writing arrays with fields behind the last, the previous one by leaving fields away.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from nova_fast.model.base import Record
from nova_fast.model.flavors import Flavor
from nova_fast.model.networks import FixedIp, Port
from nova_fast.model.servers import Fault, Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.state import schema as tables
from nova_fast.state import store as store_module
from nova_fast.state.store import Store, StoreError
from nova_fast.state.table import Index, Table
from nova_fast.state.testing import MemoryStore, memory_store
from tests.unit.state.test_store import contents

FLAVOR = Flavor(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1)
SERVER = Server(
    id="s1", number=1, project_id="p", user_id="u", name="vm", hostname="vm", created_at_us=1, updated_at_us=1,
    vm_state=VmState.ACTIVE, task_state=None, power_state=PowerState.RUNNING, flavor=FLAVOR, image_id="i",
    image_properties={}, reservation_id="r", fault=Fault(code=500, message="m", details="", created_at_us=1),
)  # fmt: skip
NEW = {"quantum": [1, 2]}
PLACE = {name: position for position, name in enumerate(Server.__struct_fields__)}


def array(record: Record) -> list[Any]:
    found: list[Any] = msgspec.msgpack.decode(msgspec.msgpack.encode(record))
    return found


def write_raw(store: MemoryStore, table: Table[Any], key: str, value: list[Any]) -> None:
    with store.store._environment.begin(write=True) as txn:
        txn.put(table.primary(key), msgspec.msgpack.encode(value), db=store.store._databases[table.name])


def read_raw(store: MemoryStore, table: Table[Any], key: str) -> Any:
    with store.store._environment.begin() as txn:
        return msgspec.msgpack.decode(txn.get(table.primary(key), db=store.store._databases[table.name]))


def test_a_record_of_the_previous_release_is_read_with_defaults_and_written_whole() -> None:
    with memory_store() as store:
        store.run(lambda tx: tx.put(tables.SERVERS, SERVER))
        write_raw(store, tables.SERVERS, "s1", array(SERVER)[:15])
        old = store.read(lambda r: r.need(tables.SERVERS, "s1", "Instance"))
        assert (old.reservation_id, old.launch_index, old.tags, old.fault) == ("r", 0, (), None)
        store.run(lambda tx: tx.put(tables.SERVERS, msgspec.structs.replace(old, name="new")))
        assert len(read_raw(store, tables.SERVERS, "s1")) == len(Server.__struct_fields__)


def test_a_record_of_the_next_release_keeps_its_unknown_fields_when_it_is_rewritten() -> None:
    with memory_store() as store:
        store.run(lambda tx: tx.put(tables.SERVERS, SERVER))
        written = [*array(SERVER), NEW, 7]
        written[PLACE["flavor"]] = [*array(FLAVOR), "burst"]
        written[PLACE["fault"]] = [*written[PLACE["fault"]], "stack"]
        write_raw(store, tables.SERVERS, "s1", written)
        read = store.read(lambda r: r.need(tables.SERVERS, "s1", "Instance"))
        assert read == SERVER
        for name in ("once", "twice"):  # what was carried over once is carried over again
            fault = msgspec.structs.replace(SERVER.fault, message=name)  # type: ignore[type-var]
            changed = msgspec.structs.replace(read, name=name, fault=fault)
            store.run(lambda tx, changed=changed: tx.put(tables.SERVERS, changed))  # type: ignore[misc]
        after = read_raw(store, tables.SERVERS, "s1")
        assert after[len(PLACE) :] == [NEW, 7]
        assert after[PLACE["flavor"]] == [*array(FLAVOR), "burst"], "a part that was not touched"
        assert after[PLACE["fault"]] == [500, "twice", "", 1, "stack"], "a part that was changed"
        assert after[PLACE["name"]] == "twice"


def test_members_of_a_tuple_keep_theirs_as_long_as_the_tuple_stays() -> None:
    ip = FixedIp(subnet_id="s", ip_address="10.0.0.1")
    port = Port(
        id="p1", network_id="n", project_id="p", name="", mac_address="m", created_at_us=1, updated_at_us=1,
        fixed_ips=(ip,),
    )  # fmt: skip
    place = Port.__struct_fields__.index("fixed_ips")
    with memory_store() as store:
        store.run(lambda tx: tx.put(tables.PORTS, port))
        written = array(port)
        written[place] = [["s", "10.0.0.1", "dns"]]
        write_raw(store, tables.PORTS, "p1", written)
        store.run(lambda tx: tx.put(tables.PORTS, msgspec.structs.replace(port, name="x")))
        assert read_raw(store, tables.PORTS, "p1")[place] == [["s", "10.0.0.1", "dns"]]


def test_a_replacement_that_was_deleted_before_starts_anew() -> None:
    with memory_store() as store:
        store.run(lambda tx: tx.put(tables.SERVERS, SERVER))
        write_raw(store, tables.SERVERS, "s1", [*array(SERVER), NEW])

        def work(tx: Any) -> None:
            tx.delete(tables.SERVERS, "s1")
            tx.put(tables.SERVERS, SERVER)

        store.run(work)
        assert len(read_raw(store, tables.SERVERS, "s1")) == len(PLACE)


# ---------------------------------------------------------------------- indexes
@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = MemoryStore(Store.open(tmp_path / "store"))
    for number in range(3):
        made.run(lambda tx, n=number: tx.put(tables.FLAVORS, msgspec.structs.replace(FLAVOR, id=f"{n}", name=f"f{n}")))  # type: ignore[misc]
    made.store.close()
    return tmp_path / "store"


def names_by(path: Path, index: Index[Flavor]) -> list[str]:
    made = MemoryStore(Store.open(path))
    try:
        return made.read(lambda r: [flavor.name for flavor in r.scan_index(index)])
    finally:
        made.store.close()


def test_a_new_index_is_filled_at_the_upgrade_and_again_after_a_downgrade(path: Path) -> None:
    index = Index(tables.FLAVORS, "flavors_by_memory", lambda r: [(r.ram_mib, r.name)])
    try:
        assert names_by(path, index) == ["f0", "f1", "f2"]
        tables.FLAVORS.indexes.remove(index)  # the older release comes back, and changes the table
        older = MemoryStore(Store.open(path))
        older.run(lambda tx: tx.delete(tables.FLAVORS, "1"))
        older.store.close()
        tables.FLAVORS.indexes.append(index)
        assert names_by(path, index) == ["f0", "f2"]
    finally:
        tables.FLAVORS.indexes.remove(index)


def test_opening_a_store_again_writes_nothing(path: Path) -> None:
    def commit() -> tuple[int, Any]:
        made = MemoryStore(Store.open(path))
        try:
            return made.read(lambda r: r.commit()), contents(made)
        finally:
            made.store.close()

    assert commit() == commit()


def test_a_store_of_a_newer_schema_is_refused_and_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (path / "data.mdb").read_bytes()
    monkeypatch.setattr(store_module.schema, "SCHEMA_VERSION", 0)
    for readonly in (False, True):
        with pytest.raises(StoreError, match="newer release"):
            Store.open(path, readonly=readonly)
    assert (path / "data.mdb").read_bytes() == before


def test_an_index_that_is_retired_is_dropped_and_filled_again_after_a_downgrade(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index(tables.FLAVORS, "flavors_by_memory", lambda r: [(r.ram_mib, r.name)])
    try:
        assert names_by(path, index) == ["f0", "f1", "f2"]
        tables.FLAVORS.indexes.remove(index)  # the next release has it no more
        monkeypatch.setattr(tables, "RETIRED", ("flavors_by_memory",))
        newer = MemoryStore(Store.open(path))
        with newer.store._environment.begin() as txn:
            assert b"flavors_by_memory" not in set(txn.cursor().iternext(values=False))
        newer.run(lambda tx: tx.delete(tables.FLAVORS, "1"))
        newer.store.close()
        Store.open(path).close()
        monkeypatch.undo()
        tables.FLAVORS.indexes.append(index)
        assert names_by(path, index) == ["f0", "f2"]
    finally:
        tables.FLAVORS.indexes.remove(index)
