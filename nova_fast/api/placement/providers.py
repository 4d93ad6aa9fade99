"""Resource providers: the hosts, with their inventories, usages, traits and allocations.

Source: Placement API, "Resource providers" and what lies below them.
"""

from __future__ import annotations

import uuid as uuids
from typing import Any

import msgspec

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import face, fresh, read_required, read_resources
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.hosts import claim_of
from nova_fast.queries import placement
from nova_fast.queries.placement import Inventory, Provider, Wanted

_SUB_COLLECTIONS = (
    ("1.0", "inventories"),
    ("1.0", "usages"),
    ("1.1", "aggregates"),
    ("1.6", "traits"),
    ("1.11", "allocations"),
)
_UNITS_MAX = 0x7FFFFFFF


class ListQuery(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    uuid: str | None = None


class ListQuery13(ListQuery, forbid_unknown_fields=True):
    member_of: list[str] = []


class ListQuery14(ListQuery13, forbid_unknown_fields=True):
    resources: str | None = None


class ListQuery114(ListQuery14, forbid_unknown_fields=True):
    in_tree: str | None = None


class ListQuery118(ListQuery114, forbid_unknown_fields=True):
    required: list[str] = []


_LIST_QUERY = {
    "1.0": ListQuery, "1.3": ListQuery13, "1.4": ListQuery14, "1.14": ListQuery114, "1.18": ListQuery118,
}  # fmt: skip


def _body(request: Request, provider: Provider) -> dict[str, Any]:
    host = provider.host
    path = f"/resource_providers/{host.uuid}"
    links = [{"rel": "self", "href": path}]
    links += [{"rel": rel, "href": f"{path}/{rel}"} for since, rel in _SUB_COLLECTIONS if request.at_least(since)]
    body: dict[str, Any] = {"uuid": host.uuid, "name": host.name, "generation": provider.generation, "links": links}
    if request.at_least("1.14"):
        body |= {"parent_provider_uuid": None, "root_provider_uuid": host.uuid}
    return body


def inventory_body(inventory: Inventory) -> dict[str, Any]:
    """One resource class of a provider, all of which a single consumer may take."""
    return {
        "total": inventory.total,
        "reserved": inventory.reserved,
        "min_unit": 1,
        "max_unit": min(inventory.total, _UNITS_MAX),
        "step_size": 1,
        "allocation_ratio": inventory.allocation_ratio,
    }


@face.route("GET", "/resource_providers", errors=(400,), policy="service", query=_LIST_QUERY)
async def list_providers(request: Request) -> Answer:
    """Those that meet every condition."""
    query = request.query
    required, forbidden = read_required(getattr(query, "required", []), any_of=request.at_least("1.39"))
    resources = getattr(query, "resources", None)
    for field in ("uuid", "in_tree"):
        _check_uuid(getattr(query, field, None), field)
    wanted = Wanted(
        name=query.name,
        uuid=query.uuid,
        in_tree=getattr(query, "in_tree", None),
        resources={} if resources is None else read_resources(resources),
        required=required,
        forbidden=forbidden,
    )
    # No provider is in any aggregate, so only the negated form of member_of finds some.
    in_aggregate = any(not value.startswith("!") for value in getattr(query, "member_of", []))
    with request.snapshot() as snapshot:
        found = [] if in_aggregate else list(placement.providers(snapshot, wanted))
    return fresh(request, {"resource_providers": [_body(request, one) for one in found]})


@face.route("GET", "/resource_providers/{uuid}", errors=(404,), policy="service")
async def show_provider(request: Request, uuid: str) -> Answer:
    """One provider."""
    return fresh(request, _body(request, _need(request, uuid)))


@face.route("GET", "/resource_providers/{uuid}/inventories", errors=(404,), policy="service")
async def list_inventories(request: Request, uuid: str) -> Answer:
    """What it has."""
    provider = _need(request, uuid)
    inventories = {name: inventory_body(one) for name, one in provider.inventory.items()}
    return fresh(request, {"inventories": inventories, "resource_provider_generation": provider.generation})


@face.route("GET", "/resource_providers/{uuid}/inventories/{resource_class}", errors=(404,), policy="service")
async def show_inventory(request: Request, uuid: str, resource_class: str) -> Answer:
    """What it has of one resource class."""
    provider = _need(request, uuid)
    if resource_class not in provider.inventory:
        raise _no_inventory(uuid, resource_class)
    body = inventory_body(provider.inventory[resource_class])
    return fresh(request, body | {"resource_provider_generation": provider.generation})


@face.route("GET", "/resource_providers/{uuid}/usages", errors=(404,), policy="service")
async def list_usages(request: Request, uuid: str) -> Answer:
    """What is taken of it."""
    provider = _need(request, uuid)
    used = {name: provider.used[name] for name in provider.inventory}
    return fresh(request, {"usages": used, "resource_provider_generation": provider.generation})


@face.route("GET", "/resource_providers/{uuid}/aggregates", errors=(404,), policy="service", since="1.1")
async def list_aggregates(request: Request, uuid: str) -> Answer:
    """Aggregates cannot be made yet, so a provider is in none."""
    provider = _need(request, uuid)
    body: dict[str, Any] = {"aggregates": []}
    if request.at_least("1.19"):
        body["resource_provider_generation"] = provider.generation
    return fresh(request, body)


@face.route("GET", "/resource_providers/{uuid}/traits", errors=(404,), policy="service", since="1.6")
async def list_traits(request: Request, uuid: str) -> Answer:
    """What it is and can do."""
    provider = _need(request, uuid)
    return fresh(request, {"traits": list(provider.traits), "resource_provider_generation": provider.generation})


@face.route("GET", "/resource_providers/{uuid}/allocations", errors=(404,), policy="service")
async def list_allocations(request: Request, uuid: str) -> Answer:
    """Who takes what of it."""
    with request.snapshot() as snapshot:
        provider = placement.need(snapshot, uuid)
        servers = placement.consumers_of(snapshot, provider.host.name)
    allocations: dict[str, Any] = {}
    for server in servers:
        entry: dict[str, Any] = {"resources": placement.amounts_of(claim_of(server.flavor))}
        if request.at_least("1.28"):
            entry["consumer_generation"] = 1
        allocations[server.id] = entry
    return fresh(request, {"allocations": allocations, "resource_provider_generation": provider.generation})


def _need(request: Request, uuid: str) -> Provider:
    with request.snapshot() as snapshot:
        return placement.need(snapshot, uuid)


def _no_inventory(uuid: str, resource_class: str) -> NotFound:
    return NotFound(f"No inventory of class {resource_class} for {uuid}", code="inventory_not_found")


def _check_uuid(text: str | None, field: str) -> None:
    if text is None:
        return
    try:
        uuids.UUID(text)
    except ValueError:
        raise BadRequest(f"Invalid query string parameters: {field} is not a UUID.", field=field) from None
