"""The scheduler: decisions a second through its whole step, and what stands under it, the fleet's table and index.

The whole step is a stream of single requests over a fleet of three host models in three zones that is about two thirds
full (``bench/scheduler_stream.py``). The table's figures: ``bench/scheduler_index.py``.
Wall clock; run it on a quiet machine:

    python -m bench scheduler
"""

from __future__ import annotations

import random

from bench import scheduler_hub, scheduler_index, scheduler_peers
from bench.results import report
from bench.scheduler_stream import FLAVORS, WARM_UP, decide, fleet
from nova_fast.config import SchedulerConfig
from nova_fast.daemon import settle_memory
from nova_fast.scheduler.select import Scheduler

# (hosts, label, decisions/s to reach): one full scan costs about 2 ns a host, the Python around it about 15 us.
SIZES = ((1_000, "1k", 30_000), (10_000, "10k", 15_000), (100_000, "100k", 3_000))
SECONDS, SECONDS_QUICK = 2.0, 0.5  # measured for each size


def main(*, quick: bool = False) -> None:
    seconds = SECONDS_QUICK if quick else SECONDS
    for count, label, target in SIZES:
        rng = random.Random(count)
        scheduler = Scheduler(SchedulerConfig(), rng)
        scheduler.load(fleet(count, rng))
        settle_memory()  # as the daemon does
        done, took_s = decide(scheduler, WARM_UP + int(target * seconds * 3), rng, seconds)
        report(f"scheduler_decisions_{label}", done / took_s, "1/s", target)
    rng = random.Random(10_000)
    scheduler_hub.main(fleet(10_000, rng), FLAVORS, quick=quick)
    scheduler_index.main(quick=quick)
    scheduler_peers.main(quick=quick)


if __name__ == "__main__":
    main()
