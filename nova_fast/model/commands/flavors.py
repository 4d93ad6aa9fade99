"""What an admin can ask of flavors."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from nova_fast.model.base import Message
from nova_fast.model.flavors import Flavor
from nova_fast.model.identity import Caller


class CreateFlavor(Message, frozen=True):
    """Make a flavor. → FlavorResult. Raises Conflict when its id or name is taken."""

    caller: Caller
    name: str
    vcpus: int
    ram_mib: int
    disk_gib: int
    id: str = ""  # "" = choose a UUID
    ephemeral_gib: int = 0
    swap_mib: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    description: str | None = None


class UpdateFlavor(Message, frozen=True):
    """Change the description. → FlavorResult."""

    caller: Caller
    flavor_id: str
    description: str | UnsetType | None = UNSET


class DeleteFlavor(Message, frozen=True):
    """Remove a flavor; servers keep their copy. → FlavorResult (as it was)."""

    caller: Caller
    flavor_id: str


class SetExtraSpecs(Message, frozen=True):
    """Merge extra specs into a flavor. → FlavorResult."""

    caller: Caller
    flavor_id: str
    extra_specs: dict[str, str]


class DeleteExtraSpec(Message, frozen=True):
    """Remove one extra spec, which must be there. → FlavorResult."""

    caller: Caller
    flavor_id: str
    key: str


class ChangeFlavorAccess(Message, frozen=True):
    """Let a project use a private flavor, or no longer. → FlavorResult."""

    caller: Caller
    flavor_id: str
    project_id: str
    present: bool
    refuse_public: bool = True  # a public flavor has no list: Conflict


class FlavorResult(Message, frozen=True):
    flavor: Flavor


COMMANDS = (CreateFlavor, UpdateFlavor, DeleteFlavor, SetExtraSpecs, DeleteExtraSpec, ChangeFlavorAccess)
RESULTS = (FlavorResult,)
