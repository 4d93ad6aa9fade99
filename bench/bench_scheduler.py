"""The scheduler: decisions a second through its whole step, and what stands under it, the fleet's table and index.

The whole step is a stream of single requests over a fleet of three host models in three zones that is about two thirds
full (``bench/scheduler_stream.py``). The table's figures: ``bench/scheduler_index.py``.
Wall clock; run it on a quiet machine:

    python -m bench scheduler
"""

from __future__ import annotations

import random
import time
from statistics import median

from bench import scheduler_hub, scheduler_index, scheduler_peers
from bench.results import report
from bench.scheduler_stream import FLAVORS, WARM_UP, decide, fleet
from nova_fast.config import SchedulerConfig
from nova_fast.daemon import settle_memory
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import GroupRule, PlacementRequest
from nova_fast.scheduler.select import Scheduler

# (hosts, label, decisions/s to reach): one full scan costs about 2 ns a host, the Python around it about 15 us.
SIZES = ((1_000, "1k", 30_000), (10_000, "10k", 15_000), (100_000, "100k", 3_000))
SECONDS, SECONDS_QUICK = 2.0, 0.5  # measured for each size
CAPACITY_MS_MAX = 50.0  # at 100,000 hosts
NEARLY_A_HOST = Claim(vcpus=128, ram_mib=600_000, disk_gib=4_000)  # few have room for one more


def main(*, quick: bool = False) -> None:
    seconds = SECONDS_QUICK if quick else SECONDS
    for count, label, target in SIZES:
        rng = random.Random(count)
        scheduler = Scheduler(SchedulerConfig(), rng)
        scheduler.load(fleet(count, rng))
        settle_memory()  # as the daemon does
        done, took_s = decide(scheduler, WARM_UP + int(target * seconds * 3), rng, seconds)
        report(f"scheduler_decisions_{label}", done / took_s, "1/s", target)
        if label == "100k":
            measure_capacity(scheduler)
    rng = random.Random(10_000)
    scheduler_hub.main(fleet(10_000, rng), FLAVORS, quick=quick)
    scheduler_index.main(quick=quick)
    scheduler_peers.main(quick=quick)


def measure_capacity(scheduler: Scheduler) -> None:
    """What-if: how many more fit, and where the last would go; the slowest of the kinds of questions has the target."""
    kinds = {
        "many_fit": (FLAVORS[0], None),
        "few_fit": (NEARLY_A_HOST, None),
        "zone": (FLAVORS[-1], None),
        "affinity": (FLAVORS[0], GroupRule(id="new", policy="affinity")),
        "anti_affinity": (FLAVORS[0], GroupRule(id="new", policy="anti-affinity")),
    }
    worst_ms = 0.0
    for name, (claim, group) in kinds.items():
        zone = "zone1" if name == "zone" else ""
        request = PlacementRequest(server_id="asked", claim=claim, zone=zone, group=group, architecture="x86_64")
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            answer = scheduler.capacity(request)
            times.append(time.perf_counter() - begin)
        assert answer.servers > 0, name
        took_ms = median(times) * 1e3
        report(f"scheduler_capacity_100k_{name}", took_ms, "ms", None)
        worst_ms = max(worst_ms, took_ms)
    report("scheduler_capacity_100k_slowest", worst_ms, "ms", CAPACITY_MS_MAX, less_is_better=True)


if __name__ == "__main__":
    main()
