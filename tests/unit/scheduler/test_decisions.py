"""What a placement says of how it came about."""

from __future__ import annotations

import random

import pytest

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import AggregateChanged
from nova_fast.model.hosts import Claim, Inventory
from nova_fast.model.tasks import GroupRule, HostWeight
from nova_fast.scheduler.select import Scheduler

from .fleet import ask, make_host, make_scheduler, place


def test_a_choice_tells_the_candidates_and_the_best_ten_of_them() -> None:
    hosts = [make_host(f"h{size:02}", vcpus=size) for size in range(2, 17)]
    scheduler = make_scheduler(*hosts, make_host("none", vcpus=0), make_host("down", vcpus=64, up=False))
    expected = scheduler.searches.make(ask("x")).hosts.scan(15)
    (placement,) = place(scheduler, ask("s"))
    assert placement.candidates == 15
    assert placement.policy == "filter"
    assert len(placement.top) == 10
    assert placement.top == tuple([HostWeight(scheduler.hosts.name(row), weight) for row, weight in expected[:10]])
    assert placement.top[0] == HostWeight(placement.host, placement.weight)
    assert placement.alternates == tuple([one.host for one in placement.top[1:3]])


@pytest.mark.parametrize("spread", [False, True])
def test_each_of_many_servers_placed_at_once_tells_what_it_would_alone(spread: bool) -> None:
    def fresh() -> Scheduler:
        rng = random.Random(7)
        hosts = [make_host(f"h{number:02}", vcpus=rng.randrange(9), ram_mib=4096) for number in range(30)]
        scheduler = make_scheduler(*hosts)
        if spread:  # multipliers that differ: every choice is a full pass
            own = {"cpu_weight_multiplier": "3.0"}
            some = Aggregate(id="a", number=1, name="a", created_at_us=0, hosts=("h01", "h02"), metadata=own)
            scheduler.apply(AggregateChanged(aggregate=some))
        return scheduler

    names = [f"s{number:03}" for number in range(200)]  # more than there is room for
    many = place(fresh(), ask(names[0], alike=tuple(names[1:])))
    scheduler = fresh()
    alone = [place(scheduler, ask(name))[0] for name in names]
    fitted = sum(bool(one.host) for one in alone)
    assert many[:fitted] == alone[:fitted]
    assert 10 < fitted < 200
    assert many[0].candidates > many[fitted - 1].candidates >= 1
    assert not any(one.host for one in many[fitted:])


@pytest.mark.parametrize("seed", range(20))
def test_the_winner_of_a_draw_is_among_the_best_and_they_stay_in_order(seed: int) -> None:
    hosts = [make_host(f"h{size:02}", vcpus=size) for size in range(2, 20)]
    (placement,) = place(make_scheduler(*hosts, seed=seed, host_subset_size=4), ask("s"))
    weights = [one.weight for one in placement.top]
    assert weights == sorted(weights, reverse=True)
    assert HostWeight(placement.host, placement.weight) in placement.top[:4]
    assert len({one.host for one in placement.top}) == len(placement.top) == 10


@pytest.mark.parametrize("policy", ["filter", "simple", "chance", "zone"])
def test_candidates_are_the_hosts_that_pass_however_they_are_found(policy: str) -> None:
    gpu = Inventory(resource_class="CUSTOM_GPU", total=4)
    rng = random.Random(5)
    hosts = [
        make_host(f"h{n}", vcpus=rng.choice((0, 4)), zone=rng.choice(("a", "b")), inventories=rng.choice(((), (gpu,))))
        for n in range(40)
    ]
    apart = GroupRule(id="g", policy="anti-affinity", max_servers_per_host=1)
    scheduler = make_scheduler(*hosts, policy=policy)
    member = place(scheduler, ask("first", group=apart))[0].host
    fits = {host.name for host in hosts if host.resources.vcpus}
    one_gpu = Claim(vcpus=1, ram_mib=1, disk_gib=1, resources={"CUSTOM_GPU": 1})
    asked = {
        "plain": (ask("p"), fits),
        "zone": (ask("z", zone="a"), {h.name for h in hosts if h.zone == "a"} & fits),
        "apart": (ask("a", group=apart), fits - {member}),
        "without": (ask("w", excluded_hosts=("h1", "h2", "nobody")), fits - {"h1", "h2"}),
        "only": (ask("g", one_gpu), {h.name for h in hosts if h.inventories} & fits),
        "one": (ask("o", requested_host=member), {member}),
    }
    for name, (request, expected) in asked.items():
        (placement,) = place(scheduler, request)
        assert placement.candidates == len(expected), name
        assert placement.host in expected, name
        assert {one.host for one in placement.top} <= expected, name


def test_a_refusal_has_no_candidates() -> None:
    (placement,) = place(make_scheduler(make_host("h")), ask("s", Claim(vcpus=99, ram_mib=1, disk_gib=0)))
    assert (placement.host, placement.candidates, placement.top) == ("", 0, ())
