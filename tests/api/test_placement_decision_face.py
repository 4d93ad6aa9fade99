"""Why a server is where it is, as an admin sees it through the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.commands.decisions import record_decision
from nova_fast.model.tasks import HostWeight, Placement
from nova_fast.state import schema as tables
from tests.api.host_world import now_us
from tests.api.server_world import World

if TYPE_CHECKING:
    pass

NOBODY = "00000000-0000-4000-8000-0000000000ff"


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute", "identity")


def decision(world: World, server_id: str) -> Any:
    reply = world.get(f"/servers/{server_id}/os-placement-decision", client=world.admin)
    assert reply.status == 200, reply.body
    return reply.json["placement_decision"]


def test_an_admin_sees_the_decision_as_it_was_taken(world: World) -> None:
    server_id = world.active()
    with world.cloud.store.transaction(now_us()) as tx:
        server = tx.need(tables.SERVERS, server_id, "Instance")
        top = (HostWeight("h7", 3.0), HostWeight("h1", 2.25))
        placement = Placement(server_id=server_id, host="h1", weight=2.25, candidates=12, top=top, policy="filter")
        record_decision(tx, server, placement, ("h3",))
    shown = decision(world, server_id)
    assert shown["decision"].pop("decided_at").endswith("Z")
    assert shown == {
        "server_id": server_id, "server_name": "vm", "host": "h1", "fault": None,
        "decision": {
            "host": "h1", "weight": 2.25, "candidates": 12, "policy": "filter", "excluded_hosts": ["h3"],
            "claim": {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1},
            "top": [{"host": "h7", "weight": 3.0}, {"host": "h1", "weight": 2.25}],
        },
    }  # fmt: skip


def test_a_server_without_a_host_shows_why(world: World) -> None:
    server_id = world.create()
    assert decision(world, server_id)["decision"] is None
    world.settle(host="")
    shown = decision(world, server_id)
    assert (shown["host"], shown["decision"]) == (None, None)
    assert shown["fault"]["code"] == 500
    assert shown["fault"]["message"].startswith("No valid host was found.")
    assert shown["fault"]["details"].startswith("No valid host was found.")


def test_only_an_admin_may_and_only_of_servers_that_are_there(world: World) -> None:
    server_id = world.active()
    path = f"/servers/{server_id}/os-placement-decision"
    assert world.get(path).status == 403
    assert world.get(path, client=world.p1.reader).status == 403
    assert world.get(path, client=world.cloud.nobody).status == 401
    assert world.get(f"/servers/{NOBODY}/os-placement-decision", client=world.admin).status == 404
    assert world.get(f"/servers/{NOBODY}/os-placement-decision").status == 403
