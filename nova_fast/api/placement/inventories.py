"""Inventories: how much of each resource class a provider has.

Source: Placement API, "Resource provider inventories" and "Resource provider inventory".
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import NAME_PATTERN, Generation, face, fresh, located, need, no_inventory
from nova_fast.model.commands.placement import ProviderResult, PutInventory, RemoveInventory, SetInventories
from nova_fast.model.hosts import Inventory
from nova_fast.model.placement import AMOUNT_MAX, Provider

_RATIO_MAX = 3.40282e38
_Positive = Annotated[int, Meta(ge=1, le=AMOUNT_MAX)]


class InventoryBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One of several: the generation is beside them."""

    total: _Positive
    reserved: Annotated[int, Meta(ge=0, le=AMOUNT_MAX)] = 0
    min_unit: _Positive = 1
    max_unit: _Positive = AMOUNT_MAX
    step_size: _Positive = 1
    allocation_ratio: Annotated[float, Meta(ge=-_RATIO_MAX, le=_RATIO_MAX)] = 1.0
    resource_provider_generation: Generation | None = None


class OneInventory(InventoryBody, forbid_unknown_fields=True, kw_only=True):
    resource_provider_generation: Generation


class NewInventory(InventoryBody, forbid_unknown_fields=True, kw_only=True):
    resource_class: Annotated[str, Meta(pattern=NAME_PATTERN)]


class AllInventories(msgspec.Struct, forbid_unknown_fields=True):
    inventories: dict[str, InventoryBody]
    resource_provider_generation: Generation


def _inventory(name: str, body: InventoryBody) -> Inventory:
    return Inventory(
        resource_class=name,
        total=body.total,
        reserved=body.reserved,
        min_unit=body.min_unit,
        max_unit=body.max_unit,
        step_size=body.step_size,
        allocation_ratio=body.allocation_ratio,
    )


def _body(inventory: Inventory) -> dict[str, Any]:
    return {
        "total": inventory.total,
        "reserved": inventory.reserved,
        "min_unit": inventory.min_unit,
        "max_unit": inventory.max_unit,
        "step_size": inventory.step_size,
        "allocation_ratio": inventory.allocation_ratio,
    }


def _all(request: Request, provider: Provider) -> Answer:
    inventories = {name: _body(own) for name, own in provider.inventories.items()}
    return fresh(request, {"inventories": inventories, "resource_provider_generation": provider.generation})


def _one(request: Request, provider: Provider, resource_class: str) -> Answer:
    body = _body(provider.inventories[resource_class])
    return fresh(request, body | {"resource_provider_generation": provider.generation})


@face.route("GET", "/resource_providers/{uuid}/inventories", errors=(404,), policy="service")
async def list_inventories(request: Request, uuid: str) -> Answer:
    """What it has."""
    return _all(request, need(request, uuid))


@face.route(
    "PUT", "/resource_providers/{uuid}/inventories", errors=(400, 404, 409), policy="service", body=AllInventories
)
async def set_inventories(request: Request, uuid: str) -> Answer:
    """Let it have these and no others; what a host gives out is changed with them."""
    command = SetInventories(
        caller=request.caller,
        uuid=uuid,
        generation=request.body.resource_provider_generation,
        inventories=tuple(_inventory(name, one) for name, one in request.body.inventories.items()),
        may_reserve_all=request.at_least("1.26"),
    )
    changed: ProviderResult = await request.command(command)
    return _all(request, changed.provider)


@face.route(
    "POST",
    "/resource_providers/{uuid}/inventories",
    ok=201,
    errors=(400, 404, 409),
    policy="service",
    body=NewInventory,
)
async def create_inventory(request: Request, uuid: str) -> Answer:
    """Add one of a resource class that it does not have."""
    name = request.body.resource_class
    answer = await _put(request, uuid, _inventory(name, request.body), None)
    return located(request, answer, f"/resource_providers/{uuid}/inventories/{name}")


@face.route("DELETE", "/resource_providers/{uuid}/inventories", ok=204, errors=(404, 405, 409), policy="service")
async def delete_inventories(request: Request, uuid: str) -> Answer | None:
    """Take all away; what a host has by itself goes back to what its configuration says."""
    if not request.at_least("1.5"):
        return face.problem(405, "The method specified is not allowed for this resource.")
    await request.command(SetInventories(caller=request.caller, uuid=uuid, generation=None, inventories=()))
    return None


@face.route("GET", "/resource_providers/{uuid}/inventories/{resource_class}", errors=(404,), policy="service")
async def show_inventory(request: Request, uuid: str, resource_class: str) -> Answer:
    """What it has of one resource class."""
    provider = need(request, uuid)
    if resource_class not in provider.inventories:
        raise no_inventory(uuid, resource_class)
    return _one(request, provider, resource_class)


@face.route(
    "PUT",
    "/resource_providers/{uuid}/inventories/{resource_class}",
    errors=(400, 404, 409),
    policy="service",
    body=OneInventory,
)
async def update_inventory(request: Request, uuid: str, resource_class: str) -> Answer:
    """Change what it has of a resource class."""
    generation = request.body.resource_provider_generation
    return await _put(request, uuid, _inventory(resource_class, request.body), generation)


@face.route(
    "DELETE",
    "/resource_providers/{uuid}/inventories/{resource_class}",
    ok=204,
    errors=(404, 409),
    policy="service",
)
async def delete_inventory(request: Request, uuid: str, resource_class: str) -> None:
    """Take one away."""
    await request.command(RemoveInventory(caller=request.caller, uuid=uuid, resource_class=resource_class))


async def _put(request: Request, uuid: str, inventory: Inventory, generation: int | None) -> Answer:
    """Add one, where no generation is given, else change it."""
    command = PutInventory(
        caller=request.caller,
        uuid=uuid,
        generation=generation,
        inventory=inventory,
        new=generation is None,
        may_reserve_all=request.at_least("1.26"),
    )
    changed: ProviderResult = await request.command(command)
    return _one(request, changed.provider, inventory.resource_class)
