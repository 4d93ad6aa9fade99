"""What an admin can ask of host aggregates."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.base import Message
from nova_fast.model.identity import Caller


class CreateAggregate(Message, frozen=True):
    """Make an aggregate without hosts; with a zone, it is one. → AggregateResult. Raises Conflict for a taken name."""

    caller: Caller
    name: str
    zone: str = ""


class UpdateAggregate(Message, frozen=True):
    """Give another name, or make it (another) zone. → AggregateResult."""

    caller: Caller
    number: int
    name: str | UnsetType = UNSET
    zone: str | UnsetType = UNSET  # "" is refused: an aggregate does not stop being a zone


class SetAggregateMetadata(Message, frozen=True):
    """Merge metadata; a key whose value is None goes. → AggregateResult."""

    caller: Caller
    number: int
    metadata: dict[str, str | None]


class AddAggregateHost(Message, frozen=True):
    """Put a host in. → AggregateResult."""

    caller: Caller
    number: int
    host: str


class RemoveAggregateHost(Message, frozen=True):
    """Take a host out. → AggregateResult."""

    caller: Caller
    number: int
    host: str


class DeleteAggregate(Message, frozen=True):
    """Forget an aggregate that has no hosts. → AggregateResult (as it was)."""

    caller: Caller
    number: int


class AggregateResult(Message, frozen=True):
    aggregate: Aggregate


COMMANDS = (
    CreateAggregate,
    UpdateAggregate,
    SetAggregateMetadata,
    AddAggregateHost,
    RemoveAggregateHost,
    DeleteAggregate,
)
RESULTS = (AggregateResult,)
