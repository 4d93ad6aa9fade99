"""Allocations of consumers, and what projects take: both made from the servers that claim a host.

Source: Placement API, "Allocations" and "Usages".
"""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import face, fresh
from nova_fast.model.errors import BadRequest, Forbidden
from nova_fast.model.hosts import claim_of
from nova_fast.queries import hosts, placement

#: The type of every consumer: they are all servers.
CONSUMER_TYPE = "INSTANCE"


class UsageQuery(msgspec.Struct, forbid_unknown_fields=True):
    project_id: str
    user_id: str | None = None


class TypedUsageQuery(UsageQuery, forbid_unknown_fields=True):
    consumer_type: str | None = None


@face.route("GET", "/allocations/{consumer_uuid}", policy="service")
async def show_allocations(request: Request, consumer_uuid: str) -> Answer:
    """What a consumer takes; nothing for one that is not known."""
    with request.snapshot() as snapshot:
        server = placement.consumer(snapshot, consumer_uuid)
        host = None if server is None else hosts.get(snapshot, server.host)
        generation = snapshot.generation()
    if server is None or host is None:
        return fresh(request, {"allocations": {}})
    resources = placement.amounts_of(claim_of(server.flavor))
    body: dict[str, Any] = {"allocations": {host.uuid: {"resources": resources, "generation": generation}}}
    if request.at_least("1.12"):
        body |= {"project_id": server.project_id, "user_id": server.user_id}
    if request.at_least("1.28"):
        body["consumer_generation"] = 1
    if request.at_least("1.38"):
        body["consumer_type"] = CONSUMER_TYPE
    return fresh(request, body)


@face.route(
    "GET", "/usages", errors=(400,), policy="reader", query={"1.9": UsageQuery, "1.38": TypedUsageQuery}, since="1.9"
)
async def show_usages(request: Request) -> Answer:
    """What a project takes, or one user of it. Anybody may ask for the own project."""
    query: UsageQuery = request.query
    if not request.caller.may_see(query.project_id):
        raise Forbidden("Only an admin may see the usage of another project.", code="policy")
    with request.snapshot() as snapshot:
        count, usages = placement.usages_of_project(snapshot, query.project_id, query.user_id)
    if not request.at_least("1.38"):
        return fresh(request, {"usages": usages})
    kind = query.consumer_type if isinstance(query, TypedUsageQuery) else None
    if kind not in (None, "all") and (not kind.isupper() or len(kind) > 255):
        raise BadRequest(f"Invalid consumer type {kind[:80]}.", field="consumer_type")
    if not count or kind not in (None, "all", CONSUMER_TYPE):
        return fresh(request, {"usages": {}})
    return fresh(request, {"usages": {kind or CONSUMER_TYPE: {"consumer_count": count, **usages}}})
