"""The fleet's table and its index: against their targets, against a full pass, and a full pass against the memory.

One core, from Python calls, exact. A decision is asked, claimed and followed by the other changes of the stream
(``bench/scheduler_fleet.py``), and all of that is its time. Quantiles of the thread's own clock are there because a
busy machine takes a thread away in the middle of a decision; the ratio of p99 to p50 is taken from it.
"""

from __future__ import annotations

import statistics
import time
from array import array
from collections.abc import Callable
from pathlib import Path

from bench.results import percentile, report
from bench.scheduler_fleet import (
    FLAVORS,
    Asked,
    make_classes,
    make_table,
    plain_select,
    plain_states,
    run_stream,
)
from bench.scheduler_plot import write_plot
from nova_fast._ext.fleet import HostTable
from nova_fast._ext.rows import ExtraTerm, Taken

PLOT = Path(__file__).resolve().parent.parent / "docs" / "scheduler-growth.svg"
# Hosts, label, the most µs that a decision may take.
SIZES = ((1_000, "1k", None), (10_000, "10k", 6.0), (100_000, "100k", 15.0), (1_000_000, "1m", 40.0))
DECISIONS, DECISIONS_QUICK = 10_000, 3_000  # of each run
REPETITIONS = 3  # interleaved with full passes; the median of their medians counts
WARM_UP = 2_000
P99_TO_P50_MAX = 5.0
# Bytes a host that a full pass moves: filter 24, mask 4, weighers' columns 20; the second sweep reads 28 again.
SCAN_BYTES_A_HOST = 76


def main(*, quick: bool = False) -> None:
    decisions = DECISIONS_QUICK if quick else DECISIONS
    index_curve, scan_curve, plain_curve = [], [], []
    for hosts, label, target in SIZES[:3] if quick else SIZES:
        table = make_table(hosts)
        classes = make_classes(table)
        measure_cold(table, hosts, label)
        index_us, scan_us = measure_stream(table, classes, decisions, label, target)
        index_curve.append((hosts, index_us))
        scan_curve.append((hosts, scan_us))
        if hosts <= 100_000:
            plain_curve.append((hosts, measure_plain(table, classes[5], index_us, label)))
        if hosts == 100_000:
            measure_masks(table, classes[5])
            measure_batch(table, classes[0])
        if hosts == 1_000_000 or (quick and hosts == 100_000):
            measure_scan(table, classes[5], label)
            # Memory doubles, so this is a promise at a million; a fleet just above a power of two has twice as much.
            target = 64 if hosts == 1_000_000 else None
            report(f"scheduler_bytes_a_host_{label}", table.bytes / hosts, "B", target, less_is_better=True)
    if not quick:
        write_plot(
            PLOT,
            "One exact decision, by the number of hosts",
            [("class index", index_curve), ("full pass", scan_curve), ("Python objects, as Nova", plain_curve)],
        )


def measure_stream(
    table: HostTable, classes: list[Asked], decisions: int, label: str, target: float | None
) -> tuple[float, float]:
    """The stream through the index, interleaved with the stream through full passes; their medians in µs."""
    run_stream(table, classes, WARM_UP)
    full, tended = [], []
    medians, scan_medians = [], []
    for _ in range(REPETITIONS):
        times = run_stream(table, classes, decisions)
        medians.append(statistics.median(times.wall_s) * 1e6)
        full.extend(times.thread_s)
        tended.extend(run_stream(table, classes, decisions, tended=True).thread_s)
        times = run_stream(table, classes, max(20, decisions * 100 // max(table.rows, 10_000)), scan=True)
        scan_medians.append(statistics.median(times.wall_s) * 1e6)
    index_us, scan_us = statistics.median(medians), statistics.median(scan_medians)
    report(f"scheduler_decision_{label}", index_us, "us", target, less_is_better=True)
    report(f"scheduler_decision_{label}_best_run", min(medians), "us", target, less_is_better=True)
    for name, seconds in (("", full), ("_with_idle_moments", tended)):
        ratio = percentile(seconds, 0.99) / percentile(seconds, 0.5)
        report(f"scheduler_decision_{label}_p99_to_p50{name}", ratio, "ratio", P99_TO_P50_MAX, less_is_better=True)
    report(f"scheduler_index_to_scan_{label}", scan_us / index_us, "times", None)
    report(f"scheduler_bytes_a_class_{label}", classes[5].asked.statistics["bytes"], "B", 2**20, less_is_better=True)
    return index_us, scan_us


def measure_cold(table: HostTable, hosts: int, label: str) -> None:
    """The first question of a class that nobody asked before."""
    times = [shortest(lambda asked=wanted.asked: asked.best(1), 1) for wanted in make_classes(table, generation=1)]
    target = 5.0 if hosts == 1_000_000 else None
    report(f"scheduler_cold_class_{label}", statistics.median(times) * 1e3, "ms", target, less_is_better=True)
    report(f"scheduler_cold_class_{label}_best_run", min(times) * 1e3, "ms", target, less_is_better=True)


def measure_masks(table: HostTable, wanted: Asked) -> None:
    """Requests that depend on more than a host's own columns, at 100,000 hosts."""
    asked, members = wanted.asked, list(range(0, 100_000, 3_000))
    soft = ExtraTerm(5, dict.fromkeys(members, 1.0), 1.0)
    dense = ExtraTerm(5, array("d", [float(row % 7) for row in range(table.rows)]), 1.0)
    ways: dict[str, Callable[[], object]] = {
        "anti_affinity": lambda: asked.masked(without=members),
        "affinity": lambda: asked.masked(only=members),
        "soft_affinity": lambda: asked.masked(extra=[soft]),
        "dense_term": lambda: asked.masked(extra=[dense]),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(40):
        for name, way in ways.items():
            times[name].append(shortest(way, 1))
    for name, seconds in times.items():
        report(f"scheduler_{name}_100k", statistics.median(seconds) * 1e3, "ms", 0.4, less_is_better=True)
        report(f"scheduler_{name}_100k_best_run", min(seconds) * 1e3, "ms", 0.4, less_is_better=True)


def measure_batch(table: HostTable, wanted: Asked) -> None:
    """10,000 identical servers in one request, at 100,000 hosts; given back after each run."""
    times = []
    taken = Taken(*FLAVORS[0][1::-1], FLAVORS[0][2], 0, 1)
    for _ in range(5):
        begin = time.perf_counter()
        placed = wanted.asked.place(10_000, taken)
        times.append(time.perf_counter() - begin)
        assert len(placed) == 10_000
        for row, _ in placed:
            table.change(row, -taken.ram, -taken.vcpus, -taken.disk, 0, -1)
    report("scheduler_batch_10k_at_100k", statistics.median(times) * 1e3, "ms", 60.0, less_is_better=True)
    report("scheduler_batch_10k_at_100k_best_run", min(times) * 1e3, "ms", 60.0, less_is_better=True)


def measure_plain(table: HostTable, wanted: Asked, index_us: float, label: str) -> float:
    """The same decision over Python objects, as Nova filters and weighs; it must find the same host. µs."""
    states = plain_states(table)
    (host,) = wanted.asked.best(1)
    assert plain_select(states, wanted) == host
    plain_us = shortest(lambda: plain_select(states, wanted), 3) * 1e6
    report(f"scheduler_index_to_python_objects_{label}", plain_us / index_us, "times", 1000 if label == "10k" else None)
    return plain_us


def measure_scan(table: HostTable, wanted: Asked, label: str) -> None:
    """A full pass against what comparing two blocks of memory as large reads in the same time."""
    size = table.rows * SCAN_BYTES_A_HOST // 2
    one, other = bytes(size), bytes(bytearray(size))
    scans, reads = [], []
    for _ in range(15):
        scans.append(shortest(lambda: wanted.asked.scan(1), 1))
        reads.append(shortest(lambda: one == other, 1))
    scan_s, read_s = statistics.median(scans), statistics.median(reads)
    report(f"scheduler_scan_{label}", scan_s / table.rows * 1e9, "ns/host", None)
    report(f"scheduler_scan_{label}_memory_bandwidth", 2 * size / read_s / 1e9, "GB/s", None)
    report(f"scheduler_scan_{label}_share_of_bandwidth", read_s / scan_s, "ratio", None)


def shortest(work: Callable[[], object], times: int) -> float:
    """Seconds of the shortest of so many runs."""
    best = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begin)
    return best
