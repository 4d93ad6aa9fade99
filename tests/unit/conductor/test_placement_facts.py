"""What a placement is asked with, and what a choice must still hold when it is recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.model.commands.aggregates import AddAggregateHost, CreateAggregate
from nova_fast.model.tasks import Placement
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ADMIN, Cloud


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
