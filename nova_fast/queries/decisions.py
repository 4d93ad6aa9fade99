"""Why a server is where it is, or nowhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from nova_fast.model.base import Value
from nova_fast.model.decisions import PlacementDecision
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.placement import amounts_of
from nova_fast.model.servers import Fault, Server
from nova_fast.model.topology import GuestTopology
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

NAMED_MAX = 10  # servers of one name that a refusal tells


class Explanation(Value, frozen=True):
    """What is known of a server's placement."""

    server: Server
    decision: PlacementDecision | None  # the last; None: never placed, or by an older release
    fault: Fault | None  # why it has no host, with what each filter removed and the one change that helps most


def explanation(reader: Reader, server: Server) -> Explanation:
    """Why this server is where it is. That it failed for another reason on its host is not told here."""
    decision = reader.get(tables.PLACEMENT_DECISIONS, server.id)
    return Explanation(server=server, decision=decision, fault=None if server.host else server.fault)


def find_server(reader: Reader, wanted: str) -> Server:
    """A server by its id, or by its name when no other has it. Raises NotFound, BadRequest."""
    server = reader.get(tables.SERVERS, wanted)
    if server is not None:
        return server
    named = [server for server in reader.scan(tables.SERVERS) if server.name == wanted]
    if not named:
        raise NotFound(f"There is no server {wanted}.", code="instance_not_found")
    if len(named) > 1:
        ids = ", ".join(server.id for server in named[:NAMED_MAX])
        more = f" and {len(named) - NAMED_MAX} more" if len(named) > NAMED_MAX else ""
        raise BadRequest(f"{len(named)} servers are named {wanted}.", hint=f"say which by its id: {ids}{more}")
    return named[0]


def described(found: Explanation) -> dict[str, Any]:
    """An explanation as JSON has it, for the API and the command line alike."""
    return {
        "server_id": found.server.id,
        "server_name": found.server.name,
        "host": found.server.host or None,
        "decision": None if found.decision is None else _decision(found.decision),
        "fault": None if found.fault is None else _fault(found.fault),
    }


def _decision(decision: PlacementDecision) -> dict[str, Any]:
    return {
        "decided_at": _zulu(decision.decided_at_us),
        "host": decision.host,
        "weight": decision.weight,
        "candidates": decision.candidates,
        "policy": decision.policy,
        "claim": amounts_of(decision.claim),
        "top": [{"host": one.host, "weight": one.weight} for one in decision.top],
        "excluded_hosts": list(decision.excluded_hosts),
        **_given(decision.claim.topology),
    }


def _given(topology: GuestTopology | None) -> dict[str, Any]:
    """The cells and devices that were given; nothing is said where none were."""
    if topology is None:
        return {}
    cells = [
        {"cell": cell.host_cell, "cpus": list(cell.cpus), "memory_mb": cell.ram_mib, "page_kb": cell.page_kib or None}
        for cell in topology.cells
    ]
    return {"cells": cells, "devices": list(topology.devices)}


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "code": fault.code,
        "message": fault.message,
        "details": fault.details,
        "created": _zulu(fault.created_at_us),
    }


def _zulu(at_us: int) -> str:
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
