"""From a NetworkSpec to checked facts: every name, address and number that reaches the kernel is made or checked here.

The specs come through the hub from the store, and some of their text comes from users (host names, MAC addresses,
addresses). Nothing gets into a command line, an nft script or a file of dnsmasq without passing this file: names match
a pattern, addresses are parsed and printed again. A spec that does not pass is a BadRequest that names what is wrong.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Mapping

import msgspec

from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.tasks import NetworkSpec, PortSpec, SubnetSpec

METADATA_ADDRESS = "169.254.169.254"
METADATA_PORT = 80

_INTERFACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")
_NAMESPACE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network


class AddressPair(msgspec.Struct, frozen=True):
    """Addresses that a port may use besides its own."""

    prefix: Prefix
    mac_address: str


class PortPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked port."""

    id: str
    tap: str
    mac_address: str
    addresses: tuple[Address, ...]
    host_name: str
    security_groups: tuple[str, ...]
    filtered: bool
    pairs: tuple[AddressPair, ...]


class SubnetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked subnet."""

    prefix: Prefix
    gateway: Address | None
    dhcp: bool
    dns: tuple[str, ...]
    routes: tuple[tuple[str, str], ...]


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked network with the names of everything that is made for it."""

    id: str
    number: int
    zone: int  # conntrack zone, 1 to 65535
    bridge: str
    namespace: str
    mtu: int
    lan_link: str  # host end of the veth whose other end is ``lan`` in the namespace
    ext_link: str
    lan_mac: str
    ext_mac: str
    subnets: tuple[SubnetPlan, ...]
    ports: tuple[PortPlan, ...]


def short_hash(text: str, length: int = 12) -> str:
    """``length`` hex digits that stand for ``text``."""
    return hashlib.blake2s(text.encode()).hexdigest()[:length]


def mac_of(text: str) -> str:
    """A locally made MAC address that is always the same for ``text``."""
    digits = short_hash(text, 6)
    return f"fa:16:3f:{digits[0:2]}:{digits[2:4]}:{digits[4:6]}"


def checked_name(name: str, what: str) -> str:
    """A name that the kernel takes for an interface. Raises BadRequest."""
    if not _INTERFACE_NAME.fullmatch(name):
        raise BadRequest(f"{what} {name!r} is not a usable interface name")
    return name


def checked_mac(text: str) -> str:
    """A unicast MAC address in lower case. Raises BadRequest."""
    mac = text.lower()
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1:
        raise BadRequest(f"{text!r} is not a unicast MAC address")
    return mac


def checked_address(text: str) -> Address:
    """An address without prefix or scope. Raises BadRequest."""
    try:
        if "%" in text:
            raise ValueError
        return ipaddress.ip_address(text)
    except ValueError:
        raise BadRequest(f"{text!r} is not an IP address") from None


def checked_prefix(text: str) -> Prefix:
    """A prefix, with host bits cleared. Raises BadRequest."""
    try:
        if "%" in text:
            raise ValueError
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadRequest(f"{text!r} is not an address or a prefix") from None


def host_name_for(name: str, addresses: tuple[Address, ...]) -> str:
    """A name that DHCP may give: the first label of its own if that is a host name, else one of its address."""
    label = name.split(".")[0]
    if _HOST_NAME.fullmatch(label):
        return label.lower()
    return "host-" + str(addresses[0]).replace(".", "-").replace(":", "-") if addresses else "host"


def zone_of(cloud_id: str, number: int) -> int:
    """The conntrack zone of a network: shifted by the cloud, as two clouds on one machine share one table."""
    return 1 + (int(cloud_id, 16) + number) % 65535


def plan_network(cloud_id: str, spec: NetworkSpec) -> NetworkPlan:
    """The checked plan of one network. Raises BadRequest that names what cannot be used."""
    if not _ID.fullmatch(spec.id):
        raise BadRequest(f"{spec.id!r} is not a usable network id")
    if not _NAMESPACE_NAME.fullmatch(spec.namespace):
        raise BadRequest(f"{spec.namespace!r} is not a usable namespace name")
    if not 576 <= spec.mtu <= 65535:
        raise BadRequest(f"an MTU of {spec.mtu} is outside 576 to 65535")
    digits = short_hash(cloud_id + spec.id)
    return NetworkPlan(
        id=spec.id,
        number=spec.number,
        zone=zone_of(cloud_id, spec.number),
        bridge=checked_name(spec.bridge, "bridge"),
        namespace=spec.namespace,
        mtu=spec.mtu,
        lan_link="nfl" + digits,
        ext_link="nfx" + digits,
        lan_mac=mac_of("lan" + spec.id),
        ext_mac=mac_of("ext" + cloud_id + spec.id),
        subnets=tuple(_plan_subnet(subnet) for subnet in spec.subnets),
        ports=tuple(_plan_port(port) for port in spec.ports),
    )


def _plan_subnet(spec: SubnetSpec) -> SubnetPlan:
    prefix = checked_prefix(spec.cidr)
    gateway = checked_address(spec.gateway_ip) if spec.gateway_ip else None
    if gateway is not None and gateway not in prefix:
        raise BadRequest(f"the gateway {gateway} is not in {prefix}")
    return SubnetPlan(
        prefix=prefix,
        gateway=gateway,
        dhcp=spec.enable_dhcp,
        dns=tuple(str(checked_address(server)) for server in spec.dns_nameservers),
        routes=tuple((str(checked_prefix(to)), str(checked_address(via))) for to, via in spec.host_routes),
    )


def _plan_port(spec: PortSpec) -> PortPlan:
    mac = checked_mac(spec.mac_address)
    addresses = tuple(checked_address(address) for address in spec.addresses)
    return PortPlan(
        id=spec.id,
        tap=checked_name(spec.tap, "tap"),
        mac_address=mac,
        addresses=addresses,
        host_name=host_name_for(spec.hostname, addresses),
        security_groups=spec.security_groups,
        filtered=spec.port_security_enabled,
        pairs=tuple(
            AddressPair(checked_prefix(ip), checked_mac(pair_mac) if pair_mac else mac)
            for ip, pair_mac in spec.allowed_address_pairs
        ),
    )


def check_disjoint(plans: list[NetworkPlan]) -> dict[str, str]:
    """Networks that want a name another one has already: network id → sentence. The first by id keeps the name."""
    taken: dict[str, str] = {}
    failed: dict[str, str] = {}
    for plan in sorted(plans, key=lambda each: each.id):
        names = [plan.bridge, plan.namespace, *(port.tap for port in plan.ports)]
        doubled = sorted({name for name in names if name in taken or names.count(name) > 1})
        if doubled:
            failed[plan.id] = f"{doubled[0]} is used twice"
            continue
        taken.update((name, plan.id) for name in names)
    return failed


def bridges_to_close(specs: Iterable[NetworkSpec], plans: Mapping[str, NetworkPlan]) -> tuple[str, ...]:
    """The bridges of wanted networks that have no plan, unless a planned network uses the name."""
    used = {plan.bridge for plan in plans.values()}
    names = {spec.bridge for spec in specs if spec.id not in plans and _INTERFACE_NAME.fullmatch(spec.bridge)}
    return tuple(sorted(names - used))


def router_address(external_cidr: str, number: int, taken: set[str]) -> str:
    """The outside address of a network's router: by its number, and the next free one where that is taken.

    The first address of the range is this machine's. Raises Conflict when the range is full.
    """
    network = ipaddress.IPv4Network(external_cidr)
    count = network.num_addresses - 3  # network, this machine, broadcast
    for step in range(max(0, count)):
        address = str(network.network_address + 2 + (number - 1 + step) % count)
        if address not in taken:
            return address
    raise Conflict(f"no address is left in {external_cidr} for another network", hint="widen network.external_cidr")


def external_gateway(external_cidr: str) -> str:
    """This machine's own address on the external bridge."""
    return str(ipaddress.IPv4Network(external_cidr).network_address + 1)
