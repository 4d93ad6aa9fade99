"""Commands for networks and subnets, and for the tags that all things of the network API carry.

``New…`` says what to make, ``…Changes`` what to change: there UNSET means "as it was", and in ``New…`` "as is usual".
Both are encoded as maps, since an array has no place for what is not there.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from nova_fast.model.base import Message, Value
from nova_fast.model.identity import Caller
from nova_fast.model.networks import AddressPool, HostRoute, Network, Subnet


class NewNetwork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    project_id: str = ""  # "" = the caller's
    name: str = ""
    admin_state_up: bool = True
    shared: bool = False
    external: bool = False
    mtu: int | UnsetType = UNSET
    description: str = ""
    port_security_enabled: bool = True
    is_default: bool = False
    provider_network_type: str = ""
    provider_physical_network: str = ""
    provider_segmentation_id: int | UnsetType = UNSET


class NetworkChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str | UnsetType = UNSET
    admin_state_up: bool | UnsetType = UNSET
    shared: bool | UnsetType = UNSET
    external: bool | UnsetType = UNSET
    mtu: int | UnsetType = UNSET
    description: str | UnsetType = UNSET
    port_security_enabled: bool | UnsetType = UNSET
    is_default: bool | UnsetType = UNSET


class NetworkRow(Value, frozen=True):
    """A network together with its subnets, as it is shown."""

    network: Network
    subnet_ids: tuple[str, ...] = ()


class CreateNetworks(Message, frozen=True):
    """Make all of these networks, or none. → NetworksResult."""

    caller: Caller
    networks: tuple[NewNetwork, ...]


class UpdateNetwork(Message, frozen=True):
    """→ NetworksResult with one row."""

    caller: Caller
    network_id: str
    changes: NetworkChanges


class DeleteNetwork(Message, frozen=True):
    """Remove a network without ports, and its subnets. → Done."""

    caller: Caller
    network_id: str


class NetworksResult(Message, frozen=True):
    networks: tuple[NetworkRow, ...]


class NewSubnet(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    network_id: str
    ip_version: int
    cidr: str
    project_id: str = ""  # "" = the caller's
    name: str = ""
    gateway_ip: str | UnsetType | None = UNSET  # None = without a gateway
    pools: tuple[AddressPool, ...] | UnsetType = UNSET
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    enable_dhcp: bool = True
    ipv6_ra_mode: str = ""
    ipv6_address_mode: str = ""
    description: str = ""


class SubnetChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str | UnsetType = UNSET
    gateway_ip: str | UnsetType | None = UNSET
    pools: tuple[AddressPool, ...] | UnsetType = UNSET
    dns_nameservers: tuple[str, ...] | UnsetType = UNSET
    host_routes: tuple[HostRoute, ...] | UnsetType = UNSET
    enable_dhcp: bool | UnsetType = UNSET
    description: str | UnsetType = UNSET


class CreateSubnets(Message, frozen=True):
    """Make all of these subnets, or none. → SubnetsResult."""

    caller: Caller
    subnets: tuple[NewSubnet, ...]


class UpdateSubnet(Message, frozen=True):
    """→ SubnetsResult with one subnet."""

    caller: Caller
    subnet_id: str
    changes: SubnetChanges


class DeleteSubnet(Message, frozen=True):
    """Remove a subnet of which no port has an address. → Done."""

    caller: Caller
    subnet_id: str


class SubnetsResult(Message, frozen=True):
    subnets: tuple[Subnet, ...]


class SetNetworkTags(Message, frozen=True):
    """Replace the tags of a network, subnet, port or security group. → NetworkTagsResult."""

    caller: Caller
    collection: str  # networks, subnets, ports, security-groups
    id: str
    tags: tuple[str, ...]


class NetworkTagsResult(Message, frozen=True):
    tags: tuple[str, ...]


class SetNetworkQuota(Message, frozen=True):
    """Set limits of a project in the network API; ``None`` = all back to the defaults. → NetworkQuotaResult."""

    caller: Caller
    project_id: str
    limits: dict[str, int] | None
    check_limit: bool = False  # refuse a limit below what the project has


class NetworkQuotaResult(Message, frozen=True):
    limits: dict[str, int]


COMMANDS = (
    CreateNetworks,
    UpdateNetwork,
    DeleteNetwork,
    CreateSubnets,
    UpdateSubnet,
    DeleteSubnet,
    SetNetworkTags,
    SetNetworkQuota,
)
RESULTS = (NetworksResult, SubnetsResult, NetworkTagsResult, NetworkQuotaResult)
