"""What a reader offers besides walking: reading a few records at once, and telling one commit from another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.model.networks import Port
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        yield made


def port(number: int, device_id: str, index: int = 0) -> Port:
    return Port(
        id=f"port{number}", network_id="n", project_id="p", name="", mac_address=f"fa:{number}", created_at_us=1,
        updated_at_us=1, device_id=device_id, index=index,
    )  # fmt: skip


@given(devices=st.lists(st.sampled_from(["", "a", "ab", "b"]), max_size=12))
def test_select_gives_what_scan_index_gives(devices: list[str]) -> None:
    ports = [port(number, device, -number) for number, device in enumerate(devices)]
    with memory_store() as store:
        store.run(lambda tx: [tx.put(tables.PORTS, row) for row in ports])
        for device in ("a", "ab", "b", "c"):
            selected = store.read(lambda r, d=device: r.select(tables.PORTS_BY_DEVICE, d))
            assert selected == store.read(lambda r, d=device: list(r.scan_index(tables.PORTS_BY_DEVICE, d)))
            assert selected == sorted((row for row in ports if row.device_id == device), key=lambda row: row.index)


def test_select_sees_what_its_transaction_has_just_written(store: MemoryStore) -> None:
    with store.store.transaction(1) as tx:
        assert tx.select(tables.PORTS_BY_DEVICE, "a") == []
        for number in range(200):
            tx.put(tables.PORTS, port(number, "a", number))
        assert [row.index for row in tx.select(tables.PORTS_BY_DEVICE, "a")] == list(range(200))
        for number in range(0, 200, 2):
            tx.delete(tables.PORTS, f"port{number}")
        assert [row.index for row in tx.select(tables.PORTS_BY_DEVICE, "a")] == list(range(1, 200, 2))
    assert len(store.read(lambda r: r.select(tables.PORTS_BY_DEVICE, "a"))) == 100


def test_the_number_of_a_commit_changes_with_any_write_and_with_nothing_else(store: MemoryStore) -> None:
    first = store.read(lambda r: r.commit())
    assert store.read(lambda r: r.commit()) == first
    store.run(lambda tx: tx.put(tables.PORTS, port(1, "a")))
    second = store.read(lambda r: r.commit())
    assert second != first
    store.run(lambda tx: tx.put(tables.PORTS, port(1, "b")))
    assert store.read(lambda r: r.commit()) not in (first, second)
