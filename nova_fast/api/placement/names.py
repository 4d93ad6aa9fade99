"""The traits and resource classes there are, and those that operators make.

Source: Placement API, "Traits" and "Resource Classes".
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import CUSTOM_PATTERN, NAME_CHARACTERS_MAX, face, fresh, is_custom, located
from nova_fast.model.commands.placement import (
    NameResult,
    PutResourceClass,
    PutTrait,
    RemoveResourceClass,
    RemoveTrait,
    RenameResourceClass,
)
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.queries import placement_names


class TraitQuery(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    associated: str | None = None


class ClassBody(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=CUSTOM_PATTERN, max_length=NAME_CHARACTERS_MAX)]


@face.route("GET", "/traits", errors=(400,), policy="service", query=TraitQuery, since="1.6")
async def list_traits(request: Request) -> Answer:
    """All traits, those a provider has, or those of some names."""
    query: TraitQuery = request.query
    with request.snapshot() as snapshot:
        names = placement_names.traits(snapshot)
        if query.associated is not None:
            if query.associated.lower() not in ("true", "false"):
                raise BadRequest('The query parameter "associated" only accepts "true" or "false"')
            used = placement_names.traits_in_use(snapshot)
            names = names & used if query.associated.lower() == "true" else names - used
    if query.name is not None:
        how, colon, rest = query.name.partition(":")
        if not colon:
            raise BadRequest(
                "Badly formatted name parameter. Expected name query string parameter in form: "
                f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{query.name[:200]}"'
            )
        if how == "in":
            names &= set(rest.split(","))
        elif how == "startswith":
            names = frozenset(name for name in names if name.startswith(rest))
    return fresh(request, {"traits": sorted(names)})


@face.route("GET", "/traits/{name}", ok=204, errors=(404,), policy="service", since="1.6")
async def show_trait(request: Request, name: str) -> Answer:
    """Whether there is such a trait."""
    with request.snapshot() as snapshot:
        if not placement_names.has_trait(snapshot, name):
            raise NotFound(f"No such trait(s): {name}.", code="trait_not_found")
    return fresh(request, None)


@face.route("PUT", "/traits/{name}", ok=201, errors=(204, 400), policy="service", since="1.6")
async def put_trait(request: Request, name: str) -> Answer:
    """Make a trait: 201, or 204 when it is there."""
    if not is_custom(name):
        raise BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    made: NameResult = await request.command(PutTrait(caller=request.caller, name=name))
    answer = fresh(request, None, 201 if made.created else 204)
    return located(request, answer, f"/traits/{name}")


@face.route("DELETE", "/traits/{name}", ok=204, errors=(400, 404, 409), policy="service", since="1.6")
async def delete_trait(request: Request, name: str) -> None:
    """Remove a trait that no provider has."""
    await request.command(RemoveTrait(caller=request.caller, name=name))


@face.route("GET", "/resource_classes", policy="service", since="1.2")
async def list_resource_classes(request: Request) -> Answer:
    """All resource classes."""
    with request.snapshot() as snapshot:
        names = placement_names.resource_classes(snapshot)
    return fresh(request, {"resource_classes": [_class(name) for name in names]})


@face.route("POST", "/resource_classes", ok=201, errors=(400, 409), policy="service", body=ClassBody, since="1.2")
async def create_resource_class(request: Request) -> Answer:
    """Make a resource class."""
    await request.command(PutResourceClass(caller=request.caller, name=request.body.name, must_be_new=True))
    return located(request, Answer(), f"/resource_classes/{request.body.name}")


@face.route("GET", "/resource_classes/{name}", errors=(404,), policy="service", since="1.2")
async def show_resource_class(request: Request, name: str) -> Answer:
    """One of them."""
    with request.snapshot() as snapshot:
        if not placement_names.has_resource_class(snapshot, name):
            raise NotFound(f"No such resource class {name}.", code="resource_class_not_found")
    return fresh(request, _class(name))


@face.route(
    "PUT",
    "/resource_classes/{name}",
    errors=(400, 404, 409),
    policy="service",
    body=ClassBody,
    since="1.2",
    until="1.6",
)
async def rename_resource_class(request: Request, name: str) -> Answer:
    """Give one that nobody uses another name."""
    command = RenameResourceClass(caller=request.caller, name=name, new_name=request.body.name)
    changed: NameResult = await request.command(command)
    return fresh(request, _class(changed.name))


@face.route("PUT", "/resource_classes/{name}", ok=201, errors=(204, 400), policy="service", since="1.7")
async def put_resource_class(request: Request, name: str) -> Answer:
    """Make a resource class: 201, or 204 when it is there."""
    if not is_custom(name):
        raise BadRequest(f"JSON does not validate: '{name[:80]}' does not match '{CUSTOM_PATTERN}'")
    made: NameResult = await request.command(PutResourceClass(caller=request.caller, name=name))
    return located(request, Answer(status=201 if made.created else 204), f"/resource_classes/{name}")


@face.route("DELETE", "/resource_classes/{name}", ok=204, errors=(400, 404, 409), policy="service", since="1.2")
async def delete_resource_class(request: Request, name: str) -> None:
    """Remove a resource class of which no provider has an inventory."""
    await request.command(RemoveResourceClass(caller=request.caller, name=name))


def _class(name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": f"/resource_classes/{name}"}]}
