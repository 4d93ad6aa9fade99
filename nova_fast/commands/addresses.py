"""Giving out addresses: which one a port gets, and whether the one it asks for can be had.

The next free address of a subnet is looked for from where the last was found, round all pools, so an address that was
given back rests before it is used again and a search is a few probes of the index of addresses. A subnet found full is
remembered as such until an address of it is given back, so that a full subnet costs one read.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Sequence

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
    return new_macs(tx, network_id, 1)[0]


def new_macs(tx: Transaction, network_id: str, count: int) -> list[str]:
    """So many of them, all different."""
    made: dict[str, None] = {}
    for _ in range(_MAC_ATTEMPTS):
        tails = tx.random_bytes(3 * (count - len(made))).hex(":")
        for at in range(0, len(tails), 9):
            mac = f"{MAC_PREFIX}:{tails[at : at + 8]}"
            if not tx.is_taken(tables.PORTS_BY_MAC, network_id, mac):
                made[mac] = None
        if len(made) == count:
            return list(made)
    raise Conflict("Unable to generate unique mac.", code="MacAddressGenerationFailure")


def any_addresses(
    tx: Transaction, network: Network, subnets: list[Subnet], macs: Sequence[str]
) -> list[tuple[FixedIp, ...]]:
    """What ports get that ask for nothing, each an IPv4 and an IPv6 address; ``macs`` are theirs.

    IPv6 addresses come from every subnet where guests make them themselves, else from one with pools.

    Raises Conflict (``IpAddressGenerationFailure``) when a version has subnets but not enough that is free. A network
    without subnets gives none.
    """
    made = [[_automatic_address(tx, subnet, mac) for mac in macs] for subnet in subnets if automatic(subnet)]
    by_pool = [subnet for subnet in subnets if not automatic(subnet)]
    given = made
    for version in (6, 4):
        candidates = [subnet for subnet in by_pool if subnet.ip_version == version]
        if candidates and not (version == 6 and made):
            given = [_first_free(tx, network, candidates, len(macs)), *given]
    return list(zip(*given, strict=True)) if given else [()] * len(macs)


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
            ip = next(iter(_free_in(tx, subnet, 1, frozenset(taken))), None) or _none_free(network)
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


def _first_free(tx: Transaction, network: Network, subnets: list[Subnet], count: int) -> list[FixedIp]:
    found: list[FixedIp] = []
    for subnet in subnets:
        found += _free_in(tx, subnet, count - len(found))
        if len(found) == count:
            return found
    return [_none_free(network)]


def _none_free(network: Network) -> FixedIp:
    raise Conflict(
        f"No more IP addresses available on network {network.id}.",
        code="IpAddressGenerationFailure",
        hint="Delete a port, or add a subnet.",
    )


def _free_in(tx: Transaction, subnet: Subnet, count: int, taken: frozenset[str] = frozenset()) -> list[FixedIp]:
    """The next free addresses, so many or as many as there are.

    PERF: addresses are numbers until one is found; 10,000 take 3 µs each, where objects took 20.
    """
    numbers = _numbers_of(subnet.cidr, subnet.gateway_ip, subnet.pools)
    total = min(sum(end - start + 1 for start, end in numbers.pools), _POSITIONS_MAX)
    row = tx.get(tables.ADDRESS_CURSORS, subnet.id)
    start = row.next_address if row else 0
    if start == _FULL or not total:
        return []
    found: list[FixedIp] = []
    for step in range(total):
        position = (start + step) % total
        number = _at(numbers.pools, position)
        if not numbers.usable(number):
            continue
        text = _text(subnet.ip_version, number)
        if text not in taken and not tx.is_taken(tables.PORTS_BY_ADDRESS, subnet.network_id, text):
            found.append(FixedIp(subnet_id=subnet.id, ip_address=text))
            if len(found) == count:
                tx.put(tables.ADDRESS_CURSORS, AddressCursor(subnet_id=subnet.id, next_address=(position + 1) % total))
                return found
    if not taken:
        tx.put(tables.ADDRESS_CURSORS, AddressCursor(subnet_id=subnet.id, next_address=_FULL))
    return found


class _Numbers:
    """A subnet's addresses as numbers: its pools, and :func:`usable_in` with the gateway left out."""

    def __init__(self, cidr: str, gateway_ip: str | None, pools: tuple[AddressPool, ...]) -> None:
        network = ipaddress.ip_network(cidr)
        self.pools = [(_number(pool.start), _number(pool.end)) for pool in pools]
        self._first, self._last = int(network.network_address), int(network.broadcast_address)
        never = {_number(text) for text in METADATA_ADDRESSES} | ({_number(gateway_ip)} if gateway_ip else set())
        if network.version == 4 and network.prefixlen < 31:
            never |= {self._first, self._last}
        elif network.version == 6 and network.prefixlen < 127:
            never.add(self._first)
        self._never = frozenset(never)

    def usable(self, number: int) -> bool:
        return self._first <= number <= self._last and number not in self._never


#: PERF: 40 µs for each server of a request of its own, otherwise.
_numbers_of = functools.lru_cache(1024)(_Numbers)


def _number(text: str) -> int:
    return int(ipaddress.ip_address(text))


def _text(version: int, number: int) -> str:
    if version == 4:
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return str(ipaddress.IPv6Address(number))


def _at(pools: list[tuple[int, int]], position: int) -> int:
    for start, end in pools:
        if position <= end - start:
            return start + position
        position -= end - start + 1
    raise AssertionError("a position behind the last pool")
