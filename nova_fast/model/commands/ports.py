"""Commands for ports. UNSET means "as it was" in changes and "as is usual" in what is new."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from nova_fast.model.base import Message, Value
from nova_fast.model.identity import Caller
from nova_fast.model.networks import AddressPair, Port


class AddressRequest(Value, frozen=True):
    """An address wished for: this one, or any of this subnet."""

    subnet_id: str = ""
    ip_address: str = ""


class NewPort(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    network_id: str
    project_id: str = ""  # "" = the caller's
    name: str = ""
    mac_address: str | UnsetType = UNSET
    fixed_ips: tuple[AddressRequest, ...] | UnsetType = UNSET
    device_id: str = ""
    device_owner: str = ""
    host: str = ""
    admin_state_up: bool = True
    security_groups: tuple[str, ...] | UnsetType = UNSET  # ids
    port_security_enabled: bool | UnsetType = UNSET
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    description: str = ""
    vnic_type: str = "normal"
    profile: dict[str, str] = {}


class PortChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str | UnsetType = UNSET
    mac_address: str | UnsetType = UNSET
    fixed_ips: tuple[AddressRequest, ...] | UnsetType = UNSET
    device_id: str | UnsetType = UNSET
    device_owner: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    security_groups: tuple[str, ...] | UnsetType = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    allowed_address_pairs: tuple[AddressPair, ...] | UnsetType = UNSET
    description: str | UnsetType = UNSET
    vnic_type: str | UnsetType = UNSET
    profile: dict[str, str] | UnsetType = UNSET


class CreatePorts(Message, frozen=True):
    """Make all of these ports, or none. → PortsResult."""

    caller: Caller
    ports: tuple[NewPort, ...]


class UpdatePort(Message, frozen=True):
    """→ PortsResult with one port."""

    caller: Caller
    port_id: str
    changes: PortChanges


class DeletePort(Message, frozen=True):
    """Remove a port that no server uses. → Done."""

    caller: Caller
    port_id: str


class PortsResult(Message, frozen=True):
    ports: tuple[Port, ...]


COMMANDS = (CreatePorts, UpdatePort, DeletePort)
RESULTS = (PortsResult,)
