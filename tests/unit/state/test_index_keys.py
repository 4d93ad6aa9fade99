"""Keys that an index gives at the engine's pace are those of its records, one by one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from nova_fast.model.flavors import Flavor
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.state import schema as tables
from nova_fast.state.table import encode_key
from nova_fast.state.testing import MemoryStore, memory_store

SIZES = {"a": 0, "b": 1, "c": 31, "d": 32, "e": 33, "f": 70, "g": 2}
FLAVOR = Flavor(id="1", name="1", vcpus=1, ram_mib=1, disk_gib=1)


@pytest.fixture(scope="module")
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        numbers = itertools.count(1)
        for project, count in SIZES.items():
            for _ in range(count):
                number = next(numbers)
                server = Server(
                    id=f"s{number:04d}", number=number, project_id=project, user_id="u", name="n", hostname="n",
                    created_at_us=number * 7 % 50, updated_at_us=1, vm_state=VmState.ACTIVE, task_state=None,
                    power_state=PowerState.RUNNING, flavor=FLAVOR, image_id="i", image_properties={},
                    reservation_id="r",
                )  # fmt: skip
                made.run(lambda tx, server=server: tx.put(tables.SERVERS, server))  # type: ignore[misc]
        yield made


@pytest.mark.parametrize("project", [*SIZES, "none", "", "\0"])
@pytest.mark.parametrize("limit", [0, 1, 31, 32, 33, 34, 69, 70, 71, 1000])
def test_a_page_of_keys_is_a_page_of_records(store: MemoryStore, project: str, limit: int) -> None:
    index, prefix = tables.SERVERS_BY_PROJECT, (project,) if project else ()
    with store.store.snapshot() as snapshot:
        records = list(snapshot.scan_index(index, *prefix))
        assert bool(records) == ((project in SIZES and SIZES[project] > 0) or project == "")
        for after in (None, *records[:: max(1, len(records) // 5)], *records[-1:]):
            place = 0 if after is None else records.index(after) + 1
            wanted = [encode_key((record.id,)) for record in records[place : place + limit]]
            assert snapshot.index_keys(index, *prefix, after=after, limit=limit) == wanted
            assert snapshot.of_keys(tables.SERVERS, wanted) == records[place : place + limit]
