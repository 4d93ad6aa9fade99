"""``/v2.0/agents`` and ``/v2.0/availability_zones``: the network daemons that have reported, and their zones."""

from __future__ import annotations

from typing import Any

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.listing import answer_list, query_type
from nova_fast.api.network.views import stamp
from nova_fast.model.errors import NotFound
from nova_fast.model.hosts import Service
from nova_fast.queries.network_admin import network_daemons

AgentQuery = query_type(
    "AgentQuery", "id", "agent_type", "alive", "binary", "host", "topic", "admin_state_up", "availability_zone",
    tags=False,
)  # fmt: skip
ZoneQuery = query_type("ZoneQuery", "name", "resource", "state", tags=False)


def _view(service: Service) -> dict[str, Any]:
    """A daemon as an agent. It does bridges, DHCP, routing and metadata of its host, so it has one type of its own."""
    return {
        "id": service.uuid,
        "agent_type": "Network daemon",
        "binary": service.binary,
        "topic": "N/A",
        "host": service.host,
        "availability_zone": service.zone,
        "admin_state_up": service.enabled,
        "alive": service.up and not service.forced_down,
        "heartbeat_timestamp": stamp(service.reported_at_us),
        "description": service.disabled_reason,
        "configurations": {},
        "resources_synced": None,
    }


@face.route("GET", "/agents", policy="admin", errors=(403,), query=AgentQuery)
async def list_agents(request: Request) -> dict[str, Any]:
    """The network daemons."""
    with request.snapshot() as snapshot:
        rows = [_view(service) for service in network_daemons(snapshot)]
    return answer_list(request, "agents", rows)


@face.route("GET", "/agents/{agent_id}", policy="admin", errors=(403, 404))
async def show_agent(request: Request, agent_id: str) -> dict[str, Any]:
    """One network daemon."""
    with request.snapshot() as snapshot:
        for service in network_daemons(snapshot):
            if service.uuid == agent_id:
                return {"agent": _view(service)}
    raise NotFound(f"Agent {agent_id} could not be found.", code="AgentNotFound")


@face.route("GET", "/availability_zones", policy="reader", query=ZoneQuery)
async def list_availability_zones(request: Request) -> dict[str, Any]:
    """The zones of the network daemons; a zone is available while one of its daemons is."""
    zones: dict[str, bool] = {}
    with request.snapshot() as snapshot:
        for service in network_daemons(snapshot):
            zones[service.zone] = zones.get(service.zone, False) or (service.up and service.enabled)
    rows = [
        {"id": zone, "name": zone, "resource": "network", "state": "available" if up else "unavailable"}
        for zone, up in sorted(zones.items())
    ]
    body = answer_list(request, "availability_zones", rows)
    return {**body, "availability_zones": [_without_id(row) for row in body["availability_zones"]]}


def _without_id(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "id"}
