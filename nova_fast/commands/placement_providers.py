"""Making, changing and removing providers that are no hosts. A host is one by itself, for as long as it is there."""

from __future__ import annotations

import msgspec

from nova_fast.commands.registry import command
from nova_fast.model.commands.placement import CreateProvider, ProviderResult, RemoveProvider, UpdateProvider
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.placement import Provider, ResourceProvider
from nova_fast.model.tasks import Done
from nova_fast.queries import placement
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

NAME_BYTES_MAX = 500  # of UTF-8: what an index key can hold
DEPTH_MAX = 16
DUPLICATE = "placement.duplicate_name"


@command(CreateProvider)
def create_provider(tx: Transaction, request: CreateProvider) -> ProviderResult:
    """Make a provider. Raises BadRequest for a parent that cannot be, Conflict when UUID or name is taken."""
    uuid = request.uuid or tx.new_uuid()
    if not request.name or len(request.name.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"The name must have 1 to {NAME_BYTES_MAX} bytes.", field="name")
    refused = f'Unable to create resource provider "{request.name}", {uuid}: Object action create failed because: '
    if request.parent == uuid:
        raise BadRequest(
            f"{refused}parent provider UUID cannot be same as UUID. Please set parent provider UUID to None if there "
            "is no parent."
        )
    if request.parent and placement.provider(tx, request.parent) is None:
        raise BadRequest(f"{refused}parent provider UUID does not exist.")
    if request.parent and _depth(tx, request.parent) >= DEPTH_MAX:
        raise BadRequest(f"{refused}a tree of providers may be {DEPTH_MAX} deep.")
    taken = [f"uuid: {uuid}"] if placement.provider(tx, uuid) is not None else []
    taken += [f"name: {request.name}"] if placement.by_name(tx, request.name) else []
    if taken:
        raise Conflict(f"Conflicting resource provider {', '.join(taken)} already exists.", code=DUPLICATE)
    record = ResourceProvider(
        uuid=uuid, name=request.name, created_at_us=tx.now_us, updated_at_us=tx.now_us, parent=request.parent
    )
    tx.insert(tables.PROVIDERS, record)
    return ProviderResult(provider=placement.of_record(tx, record))


@command(UpdateProvider)
def update_provider(tx: Transaction, request: UpdateProvider) -> ProviderResult:
    """Rename or move. Raises NotFound, Conflict for a taken name or a host, BadRequest for a parent that cannot be."""
    found = placement.need(tx, request.uuid)
    parent = found.parent if isinstance(request.parent, msgspec.UnsetType) else request.parent
    if found.host:
        if request.name != found.name or parent:
            raise Conflict(
                f"Resource provider {found.uuid} is the compute host {found.host}: its name is the host's, and it is "
                "below no other."
            )
        return ProviderResult(provider=found)
    if not request.name or len(request.name.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"The name must have 1 to {NAME_BYTES_MAX} bytes.", field="name")
    if parent != found.parent:
        _check_move(tx, found, parent, request.may_move)
    if any(other.uuid != found.uuid for other in placement.by_name(tx, request.name)):
        raise Conflict(f"Conflicting resource provider {request.name} already exists.", code=DUPLICATE)
    record = tx.get(tables.PROVIDERS, found.uuid)
    assert record is not None
    record = msgspec.structs.replace(record, name=request.name, parent=parent, updated_at_us=tx.now_us)
    tx.put(tables.PROVIDERS, record)
    return ProviderResult(provider=placement.of_record(tx, record))


@command(RemoveProvider)
def remove_provider(tx: Transaction, request: RemoveProvider) -> Done:
    """Remove a provider. Raises NotFound, or Conflict while it is a host, has others below it, or gives something."""
    found = placement.provider(tx, request.uuid)
    if found is None:
        raise NotFound(f"No resource provider with uuid {request.uuid} found for delete")
    if has_children(tx, found.uuid):
        raise Conflict(
            f"Unable to delete parent resource provider {found.uuid}: It has child resource providers.",
            code="placement.resource_provider.cannot_delete_parent",
        )
    if found.host:
        raise Conflict(
            f"Unable to delete resource provider {found.uuid}: it is the compute host {found.host}.",
            code="placement.resource_provider.inuse",
            hint="delete its compute service (openstack compute service delete), and it goes as well",
        )
    if placement.taken_of(tx, found):
        raise Conflict(
            f"Unable to delete resource provider {found.uuid}: Resource provider has allocations.",
            code="placement.resource_provider.inuse",
        )
    tx.delete(tables.PROVIDERS, found.uuid)
    return Done()


def has_children(tx: Transaction, uuid: str) -> bool:
    """Whether a provider has others below it."""
    return next(tx.scan_index(tables.PROVIDERS_BY_PARENT, uuid, limit=1), None) is not None


def _check_move(tx: Transaction, found: Provider, parent: str, may_move: bool) -> None:
    """Whether a provider can be hung there. Raises BadRequest."""
    why = ""
    if parent and placement.provider(tx, parent) is None:
        why = "create failed because: parent provider UUID does not exist."
    elif found.parent and not may_move:
        word = "re-parenting" if parent else "un-parenting"
        why = f"update failed because: {word} a provider is not currently allowed."
    elif parent and parent in {one.uuid for one in placement.tree(tx, found)}:
        why = "update failed because: creating loop in the provider tree is not allowed."
    elif parent and _depth(tx, parent) + _height(tx, found.uuid) >= DEPTH_MAX:
        why = f"update failed because: a tree of providers may be {DEPTH_MAX} deep."
    if why:
        raise BadRequest(f"Unable to save resource provider {found.uuid}: Object action {why}")


def _depth(tx: Transaction, uuid: str) -> int:
    """How many providers there are from the root down to this one."""
    depth, record = 1, tx.get(tables.PROVIDERS, uuid)
    while record is not None and record.parent:
        depth, record = depth + 1, tx.get(tables.PROVIDERS, record.parent)
    return depth


def _height(tx: Transaction, uuid: str) -> int:
    """How many levels there are below a provider."""
    return max((1 + _height(tx, one.uuid) for one in tx.select(tables.PROVIDERS_BY_PARENT, uuid)), default=0)
