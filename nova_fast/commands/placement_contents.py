"""What a provider has and is: inventories, traits and aggregates. Those of a compute host are the host's own.

Whoever writes says on which generation he builds; another one is Conflict ``placement.concurrent_update``.
"""

from __future__ import annotations

import msgspec

from nova_fast.commands import placement_hosts
from nova_fast.commands.registry import command
from nova_fast.model.commands.placement import (
    ProviderResult,
    PutInventory,
    RemoveInventory,
    SetAggregates,
    SetInventories,
    SetTraits,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.hosts import Inventory
from nova_fast.model.placement import Provider, capacity_of, with_inventories
from nova_fast.queries import hosts, placement, placement_names
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

CONCURRENT = "placement.concurrent_update"
#: Of one provider: each is a part of its record, and of its host's.
INVENTORIES_MAX, TRAITS_MAX, AGGREGATES_MAX = 500, 1000, 1000
_CHANGED = "Resource provider's generation already changed. Please update the generation and try again."


@command(SetInventories)
def set_inventories(tx: Transaction, request: SetInventories) -> ProviderResult:
    """Replace all inventories. Raises NotFound, BadRequest, Conflict for another generation or one in use."""
    found = placement.need(tx, request.uuid)
    _check_generation(found, request.generation, "resource provider generation conflict")
    given = {own.resource_class: own for own in request.inventories}
    if len(given) > INVENTORIES_MAX:
        raise BadRequest(f"A provider may have at most {INVENTORIES_MAX} inventories.", field="inventories")
    for own in given.values():
        if not placement_names.has_resource_class(tx, own.resource_class):
            raise BadRequest(
                f"Unknown resource class in inventory for resource provider {found.uuid}: "
                f"No such resource class {own.resource_class}."
            )
        _check_capacity(found, own, request.may_reserve_all, "update")
    in_use = [name for name in found.inventories if name not in given and found.used.get(name)]
    if in_use:
        raise Conflict(
            f"update conflict: Inventory for '{', '.join(in_use)}' on resource provider '{found.uuid}' in use.",
            code="placement.inventory.inuse",
        )
    return _stored(tx, found, given)


@command(PutInventory)
def put_inventory(tx: Transaction, request: PutInventory) -> ProviderResult:
    """Add or change one. Raises NotFound, BadRequest, Conflict for another generation or one that is there."""
    found, own = placement.need(tx, request.uuid), request.inventory
    name = own.resource_class
    _check_generation(found, request.generation, "resource provider generation conflict")
    if not placement_names.has_resource_class(tx, name):
        unknown = f"No such resource class {name}."
        if not request.new:
            raise NotFound(unknown)
        raise BadRequest(f"Unable to create inventory for resource provider {found.uuid}: {unknown}")
    _check_capacity(found, own, request.may_reserve_all, "create" if request.new else "update")
    if request.new and name in found.inventories:
        raise Conflict(
            f"Update conflict: resource provider {found.uuid} has an inventory of class {name} already.",
            code=CONCURRENT,
        )
    if not request.new and name not in found.inventories:
        raise BadRequest(
            f"No inventory record with resource class for resource provider {found.uuid}: "
            f"No inventory of class {name} found."
        )
    if len(found.inventories) >= INVENTORIES_MAX and request.new:
        raise BadRequest(f"A provider may have at most {INVENTORIES_MAX} inventories.", field="inventories")
    return _stored(tx, found, {**found.inventories, name: own})


@command(RemoveInventory)
def remove_inventory(tx: Transaction, request: RemoveInventory) -> ProviderResult:
    """Take one away. Raises NotFound, or Conflict while something is taken of it."""
    found, name = placement.need(tx, request.uuid), request.resource_class
    if name not in found.inventories:
        raise NotFound(f"No inventory of class {name} found for delete: resource provider {found.uuid} has none of it.")
    if found.used.get(name):
        raise Conflict(
            f"Unable to delete inventory of class {name}: Inventory for '{name}' on resource provider "
            f"'{found.uuid}' in use.",
            code=CONCURRENT,
        )
    return _stored(tx, found, {other: own for other, own in found.inventories.items() if other != name})


@command(SetTraits)
def set_traits(tx: Transaction, request: SetTraits) -> ProviderResult:
    """Replace all traits but those a host has by itself. Raises NotFound, BadRequest, Conflict."""
    found = placement.need(tx, request.uuid)
    _check_generation(found, request.generation, _CHANGED)
    wanted = tuple(sorted(set(request.traits)))
    unknown = [name for name in wanted if name not in found.traits and not placement_names.has_trait(tx, name)]
    if unknown:
        raise BadRequest(f"No such trait {', '.join(unknown)}", field="traits")
    if len(wanted) > TRAITS_MAX:
        raise BadRequest(f"A provider may have at most {TRAITS_MAX} traits.", field="traits")
    if found.host:
        placement_hosts.set_traits(tx, found.host, wanted)
    elif wanted != found.traits:
        _change(tx, found, traits=wanted)
    return ProviderResult(provider=placement.need(tx, found.uuid))


@command(SetAggregates)
def set_aggregates(tx: Transaction, request: SetAggregates) -> ProviderResult:
    """Put a provider into these aggregates and out of others. Raises NotFound, Conflict.

    Before microversion 1.19 nobody gives a generation, and none is counted.
    """
    found = placement.need(tx, request.uuid)
    _check_generation(found, request.generation, _CHANGED)
    wanted = tuple(sorted(set(request.aggregates)))
    if len(wanted) > AGGREGATES_MAX:
        raise BadRequest(f"A provider may be in at most {AGGREGATES_MAX} aggregates.", field="aggregates")
    if found.host:
        placement_hosts.set_aggregates(tx, request.caller, found.host, wanted)
    else:
        _change(tx, found, counted=request.generation is not None, aggregates=wanted)
    return ProviderResult(provider=placement.need(tx, found.uuid))


def _check_generation(found: Provider, generation: int | None, sentence: str) -> None:
    if generation is not None and generation != found.generation:
        raise Conflict(sentence, code=CONCURRENT)


def _check_capacity(found: Provider, own: Inventory, may_reserve_all: bool, verb: str) -> None:
    capacity = capacity_of(own)
    if capacity < 0 or (capacity == 0 and not may_reserve_all):
        relation = "greater than" if may_reserve_all else "greater than or equal to"
        raise BadRequest(
            f"Unable to {verb} inventory for resource provider {found.uuid}: Invalid inventory for "
            f"'{own.resource_class}' on resource provider '{found.uuid}'. The reserved value is {relation} total."
        )


def _stored(tx: Transaction, found: Provider, inventories: dict[str, Inventory]) -> ProviderResult:
    if found.host:
        placement_hosts.set_inventories(tx, hosts.get(tx, found.host), inventories)
    else:
        record = tx.get(tables.PROVIDERS, found.uuid)
        assert record is not None
        _change(tx, found, inventories=with_inventories(record, inventories).inventories)
    return ProviderResult(provider=placement.need(tx, found.uuid))


def _change(tx: Transaction, found: Provider, counted: bool = True, **changes: tuple[object, ...]) -> None:
    """Change the record of a provider that is no host."""
    record = tx.get(tables.PROVIDERS, found.uuid)
    assert record is not None
    generation = record.generation + 1 if counted else record.generation
    tx.put(
        tables.PROVIDERS,
        msgspec.structs.replace(record, generation=generation, updated_at_us=tx.now_us, **changes),
    )
