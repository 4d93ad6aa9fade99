"""The same decision by others in the same run: numpy over the same columns, and Nova's own filters and weighers.

numpy does what a good vectorised rewrite of Nova's would do: one mask for each filter, each weigher normalised by the
largest of those that pass, the best by ``argmax``, over columns as narrow as ours. It must find a host of the same
weight as our table, else there is no figure. Our index is timed in its stream, with the changes of hosts that come with
each decision; numpy is not charged for any. Nova runs where
``make nova-environment`` has put it, and is passed over elsewhere.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from bench import nova_peer
from bench.results import not_measured, report
from bench.scheduler_fleet import IO_OPS_MAX, Asked, make_classes, make_table, run_stream
from bench.scheduler_stream import decide
from bench.scheduler_stream import fleet as our_fleet
from nova_fast._ext.fleet import HOST_ENABLED, HOST_UP, HostTable
from nova_fast._ext.rows import HostRow
from nova_fast.config import SchedulerConfig
from nova_fast.scheduler.select import Scheduler

SIZES, SIZES_QUICK = ((1_000, "1k"), (10_000, "10k"), (100_000, "100k")), ((1_000, "1k"),)
ROUNDS, ROUNDS_QUICK = 15, 3
NOVA_HOSTS = (1_000, 10_000)
DECISIONS = 500  # of ours for each of a peer's


def _column(values: list[int]) -> Any:
    return np.array(values, dtype=np.int32)


class Columns:
    """A fleet as numpy arrays."""

    def __init__(self, table: HostTable) -> None:
        rows = [HostRow(*table.get(row)) for row in range(table.rows)]
        self.up = np.array([row.flags == HOST_UP | HOST_ENABLED for row in rows])
        self.zone, self.ram = _column([r.profile for r in rows]), _column([r.ram_free for r in rows])
        self.vcpus, self.disk = _column([r.vcpus_free for r in rows]), _column([r.disk_free for r in rows])
        self.io_ops = _column([r.io_ops for r in rows])
        self.weights = [
            (1.0, np.array([float(r.ram_weight) for r in rows])),
            (1.0, np.array([r.cpu_total - r.vcpus_used for r in rows])),
            (1.0, np.array([float(r.disk_weight) for r in rows])),
            (-1.0, self.io_ops.astype(float)),
        ]

    def select(self, wanted: Asked) -> tuple[int, float]:
        """Filter, weigh, choose."""
        ram, vcpus, disk, _, _ = wanted.taken
        mask = self.up & (self.ram >= ram) & (self.vcpus >= vcpus) & (self.disk >= disk) & (self.io_ops < IO_OPS_MAX)
        if wanted.zone is not None:
            mask &= self.zone == wanted.zone
        passed = np.flatnonzero(mask)
        weight = np.zeros(len(passed))
        for multiplier, column in self.weights:
            values = np.maximum(column[passed], 0.0)
            high = values.max()
            if high:
                weight += multiplier * (values / high)
        best = int(weight.argmax())
        return int(passed[best]), float(weight[best])


def main(*, quick: bool = False) -> None:
    rounds = ROUNDS_QUICK if quick else ROUNDS
    for hosts, label in SIZES_QUICK if quick else SIZES:
        table = make_table(hosts)
        classes = make_classes(table)
        wanted = classes[5]
        columns = Columns(table)
        (ours,) = wanted.asked.best(1)
        theirs = columns.select(wanted)
        assert abs(ours[1] - theirs[1]) < 1e-9, f"numpy finds {theirs}, the table {ours}"
        scans, peers, index = [], [], []
        for _ in range(rounds):
            index.append(median(run_stream(table, classes, DECISIONS).thread_s))
            scans.append(_mean_s(lambda w=wanted: w.asked.scan(1), max(1, 100_000 // hosts)))  # type: ignore[misc]
            peers.append(_mean_s(lambda c=columns, w=wanted: c.select(w), max(1, 20_000 // hosts)))  # type: ignore[misc]
        report(f"scheduler_numpy_{label}", median(peers) * 1e6, "us", None)
        ratios = [peer / scan for peer, scan in zip(peers, scans, strict=True)]
        report(f"scheduler_full_pass_to_numpy_{label}", median(ratios), "times", None)
        ratios = [peer / one for peer, one in zip(peers, index, strict=True)]
        report(f"scheduler_index_to_numpy_{label}", median(ratios), "times", None)
    if quick or nova_peer.NovaPeer.missing():
        not_measured("scheduler_nova", "--quick" if quick else nova_peer.NovaPeer.missing())
        return
    measure_nova()


def measure_nova() -> None:
    """Nova's filters and weighers, and our whole step, decision after decision in turns."""
    with nova_peer.NovaPeer() as nova:
        print(f"peer: Nova {nova.version}")
        for hosts in NOVA_HOSTS:
            label = f"{hosts // 1000}k"
            nova.load(nova_peer.fleet(hosts, random.Random(hosts)))
            rng = random.Random(hosts)
            scheduler = Scheduler(SchedulerConfig(), rng)
            scheduler.load(our_fleet(hosts, rng))
            theirs, ours = [], []
            for _ in range(5):
                turn = nova.decide(nova_peer.PeerRequest(2, 4096, 20))
                theirs.append(turn.filter_s + turn.weigh_s)
                done, took_s = decide(scheduler, 1200, rng, 1.0)
                ours.append(took_s / done)
            report(f"scheduler_nova_filter_and_weigh_{label}", median(theirs) * 1000, "ms", None)
            ratios = [their / our for their, our in zip(theirs, ours, strict=True)]
            report(f"scheduler_whole_step_to_nova_{label}", median(ratios), "times", None)


def _mean_s(work: Callable[[], Any], times: int) -> float:
    begin = time.thread_time()
    for _ in range(times):
        work()
    return (time.thread_time() - begin) / times
