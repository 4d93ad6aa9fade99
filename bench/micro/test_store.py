"""The store: reads by key, by index and in order; commits of one and of sixty-four, synced."""

from __future__ import annotations

import itertools
from typing import Any

from bench.stand import Stand, now_us, renewed
from nova_fast.state import schema as tables

_NUMBERS = itertools.count(1)


def test_get(benchmark: Any, stand: Stand) -> None:
    def get() -> Any:
        with stand.store.snapshot() as snapshot:
            return snapshot.get(tables.SERVERS, stand.server_ids[7])

    assert benchmark(get).id == stand.server_ids[7]


def test_select_ports_of_a_server(benchmark: Any, stand: Stand) -> None:
    def select() -> Any:
        with stand.store.snapshot() as snapshot:
            return snapshot.select(tables.PORTS_BY_DEVICE, stand.server_ids[7])

    assert len(benchmark(select)) == 1


def test_scan_index_of_1000(benchmark: Any, stand: Stand) -> None:
    def scan() -> int:
        with stand.store.snapshot() as snapshot:
            return sum(1 for _ in snapshot.scan_index(tables.SERVERS_BY_PROJECT, stand.project_id, limit=1000))

    assert benchmark(scan) == 1000


def _commit(stand: Stand, count: int) -> int:
    with stand.store.transaction(now_us()) as tx:
        server: Any = tx.get(tables.SERVERS, stand.server_ids[0])
        for _ in range(count):
            new = renewed(server, next(_NUMBERS) % 4096)
            tx.put(tables.SERVERS, new)
        return tx.generation()


def test_commit_1(benchmark: Any, stand: Stand) -> None:
    benchmark(_commit, stand, 1)


def test_commit_64(benchmark: Any, stand: Stand) -> None:
    benchmark(_commit, stand, 64)
