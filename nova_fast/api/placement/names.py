"""The traits and resource classes there are. Own ones cannot be made yet.

Source: Placement API, "Traits" and "Resource Classes".
"""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import face, fresh
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.queries import placement


class TraitQuery(msgspec.Struct, forbid_unknown_fields=True):
    name: str | None = None
    associated: str | None = None


@face.route("GET", "/traits", errors=(400,), policy="service", query=TraitQuery, since="1.6")
async def list_traits(request: Request) -> Answer:
    """All traits, those a provider has, or those of some names."""
    query: TraitQuery = request.query
    names = set(placement.TRAITS)
    if query.associated is not None:
        if query.associated.lower() not in ("true", "false"):
            raise BadRequest("associated must be true or false.", field="associated")
        with request.snapshot() as snapshot:
            used = {trait for one in placement.providers(snapshot, placement.Wanted()) for trait in one.traits}
        names = names & used if query.associated.lower() == "true" else names - used
    if query.name is not None:
        how, colon, rest = query.name.partition(":")
        if how == "in" and colon:
            names &= set(rest.split(","))
        elif how == "startswith" and colon:
            names = {name for name in names if name.startswith(rest)}
        else:
            raise BadRequest("Badly formatted name parameter: use in: or startswith:.", field="name")
    return fresh(request, {"traits": sorted(names)})


@face.route("GET", "/traits/{name}", ok=204, errors=(404,), policy="service", since="1.6")
async def show_trait(request: Request, name: str) -> None:
    """Whether there is such a trait."""
    if name not in placement.TRAITS:
        raise NotFound(f"No such trait(s): {name}.", code="trait_not_found")


@face.route("GET", "/resource_classes", policy="service", since="1.2")
async def list_resource_classes(request: Request) -> Answer:
    """All resource classes."""
    return fresh(request, {"resource_classes": [_class(name) for name in placement.RESOURCE_CLASSES]})


@face.route("GET", "/resource_classes/{name}", errors=(404,), policy="service", since="1.2")
async def show_resource_class(request: Request, name: str) -> Answer:
    """One of them."""
    if name not in placement.RESOURCE_CLASSES:
        raise NotFound(f"No such resource class {name}.", code="resource_class_not_found")
    return fresh(request, _class(name))


def _class(name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": f"/resource_classes/{name}"}]}
