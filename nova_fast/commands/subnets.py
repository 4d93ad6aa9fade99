"""Subnets: ranges of addresses of a network, checked so that every address in them can be routed and given out."""

from __future__ import annotations

import ipaddress
import itertools
from typing import Any

import msgspec
from msgspec import UNSET

from nova_fast.commands import usage
from nova_fast.commands.addresses import Address, forget_cursor, parse_address, usable_in
from nova_fast.commands.host_networks import mark_network_dirty
from nova_fast.commands.network_limits import only_owner, owner_of, take
from nova_fast.commands.registry import command
from nova_fast.model.commands.networks import (
    CreateSubnets,
    DeleteSubnet,
    NewSubnet,
    SubnetsResult,
    UpdateSubnet,
)
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.identity import Caller
from nova_fast.model.networks import AddressPool, HostRoute, Network, Subnet
from nova_fast.model.tasks import Done
from nova_fast.queries.networks import need_network, need_subnet, subnets_of
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

NAMESERVERS_MAX = 5
HOST_ROUTES_MAX = 20
POOLS_MAX = 50
SUBNETS_PER_NETWORK_MAX = 64
MTU_MIN_IPV6 = 1280
IPV6_MODES = ("", "slaac", "dhcpv6-stateful", "dhcpv6-stateless")
_LINK_LOCAL = ipaddress.IPv4Network("169.254.0.0/16")

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


def bad_input(message: str, field: str | None = None) -> BadRequest:
    """The error Neutron calls InvalidInput."""
    return BadRequest(f"Invalid input for operation: {message}", code="InvalidInput", field=field)


@command(CreateSubnets)
def create_subnets(tx: Transaction, request: CreateSubnets) -> SubnetsResult:
    """Make subnets. Raises NotFound, Forbidden, BadRequest, Conflict, OverQuota; then none is made."""
    return SubnetsResult(subnets=tuple(_create(tx, request.caller, new) for new in request.subnets))


@command(UpdateSubnet)
def update_subnet(tx: Transaction, request: UpdateSubnet) -> SubnetsResult:
    """Change a subnet. Raises NotFound, Forbidden, BadRequest, Conflict (``GatewayIpInUse``)."""
    subnet = need_subnet(tx, request.caller, request.subnet_id)
    only_owner(request.caller, subnet.project_id, f"change subnet {subnet.id}")
    changes = request.changes
    fields: dict[str, Any] = {
        name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not UNSET
    }
    prefix = ipaddress.ip_network(subnet.cidr)
    if fields.get("gateway_ip") is not None:
        fields["gateway_ip"] = _checked_gateway(tx, subnet, prefix, fields["gateway_ip"])
    if "pools" in fields:
        fields["pools"] = _checked_pools(prefix, fields["pools"])
    if "dns_nameservers" in fields:
        fields["dns_nameservers"] = _checked_nameservers(fields["dns_nameservers"])
    if "host_routes" in fields:
        fields["host_routes"] = _checked_routes(fields["host_routes"], subnet.ip_version)
    changed = msgspec.structs.replace(subnet, **fields, revision=subnet.revision + 1, updated_at_us=tx.now_us)
    _check_gateway_outside(changed.gateway_ip, changed.pools)
    _check_dhcp(changed, prefix)
    tx.put(tables.SUBNETS, changed)
    if changed.pools != subnet.pools or changed.gateway_ip != subnet.gateway_ip:
        forget_cursor(tx, subnet.id)
    mark_network_dirty(tx, subnet.network_id)
    return SubnetsResult(subnets=(changed,))


@command(DeleteSubnet)
def delete_subnet(tx: Transaction, request: DeleteSubnet) -> Done:
    """Remove a subnet. Raises NotFound, Forbidden, Conflict (``SubnetInUse``)."""
    subnet = need_subnet(tx, request.caller, request.subnet_id)
    network = tx.need(tables.NETWORKS, subnet.network_id, "Network")
    if not request.caller.may_see(network.project_id):
        only_owner(request.caller, subnet.project_id, f"delete subnet {subnet.id}")
    port = next(tx.scan_index(tables.PORTS_BY_SUBNET, subnet.id, limit=1), None)
    if port is not None:
        raise Conflict(
            f"Unable to complete operation on subnet {subnet.id}: One or more ports have an IP allocation from this "
            f"subnet, one of them is {port.id}.",
            code="SubnetInUse",
        )
    remove_subnet(tx, subnet)
    mark_network_dirty(tx, subnet.network_id)
    return Done()


def remove_subnet(tx: Transaction, subnet: Subnet) -> None:
    """Remove a subnet that nothing uses, and give its quota back."""
    tx.delete(tables.SUBNETS, subnet.id)
    forget_cursor(tx, subnet.id)
    usage.give_back(tx, subnet.project_id, subnets=1)


def _create(tx: Transaction, caller: Caller, new: NewSubnet) -> Subnet:
    project_id = owner_of(caller, new.project_id)
    network = need_network(tx, caller, new.network_id)
    only_owner(caller, network.project_id, f"create a subnet on network {network.id}")
    prefix = _checked_cidr(new)
    _check_overlap(tx, network, prefix)
    _check_modes(new, prefix)
    gateway = _first_address(prefix) if new.gateway_ip is UNSET else new.gateway_ip
    subnet = Subnet(
        id=tx.new_uuid(),
        network_id=network.id,
        project_id=project_id,
        name=new.name,
        ip_version=new.ip_version,
        cidr=str(prefix),
        gateway_ip=None,
        pools=(),
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        dns_nameservers=_checked_nameservers(new.dns_nameservers),
        host_routes=_checked_routes(new.host_routes, new.ip_version),
        enable_dhcp=new.enable_dhcp,
        description=new.description,
        revision=1,
        ipv6_ra_mode=new.ipv6_ra_mode,
        ipv6_address_mode=new.ipv6_address_mode,
    )
    gateway = None if gateway is None else _checked_gateway(tx, subnet, prefix, gateway)
    pools = default_pools(prefix, gateway) if new.pools is UNSET else _checked_pools(prefix, new.pools)
    _check_gateway_outside(gateway, pools)
    subnet = msgspec.structs.replace(subnet, gateway_ip=gateway, pools=pools)
    _check_dhcp(subnet, prefix)
    if prefix.version == 6 and network.mtu < MTU_MIN_IPV6:
        raise bad_input(f"IPv6 needs a network MTU of {MTU_MIN_IPV6} at least.", "network_id")
    take(tx, project_id, subnets=1)
    tx.insert(tables.SUBNETS, subnet)
    mark_network_dirty(tx, network.id)
    return subnet


def _checked_cidr(new: NewSubnet) -> Prefix:
    if new.ip_version not in (4, 6):
        raise bad_input(f"ip_version {new.ip_version} is not 4 or 6.", "ip_version")
    try:
        if "/" not in new.cidr or "%" in new.cidr:
            raise ValueError
        prefix = ipaddress.ip_network(new.cidr, strict=False)
    except ValueError:
        raise bad_input(f"'{new.cidr}' is not a valid IP subnet.", "cidr") from None
    if (
        new.cidr.split("/")[0] != str(prefix.network_address)
        and ipaddress.ip_address(new.cidr.split("/")[0]) != prefix.network_address
    ):
        raise bad_input(f"'{new.cidr}' isn't a recognized IP subnet cidr, '{prefix}' is recommended.", "cidr")
    if prefix.version != new.ip_version:
        raise bad_input(f"cidr {prefix} does not match the ip_version {new.ip_version}.", "cidr")
    if prefix.prefixlen == 0:
        raise bad_input("0 is not allowed as CIDR prefix length.", "cidr")
    if prefix.is_multicast or prefix.is_loopback or prefix.is_link_local or prefix.is_unspecified:
        raise bad_input(f"cidr {prefix} cannot be used for machines.", "cidr")
    if isinstance(prefix, ipaddress.IPv4Network) and prefix.overlaps(_LINK_LOCAL):
        raise bad_input(f"cidr {prefix} overlaps {_LINK_LOCAL}, where the metadata service is.", "cidr")
    return prefix


def _check_overlap(tx: Transaction, network: Network, prefix: Prefix) -> None:
    subnets = subnets_of(tx, network.id)
    if len(subnets) >= SUBNETS_PER_NETWORK_MAX:
        raise Conflict(f"A network may have {SUBNETS_PER_NETWORK_MAX} subnets at most.", code="HTTPConflict")
    for other in subnets:
        if other.ip_version == prefix.version and _overlap(prefix, ipaddress.ip_network(other.cidr)):
            raise bad_input(
                f"Requested subnet with cidr: {prefix} for network: {network.id} overlaps with another subnet.", "cidr"
            )


def _overlap(first: Prefix, second: Prefix) -> bool:
    return first.network_address in second or second.network_address in first


def _check_modes(new: NewSubnet, prefix: Prefix) -> None:
    modes = {"ipv6_ra_mode": new.ipv6_ra_mode, "ipv6_address_mode": new.ipv6_address_mode}
    for name, mode in modes.items():
        if mode not in IPV6_MODES:
            raise bad_input(f"'{mode}' is not in {list(IPV6_MODES[1:])}.", name)
        if mode and new.ip_version == 4:
            raise bad_input(f"{name} is not valid when ip_version is 4.", name)
        if mode and not new.enable_dhcp:
            raise bad_input(f"{name} cannot be set when enable_dhcp is set to False.", name)
    if new.ipv6_ra_mode and new.ipv6_address_mode and new.ipv6_ra_mode != new.ipv6_address_mode:
        raise bad_input(
            f"ipv6_ra_mode set to '{new.ipv6_ra_mode}' with ipv6_address_mode set to '{new.ipv6_address_mode}' is not "
            "valid. If both attributes are set, they must be the same value.",
            "ipv6_ra_mode",
        )
    if new.ipv6_address_mode in ("slaac", "dhcpv6-stateless") and prefix.prefixlen != 64:
        raise bad_input(f"Invalid CIDR {prefix} for IPv6 address mode: it must be a /64.", "cidr")


def _first_address(prefix: Prefix) -> str | None:
    """The usual gateway: the first address, unless there are no two."""
    if prefix.prefixlen >= prefix.max_prefixlen - 1:
        return None
    return str(prefix.network_address + 1)


def _checked_gateway(tx: Transaction, subnet: Subnet, prefix: Prefix, text: str) -> str:
    address = parse_address(text)
    if address.version != prefix.version:
        raise bad_input(f"gateway_ip '{text}' does not match the ip_version '{prefix.version}'.", "gateway_ip")
    if not usable_in(subnet, address):
        raise bad_input(f"Gateway {address} is not valid on subnet {prefix}.", "gateway_ip")
    port = tx.find(tables.PORTS_BY_ADDRESS, subnet.network_id, str(address))
    if port is not None:
        raise Conflict(
            f"Current gateway ip {address} already in use by port {port.id}. Unable to update.", code="GatewayIpInUse"
        )
    return str(address)


def default_pools(prefix: Prefix, gateway: str | None) -> tuple[AddressPool, ...]:
    """Everything that a machine may have, around the gateway."""
    first, last = int(prefix.network_address), int(prefix.broadcast_address)
    if prefix.prefixlen < prefix.max_prefixlen - 1:
        first += 1
        last -= prefix.version == 4
    spans = [(first, last)]
    if gateway is not None:
        middle = int(ipaddress.ip_address(gateway))
        spans = [(first, middle - 1), (middle + 1, last)]
    make = ipaddress.IPv4Address if prefix.version == 4 else ipaddress.IPv6Address
    return tuple(AddressPool(start=str(make(low)), end=str(make(high))) for low, high in spans if low <= high)


def _checked_pools(prefix: Prefix, pools: tuple[AddressPool, ...]) -> tuple[AddressPool, ...]:
    if len(pools) > POOLS_MAX:
        raise bad_input(f"A subnet may have {POOLS_MAX} pools at most.", "allocation_pools")
    spans: list[tuple[Address, Address]] = []
    for pool in pools:
        start, end = parse_address(pool.start), parse_address(pool.end)
        if start.version != prefix.version or end.version != prefix.version or int(start) > int(end):
            raise BadRequest(
                f"The allocation pool {pool.start}-{pool.end} is not valid.",
                code="InvalidAllocationPool",
                field="allocation_pools",
            )
        if start not in prefix or end not in prefix:
            raise BadRequest(
                f"The allocation pool {start}-{end} spans beyond the subnet cidr {prefix}.",
                code="OutOfBoundsAllocationPool",
                field="allocation_pools",
            )
        spans.append((start, end))
    spans.sort(key=lambda span: int(span[0]))
    for (start, end), (next_start, next_end) in itertools.pairwise(spans):
        if int(next_start) <= int(end):
            raise Conflict(
                f"Found overlapping allocation pools: {start}-{end} {next_start}-{next_end} for subnet {prefix}.",
                code="OverlappingAllocationPools",
            )
    return tuple(AddressPool(start=str(start), end=str(end)) for start, end in spans)


def _check_gateway_outside(gateway: str | None, pools: tuple[AddressPool, ...]) -> None:
    if gateway is None:
        return
    number = int(ipaddress.ip_address(gateway))
    for pool in pools:
        if int(ipaddress.ip_address(pool.start)) <= number <= int(ipaddress.ip_address(pool.end)):
            raise Conflict(
                f"Gateway ip {gateway} conflicts with allocation pool {pool.start}-{pool.end}.",
                code="GatewayConflictWithAllocationPools",
            )


def _check_dhcp(subnet: Subnet, prefix: Prefix) -> None:
    if subnet.enable_dhcp and prefix.version == 4 and prefix.prefixlen > 30:
        raise bad_input(f"cidr {prefix} is too small for DHCP.", "cidr")
    if not subnet.enable_dhcp and (subnet.ipv6_ra_mode or subnet.ipv6_address_mode):
        raise bad_input("IPv6 modes cannot be set when enable_dhcp is set to False.", "enable_dhcp")


def _checked_nameservers(servers: tuple[str, ...]) -> tuple[str, ...]:
    if len(servers) > NAMESERVERS_MAX:
        raise BadRequest(
            f"The number of DNS nameservers exceeds the limit {NAMESERVERS_MAX}.",
            code="DNSNameServersExhausted",
            field="dns_nameservers",
        )
    checked = tuple(str(parse_address(server)) for server in servers)
    if len(set(checked)) != len(checked):
        raise bad_input("Duplicate nameserver.", "dns_nameservers")
    return checked


def _checked_routes(routes: tuple[HostRoute, ...], ip_version: int) -> tuple[HostRoute, ...]:
    if len(routes) > HOST_ROUTES_MAX:
        raise BadRequest(
            f"The number of host routes exceeds the limit {HOST_ROUTES_MAX}.",
            code="HostRoutesExhausted",
            field="host_routes",
        )
    checked: list[HostRoute] = []
    for route in routes:
        try:
            destination = ipaddress.ip_network(route.destination)
        except ValueError:
            raise bad_input(f"'{route.destination}' is not a valid IP subnet.", "host_routes") from None
        nexthop = parse_address(route.nexthop)
        if destination.version != ip_version or nexthop.version != ip_version:
            raise bad_input("host_routes must match the ip_version.", "host_routes")
        found = HostRoute(destination=str(destination), nexthop=str(nexthop))
        if found in checked:
            raise bad_input(f"Duplicate hostroute '{found.destination}'.", "host_routes")
        checked.append(found)
    return tuple(checked)
