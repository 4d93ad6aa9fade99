"""The store that benchmarks fill is right in every count, index and reference: what is measured on it is measured."""

from __future__ import annotations

from pathlib import Path

from bench.fill import EVENTS_KEPT, fill
from nova_fast.queries.check.recount import recount
from nova_fast.state import schema as tables
from nova_fast.state.store import Store


def test_the_check_finds_nothing_in_a_filled_store(tmp_path: Path) -> None:
    fill(tmp_path / "store", hosts=30, servers=1_400, project_id="a" * 32, user_id="bench")
    store = Store.open(tmp_path / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            assert [finding.sentence for finding in recount(snapshot)] == []
            assert snapshot.size(tables.SERVERS) == snapshot.size(tables.PORTS) == 1_400
            assert sum(usage.servers for usage in snapshot.scan(tables.HOST_USAGE)) == 1_400
            assert snapshot.size(tables.EVENTS) <= EVENTS_KEPT
    finally:
        store.close()
