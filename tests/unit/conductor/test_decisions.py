"""How a host was chosen is kept in the transaction that claims it, until the next choice, and goes with the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.model.decisions import PlacementDecision
from nova_fast.model.hosts import claim_of
from nova_fast.model.states import VmState
from nova_fast.model.tasks import HostWeight, Placement
from nova_fast.queries.decisions import explanation
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import Cloud
from tests.unit.recount import assert_nothing_left


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def decision_of(cloud: Cloud, server_id: str) -> PlacementDecision | None:
    return cloud.store.read(lambda r: r.get(tables.PLACEMENT_DECISIONS, server_id))


def placement(server_id: str, host: str) -> Placement:
    top = (HostWeight("h2", 2.5), HostWeight("h1", 1.0))
    return Placement(server_id=server_id, host=host, weight=1.0, candidates=7, top=top, policy="filter")


def test_a_choice_is_kept_as_it_was_taken(cloud: Cloud) -> None:
    server_id = cloud.create()
    assert decision_of(cloud, server_id) is None
    task = cloud.next("schedule")
    cloud.answer(task, placement(server_id, "h1"))
    decision = decision_of(cloud, server_id)
    assert cloud.server(server_id).host == "h1"
    assert decision is not None
    assert decision.decided_at_us > 0
    assert decision == PlacementDecision(
        server_id=server_id, decided_at_us=decision.decided_at_us, host="h1", weight=1.0, candidates=7,
        policy="filter", claim=claim_of(cloud.server(server_id).flavor),
        top=(HostWeight("h2", 2.5), HostWeight("h1", 1.0)),
    )  # fmt: skip
    cloud.settle()
    assert decision_of(cloud, server_id) == decision
    cloud.delete(server_id)
    cloud.settle()
    cloud.assert_gone(server_id)
    cloud.store.read(assert_nothing_left)


def test_the_next_choice_replaces_it_and_says_what_was_tried(cloud: Cloud) -> None:
    server_id = cloud.create()
    cloud.answer(cloud.next("schedule"), placement(server_id, "h1"))
    cloud.fail(cloud.next("network"))
    assert cloud.server(server_id).host == ""
    tried = decision_of(cloud, server_id)
    assert tried is not None and tried.host == "h1"
    cloud.answer(cloud.next("schedule"), placement(server_id, "h2"))
    decision = decision_of(cloud, server_id)
    assert decision is not None
    assert (decision.host, decision.excluded_hosts) == ("h2", ("h1",))


def test_a_claim_that_was_refused_leaves_no_decision(cloud: Cloud) -> None:
    server_id = cloud.create()
    cloud.answer(cloud.next("schedule"), placement(server_id, "h9"))
    assert decision_of(cloud, server_id) is None


def test_a_server_without_a_host_has_its_fault_as_the_explanation(cloud: Cloud) -> None:
    server_id = cloud.create()
    cloud.answer(
        cloud.next("schedule"), Placement(server_id=server_id, hint="with 2048 MiB less RAM: 37 hosts would fit")
    )
    server = cloud.server(server_id)
    assert server.vm_state is VmState.ERROR
    found = cloud.store.read(lambda r: explanation(r, server))
    assert found.decision is None
    assert found.fault is not None and "37 hosts would fit" in found.fault.details
