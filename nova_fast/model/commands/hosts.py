"""What an admin can ask of hosts and of the compute services on them."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from nova_fast.model.base import Message
from nova_fast.model.hosts import Host
from nova_fast.model.identity import Caller


class UpdateComputeService(Message, frozen=True):
    """Open or close a host for new servers, or say that it is down whatever its heartbeats say. → HostResult."""

    caller: Caller
    host: str
    enabled: bool | UnsetType = UNSET
    disabled_reason: str | UnsetType | None = UNSET
    forced_down: bool | UnsetType = UNSET


class RemoveHost(Message, frozen=True):
    """Forget a host that has no servers. → HostResult (as it was). It comes back if its daemon still reports."""

    caller: Caller
    host: str


class HostResult(Message, frozen=True):
    host: Host


COMMANDS = (UpdateComputeService, RemoveHost)
RESULTS = (HostResult,)
