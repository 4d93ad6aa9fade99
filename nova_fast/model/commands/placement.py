"""What operators and services can ask of placement.

A ``generation`` of None is not compared. What is written to a provider that is a compute host changes the host.
"""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from nova_fast.model.base import Message, Value
from nova_fast.model.hosts import Inventory
from nova_fast.model.identity import Caller
from nova_fast.model.placement import Provider, ProviderShare


class CreateProvider(Message, frozen=True):
    """Make a provider that is no host. → ProviderResult. Raises Conflict when its UUID or name is taken."""

    caller: Caller
    name: str
    uuid: str = ""  # "" = choose one
    parent: str = ""


class UpdateProvider(Message, frozen=True):
    """Rename a provider, or hang it below another. → ProviderResult."""

    caller: Caller
    uuid: str
    name: str
    parent: str | UnsetType = UNSET  # "" = below none
    may_move: bool = False  # from one parent to another, or away from one


class RemoveProvider(Message, frozen=True):
    """Remove a provider that gives nothing to anybody and has none below it. → Done."""

    caller: Caller
    uuid: str


class SetInventories(Message, frozen=True):
    """Let a provider have these inventories and no others. → ProviderResult."""

    caller: Caller
    uuid: str
    generation: int | None
    inventories: tuple[Inventory, ...]
    may_reserve_all: bool = True


class PutInventory(Message, frozen=True):
    """Add one inventory, or change one that is there. → ProviderResult."""

    caller: Caller
    uuid: str
    generation: int | None
    inventory: Inventory
    new: bool  # it must not be there yet; else it must
    may_reserve_all: bool = True


class RemoveInventory(Message, frozen=True):
    """Take one inventory away. → ProviderResult."""

    caller: Caller
    uuid: str
    resource_class: str


class SetTraits(Message, frozen=True):
    """Let a provider have these traits and no others, but for what a host has by itself. → ProviderResult."""

    caller: Caller
    uuid: str
    generation: int | None
    traits: tuple[str, ...]


class SetAggregates(Message, frozen=True):
    """Put a provider into these aggregates and out of all others. → ProviderResult."""

    caller: Caller
    uuid: str
    generation: int | None
    aggregates: tuple[str, ...]


class PutTrait(Message, frozen=True):
    """Make a trait, unless it is there. → NameResult."""

    caller: Caller
    name: str


class RemoveTrait(Message, frozen=True):
    """Remove a trait that no provider has. → Done."""

    caller: Caller
    name: str


class PutResourceClass(Message, frozen=True):
    """Make a resource class. → NameResult. Raises Conflict when it is there and must be new."""

    caller: Caller
    name: str
    must_be_new: bool = False


class RenameResourceClass(Message, frozen=True):
    """Give a resource class that nobody uses another name. → NameResult."""

    caller: Caller
    name: str
    new_name: str


class RemoveResourceClass(Message, frozen=True):
    """Remove a resource class of which no provider has an inventory. → Done."""

    caller: Caller
    name: str


class WantedConsumer(Value, frozen=True):
    """What one consumer is to take from now on: all of it, nothing else."""

    uuid: str
    shares: tuple[ProviderShare, ...]  # none = it takes nothing any more
    project_id: str | None = None  # None = nobody said
    user_id: str | None = None
    type: str | None = None
    generation: int | None = None  # that the client knows; None = the consumer is new


class SetAllocations(Message, frozen=True):
    """Let consumers take what is said, all of them or none. → Done. Raises Conflict when it does not fit."""

    caller: Caller
    consumers: tuple[WantedConsumer, ...]
    compare_generations: bool


class RemoveAllocations(Message, frozen=True):
    """A consumer takes nothing any more. → Done. Raises NotFound when it took nothing."""

    caller: Caller
    consumer: str


class ProviderResult(Message, frozen=True):
    """The provider as the command left it."""

    provider: Provider


class NameResult(Message, frozen=True):
    name: str
    created: bool


COMMANDS = (
    CreateProvider,
    UpdateProvider,
    RemoveProvider,
    SetInventories,
    PutInventory,
    RemoveInventory,
    SetTraits,
    SetAggregates,
    PutTrait,
    RemoveTrait,
    PutResourceClass,
    RenameResourceClass,
    RemoveResourceClass,
    SetAllocations,
    RemoveAllocations,
)
RESULTS = (ProviderResult, NameResult)
