"""The store: durable writes against the sync of the same disk, and reads in a small store against a large one.

* records a second with 1, 8, 64 and 512 in a commit, each commit synced; a sync of one page is timed between them;
* the conductor's writer with 64 clients that wait: how group commit shares a sync;
* a get, a page of a list, and what a server takes on disk, with 1,000 and with 100,000 servers (``make bench-large``
  has 1,000,000).

    python -m bench store
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench.histogram import Latencies
from bench.machine import sync_p50_ms
from bench.results import percentile, report
from bench.stand import Stand, now_us, renewed
from nova_fast.conductor.engine import Engine
from nova_fast.conductor.writer import Writer
from nova_fast.hub.contracts import decoder_of
from nova_fast.model.base import Message
from nova_fast.model.commands import RESULTS
from nova_fast.model.tasks import Done
from nova_fast.queries.servers import ServerFilter, list_servers
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

COMMITS = (1, 8, 64, 512)  # records in one
ROUNDS = 5
CLIENTS = 64
SECONDS, SECONDS_QUICK = 1.0, 0.1  # of a round
SIZES, SIZES_QUICK = ((1_000, "1k"), (100_000, "100k")), ((1_000, "1k"), (5_000, "5k"))
PAGE = 100
_numbers = itertools.count(1)


def main(*, quick: bool = False) -> None:
    seconds = SECONDS_QUICK if quick else SECONDS
    pages: dict[str, float] = {}
    for servers, label in SIZES_QUICK if quick else SIZES:
        with tempfile.TemporaryDirectory(prefix="nf-store-", dir="/var/tmp") as folder:
            stand = Stand(Path(folder), max(1, servers // 10), servers)
            try:
                pages[label] = measure_reads(stand, servers, label, 200 if quick else 2000)
                if label == "1k":
                    measure_commits(stand, Path(folder), seconds)
                    uvloop.run(measure_writer(stand, seconds * ROUNDS))
            finally:
                stand.close()
    small, large = pages.values()
    report(f"store_page_p99_{list(pages)[-1]}_to_1k", large / small, "times", None, less_is_better=True)


def measure_commits(stand: Stand, folder: Path, seconds: float) -> None:
    """Durable records a second, in turns; and what a commit costs in syncs of one page."""
    with stand.store.snapshot() as snapshot:
        server = snapshot.need(tables.SERVERS, stand.server_ids[0], "Server")
    rates: dict[int, list[float]] = {size: [] for size in COMMITS}
    syncs = []
    for turn in range(ROUNDS + 1):
        sync_ms = sync_p50_ms(folder, 10)
        for size in COMMITS:
            rate = _commits(stand, server, size, seconds)
            if turn:
                rates[size].append(rate)
        if turn:
            syncs.append(sync_ms)
    report("store_disk_sync_p50", median(syncs), "ms", None)
    for size in COMMITS:
        rate = median(rates[size])
        report(f"store_records_{size}_in_a_commit", rate, "1/s", None)
        report(f"store_commit_of_{size}_in_syncs", size / rate * 1000 / median(syncs), "syncs", None)


def _commits(stand: Stand, server: Any, size: int, seconds: float) -> float:
    done, begin = 0, time.perf_counter()
    while (took_s := time.perf_counter() - begin) < seconds:
        with stand.store.transaction(now_us()) as tx:
            for _ in range(size):
                tx.put(tables.SERVERS, renewed(server, next(_numbers) % 100_000))
        done += size
    return done / took_s


async def measure_writer(stand: Stand, seconds: float) -> None:
    """Clients of the conductor's writer; each waits for its commit before it asks again."""
    with stand.store.snapshot() as snapshot:
        server = snapshot.need(tables.SERVERS, stand.server_ids[0], "Server")
    writer = Writer(stand.store, Engine(60), decoder_of(RESULTS).decode)
    writer.start()
    latencies_s: list[float] = []
    begin = time.perf_counter()

    async def client() -> None:
        while (start := time.perf_counter()) - begin < seconds:
            new = renewed(server, next(_numbers) % 100_000)

            def work(tx: Transaction, record: Any = new) -> Message:
                tx.put(tables.SERVERS, record)
                return Done()

            await writer.run(work)
            latencies_s.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    rate = len(latencies_s) / (time.perf_counter() - begin)
    await asyncio.to_thread(writer.stop)
    found = Latencies()
    found.add(latencies_s)
    report("store_writer_64_clients", rate, "1/s", None)
    for percent in (50, 99, 99.9):
        report(f"store_writer_64_clients_p{percent:g}", found.ms(percent), "ms", None)


def measure_reads(stand: Stand, servers: int, label: str, times: int) -> float:
    """A get, a page of the newest, and the size of it all; the p99 of a page in seconds."""

    def get(number: int) -> object:
        with stand.store.snapshot() as snapshot:
            return snapshot.get(tables.SERVERS, stand.server_ids[number % len(stand.server_ids)])

    def page(_number: int) -> object:
        with stand.store.snapshot() as snapshot:
            return list_servers(snapshot, ServerFilter(), limit=PAGE)

    gets, pages = _times(get, times), _times(page, times // 10)
    for share in (0.5, 0.99):
        report(f"store_get_{label}_p{100 * share:g}", 1e6 * percentile(gets, share), "us", None)
        report(f"store_page_of_{PAGE}_{label}_p{100 * share:g}", 1e3 * percentile(pages, share), "ms", None)
    used = (stand.config.store_path / "data.mdb").stat().st_blocks * 512
    report(f"store_bytes_a_server_{label}", used / servers, "B", None)
    return percentile(pages, 0.99)


def _times(work: Callable[[int], object], times: int) -> list[float]:
    seconds = []
    for number in range(times + times // 10):
        begin = time.thread_time()  # the thread's own: a busy machine takes it away in the middle
        work(number)
        seconds.append(time.thread_time() - begin)
    return seconds[times // 10 :]


if __name__ == "__main__":
    main()
