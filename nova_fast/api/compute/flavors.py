"""Flavors and who may use them. Extra specs are in ``flavor_specs``.

Source: Compute API v2.1, "Flavors" and "Flavors access".
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.compute import shapes
from nova_fast.api.compute.face import face
from nova_fast.api.framework.paging import clamp_limit, page
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.flavors import (
    ChangeFlavorAccess,
    CreateFlavor,
    DeleteFlavor,
    FlavorResult,
    UpdateFlavor,
)
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.flavors import Flavor
from nova_fast.queries import flavors
from nova_fast.queries.flavors import FlavorFilter

Number = int | str
_ID = re.compile(r"[a-zA-Z0-9._-](?:[a-zA-Z0-9. _-]{0,253}[a-zA-Z0-9._-])?")
_EPHEMERAL = "OS-FLV-EXT-DATA:ephemeral"
_IS_PUBLIC = "os-flavor-access:is_public"
_RXTX_MAX = 3.40282e38


class NewFlavor(msgspec.Struct, forbid_unknown_fields=True):
    """Before microversion 2.55."""

    name: str
    ram: Number
    vcpus: Number
    disk: Number
    id: str | int | float | None = None
    ephemeral: Number = msgspec.field(default=0, name=_EPHEMERAL)
    swap: Number = 0
    rxtx_factor: float | str = 1.0
    is_public: bool | int | str = msgspec.field(default=True, name=_IS_PUBLIC)


class DescribedFlavor(NewFlavor, forbid_unknown_fields=True):
    """Since microversion 2.55."""

    description: Annotated[str, Meta(max_length=65535)] | None = None


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    flavor: NewFlavor


class CreateBody255(msgspec.Struct, forbid_unknown_fields=True):
    flavor: DescribedFlavor


class Description(msgspec.Struct, forbid_unknown_fields=True):
    description: Annotated[str, Meta(max_length=65535)] | None


class UpdateBody(msgspec.Struct, forbid_unknown_fields=True):
    flavor: Description


class Tenant(msgspec.Struct, forbid_unknown_fields=True):
    tenant: Annotated[str, Meta(min_length=1, max_length=255)]


class ListQuery(msgspec.Struct):
    """Before microversion 2.75 unknown parameters are ignored."""

    limit: int | None = None
    marker: str | None = None
    is_public: str | None = None
    min_ram: str | None = msgspec.field(default=None, name="minRam")
    min_disk: str | None = msgspec.field(default=None, name="minDisk")
    sort_key: str = "flavorid"
    sort_dir: str = "asc"


class StrictListQuery(ListQuery, forbid_unknown_fields=True):
    """Since microversion 2.75 they are refused."""


LIST_QUERY = {"2.1": ListQuery, "2.75": StrictListQuery}


def flavor_body(request: Request, flavor: Flavor) -> dict[str, Any]:
    """A flavor as this microversion shows it."""
    body: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "ram": flavor.ram_mib,
        "disk": flavor.disk_gib,
        "swap": flavor.swap_mib if flavor.swap_mib or request.at_least("2.75") else "",
        _EPHEMERAL: flavor.ephemeral_gib,
        "OS-FLV-DISABLED:disabled": False,
        "vcpus": flavor.vcpus,
        _IS_PUBLIC: flavor.is_public,
        "rxtx_factor": flavor.rxtx_factor,
        "links": shapes.links(request, "flavors", flavor.id),
    }
    if request.at_least("2.55"):
        body["description"] = flavor.description
    if request.at_least("2.61"):
        body["extra_specs"] = flavor.extra_specs
    return body


@face.route("GET", "/flavors", errors=(400,), query=LIST_QUERY)
async def list_flavors(request: Request) -> dict[str, Any]:
    """Ids and names."""
    rows, limit = _rows(request)
    entries = []
    for flavor in rows:
        entry = {"id": flavor.id, "name": flavor.name, "links": shapes.links(request, "flavors", flavor.id)}
        if request.at_least("2.55"):
            entry["description"] = flavor.description  # type: ignore[assignment]
        entries.append(entry)
    return {"flavors": entries, **page(request, rows, limit, "flavors", lambda flavor: flavor.id)}


@face.route("GET", "/flavors/detail", errors=(400,), policy="reader", query=LIST_QUERY)
async def list_flavors_in_detail(request: Request) -> dict[str, Any]:
    """Everything about each."""
    rows, limit = _rows(request)
    entries = [flavor_body(request, flavor) for flavor in rows]
    return {"flavors": entries, **page(request, rows, limit, "flavors", lambda flavor: flavor.id)}


@face.route("GET", "/flavors/{flavor_id}", errors=(404,), policy="reader")
async def show_flavor(request: Request, flavor_id: str) -> dict[str, Any]:
    """One flavor."""
    with request.snapshot() as snapshot:
        flavor = flavors.get(snapshot, flavor_id, request.caller)
    return {"flavor": flavor_body(request, flavor)}


@face.route("POST", "/flavors", errors=(400, 409), policy="admin", body={"2.1": CreateBody, "2.55": CreateBody255})
async def create_flavor(request: Request) -> dict[str, Any]:
    """Make a flavor."""
    asked: NewFlavor = request.body.flavor
    result: FlavorResult = await request.command(
        CreateFlavor(
            caller=request.caller,
            id=_new_id(asked.id),
            name=shapes.printable_name(asked.name, "name"),
            vcpus=shapes.whole_number(asked.vcpus, "vcpus", 1),
            ram_mib=shapes.whole_number(asked.ram, "ram", 1),
            disk_gib=shapes.whole_number(asked.disk, "disk"),
            ephemeral_gib=shapes.whole_number(asked.ephemeral, _EPHEMERAL),
            swap_mib=shapes.whole_number(asked.swap, "swap"),
            rxtx_factor=_rxtx_factor(asked.rxtx_factor),
            is_public=shapes.truth(asked.is_public, _IS_PUBLIC),
            description=asked.description if isinstance(asked, DescribedFlavor) else None,
        )
    )
    return {"flavor": flavor_body(request, result.flavor)}


@face.route("PUT", "/flavors/{flavor_id}", errors=(400, 404), policy="admin", body=UpdateBody, since="2.55")
async def update_flavor(request: Request, flavor_id: str) -> dict[str, Any]:
    """Change the description."""
    description = request.body.flavor.description
    result: FlavorResult = await request.command(
        UpdateFlavor(caller=request.caller, flavor_id=flavor_id, description=description)
    )
    return {"flavor": flavor_body(request, result.flavor)}


@face.route("DELETE", "/flavors/{flavor_id}", ok=202, errors=(404,), policy="admin")
async def delete_flavor(request: Request, flavor_id: str) -> None:
    """Remove a flavor."""
    await request.command(DeleteFlavor(caller=request.caller, flavor_id=flavor_id))


@face.route("GET", "/flavors/{flavor_id}/os-flavor-access", errors=(404,), policy="admin")
async def list_access(request: Request, flavor_id: str) -> dict[str, Any]:
    """The projects that may use a private flavor. A public one has no list."""
    with request.snapshot() as snapshot:
        flavor = flavors.get(snapshot, flavor_id, request.caller)
    if flavor.is_public:
        raise NotFound("Access list not available for public flavors.")
    return _access(flavor)


@face.route(
    "POST",
    "/flavors/{flavor_id}/action",
    errors=(400, 403, 404, 409),
    policy="admin",
    action="addTenantAccess",
    body=Tenant,
)
async def add_access(request: Request, flavor_id: str) -> dict[str, Any]:
    """Let a project use a private flavor."""
    return await _change_access(request, flavor_id, present=True)


@face.route(
    "POST",
    "/flavors/{flavor_id}/action",
    errors=(400, 403, 404),
    policy="admin",
    action="removeTenantAccess",
    body=Tenant,
)
async def remove_access(request: Request, flavor_id: str) -> dict[str, Any]:
    """Let it no longer."""
    return await _change_access(request, flavor_id, present=False)


async def _change_access(request: Request, flavor_id: str, *, present: bool) -> dict[str, Any]:
    result: FlavorResult = await request.command(
        ChangeFlavorAccess(
            caller=request.caller,
            flavor_id=flavor_id,
            project_id=request.body.tenant,
            present=present,
            refuse_public=request.at_least("2.7"),
        )
    )
    return _access(result.flavor)


def _access(flavor: Flavor) -> dict[str, Any]:
    return {"flavor_access": [{"flavor_id": flavor.id, "tenant_id": project} for project in flavor.access]}


def _rows(request: Request) -> tuple[list[Flavor], int]:
    query: ListQuery = request.query
    limit = clamp_limit(request, query.limit)
    if query.sort_dir not in ("asc", "desc"):
        raise BadRequest("Invalid input for field/attribute sort_dir. It must be asc or desc.", field="sort_dir")
    wanted = FlavorFilter(
        is_public=_is_public(query.is_public),
        min_ram_mib=0 if query.min_ram is None else shapes.whole_number(query.min_ram, "minRam"),
        min_disk_gib=0 if query.min_disk is None else shapes.whole_number(query.min_disk, "minDisk"),
        sort_key=query.sort_key,
        reverse=query.sort_dir == "desc",
        marker=query.marker,
        limit=limit,
    )
    with request.snapshot() as snapshot:
        return flavors.listing(snapshot, wanted, request.caller), limit


def _is_public(text: str | None) -> bool | None:
    if text is None:
        return True
    if text.lower() == "none":
        return None
    return shapes.truth(text, "is_public")


def _new_id(value: str | float | None) -> str:
    if value is None or value == "auto":
        return ""
    text = str(value)
    if not _ID.fullmatch(text):
        raise BadRequest(
            "Invalid input for field/attribute id. It may have 1 to 255 letters, digits, spaces, dots, dashes and "
            "underscores, and must not begin or end with a space.",
            field="id",
        )
    return text


def _rxtx_factor(value: float | str) -> float:
    try:
        factor = float(value)
    except ValueError:
        factor = 0.0
    if not 0 < factor <= _RXTX_MAX:
        raise BadRequest("Invalid input for field/attribute rxtx_factor. It must be above 0.", field="rxtx_factor")
    return factor
