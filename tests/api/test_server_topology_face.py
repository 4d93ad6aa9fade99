"""The cells of a server as its owner and an admin see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nova_fast.model.topology import GuestTopology, PlacedCell
from nova_fast.state import schema as tables
from tests.api.host_world import now_us
from tests.api.server_world import World

if TYPE_CHECKING:
    pass

CELLS = (
    PlacedCell(
        host_cell=1, vcpus=(0, 1), pins=((0, 4), (1, 6)), cpus=(4, 6), ram_mib=256, page_kib=2048, own_pages=True
    ),
    PlacedCell(host_cell=0, vcpus=(2,), ram_mib=256, page_kib=4),
)


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute", "identity")


def topology(world: World, server_id: str, *, client: Any = None, version: str = "2.78") -> Any:
    return world.get(f"/servers/{server_id}/topology", client=client, version=version)


def test_an_owner_sees_cells_and_an_admin_where_they_lie(world: World) -> None:
    server_id = world.active()
    assert topology(world, server_id).json == {"nodes": [], "pagesize_kb": None}
    with world.cloud.store.transaction(now_us()) as tx:
        server = tx.need(tables.SERVERS, server_id, "Instance")
        claim = msgspec.structs.replace(server.claim, topology=GuestTopology(cells=CELLS))
        tx.put(tables.SERVERS, msgspec.structs.replace(server, claimed=claim))
    first, second = topology(world, server_id).json["nodes"]
    assert first == {"vcpu_set": [0, 1], "siblings": [], "memory_mb": 256}
    shown = topology(world, server_id, client=world.admin).json
    assert shown["pagesize_kb"] == 2048
    assert shown["nodes"][0] == first | {"host_node": 1, "cpu_pinning": {"0": 4, "1": 6}}
    assert shown["nodes"][1] == second | {"host_node": 0, "cpu_pinning": {}}


def test_it_is_there_from_2_78_on_and_only_of_ones_own_servers(world: World) -> None:
    server_id = world.active()
    assert topology(world, server_id, version="2.77").status == 404
    assert topology(world, "00000000-0000-4000-8000-0000000000ff").status == 404
