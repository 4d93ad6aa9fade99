"""Allocation candidates: which hosts could take something of a given size.

Source: Placement API, "Allocation candidates". Every host is a tree of one provider, so the whole request goes to one.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import face, fresh, read_required, read_resources
from nova_fast.model.errors import BadRequest
from nova_fast.queries import placement
from nova_fast.queries.placement import Provider, Wanted

_LIMIT_DEFAULT = 1000


class Query(msgspec.Struct, forbid_unknown_fields=True):
    resources: str


class Query116(Query, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1)] = _LIMIT_DEFAULT


class Query117(Query116, forbid_unknown_fields=True):
    required: list[str] = []


class Query121(Query117, forbid_unknown_fields=True):
    member_of: list[str] = []


class Query125(Query121, forbid_unknown_fields=True):
    group_policy: str | None = None


class Query131(Query125, forbid_unknown_fields=True):
    in_tree: str | None = None


class Query135(Query131, forbid_unknown_fields=True):
    root_required: list[str] = []


_QUERY = {
    "1.10": Query, "1.16": Query116, "1.17": Query117, "1.21": Query121, "1.25": Query125, "1.31": Query131,
    "1.35": Query135,
}  # fmt: skip


@face.route("GET", "/allocation_candidates", errors=(400,), policy="service", query=_QUERY, since="1.10")
async def list_candidates(request: Request) -> Answer:
    """Hosts with room, and what they have and give."""
    query = request.query
    amounts = read_resources(query.resources)
    policy = getattr(query, "group_policy", None)
    if policy not in (None, "none", "isolate"):
        raise BadRequest("group_policy must be none or isolate.", field="group_policy")
    traits = [*getattr(query, "required", []), *getattr(query, "root_required", [])]
    required, forbidden = read_required(traits, any_of=request.at_least("1.39"))
    _check_known(amounts, {name for any_of in required for name in any_of} | forbidden)
    wanted = Wanted(resources=amounts, required=required, forbidden=forbidden, in_tree=getattr(query, "in_tree", None))
    in_aggregate = any(not value.startswith("!") for value in getattr(query, "member_of", []))
    limit: int = getattr(query, "limit", _LIMIT_DEFAULT)
    found: list[Provider] = []
    with request.snapshot() as snapshot:
        for provider in () if in_aggregate else placement.providers(snapshot, wanted):
            found.append(provider)
            if len(found) >= limit:
                break
    return fresh(
        request,
        {
            "allocation_requests": [_request(request, provider, amounts) for provider in found],
            "provider_summaries": {one.host.uuid: _summary(request, one, amounts) for one in found},
        },
    )


def _request(request: Request, provider: Provider, amounts: dict[str, int]) -> dict[str, Any]:
    uuid = provider.host.uuid
    if not request.at_least("1.12"):
        return {"allocations": [{"resource_provider": {"uuid": uuid}, "resources": amounts}]}
    body: dict[str, Any] = {"allocations": {uuid: {"resources": amounts}}}
    if request.at_least("1.34"):
        body["mappings"] = {"": [uuid]}
    return body


def _summary(request: Request, provider: Provider, amounts: dict[str, int]) -> dict[str, Any]:
    names = provider.inventory if request.at_least("1.27") else amounts
    resources = {name: {"capacity": provider.inventory[name].capacity, "used": provider.used[name]} for name in names}
    body: dict[str, Any] = {"resources": resources}
    if request.at_least("1.17"):
        body["traits"] = list(provider.traits)
    if request.at_least("1.29"):
        body |= {"parent_provider_uuid": None, "root_provider_uuid": provider.host.uuid}
    return body


def _check_known(amounts: dict[str, int], traits: set[str] | frozenset[str]) -> None:
    unknown = [name for name in amounts if name not in placement.RESOURCE_CLASSES]
    if unknown:
        raise BadRequest(
            f"Invalid resource class in resources parameter: No such resource class {unknown[0]}.", field="resources"
        )
    missing = sorted(traits - set(placement.TRAITS))
    if missing:
        raise BadRequest(f"No such trait(s): {', '.join(missing)}.", field="required")
