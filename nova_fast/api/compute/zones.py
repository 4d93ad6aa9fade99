"""Availability zones: where servers can be asked to run.

Source: Compute API v2.1, "Availability zones (os-availability-zone)". A zone is there as soon as a host is in it: by an
aggregate with ``availability_zone`` in its metadata, or else by what the host's own configuration says.
"""

from __future__ import annotations

from typing import Any

from nova_fast.api.compute import shapes
from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.queries import hosts
from nova_fast.queries.hosts import Zone


@face.route("GET", "/os-availability-zone")
async def list_zones(request: Request) -> dict[str, Any]:
    """Where servers can be asked to run."""
    with request.snapshot() as snapshot:
        zones = hosts.zones(snapshot)
    return {"availabilityZoneInfo": [_zone(zone, detailed=False) for zone in zones]}


@face.route("GET", "/os-availability-zone/detail", policy="admin")
async def list_zones_in_detail(request: Request) -> dict[str, Any]:
    """The same with hosts and services, the internal zone first."""
    with request.snapshot() as snapshot:
        zones = [hosts.internal_zone(snapshot), *hosts.zones(snapshot)]
    return {"availabilityZoneInfo": [_zone(zone, detailed=True) for zone in zones if zone.services]}


def _zone(zone: Zone, *, detailed: bool) -> dict[str, Any]:
    members: dict[str, dict[str, Any]] | None = None
    if detailed:
        members = {}
        for row in zone.services:
            members.setdefault(row.host, {})[row.binary] = {
                "available": row.up,
                "active": row.enabled,
                "updated_at": shapes.micros(row.reported_at_us),
            }
    return {"zoneName": zone.name, "zoneState": {"available": zone.available}, "hosts": members}
