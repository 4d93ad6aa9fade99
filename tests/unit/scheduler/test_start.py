"""A scheduler that starts now knows what one knows that has followed everything, though it reads few servers."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.model.commands.server_groups import CreateServerGroup
from nova_fast.model.events import Claimed
from nova_fast.model.hosts import claim_of
from nova_fast.model.tasks import PlacementRequest
from nova_fast.queries.claims import Membership, fleet, hosts_of
from nova_fast.scheduler.select import Scheduler
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ALICE, FLAVOR, Cloud

from .fleet import ask, place

OPTIONS = SchedulerConfig(enabled_filters=(*SchedulerConfig().enabled_filters, "SameHostFilter", "DifferentHostFilter"))


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def started(cloud: Cloud) -> Scheduler:
    scheduler = Scheduler(OPTIONS, random.Random(1), residence=lambda ids: cloud.store.read(lambda r: hosts_of(r, ids)))
    scheduler.load(*cloud.store.read(fleet))
    return scheduler


def group(cloud: Cloud, policy: str = "anti-affinity") -> str:
    request = CreateServerGroup(caller=ALICE, name="apart", policy=policy, max_servers_per_host=1)
    return str(cloud.run(request).group.id)


def test_only_servers_that_are_being_built_are_read(cloud: Cloud) -> None:
    apart = group(cloud)
    cloud.active()
    member = cloud.active(group_id=apart)
    building = cloud.create()
    cloud.answer(cloud.next("schedule"))
    cloud.create()  # it has no host yet
    found = cloud.store.read(fleet)
    claim = claim_of(FLAVOR)
    assert found.claimed == [Claimed(server_id=building, host="h1", claim=claim)]
    assert found.busy == [building]
    assert found.members == [Membership(apart, "h1", member)]
    assert [(host.name, usage.servers) for host, usage in found.hosts] == [("h1", 3), ("h2", 0)]


def test_a_choice_that_was_committed_and_built_meanwhile_is_not_counted_twice(cloud: Cloud) -> None:
    scheduler = started(cloud)
    server_id = cloud.create()
    task = cloud.next("schedule")
    request = cloud.message(task)
    assert isinstance(request, PlacementRequest)
    (placement,) = place(scheduler, request)
    cloud.answer(task, placement)
    cloud.settle()
    assert cloud.server(server_id).host == placement.host
    scheduler.load(*cloud.store.read(lambda r: fleet(r, scheduler.claims.pending)))  # the events were missed
    assert scheduler.claims.pending == {}
    assert scheduler.hosts[placement.host].servers == 1


def test_a_hint_finds_a_server_that_was_there_before(cloud: Cloud) -> None:
    old = cloud.active()
    scheduler = started(cloud)
    assert not scheduler.claims.remembers(old)
    assert place(scheduler, ask("near", hints={"same_host": old}))[0].host == "h1"
    assert place(scheduler, ask("far", hints={"different_host": [old]}))[0].host == "h2"


def test_it_knows_what_one_knows_that_has_followed_everything(cloud: Cloud) -> None:
    follower = started(cloud)
    heard = len(cloud.events)
    apart = group(cloud)

    def same() -> None:
        nonlocal heard
        for event in cloud.events[heard:]:
            follower.apply(event)
        heard = len(cloud.events)
        fresh = started(cloud)
        for known in follower.hosts:
            other = fresh.hosts[known.host.name]
            assert follower.hosts.table.get(known.row) == fresh.hosts.table.get(other.row), known.host.name
        assert follower.claims.members(apart) == fresh.claims.members(apart)
        assert follower.claims._busy == fresh.claims._busy

    servers = [cloud.create(group_id=apart), cloud.create(), cloud.create()]
    same()
    while cloud.pending:
        cloud.answer(cloud.next())
        same()
    for server_id in servers:
        cloud.delete(server_id)
        same()
    while cloud.pending:
        cloud.answer(cloud.next())
        same()
    failing = cloud.create(group_id=apart)
    cloud.answer(cloud.next("schedule"))
    same()
    while cloud.pending:
        cloud.fail(cloud.next())
        same()
    assert cloud.server(failing).vm_state == "error"
