"""``/servers/{id}/topology``: the NUMA cells of a server, and for admins where they lie on its host.

Source: Compute API v2.1, "Show Server Topology" (microversion 2.78).
"""

from __future__ import annotations

from typing import Any

from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.model.topology import PlacedCell
from nova_fast.queries.servers import visible_server


@face.route("GET", "/servers/{server_id}/topology", errors=(404,), policy="reader", since="2.78")
async def show_topology(request: Request, server_id: str) -> dict[str, Any]:
    """A server without cells of its own, or without a host, has none."""
    with request.snapshot() as snapshot:
        server = visible_server(snapshot, request.caller, server_id)
    topology = server.claim.topology
    cells = topology.cells if topology is not None else ()
    sizes = [cell.page_kib for cell in cells if cell.own_pages]
    return {
        "nodes": [_node(cell, for_admin=request.caller.is_admin) for cell in cells],
        "pagesize_kb": sizes[-1] if sizes else None,
    }


def _node(cell: PlacedCell, *, for_admin: bool) -> dict[str, Any]:
    """Threads of a core are told to no guest here, so no vCPUs are siblings."""
    node: dict[str, Any] = {"vcpu_set": list(cell.vcpus), "siblings": [], "memory_mb": cell.ram_mib}
    if for_admin:
        node |= {"host_node": cell.host_cell, "cpu_pinning": {str(vcpu): cpu for vcpu, cpu in cell.pins}}
    return node
