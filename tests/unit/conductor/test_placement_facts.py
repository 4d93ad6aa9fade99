"""What a placement is asked with, and what a choice must still hold when it is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from nova_fast.model.commands.aggregates import AddAggregateHost, CreateAggregate
from nova_fast.model.commands.server_groups import CreateServerGroup, DeleteServerGroup
from nova_fast.model.events import Claimed, HostChanged
from nova_fast.model.tasks import GroupRule, Placement, PlacementRequest
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ADMIN, ALICE, IMAGE_ID, Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def test_a_host_that_left_the_zone_before_the_claim_is_not_taken(cloud: Cloud) -> None:
    server_id = cloud.create(zone="nova")
    cloud.run(CreateAggregate(caller=ADMIN, name="rack", zone="east"))
    cloud.run(AddAggregateHost(caller=ADMIN, number=1, host="h1"))
    cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host="h1"))
    cloud.settle()
    assert cloud.server(server_id).host == "h2"


def in_group(cloud: Cloud, policy: str, **fields: Any) -> str:
    request = CreateServerGroup(caller=ALICE, name="g", policy=policy, **fields)
    return str(cloud.run(request).group.id)


def test_the_scheduler_is_told_the_rule_the_flavor_and_the_image(cloud: Cloud) -> None:
    group = in_group(cloud, "anti-affinity", max_servers_per_host=2)
    server_id = cloud.create(group_id=group, hints={"group": group})
    request = cloud.message(cloud.next("schedule"))
    assert isinstance(request, PlacementRequest)
    assert request.group == GroupRule(id=group, policy="anti-affinity", max_servers_per_host=2)
    assert (request.flavor_name, request.image_id, request.server_id) == ("m1.tiny", IMAGE_ID, server_id)
    alone = cloud.create()
    request = cloud.message(cloud.next("schedule"))
    assert isinstance(request, PlacementRequest)
    assert (request.group, request.server_id) == (None, alone)


def test_a_claim_says_the_group(cloud: Cloud) -> None:
    group = in_group(cloud, "affinity")
    cloud.active(group_id=group)
    assert [event.group_id for event in cloud.events if isinstance(event, Claimed)] == [group]


@pytest.mark.parametrize(
    ("policy", "hosts"),
    [("anti-affinity", {"h1": 1, "h2": 1}), ("affinity", {"h1": 2}), ("soft-anti-affinity", {"h1": 2})],
)
def test_a_claim_never_breaks_the_rule_of_a_group_whatever_the_scheduler_says(
    cloud: Cloud, policy: str, hosts: dict[str, int]
) -> None:
    group = in_group(cloud, policy)
    ids = [cloud.create(group_id=group) for _ in range(2)]
    chosen = ("h1", "h2") if policy == "affinity" else ("h1", "h1")
    for server_id, host in zip(ids, chosen, strict=True):
        cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host=host))
    cloud.settle()
    assert Counter(cloud.server(server_id).host for server_id in ids) == hosts


def test_an_anti_affinity_of_two_takes_two(cloud: Cloud) -> None:
    group = in_group(cloud, "anti-affinity", max_servers_per_host=2)
    ids = [cloud.create(group_id=group) for _ in range(3)]
    for server_id in ids:
        cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host="h1"))
    cloud.settle()
    assert [cloud.server(server_id).host for server_id in ids] == ["h1", "h1", "h2"]


def test_a_group_that_went_asks_for_nothing_any_more(cloud: Cloud) -> None:
    group = in_group(cloud, "anti-affinity")
    cloud.active(group_id=group)
    second = cloud.create(group_id=group)
    cloud.run(DeleteServerGroup(caller=ALICE, group_id=group))
    task = cloud.next("schedule")
    request = cloud.message(task)
    assert isinstance(request, PlacementRequest)
    assert request.group is None
    cloud.answer(task, Placement(server_id=second, host="h1"))
    cloud.settle()
    assert cloud.server(second).host == "h1"


def failed_builds(cloud: Cloud) -> dict[str, int]:
    """As the store has it, which is what whoever follows hosts has heard."""
    rows = cloud.store.read(lambda r: {host.name: host.failed_builds for host in r.scan(tables.HOSTS)})
    heard = {event.host.name: event.host.failed_builds for event in cloud.events if isinstance(event, HostChanged)}
    assert rows == heard
    return rows


@pytest.mark.parametrize("step", ["network", "spawn"])
def test_a_host_that_could_not_build_is_counted_until_it_can(cloud: Cloud, step: str) -> None:
    for count in (1, 2):
        server_id = cloud.create()
        cloud.answer(cloud.next("schedule"), Placement(server_id=server_id, host="h1"))
        while cloud.pending[0].step != step:
            cloud.answer(cloud.next())
        cloud.fail(cloud.next(step))
        cloud.settle()
        assert cloud.server(server_id).host == "h2"
        assert failed_builds(cloud) == {"h1": count, "h2": 0}
    cloud.events = [event for event in cloud.events if isinstance(event, HostChanged)]
    heard = len(cloud.events)
    assert cloud.server(cloud.active()).host == "h1"
    assert failed_builds(cloud) == {"h1": 0, "h2": 0}
    cloud.active()
    assert len([event for event in cloud.events if isinstance(event, HostChanged)]) == heard + 1


def test_what_is_not_the_hosts_fault_is_not_counted(cloud: Cloud) -> None:
    lost = cloud.create()
    cloud.host_up("h1", False)
    cloud.answer(cloud.next("schedule"), Placement(server_id=lost, host="h1"))  # a race
    cloud.host_up("h1", True)
    cloud.settle()
    nowhere = cloud.create()
    cloud.answer(cloud.next("schedule"), Placement(server_id=nowhere))
    unwanted = cloud.create()
    cloud.answer(cloud.next("schedule"))
    cloud.delete(unwanted)
    cloud.settle()
    assert failed_builds(cloud) == {"h1": 0, "h2": 0}
