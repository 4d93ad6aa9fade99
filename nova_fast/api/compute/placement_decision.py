"""Why a server is where it is: the last choice of a host for it as it was taken, or why there was none.

Our own addition to the Compute API, for admins.
"""

from __future__ import annotations

from typing import Any

from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.queries.decisions import described, explanation
from nova_fast.queries.servers import visible_server


@face.route("GET", "/servers/{server_id}/os-placement-decision", errors=(404,), policy="admin")
async def show_placement_decision(request: Request, server_id: str) -> dict[str, Any]:
    """The candidates, the weights of the best, what was claimed; for a server without a host the fault."""
    with request.snapshot() as snapshot:
        found = explanation(snapshot, visible_server(snapshot, request.caller, server_id))
    return {"placement_decision": described(found)}
