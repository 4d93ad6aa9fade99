"""How each policy chooses among the hosts that pass."""

from __future__ import annotations

from collections import Counter

import pytest

from nova_fast.model.hosts import Claim

from .fleet import ask, make_host, make_scheduler, place


def test_simple_takes_the_host_with_the_fewest_vcpus_taken() -> None:
    scheduler = make_scheduler(make_host("big", vcpus=64), make_host("small", vcpus=4), policy="simple")
    two = Claim(vcpus=2, ram_mib=1, disk_gib=0)
    first, second, third = place(scheduler, ask("1", two), ask("2"), ask("3"))
    assert (first.host, first.weight) == ("big", 0.0)
    assert [second.host, third.host] == ["small", "small"]
    assert third.weight == -1.0
    assert third.alternates == ("big",)


def test_chance_reaches_every_host_that_passes_and_no_other() -> None:
    hosts = [make_host(f"h{number}", vcpus=1000, ram_mib=10**7, disk_gib=10**5) for number in range(4)]
    scheduler = make_scheduler(*hosts, make_host("full", vcpus=0), policy="chance")
    placements = place(scheduler, *(ask(str(number)) for number in range(400)))
    counts = Counter(one.host for one in placements)
    assert set(counts) == {"h0", "h1", "h2", "h3"}
    assert min(counts.values()) > 60
    assert all(len({one.host, *one.alternates}) == 3 for one in placements)


def test_zone_stays_within_the_zone_and_treats_zones_alike() -> None:
    hosts = [make_host(f"w{number}", vcpus=1000, ram_mib=10**7, disk_gib=10**5, zone="west") for number in range(9)]
    hosts += [make_host("e", vcpus=1000, ram_mib=10**7, disk_gib=10**5, zone="east"), make_host("n", vcpus=0)]
    scheduler = make_scheduler(*hosts, policy="zone")
    assert {one.host for one in place(scheduler, *(ask(f"e{n}", zone="east") for n in range(5)))} == {"e"}
    anywhere = Counter(one.host[0] for one in place(scheduler, *(ask(str(number)) for number in range(300))))
    assert set(anywhere) == {"w", "e"}
    assert anywhere["e"] > 100
    assert place(scheduler, ask("x", zone="nova"))[0].host == ""
    assert place(scheduler, ask("y", requested_host="w3"))[0].host == "w3"


def test_shuffling_draws_among_the_best_only() -> None:
    equals = [make_host(f"h{number}", vcpus=8) for number in range(5)]
    seen = set()
    for seed in range(60):
        scheduler = make_scheduler(
            *equals, make_host("worse", vcpus=4), seed=seed, shuffle_best_same_weighed_hosts=True
        )
        (placement,) = place(scheduler, ask("s"))
        seen.add(placement.host)
        assert len({placement.host, *placement.alternates} - {"worse"}) == 3
    assert seen == {f"h{number}" for number in range(5)}


def test_a_subset_draws_among_the_so_many_best() -> None:
    hosts = [make_host(f"h{size}", vcpus=size) for size in range(2, 8)]
    seen = {place(make_scheduler(*hosts, seed=seed, host_subset_size=3), ask("s"))[0].host for seed in range(60)}
    assert seen == {"h7", "h6", "h5"}
    (placement,) = place(make_scheduler(make_host("only"), host_subset_size=3), ask("s"))
    assert placement.host == "only"


@pytest.mark.parametrize("policy", ["filter", "chance", "zone"])
def test_one_seed_gives_one_sequence_of_decisions(policy: str) -> None:
    def run() -> list[str]:
        hosts = [make_host(f"h{number}", vcpus=40, zone=f"z{number % 3}") for number in range(9)]
        scheduler = make_scheduler(*hosts, policy=policy, shuffle_best_same_weighed_hosts=True, host_subset_size=2)
        return [one.host for one in place(scheduler, *(ask(str(number)) for number in range(30)))]

    assert run() == run()
