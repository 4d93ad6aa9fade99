"""What-if: how many more servers of a flavor fit, from the scheduler's own table, without taking anything.

Our own addition to the Compute API, for admins.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.hub.peer import Peer
from nova_fast.model.tasks import AskCapacity, Capacity
from nova_fast.queries.capacity import described

CAPACITY_TIMEOUT_S = 15


class CapacityQuery(msgspec.Struct, forbid_unknown_fields=True):
    flavor: Annotated[str, Meta(min_length=1, max_length=255)]  # id or name
    zone: Annotated[str, Meta(max_length=255)] = ""
    image: Annotated[str, Meta(max_length=255)] = ""  # id or name
    group_policy: Literal["", "affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"] = ""
    max_server_per_host: Annotated[int, Meta(ge=1, le=0x7FFFFFFF)] = 1


@face.route("GET", "/os-capacity", errors=(400, 404, 503), policy="admin", query=CapacityQuery)
async def show_capacity(request: Request) -> dict[str, Any]:
    """How many more fit, on how many hosts, and where the first and the last would go."""
    query: CapacityQuery = request.query
    ask = AskCapacity(
        flavor=query.flavor,
        zone=query.zone,
        image=query.image,
        group_policy=query.group_policy,
        max_servers_per_host=query.max_server_per_host,
    )
    answer = await request.services.get(Peer).call(ask, timeout_s=CAPACITY_TIMEOUT_S)
    assert isinstance(answer, Capacity)
    return {"capacity": described(answer)}
