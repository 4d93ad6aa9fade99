"""Traits and resource classes that operators make: CUSTOM_ names, removed only when nobody uses them."""

from __future__ import annotations

from nova_fast.commands.registry import command
from nova_fast.model.commands.placement import (
    NameResult,
    PutResourceClass,
    PutTrait,
    RemoveResourceClass,
    RemoveTrait,
    RenameResourceClass,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.placement import CUSTOM, ResourceClass, Trait
from nova_fast.model.tasks import Done
from nova_fast.queries import placement_names as names
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

#: Every list of them shows all.
NAMES_MAX = 10_000


@command(PutTrait)
def put_trait(tx: Transaction, request: PutTrait) -> NameResult:
    """Make a trait, unless it is there."""
    if tx.get(tables.TRAITS, request.name) is not None:
        return NameResult(name=request.name, created=False)
    if tx.size(tables.TRAITS) >= NAMES_MAX:
        raise Conflict(f"There are {NAMES_MAX} custom traits already.")
    tx.insert(tables.TRAITS, Trait(name=request.name, created_at_us=tx.now_us))
    return NameResult(name=request.name, created=True)


@command(RemoveTrait)
def remove_trait(tx: Transaction, request: RemoveTrait) -> Done:
    """Remove a trait. Raises NotFound, BadRequest for a standard one, Conflict while a provider has it."""
    name = request.name
    if not names.has_trait(tx, name):
        raise NotFound(f"No such trait(s): {name}.")
    if not name.startswith(CUSTOM):
        raise BadRequest(f"Cannot delete standard trait {name}.")
    if name in names.traits_in_use(tx):
        raise Conflict(f"The trait {name} is in use by a resource provider.")
    tx.delete(tables.TRAITS, name)
    return Done()


@command(PutResourceClass)
def put_resource_class(tx: Transaction, request: PutResourceClass) -> NameResult:
    """Make a resource class. Raises Conflict when it is there and must be new."""
    if tx.get(tables.RESOURCE_CLASSES, request.name) is not None:
        if request.must_be_new:
            raise Conflict(f"Conflicting resource class already exists: {request.name}")
        return NameResult(name=request.name, created=False)
    if tx.size(tables.RESOURCE_CLASSES) >= NAMES_MAX:
        raise Conflict(f"There are {NAMES_MAX} custom resource classes already.")
    tx.insert(tables.RESOURCE_CLASSES, ResourceClass(name=request.name, created_at_us=tx.now_us))
    return NameResult(name=request.name, created=True)


@command(RenameResourceClass)
def rename_resource_class(tx: Transaction, request: RenameResourceClass) -> NameResult:
    """Rename a resource class. Raises NotFound, BadRequest for a standard one, Conflict when that cannot be.

    One in use keeps its name: flavors and clients ask for it.
    """
    old = _custom(tx, request.name, "Cannot update standard resource class {}")
    if request.new_name == old.name:
        return NameResult(name=old.name, created=False)
    if names.has_resource_class(tx, request.new_name):
        raise Conflict(f"Resource class already exists: {request.new_name}")
    if names.resource_class_in_use(tx, old.name):
        raise Conflict(f"Cannot rename resource class {old.name}. Class is in use in inventory.")
    tx.delete(tables.RESOURCE_CLASSES, old.name)
    tx.insert(tables.RESOURCE_CLASSES, ResourceClass(name=request.new_name, created_at_us=old.created_at_us))
    return NameResult(name=request.new_name, created=False)


@command(RemoveResourceClass)
def remove_resource_class(tx: Transaction, request: RemoveResourceClass) -> Done:
    """Remove a resource class. Raises NotFound, BadRequest for a standard one, Conflict while it is in use."""
    old = _custom(tx, request.name, "Error in delete resource class: Cannot delete standard resource class {}.")
    if names.resource_class_in_use(tx, old.name):
        raise Conflict(
            f"Error in delete resource class: Cannot delete resource class {old.name}. Class is in use in inventory."
        )
    tx.delete(tables.RESOURCE_CLASSES, old.name)
    return Done()


def _custom(tx: Transaction, name: str, refusal: str) -> ResourceClass:
    record = tx.get(tables.RESOURCE_CLASSES, name)
    if record is not None:
        return record
    if names.has_resource_class(tx, name):
        raise BadRequest(refusal.format(name))
    raise NotFound(f"No such resource class {name}.")
