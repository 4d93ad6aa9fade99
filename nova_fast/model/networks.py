"""Networks, subnets, ports, security groups, routers and floating IPs."""

from __future__ import annotations

from nova_fast.model.base import Record, Value


class Network(Record, frozen=True):
    """A layer-2 segment of a project."""

    id: str
    number: int  # 1, 2, 3, …: the VXLAN id and the conntrack zone
    project_id: str
    name: str
    created_at_us: int
    updated_at_us: int
    admin_state_up: bool = True
    shared: bool = False
    external: bool = False
    mtu: int = 1450
    description: str = ""
    port_security_enabled: bool = True
    is_default: bool = False
    revision: int = 0
    tags: tuple[str, ...] = ()
    provider_network_type: str = ""
    provider_physical_network: str = ""
    dns_domain: str = ""


class AddressPool(Value, frozen=True):
    """First and last address that may be given out, inclusive."""

    start: str
    end: str


class HostRoute(Value, frozen=True):
    destination: str
    nexthop: str


class Subnet(Record, frozen=True):
    """A range of addresses of a network."""

    id: str
    network_id: str
    project_id: str
    name: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    pools: tuple[AddressPool, ...]
    created_at_us: int
    updated_at_us: int
    dns_nameservers: tuple[str, ...] = ()
    host_routes: tuple[HostRoute, ...] = ()
    enable_dhcp: bool = True
    description: str = ""
    revision: int = 0
    tags: tuple[str, ...] = ()
    ipv6_ra_mode: str = ""  # "", slaac, dhcpv6-stateful, dhcpv6-stateless
    ipv6_address_mode: str = ""


class FixedIp(Value, frozen=True):
    subnet_id: str
    ip_address: str


class AddressPair(Value, frozen=True):
    ip_address: str
    mac_address: str


class Port(Record, frozen=True):
    """A connection to a network: of a server, of a router, or free."""

    id: str
    network_id: str
    project_id: str
    name: str
    mac_address: str
    created_at_us: int
    updated_at_us: int
    fixed_ips: tuple[FixedIp, ...] = ()
    device_id: str = ""  # the server's id
    device_owner: str = ""  # compute:<zone>, network:dhcp, …
    host: str = ""  # where it is bound
    status: str = "DOWN"
    admin_state_up: bool = True
    security_groups: tuple[str, ...] = ()
    port_security_enabled: bool = True
    allowed_address_pairs: tuple[AddressPair, ...] = ()
    description: str = ""
    revision: int = 0
    tags: tuple[str, ...] = ()
    vnic_type: str = "normal"
    profile: dict[str, str] = {}
    index: int = 0  # order among the server's ports
    created_by_server: bool = False  # made by server create, so deleted with the server
    device_tag: str = ""


class SecurityGroup(Record, frozen=True):
    """A named set of rules; every project has one named ``default``."""

    id: str
    project_id: str
    name: str
    created_at_us: int
    updated_at_us: int
    description: str = ""
    stateful: bool = True
    revision: int = 0
    tags: tuple[str, ...] = ()


class SecurityGroupRule(Record, frozen=True):
    """One thing that is let through; everything else is dropped."""

    id: str
    security_group_id: str
    project_id: str
    direction: str  # ingress, egress
    ethertype: str  # IPv4, IPv6
    created_at_us: int
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None
    description: str = ""
    revision: int = 0


class Router(Record, frozen=True):
    """A gateway between subnets and an external network (through the API in a later release)."""

    id: str
    project_id: str
    name: str
    created_at_us: int
    updated_at_us: int
    admin_state_up: bool = True
    external_network_id: str = ""
    enable_snat: bool = True
    description: str = ""
    revision: int = 0


class FloatingIp(Record, frozen=True):
    """An outside address that leads to a port (through the API in a later release)."""

    id: str
    project_id: str
    floating_network_id: str
    floating_ip_address: str
    created_at_us: int
    updated_at_us: int
    port_id: str = ""
    fixed_ip_address: str = ""
    router_id: str = ""
    status: str = "DOWN"
    description: str = ""
    revision: int = 0


class MembersChange(Value, frozen=True):
    """The addresses that have come into a security group, and those that have gone."""

    come: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


class MembershipChange(Record, frozen=True):
    """What one transaction has changed of who is in which security group."""

    row: str  # of the ring
    number: int  # of the change
    groups: dict[str, MembersChange]  # by id; empty = anything may have changed


def bridge_name(network_id: str) -> str:
    """The bridge of a network on every host: at most 15 characters."""
    return "nfb" + network_id.replace("-", "")[:12]


def namespace_name(network_id: str) -> str:
    """The router and DHCP namespace of a network."""
    return "nf-" + network_id


def tap_name(port_id: str) -> str:
    """The tap device of a port, as Neutron names it."""
    return "tap" + port_id[:11]
