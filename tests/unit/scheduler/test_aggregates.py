"""Aggregates tell whose facts a change changes, and nobody else."""

from __future__ import annotations

import random

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import AggregateChanged
from nova_fast.scheduler.aggregates import Aggregates

from .fleet import make_host, make_scheduler, unused


def made(hosts: tuple[str, ...], one: str = "a", **metadata: str) -> Aggregate:
    return Aggregate(id=one, number=1, name=one, created_at_us=0, hosts=hosts, metadata=metadata)


def test_only_hosts_that_join_or_leave_are_concerned_unless_the_metadata_changes() -> None:
    aggregates = Aggregates()
    assert aggregates.put(made(("h1", "h2"), kind="ssd")) == {"h1", "h2"}
    assert aggregates.put(made(("h1", "h2", "h3"), kind="ssd")) == {"h3"}
    assert aggregates.put(made(("h3", "h2"), kind="ssd")) == {"h1"}
    assert aggregates.put(made(("h3", "h2"), kind="ssd")) == set()
    assert aggregates.put(made(("h3",), kind="hdd")) == {"h2", "h3"}
    aggregates.put(made(("h3",), "b"))
    assert [one.id for one in aggregates.of("h3")] == ["a", "b"]
    assert aggregates.remove("a") == {"h3"}
    assert [one.id for one in aggregates.of("h3")] == ["b"]
    assert aggregates.remove("a") == set()
    assert aggregates.of("h2") == []


def test_any_row_of_changes_leaves_what_loading_the_last_state_gives() -> None:
    rng = random.Random(3)
    names = [f"h{number}" for number in range(8)]
    scheduler = make_scheduler(*(make_host(name) for name in names))
    now: dict[str, Aggregate] = {}
    for _ in range(200):
        one = rng.choice("abc")
        hosts = tuple(rng.sample(names, rng.randrange(6)))
        now[one] = made(hosts, one, **rng.choice([{"kind": "ssd"}, {"kind": "hdd"}, {"availability_zone": one}, {}]))
        scheduler.apply(AggregateChanged(aggregate=now[one]))
        fresh = make_scheduler()
        fresh.hosts.load(unused(*(known.host for known in scheduler.hosts)), now.values())
        for name in names:
            ours, theirs = scheduler.hosts[name], fresh.hosts[name]
            assert scheduler.hosts.facts(ours) == fresh.hosts.facts(theirs)
