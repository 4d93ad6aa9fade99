"""The scheduler: its whole step for one server, and a decision of the table with the changes that come with it."""

from __future__ import annotations

import random
from typing import Any

from bench.scheduler_fleet import make_classes, make_table, run_stream
from bench.scheduler_stream import fleet
from nova_fast.config import SchedulerConfig
from nova_fast.model.events import Claimed, Released
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import PlacementRequest, SelectHosts
from nova_fast.scheduler.select import Scheduler

HOSTS = 1_000


def test_choose_claim_and_release(benchmark: Any) -> None:
    rng = random.Random(1)
    scheduler = Scheduler(SchedulerConfig(), rng)
    scheduler.load(fleet(HOSTS, rng))
    claim = Claim(vcpus=2, ram_mib=4096, disk_gib=20)
    message = SelectHosts(requests=(PlacementRequest(server_id="s", claim=claim, architecture="x86_64"),))

    def decide() -> str:
        (placement,) = scheduler.select(message).placements
        scheduler.apply(Claimed(server_id="s", host=placement.host, claim=claim))
        scheduler.apply(Released(server_id="s", host=placement.host, claim=claim))
        return placement.host

    assert benchmark(decide)


def test_100_decisions_of_the_table(benchmark: Any) -> None:
    table = make_table(HOSTS)
    classes = make_classes(table)
    assert len(benchmark(run_stream, table, classes, 100).wall_s) == 100
