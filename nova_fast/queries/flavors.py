"""Which flavors a caller may see and in what order.

Source: Compute API v2.1, ``GET /flavors``: a private flavor exists only for admins and for the projects on its list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nova_fast.model.base import Value
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.flavors import Flavor
from nova_fast.model.identity import Caller
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

_SORT_KEYS: dict[str, Callable[[Flavor], Any]] = {
    "flavorid": lambda flavor: flavor.id,
    "id": lambda flavor: flavor.id,
    "name": lambda flavor: flavor.name,
    "memory_mb": lambda flavor: flavor.ram_mib,
    "vcpus": lambda flavor: flavor.vcpus,
    "root_gb": lambda flavor: flavor.disk_gib,
    "ephemeral_gb": lambda flavor: flavor.ephemeral_gib,
    "swap": lambda flavor: flavor.swap_mib,
    "rxtx_factor": lambda flavor: flavor.rxtx_factor,
    "is_public": lambda flavor: flavor.is_public,
    "description": lambda flavor: flavor.description or "",
    "created_at": lambda flavor: flavor.created_at_us,
    "updated_at": lambda flavor: flavor.created_at_us,
    "disabled": lambda flavor: False,
    "vcpu_weight": lambda flavor: 0,
}


class FlavorFilter(Value, frozen=True):
    """What a list asks for."""

    is_public: bool | None = True  # None = all; for an admin only
    min_ram_mib: int = 0
    min_disk_gib: int = 0
    sort_key: str = "flavorid"
    reverse: bool = False
    marker: str | None = None
    limit: int | None = None


def may_use(flavor: Flavor, caller: Caller) -> bool:
    """Whether the flavor exists for the caller."""
    return flavor.is_public or caller.is_admin or caller.project_id in flavor.access


def get(reader: Reader, flavor_id: str, caller: Caller) -> Flavor:
    """A flavor the caller may use. Raises NotFound."""
    flavor = reader.get(tables.FLAVORS, flavor_id)
    if flavor is None or not may_use(flavor, caller):
        raise NotFound(f"Flavor {flavor_id} could not be found.", code="flavor_not_found")
    return flavor


def listing(reader: Reader, wanted: FlavorFilter, caller: Caller) -> list[Flavor]:
    """One page of flavors. Raises BadRequest for an unknown sort key or marker."""
    sort_key = _SORT_KEYS.get(wanted.sort_key)
    if sort_key is None:
        raise BadRequest(f"Sort key {wanted.sort_key} is not a column of flavors.", field="sort_key")
    found = [flavor for flavor in reader.scan(tables.FLAVORS) if _wanted(flavor, wanted, caller)]
    found.sort(key=lambda flavor: (sort_key(flavor), flavor.id), reverse=wanted.reverse)
    if wanted.marker is not None:
        place = next((n for n, flavor in enumerate(found) if flavor.id == wanted.marker), None)
        if place is None:
            raise BadRequest(f"marker [{wanted.marker}] not found", code="marker_not_found", field="marker")
        found = found[place + 1 :]
    return found if wanted.limit is None else found[: wanted.limit]


def _wanted(flavor: Flavor, wanted: FlavorFilter, caller: Caller) -> bool:
    if flavor.ram_mib < wanted.min_ram_mib or flavor.disk_gib < wanted.min_disk_gib:
        return False
    is_public = wanted.is_public if caller.is_admin else True
    if is_public is None:
        return True
    listed = bool(caller.project_id) and caller.project_id in flavor.access
    return flavor.is_public == is_public or (is_public and listed)
