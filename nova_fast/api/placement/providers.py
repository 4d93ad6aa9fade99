"""Resource providers: hosts, and what operators and services made beside them; what is taken of each.

Source: Placement API, "Resource providers", "Resource provider usages" and "Resource provider allocations".
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.conditions import check_names, read_conditions
from nova_fast.api.placement.face import face, fresh, located, need, read_uuid
from nova_fast.model.commands.placement import CreateProvider, ProviderResult, RemoveProvider, UpdateProvider
from nova_fast.model.placement import Provider
from nova_fast.queries import placement, placement_search

_SUB_COLLECTIONS = (
    ("1.0", "inventories"),
    ("1.0", "usages"),
    ("1.1", "aggregates"),
    ("1.6", "traits"),
    ("1.11", "allocations"),
)
_Name = Annotated[str, Meta(max_length=200)]


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


class NewProvider(msgspec.Struct, forbid_unknown_fields=True):
    name: _Name
    uuid: str | None = None


class NewProvider114(NewProvider, forbid_unknown_fields=True):
    parent_provider_uuid: str | None = None


class ChangedProvider(msgspec.Struct, forbid_unknown_fields=True):
    name: _Name


class ChangedProvider114(ChangedProvider, forbid_unknown_fields=True):
    parent_provider_uuid: str | UnsetType | None = UNSET


def _body(request: Request, provider: Provider) -> dict[str, Any]:
    path = f"/resource_providers/{provider.uuid}"
    links = [{"rel": "self", "href": path}]
    links += [{"rel": rel, "href": f"{path}/{rel}"} for since, rel in _SUB_COLLECTIONS if request.at_least(since)]
    body: dict[str, Any] = {
        "uuid": provider.uuid,
        "name": provider.name,
        "generation": provider.generation,
        "links": links,
    }
    if request.at_least("1.14"):
        body |= {"parent_provider_uuid": provider.parent or None, "root_provider_uuid": provider.root}
    return body


@face.route("GET", "/resource_providers", errors=(400,), policy="service", query=_LIST_QUERY)
async def list_providers(request: Request) -> Answer:
    """Those that meet every condition."""
    query, values = request.query, dict[str, list[str]]()
    for key, value in request.query_pairs():
        values.setdefault(key, []).append(value)
    wanted = read_conditions(request, values)
    uuid = None if query.uuid is None else read_uuid(query.uuid, "uuid")
    with request.snapshot() as snapshot:
        check_names(snapshot, (wanted,), 'Invalid trait(s) in "required" parameter: ')
        found = list(placement_search.matching(snapshot, wanted, query.name or None, uuid))
    return fresh(request, {"resource_providers": [_body(request, one) for one in found]})


@face.route(
    "POST",
    "/resource_providers",
    ok={"1.0": 201, "1.20": 200},
    errors=(400, 409),
    policy="service",
    body={"1.0": NewProvider, "1.14": NewProvider114},
)
async def create_provider(request: Request) -> Answer:
    """Make one that is no host."""
    body = request.body
    parent = getattr(body, "parent_provider_uuid", None)
    command = CreateProvider(
        caller=request.caller,
        name=body.name,
        uuid="" if body.uuid is None else read_uuid(body.uuid, "uuid"),
        parent="" if parent is None else read_uuid(parent, "parent_provider_uuid"),
    )
    made: ProviderResult = await request.command(command)
    answer = fresh(request, _body(request, made.provider) if request.at_least("1.20") else None)
    return located(request, answer, f"/resource_providers/{made.provider.uuid}")


@face.route("GET", "/resource_providers/{uuid}", errors=(404,), policy="service")
async def show_provider(request: Request, uuid: str) -> Answer:
    """One provider."""
    return fresh(request, _body(request, need(request, uuid)))


@face.route(
    "PUT",
    "/resource_providers/{uuid}",
    errors=(400, 404, 409),
    policy="service",
    body={"1.0": ChangedProvider, "1.14": ChangedProvider114},
)
async def update_provider(request: Request, uuid: str) -> Answer:
    """Rename it, or hang it below another. A host keeps its name and stands alone."""
    parent = getattr(request.body, "parent_provider_uuid", UNSET)
    if isinstance(parent, str):
        parent = read_uuid(parent, "parent_provider_uuid")
    command = UpdateProvider(
        caller=request.caller,
        uuid=uuid,
        name=request.body.name,
        parent="" if parent is None else parent,
        may_move=request.at_least("1.37"),
    )
    changed: ProviderResult = await request.command(command)
    return fresh(request, _body(request, changed.provider))


@face.route("DELETE", "/resource_providers/{uuid}", ok=204, errors=(404, 409), policy="service")
async def delete_provider(request: Request, uuid: str) -> None:
    """Remove one that is no host, gives nothing to anybody and has none below it."""
    await request.command(RemoveProvider(caller=request.caller, uuid=uuid))


@face.route("GET", "/resource_providers/{uuid}/usages", errors=(404,), policy="service")
async def list_usages(request: Request, uuid: str) -> Answer:
    """What is taken of it."""
    provider = need(request, uuid)
    used = {name: provider.used.get(name, 0) for name in provider.inventories}
    return fresh(request, {"usages": used, "resource_provider_generation": provider.generation})


@face.route("GET", "/resource_providers/{uuid}/allocations", errors=(404,), policy="service")
async def list_allocations(request: Request, uuid: str) -> Answer:
    """Who takes what of it."""
    with request.snapshot() as snapshot:
        provider = placement.need(snapshot, uuid)
        taken = placement.taken_of(snapshot, provider)
    allocations: dict[str, Any] = {}
    for one in taken:
        entry: dict[str, Any] = {"resources": one.resources}
        if request.at_least("1.28"):
            entry["consumer_generation"] = one.generation
        allocations[one.consumer] = entry
    return fresh(request, {"allocations": allocations, "resource_provider_generation": provider.generation})
