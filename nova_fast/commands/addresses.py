"""Giving out addresses: which one a port gets, and whether the one it asks for can be had.

The next free address of a subnet is looked for from where the last was found, round all pools, so an address that was
given back rests before it is used again and a search is a few probes of the index of addresses. A subnet found full is
remembered as such until an address of it is given back, so that a full subnet costs one read.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from nova_fast.model.commands.ports import AddressRequest
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.networks import AddressPool, FixedIp, Network, Subnet
from nova_fast.queries.networks import subnets_of
from nova_fast.state import schema as tables
from nova_fast.state.schema import AddressCursor
from nova_fast.state.transaction import Transaction

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Never a port's: where guests find the metadata service.
METADATA_ADDRESSES = frozenset({"169.254.169.254", "fe80::a9fe:a9fe"})
MAC_PREFIX = "fa:16:3e"
_MAC_ATTEMPTS = 64
ADDRESSES_MAX = 16  # of one port
_FULL = -1
_POSITIONS_MAX = 1 << 62  # a cursor is a 64-bit number; no pool will ever be used so far
_AUTOMATIC_MODES = ("slaac", "dhcpv6-stateless")
_EUI64_PREFIX = 64


def automatic(subnet: Subnet) -> bool:
    """Whether guests make their own addresses in this subnet out of their MAC address."""
    return subnet.ipv6_address_mode in _AUTOMATIC_MODES


def new_mac(tx: Transaction, network_id: str) -> str:
    """A MAC address that no port of the network has. Raises Conflict (``MacAddressGenerationFailure``)."""
    for _ in range(_MAC_ATTEMPTS):
        tail = tx.random_bytes(3)
        mac = f"{MAC_PREFIX}:{tail[0]:02x}:{tail[1]:02x}:{tail[2]:02x}"
        if tx.find(tables.PORTS_BY_MAC, network_id, mac) is None:
            return mac
    raise Conflict("Unable to generate unique mac.", code="MacAddressGenerationFailure")


def any_addresses(tx: Transaction, network: Network, mac: str) -> tuple[FixedIp, ...]:
    """What a port gets that asks for nothing: an IPv4 address, and an IPv6 address.

    IPv6 addresses come from every subnet where guests make them themselves, else from one with pools.

    Raises Conflict (``IpAddressGenerationFailure``) when a version has subnets but nothing free. A network without
    subnets gives none.
    """
    subnets = subnets_of(tx, network.id)
    by_pool = [s for s in subnets if not automatic(s)]
    given = [_automatic_address(tx, subnet, mac) for subnet in subnets if automatic(subnet)]
    for version in (4, 6):
        candidates = [s for s in by_pool if s.ip_version == version]
        if candidates and not (version == 6 and given):
            given.insert(0, _first_free(tx, network, candidates))
    return tuple(sorted(given, key=lambda ip: ":" in ip.ip_address))


def wished_addresses(
    tx: Transaction, network: Network, wishes: Iterable[AddressRequest], mac: str, own: frozenset[str] = frozenset()
) -> tuple[FixedIp, ...]:
    """The addresses a port asks for; ``own`` are those it has already.

    Raises BadRequest (``InvalidInput``, ``InvalidIpForSubnet``, ``InvalidIpForNetwork``) and Conflict
    (``IpAddressInUse``, ``IpAddressGenerationFailure``).
    """
    subnets = {subnet.id: subnet for subnet in subnets_of(tx, network.id)}
    given: list[FixedIp] = []
    for wish in wishes:
        taken = {ip.ip_address for ip in given}
        subnet = _subnet_of_wish(network, subnets, wish)
        if wish.ip_address:
            ip = _exact_address(tx, network, subnet, wish.ip_address, own)
        elif automatic(subnet):
            ip = _automatic_address(tx, subnet, mac, own)
        else:
            ip = _free_in(tx, subnet, frozenset(taken)) or _none_free(network)
        if ip.ip_address in taken:
            raise BadRequest(f"Duplicate IP address '{ip.ip_address}'", code="InvalidInput", field="fixed_ips")
        given.append(ip)
    if len(given) > ADDRESSES_MAX:
        raise BadRequest(f"A port may have {ADDRESSES_MAX} addresses at most.", code="InvalidInput", field="fixed_ips")
    return tuple(given)


def released(tx: Transaction, addresses: Iterable[FixedIp]) -> None:
    """Note that addresses are free again: a subnet that was full no longer is. Call it after they are gone."""
    for ip in addresses:
        cursor = tx.get(tables.ADDRESS_CURSORS, ip.subnet_id)
        if cursor is not None and cursor.next_address == _FULL:
            tx.delete(tables.ADDRESS_CURSORS, ip.subnet_id)


def forget_cursor(tx: Transaction, subnet_id: str) -> None:
    """Begin from the first address again: the pools have changed, or the subnet is gone."""
    if tx.get(tables.ADDRESS_CURSORS, subnet_id) is not None:
        tx.delete(tables.ADDRESS_CURSORS, subnet_id)


def _subnet_of_wish(network: Network, subnets: dict[str, Subnet], wish: AddressRequest) -> Subnet:
    if wish.subnet_id:
        subnet = subnets.get(wish.subnet_id)
        if subnet is None:
            raise BadRequest(
                f"Invalid input for operation: Failed to create port on network {network.id}, because fixed_ips "
                f"included invalid subnet {wish.subnet_id}.",
                code="InvalidInput",
                field="fixed_ips",
            )
        return subnet
    if not wish.ip_address:
        raise BadRequest("IP allocation requires subnet_id or ip_address.", code="InvalidInput", field="fixed_ips")
    address = parse_address(wish.ip_address)
    for subnet in subnets.values():
        if address in ipaddress.ip_network(subnet.cidr):
            return subnet
    raise BadRequest(
        f"IP address {address} is not a valid IP for any of the subnets on the specified network.",
        code="InvalidIpForNetwork",
        field="fixed_ips",
    )


def parse_address(text: str) -> Address:
    """An IP address without prefix or scope. Raises BadRequest (``InvalidInput``)."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise BadRequest(f"'{text}' is not a valid IP address.", code="InvalidInput") from None
    if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
        raise BadRequest(f"'{text}' is not a valid IP address.", code="InvalidInput")
    return address


def _exact_address(tx: Transaction, network: Network, subnet: Subnet, text: str, own: frozenset[str]) -> FixedIp:
    address = parse_address(text)
    if not usable_in(subnet, address):
        raise BadRequest(
            f"IP address {address} is not a valid IP for the specified subnet.",
            code="InvalidIpForSubnet",
            field="fixed_ips",
        )
    canonical = str(address)
    in_use = canonical not in own and tx.find(tables.PORTS_BY_ADDRESS, network.id, canonical) is not None
    if in_use or canonical == subnet.gateway_ip:
        raise Conflict(
            f"Unable to complete operation for network {network.id}. The IP address {canonical} is in use.",
            code="IpAddressInUse",
        )
    return FixedIp(subnet_id=subnet.id, ip_address=canonical)


def usable_in(subnet: Subnet, address: Address) -> bool:
    """Whether a machine may have an address of a subnet: neither the network's nor the broadcast address."""
    network = ipaddress.ip_network(subnet.cidr)
    if address not in network or str(address) in METADATA_ADDRESSES:
        return False
    if network.version == 4 and network.prefixlen < 31:
        return address not in (network.network_address, network.broadcast_address)
    return network.version == 4 or network.prefixlen >= 127 or address != network.network_address


def _automatic_address(tx: Transaction, subnet: Subnet, mac: str, own: frozenset[str] = frozenset()) -> FixedIp:
    """The address a guest makes itself (RFC 4291, appendix A). Raises Conflict when another port has it."""
    octets = bytes.fromhex(mac.replace(":", ""))
    suffix = bytes((octets[0] ^ 2, octets[1], octets[2], 0xFF, 0xFE, octets[3], octets[4], octets[5]))
    network = ipaddress.IPv6Network(subnet.cidr)
    assert network.prefixlen == _EUI64_PREFIX, f"automatic subnet {subnet.id} is not a /64"
    address = str(network.network_address + int.from_bytes(suffix, "big"))
    if address not in own and tx.find(tables.PORTS_BY_ADDRESS, subnet.network_id, address) is not None:
        raise Conflict(
            f"Unable to complete operation for network {subnet.network_id}. The IP address {address} is in use.",
            code="IpAddressInUse",
        )
    return FixedIp(subnet_id=subnet.id, ip_address=address)


def _first_free(tx: Transaction, network: Network, subnets: list[Subnet]) -> FixedIp:
    for subnet in subnets:
        ip = _free_in(tx, subnet)
        if ip is not None:
            return ip
    return _none_free(network)


def _none_free(network: Network) -> FixedIp:
    raise Conflict(
        f"No more IP addresses available on network {network.id}.",
        code="IpAddressGenerationFailure",
        hint="Delete a port, or add a subnet.",
    )


def _free_in(tx: Transaction, subnet: Subnet, taken: frozenset[str] = frozenset()) -> FixedIp | None:
    sizes = [_size(pool) for pool in subnet.pools]
    total = min(sum(sizes), _POSITIONS_MAX)
    row = tx.get(tables.ADDRESS_CURSORS, subnet.id)
    start = row.next_address if row else 0
    if start == _FULL or not total:
        return None
    for step in range(total):
        position = (start + step) % total
        address = _at(subnet.pools, sizes, position)
        text = str(address)
        if (
            text != subnet.gateway_ip
            and text not in taken
            and usable_in(subnet, address)
            and tx.find(tables.PORTS_BY_ADDRESS, subnet.network_id, text) is None
        ):
            tx.put(tables.ADDRESS_CURSORS, AddressCursor(subnet_id=subnet.id, next_address=(position + 1) % total))
            return FixedIp(subnet_id=subnet.id, ip_address=text)
    if not taken:
        tx.put(tables.ADDRESS_CURSORS, AddressCursor(subnet_id=subnet.id, next_address=_FULL))
    return None


def _size(pool: AddressPool) -> int:
    return int(ipaddress.ip_address(pool.end)) - int(ipaddress.ip_address(pool.start)) + 1


def _at(pools: tuple[AddressPool, ...], sizes: list[int], position: int) -> Address:
    for pool, size in zip(pools, sizes, strict=True):
        if position < size:
            return ipaddress.ip_address(pool.start) + position
        position -= size
    raise AssertionError("a position behind the last pool")
