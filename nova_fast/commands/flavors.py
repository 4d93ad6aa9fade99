"""Making, changing and removing flavors. Who may is the face's question; what must be unique is decided here."""

from __future__ import annotations

import msgspec

from nova_fast.commands.registry import command
from nova_fast.model.commands.flavors import (
    ChangeFlavorAccess,
    CreateFlavor,
    DeleteExtraSpec,
    DeleteFlavor,
    FlavorResult,
    SetExtraSpecs,
    UpdateFlavor,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.flavors import Flavor
from nova_fast.queries import flavors
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

NAME_BYTES_MAX = 500  # of UTF-8: what an index key can hold
EXTRA_SPECS_MAX = 128
ACCESS_MAX = 10_000


@command(CreateFlavor)
def create_flavor(tx: Transaction, request: CreateFlavor) -> FlavorResult:
    """Make a flavor. Raises Conflict when the id or the name is taken, BadRequest for a name that is too long."""
    if len(request.name.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"The name has more than {NAME_BYTES_MAX} bytes.", field="name")
    flavor_id = request.id or tx.new_uuid()
    if tx.get(tables.FLAVORS, flavor_id) is not None:
        raise Conflict(f"Flavor with ID {flavor_id} already exists.", code="flavor_exists", field="id")
    if tx.find(tables.FLAVORS_BY_NAME, request.name) is not None:
        raise Conflict(f"Flavor with name {request.name} already exists.", code="flavor_exists", field="name")
    flavor = Flavor(
        id=flavor_id,
        name=request.name,
        vcpus=request.vcpus,
        ram_mib=request.ram_mib,
        disk_gib=request.disk_gib,
        ephemeral_gib=request.ephemeral_gib,
        swap_mib=request.swap_mib,
        rxtx_factor=request.rxtx_factor,
        is_public=request.is_public,
        description=request.description,
        created_at_us=tx.now_us,
    )
    tx.insert(tables.FLAVORS, flavor)
    return FlavorResult(flavor=flavor)


@command(UpdateFlavor)
def update_flavor(tx: Transaction, request: UpdateFlavor) -> FlavorResult:
    """Change the description."""
    flavor = flavors.get(tx, request.flavor_id, request.caller)
    if not isinstance(request.description, msgspec.UnsetType):
        flavor = msgspec.structs.replace(flavor, description=request.description)
        tx.put(tables.FLAVORS, flavor)
    return FlavorResult(flavor=flavor)


@command(DeleteFlavor)
def delete_flavor(tx: Transaction, request: DeleteFlavor) -> FlavorResult:
    """Remove a flavor, whether servers were made with it or not."""
    flavor = flavors.get(tx, request.flavor_id, request.caller)
    tx.delete(tables.FLAVORS, flavor.id)
    return FlavorResult(flavor=flavor)


@command(SetExtraSpecs)
def set_extra_specs(tx: Transaction, request: SetExtraSpecs) -> FlavorResult:
    """Merge extra specs. Raises BadRequest when there would be too many."""
    flavor = flavors.get(tx, request.flavor_id, request.caller)
    specs = {**flavor.extra_specs, **request.extra_specs}
    if len(specs) > EXTRA_SPECS_MAX:
        raise BadRequest(f"A flavor may have at most {EXTRA_SPECS_MAX} extra specs.", field="extra_specs")
    return _saved(tx, msgspec.structs.replace(flavor, extra_specs=specs))


@command(DeleteExtraSpec)
def delete_extra_spec(tx: Transaction, request: DeleteExtraSpec) -> FlavorResult:
    """Remove one extra spec. Raises NotFound when it is not there."""
    flavor = flavors.get(tx, request.flavor_id, request.caller)
    if request.key not in flavor.extra_specs:
        raise NotFound(
            f"Flavor {flavor.id} has no extra specs with key {request.key}.", code="flavor_extra_spec_not_found"
        )
    specs = {key: value for key, value in flavor.extra_specs.items() if key != request.key}
    return _saved(tx, msgspec.structs.replace(flavor, extra_specs=specs))


@command(ChangeFlavorAccess)
def change_flavor_access(tx: Transaction, request: ChangeFlavorAccess) -> FlavorResult:
    """Put a project on the list of a private flavor, or take it off.

    Raises BadRequest for an unknown project, Conflict for a public flavor or a project that is on the list already,
    NotFound for one that is not.
    """
    flavor = flavors.get(tx, request.flavor_id, request.caller)
    project = request.project_id
    if request.present:
        if tx.get(tables.PROJECTS, project) is None:
            raise BadRequest(f"Project ID {project} is not a valid project.", code="project_not_found", field="tenant")
        if flavor.is_public and request.refuse_public:
            raise Conflict("Can not add access to a public flavor.", code="flavor_is_public")
        if project in flavor.access:
            raise Conflict(
                f"Flavor access already exists for flavor {flavor.id} and project {project} combination.",
                code="flavor_access_exists",
            )
        if len(flavor.access) >= ACCESS_MAX:
            raise BadRequest(f"A flavor may be given to at most {ACCESS_MAX} projects.")
        return _saved(tx, msgspec.structs.replace(flavor, access=(*flavor.access, project)))
    if project not in flavor.access:
        raise NotFound(
            f"Flavor access not found for {flavor.id} / {project} combination.", code="flavor_access_not_found"
        )
    return _saved(tx, msgspec.structs.replace(flavor, access=tuple(p for p in flavor.access if p != project)))


def _saved(tx: Transaction, flavor: Flavor) -> FlavorResult:
    tx.put(tables.FLAVORS, flavor)
    return FlavorResult(flavor=flavor)
