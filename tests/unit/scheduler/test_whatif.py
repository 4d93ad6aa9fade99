"""What-if is what would happen: as many servers as really fit, the last where it really goes, and nothing changed."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import AggregateChanged
from nova_fast.model.hosts import Claim, Host, HostUsage, Inventory
from nova_fast.model.tasks import GroupRule, PlacementRequest
from nova_fast.scheduler import whatif
from nova_fast.scheduler.select import Scheduler

from .fleet import ask, make_host, make_scheduler, place

GPU = "CUSTOM_GPU"
Fleet = list[tuple[Host, HostUsage]]


def fleet(rng: random.Random) -> Fleet:
    found = []
    for number in range(rng.randint(1, 25)):
        host = make_host(
            f"h{number:02}",
            vcpus=rng.choice((0, 2, 4, 9)),
            ram_mib=rng.choice((1000, 8000)),
            disk_gib=rng.choice((10, 100)),
            zone=rng.choice(("a", "b")),
            enabled=rng.random() < 0.9,
            inventories=(Inventory(resource_class=GPU, total=rng.randint(1, 5)),) if rng.random() < 0.5 else (),
        )
        usage = HostUsage(host=host.name, vcpus=rng.randint(0, 2), ram_mib=rng.randint(0, 900), servers=1)
        found.append((host, usage))
    return found


def loaded(hosts: Fleet, aggregates: tuple[Aggregate, ...] = (), **options: Any) -> Scheduler:
    scheduler = make_scheduler(**options)
    scheduler.load(hosts, aggregates=aggregates)
    return scheduler


def table(scheduler: Scheduler) -> list[tuple[float, ...]]:
    """Every column of every row."""
    return [scheduler.hosts.table.get(known.row) for known in scheduler.hosts]


def book(scheduler: Scheduler) -> list[tuple[Any, ...]]:
    return [
        (k.vcpus, k.ram_mib, k.disk_gib, k.servers, k.busy, {n: a for n, a in k.resources.items() if a})
        for k in scheduler.hosts
    ]


def really(scheduler: Scheduler, request: PlacementRequest, most: int = 400) -> list[str]:
    """Where servers go, one after the other, until one has no host."""
    group = None if request.group is None else msgspec.structs.replace(request.group, id="g")
    hosts: list[str] = []
    while len(hosts) < most:
        (one,) = place(scheduler, msgspec.structs.replace(request, server_id=f"s{len(hosts)}", group=group))
        if not one.host:
            break
        hosts.append(one.host)
    return hosts


@pytest.mark.parametrize("policy", ["", "anti-affinity", "soft-affinity", "soft-anti-affinity"])
@pytest.mark.parametrize("kind", ["plain", "gpu", "limits", "multipliers", "simple"])
@pytest.mark.parametrize("seed", range(8))
def test_as_many_fit_as_are_counted_and_the_last_goes_where_it_is_said(policy: str, kind: str, seed: int) -> None:
    rng = random.Random(f"{policy} {kind} {seed}")
    hosts = fleet(rng)
    options: dict[str, Any] = {"limits": {"max_io_ops_per_host": 2}, "simple": {"policy": "simple"}}.get(kind, {})
    if kind == "limits":
        options["enabled_filters"] = [
            "ComputeFilter", "IoOpsFilter", "ServerGroupAntiAffinityFilter", "ServerGroupAffinityFilter",
        ]  # fmt: skip
    resources = {GPU: 1} if kind == "gpu" else {}
    group = GroupRule(id="", policy=policy, max_servers_per_host=rng.randint(1, 3)) if policy else None
    claim = Claim(vcpus=1, ram_mib=rng.choice((100, 700)), disk_gib=1, resources=resources)
    request = ask("", claim, zone=rng.choice(("", "a")), group=group)
    half = tuple([host.name for host, _ in hosts[::2]])
    metadata = {"cpu_weight_multiplier": "7"}
    aggregate = Aggregate(id="A", number=1, name="A", created_at_us=0, hosts=half, metadata=metadata)
    aggregates = (aggregate,) if kind == "multipliers" else ()
    scheduler, other = loaded(hosts, aggregates, **options), loaded(hosts, aggregates, **options)
    before, counted = table(scheduler), book(scheduler)
    answer = scheduler.capacity(request)
    assert (table(scheduler), book(scheduler)) == (before, counted)
    expected = really(other, request)
    assert answer.servers == len(expected)
    assert answer.hosts == len(set(expected))
    assert (answer.first, answer.last) == ((expected[0], expected[-1]) if expected else ("", ""))
    assert bool(answer.filters) == (not expected)
    assert really(scheduler, ask("", Claim(vcpus=1, ram_mib=50, disk_gib=1))) == really(
        loaded(hosts, aggregates, **options), ask("", Claim(vcpus=1, ram_mib=50, disk_gib=1))
    )


@pytest.mark.parametrize("per_host", [1, 2, 3, 40])
def test_hosts_may_have_many_of_a_group(monkeypatch: pytest.MonkeyPatch, per_host: int) -> None:
    hosts = fleet(random.Random(7))
    group = GroupRule(id="", policy="anti-affinity", max_servers_per_host=per_host)
    request = ask("", Claim(vcpus=1, ram_mib=100, disk_gib=1), group=group)
    expected = really(loaded(hosts), request)
    assert expected
    for passes in (0, 100):
        monkeypatch.setattr(whatif, "PASSES_MAX", passes)
        answer = loaded(hosts).capacity(request)
        assert (answer.servers, answer.last) == (len(expected), expected[-1])


@pytest.mark.parametrize("kind", ["plain", "gpu", "io_ops", "servers"])
@pytest.mark.parametrize("seed", range(12))
def test_with_affinity_the_most_on_one_host_count(kind: str, seed: int) -> None:
    hosts = fleet(random.Random(seed))
    names = {"io_ops": "IoOpsFilter", "servers": "NumInstancesFilter"}
    options: dict[str, Any] = {"max_io_ops_per_host": 3, "max_instances_per_host": 4}
    options["enabled_filters"] = ["ComputeFilter", "ServerGroupAffinityFilter", *filter(None, [names.get(kind)])]
    claim = Claim(vcpus=1, ram_mib=100, disk_gib=2, resources={GPU: 1} if kind == "gpu" else {})
    request = ask("", claim, group=GroupRule(id="", policy="affinity"))
    rooms = {}
    for host, _ in hosts:
        alone = msgspec.structs.replace(request, requested_host=host.name, group=None)
        rooms[host.name] = len(really(loaded(hosts, **options), alone))
    scheduler = loaded(hosts, **options)
    before = table(scheduler)
    answer = scheduler.capacity(request)
    assert table(scheduler) == before
    assert answer.servers == max(rooms.values(), default=0)
    begun = really(scheduler, request)
    if begun:
        assert (answer.first, len(set(begun)), answer.hosts) == (begun[0], 1, 1)
        assert rooms[answer.last] == answer.servers
        assert len(begun) == answer.servers or f"which has room for {len(begun)}" in answer.hint


def test_where_many_fit_the_last_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = make_scheduler(*(make_host(f"h{n}", vcpus=600, ram_mib=10**6, disk_gib=10**6) for n in range(4)))
    answer = scheduler.capacity(ask("", Claim(vcpus=1, ram_mib=1, disk_gib=1)))
    assert (answer.servers, answer.hosts, answer.first, answer.last) == (2400, 4, "h0", "")
    assert "at most 2000" in answer.hint
    monkeypatch.setattr(whatif, "STEPS_MAX", 2400)
    assert scheduler.capacity(ask("", Claim(vcpus=1, ram_mib=1, disk_gib=1))).last == "h3"


def test_a_policy_that_draws_names_nobody_and_draws_nothing() -> None:
    for options in ({"policy": "chance"}, {"host_subset_size": 2}, {"shuffle_best_same_weighed_hosts": True}):
        hosts = [make_host(f"h{n}") for n in range(9)]
        scheduler, other = make_scheduler(*hosts, **options), make_scheduler(*hosts, **options)
        answer = scheduler.capacity(ask(""))
        assert (answer.servers, answer.hosts, answer.first, answer.last) == (36, 9, "", "")
        assert "draws" in answer.hint
        assert place(scheduler, ask("1"))[0] == place(other, ask("1"))[0]


def test_when_none_fits_it_says_why() -> None:
    answer = make_scheduler(make_host("h", ram_mib=100)).capacity(ask(""))
    assert (answer.servers, answer.hosts, answer.first) == (0, 0, "")
    assert [(one.before, one.after) for one in answer.filters if one.filter == "RamFilter"] == [(1, 0)]
    assert answer.hint == "with 924 MiB less RAM: 1 host would fit"


def test_what_is_chosen_and_not_yet_committed_counts_as_taken() -> None:
    scheduler = make_scheduler(make_host("h"))
    place(scheduler, ask("1"))
    assert scheduler.capacity(ask("")).servers == 3


def test_a_change_between_two_questions_is_seen() -> None:
    scheduler = make_scheduler(make_host("a"), make_host("b"))
    assert scheduler.capacity(ask("", zone="east")).servers == 0
    east = Aggregate(id="E", number=1, name="E", created_at_us=0, hosts=("b",), metadata={"availability_zone": "east"})
    scheduler.apply(AggregateChanged(aggregate=east))
    answer = scheduler.capacity(ask("", zone="east"))
    assert (answer.servers, answer.hosts, answer.last) == (4, 1, "b")
