"""The packet filter of the guests: from the wanted state to one nft script.

Two layers, because the bridge family has no connection tracking on every kernel and the inet family, which sees bridged
packets through br_netfilter, knows only the bridge and not the tap:

1. ``table bridge nfport_*`` pins what each tap may send (MAC, ARP, IP, no DHCP server, no router advertisements) and
   what may reach it, and writes into the packet's mark the profile of the port it came from and of the one it goes to;
2. ``table inet nfsg_*`` is stateful and finds the rules of the two by these marks. A profile is a list of security
   groups; ports with the same groups share it. Because the marks come from the taps, ports that share an address
   (allowed address pairs) and broadcasts are filtered right. Each network has its own conntrack zone.

Mark: bits 0-14 where it came from (0 = unknown, 0x7fff = the router, 0x7ffe = a port without port security, else a
profile), bits 15-29 the profile it goes to (0 = none). A frame of an unknown tap has no mark and reaches no known port
and no router. Everything is made anew in one transaction, so there is no moment without rules.

PERF: what differs by port is elements of sets, never chains, as libnftables takes about 40 us for a rule.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from nova_fast.model.errors import Conflict
from nova_fast.model.tasks import GroupSpec, RuleSpec
from nova_fast.network.linux.plan import METADATA_ADDRESS, NetworkPlan, PortPlan, Prefix
from nova_fast.network.linux.rules import match_of

SOURCE_MASK = 0x7FFF
TARGET_MASK = 0x3FFF8000
KEEP_WITHOUT_TARGET = 0xC0007FFF
TARGET_SHIFT = 15
ROUTER = 0x7FFF
FREE = 0x7FFE
PROFILES_MAX = FREE - 1

_ND_FROM_GUEST = "{ 131, 132, 133, 135, 136, 143 }"
_ND_TO_GUEST = "{ 130, 131, 132, 135, 136, 143 }"
_ARP = (
    "ether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 "
    "iifname . ether saddr . arp saddr ether . arp saddr ip"
)

Profile = tuple[str, ...]  # ids of security groups, sorted


class FirewallInput(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the script depends on."""

    cloud_id: str
    networks: tuple[NetworkPlan, ...]
    groups: tuple[GroupSpec, ...]
    numbers: dict[Profile, int]  # the number of each profile in the marks
    closed: tuple[str, ...] = ()  # bridges of networks whose ports are not known: nothing passes


def table_names(cloud_id: str) -> tuple[tuple[str, str], ...]:
    """Family and name of each table that the filter of a cloud uses."""
    return (("bridge", f"nfport_{cloud_id}"), ("inet", f"nfsg_{cloud_id}"))


def profile_of(port: PortPlan) -> Profile:
    """What decides which rules a filtered port has."""
    return tuple(sorted(set(port.security_groups)))


def number_profiles(networks: Iterable[NetworkPlan], known: Mapping[Profile, int]) -> dict[Profile, int]:
    """A number for each profile in use: what it had before, else the lowest free one. Raises Conflict past 32765."""
    wanted = sorted({profile_of(port) for network in networks for port in network.ports if port.filtered})
    numbers = {profile: known[profile] for profile in wanted if profile in known}
    used = set(numbers.values())
    free = iter(number for number in range(1, PROFILES_MAX + 1) if number not in used)
    for profile in wanted:
        if profile not in numbers:
            number = next(free, None)
            if number is None:
                raise Conflict(f"this host has more than {PROFILES_MAX} combinations of security groups")
            numbers[profile] = number
    return numbers


def render(wanted: FirewallInput) -> str:
    """The whole filter as one nft transaction. Raises BadRequest for a rule that means nothing."""
    (_, bridge_table), (_, inet_table) = table_names(wanted.cloud_id)
    lines: list[str] = []
    for family, table in table_names(wanted.cloud_id):
        lines += [f"table {family} {table} {{", "}", f"delete table {family} {table}"]
    lines.append(f"table bridge {bridge_table} {{")
    lines += _bridge_layer(wanted)
    lines += ["}", f"table inet {inet_table} {{"]
    lines += _inet_layer(wanted)
    lines.append("}")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------ bridge family

# name of a set → its key type; those that end in _nets hold prefixes
_SETS = {
    "routers": "ifname",
    "free": "ifname",
    "taps": "ifname",
    "v6_taps": "ifname",
    "macs": "ifname . ether_addr",
    "own4": "ifname . ipv4_addr",
    "arp4": "ifname . ether_addr . ether_addr . ipv4_addr",
    "arp4_nets": "ifname . ether_addr . ether_addr . ipv4_addr",
    "from4": "ifname . ether_addr . ipv4_addr",
    "from4_nets": "ifname . ether_addr . ipv4_addr",
    "from6": "ifname . ether_addr . ipv6_addr",
    "from6_nets": "ifname . ether_addr . ipv6_addr",
    "to4": "ifname . ipv4_addr",
    "to4_nets": "ifname . ipv4_addr",
    "to6": "ifname . ipv6_addr",
    "to6_nets": "ifname . ipv6_addr",
}


class _Pins:
    """The elements of the bridge layer's sets and maps, filled port by port."""

    def __init__(self) -> None:
        self.sets: dict[str, dict[str, None]] = {name: {} for name in _SETS}  # a dict keeps order and drops doubles
        self.sources: list[str] = []
        self.targets: list[str] = []

    def add_router(self, link: str) -> None:
        self._add("routers", f'"{link}"')
        self.sources.append(f'"{link}" : {ROUTER:#x}')
        self.targets.append(f'"{link}" : goto to_router')

    def add_port(self, port: PortPlan, number: int) -> None:
        tap = f'"{port.tap}"'
        self.sources.append(f"{tap} : {number:#x}")
        for address in port.addresses:
            if address.version == 4:
                self._add("own4", f"{tap} . {address}")
        if not port.filtered:
            self._add("free", tap)
            self.targets.append(f"{tap} : goto to_free")
            return
        self._add("taps", tap)
        self._add("macs", f"{tap} . {port.mac_address}")
        self.targets.append(f"{tap} : goto to_{number}")
        for version in (4, 6):
            self._add_addresses(tap, _prefixes(port, version), version)

    def _add_addresses(self, tap: str, prefixes: dict[str, list[Prefix]], version: int) -> None:
        if version == 6 and prefixes:
            self._add("v6_taps", tap)
        for mac, found in prefixes.items():
            for prefix in found:
                nets = "_nets" if prefix.num_addresses > 1 else ""
                text = str(prefix if nets else prefix.network_address)
                self._add(f"from{version}{nets}", f"{tap} . {mac} . {text}")
                if version == 4:
                    self._add(f"arp4{nets}", f"{tap} . {mac} . {mac} . {text}")
            if version == 4:
                self._add("arp4", f"{tap} . {mac} . {mac} . 0.0.0.0")  # a probe (RFC 5227)
            else:
                for text in (_link_local(mac), "::"):
                    self._add("from6", f"{tap} . {mac} . {text}")
        for prefix in _collapsed([each for found in prefixes.values() for each in found]):
            nets = "_nets" if prefix.num_addresses > 1 else ""
            self._add(f"to{version}{nets}", f"{tap} . {prefix if nets else prefix.network_address}")

    def _add(self, name: str, element: str) -> None:
        self.sets[name][element] = None


def _prefixes(port: PortPlan, version: int) -> dict[str, list[Prefix]]:
    """MAC → what it may send from, own addresses and allowed pairs, without overlaps."""
    found: dict[str, list[Prefix]] = {}
    for address in port.addresses:
        if address.version == version:
            found.setdefault(port.mac_address, []).append(ipaddress.ip_network(address))
    for pair in port.pairs:
        if pair.prefix.version == version:
            found.setdefault(pair.mac_address, []).append(pair.prefix)
    return {mac: _collapsed(prefixes) for mac, prefixes in found.items()}


def _collapsed(prefixes: list[Prefix]) -> list[Prefix]:
    if len(prefixes) < 2:
        return prefixes
    v4 = [prefix for prefix in prefixes if isinstance(prefix, ipaddress.IPv4Network)]
    v6 = [prefix for prefix in prefixes if isinstance(prefix, ipaddress.IPv6Network)]
    return [*ipaddress.collapse_addresses(v4), *ipaddress.collapse_addresses(v6)]


def _link_local(mac_address: str) -> str:
    """The link-local address that a guest makes of its MAC address (RFC 4291, appendix A)."""
    octets = [int(octet, 16) for octet in mac_address.split(":")]
    suffix = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + suffix))


def _bridge_layer(wanted: FirewallInput) -> list[str]:
    pins = _Pins()
    for network in wanted.networks:
        pins.add_router(network.lan_link)
        for port in network.ports:
            pins.add_port(port, wanted.numbers[profile_of(port)] if port.filtered else FREE)
    known = f"meta mark and {SOURCE_MASK:#x} == 0 drop"
    lines: list[str] = []
    for name, key in _SETS.items():
        lines += _set(name, key, list(pins.sets[name]), interval=name.endswith("_nets"))
    lines += _map("source", "ifname : mark", pins.sources)
    lines += _map("target", "ifname : verdict", pins.targets)
    for number in wanted.numbers.values():
        mark = f"meta mark set meta mark and {KEEP_WITHOUT_TARGET:#x} or {number << TARGET_SHIFT:#x}"
        lines += _chain(f"to_{number}", [known, mark, "goto deliver"])
    lines += _chain("to_router", [known, "accept"])
    lines += _chain("to_free", [known, "accept"])
    return [*lines, *_sending(), *_receiving()]


def _sending() -> list[str]:
    """What a tap may send."""
    metadata = f"ether type ip ip daddr {METADATA_ADDRESS} iifname . ip saddr != @own4 drop"
    request = "ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67"
    return [
        *_chain("known", ["meta mark set iifname map @source", "accept"]),
        *_chain("from_free", [metadata, "goto known"]),
        *_chain(
            "sending",
            [
                "type filter hook prerouting priority -200; policy accept;",
                "iifname @routers goto known",
                "iifname @free goto from_free",
                "iifname != @taps accept",
                "ether type ip udp sport 67 drop",
                f"iifname . ether saddr @macs {request} goto known",
                metadata,
                f"{_ARP} @arp4 goto known",
                f"{_ARP} @arp4_nets goto known",
                "ether type ip iifname . ether saddr . ip saddr @from4 goto known",
                "ether type ip iifname . ether saddr . ip saddr @from4_nets goto known",
                "ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop",
                "ether type ip6 udp sport 547 drop",
                "ether type ip6 iifname . ether saddr . ip6 saddr @from6 goto known",
                "ether type ip6 iifname . ether saddr . ip6 saddr @from6_nets goto known",
                "drop",
            ],
        ),
    ]


def _receiving() -> list[str]:
    """What may reach a tap."""
    return [
        *_chain(
            "deliver",
            [
                "ether type arp accept",
                "ether type ip udp sport 67 udp dport 68 accept",
                "ether type ip ip daddr { 224.0.0.0/4, 255.255.255.255 } accept",
                "ether type ip oifname . ip daddr @to4 accept",
                "ether type ip oifname . ip daddr @to4_nets accept",
                "oifname @v6_taps ether type ip6 ip6 daddr { fe80::/10, ff00::/8 } accept",
                "ether type ip6 oifname . ip6 daddr @to6 accept",
                "ether type ip6 oifname . ip6 daddr @to6_nets accept",
                "drop",
            ],
        ),
        *_chain("receiving", ["type filter hook forward priority -200; policy accept;", "oifname vmap @target"]),
    ]


# ------------------------------------------------------------------------------------------------ inet family


def _inet_layer(wanted: FirewallInput) -> list[str]:
    indexes = {group.id: index for index, group in enumerate(sorted(wanted.groups, key=lambda each: each.id), 1)}
    lines: list[str] = []
    for group in wanted.groups:
        lines += _member_sets(group, indexes[group.id]) + _group_chains(group, indexes)
    egress: list[str] = []
    ingress: list[str] = []
    for profile, number in wanted.numbers.items():
        used = [indexes[group_id] for group_id in profile if group_id in indexes]
        lines += _chain(f"e_{number}", _egress(used)) + _chain(f"i_{number}", _ingress(used))
        egress.append(f"{number:#x} : goto e_{number}")
        ingress.append(f"{number << TARGET_SHIFT:#x} : goto i_{number}")
    lines += _map("egress", "mark : verdict", egress) + _map("ingress", "mark : verdict", ingress)
    lines += _chain("arriving", [f"meta mark and {TARGET_MASK:#x} vmap @ingress", "accept"])
    return lines + _base_chains(wanted.networks, wanted.closed)


def _member_sets(group: GroupSpec, index: int) -> list[str]:
    addresses = {ipaddress.ip_address(member) for member in group.members}
    v4 = sorted(str(address) for address in addresses if address.version == 4)
    v6 = sorted(str(address) for address in addresses if address.version == 6)
    return _set(f"m{index}_4", "ipv4_addr", v4) + _set(f"m{index}_6", "ipv6_addr", v6)


def _group_chains(group: GroupSpec, indexes: Mapping[str, int]) -> list[str]:
    index = indexes[group.id]
    lines: dict[str, list[str]] = {"ingress": [], "egress": []}
    for rule in group.rules:
        match = _rule_match(rule, indexes)
        if match is not None:
            lines[rule.direction].append(match + (" accept" if rule.direction == "ingress" else " goto arriving"))
    return _chain(f"gi_{index}", lines["ingress"]) + _chain(f"ge_{index}", lines["egress"])


def _rule_match(rule: RuleSpec, indexes: Mapping[str, int]) -> str | None:
    """The match of a rule; None where it names a group that has no members anywhere."""
    if rule.remote_group_id is None:
        return match_of(rule, None)
    if rule.remote_group_id not in indexes:
        return None
    return match_of(rule, f"m{indexes[rule.remote_group_id]}_{'6' if rule.ethertype == 'IPv6' else '4'}")


def _egress(groups: list[int]) -> list[str]:
    # SAFETY: every way out of ``arriving`` is a verdict, so a rule that matched is never followed by the drop below.
    return [
        "meta nfproto ipv4 udp sport 68 udp dport 67 goto arriving",
        "meta nfproto ipv4 udp sport 67 drop",
        "meta nfproto ipv6 udp sport 547 drop",
        "icmpv6 type { nd-router-advert, nd-redirect } drop",
        f"icmpv6 type {_ND_FROM_GUEST} goto arriving",
        *(f"jump ge_{index}" for index in groups),
        "drop",
    ]


def _ingress(groups: list[int]) -> list[str]:
    return [
        f"meta mark and {SOURCE_MASK:#x} == {ROUTER:#x} meta nfproto ipv4 udp sport 67 udp dport 68 accept",
        f"meta mark and {SOURCE_MASK:#x} == {ROUTER:#x} icmpv6 type nd-router-advert accept",
        f"icmpv6 type {_ND_TO_GUEST} accept",
        *(f"jump gi_{index}" for index in groups),
        "drop",
    ]


def _base_chains(networks: tuple[NetworkPlan, ...], closed: tuple[str, ...]) -> list[str]:
    bridges = [f'"{network.bridge}"' for network in networks]
    zones = [f'"{network.bridge}" : {network.zone}' for network in networks]
    return [
        *_set("bridges", "ifname", bridges),
        *_set("closed", "ifname", [f'"{bridge}"' for bridge in closed]),
        *_set("within", "ifname . ifname", [f"{bridge} . {bridge}" for bridge in bridges]),
        *_chain(
            "zones",
            ["type filter hook prerouting priority raw; policy accept;"]
            + ([f"ct zone set iifname map {{ {', '.join(zones)} }}"] if zones else []),
        ),
        # A guest that addresses the bridge itself must not reach this machine, nor be routed by it.
        *_chain(
            "host",
            ["type filter hook input priority filter; policy accept;", "iifname @bridges drop", "iifname @closed drop"],
        ),
        *_chain(
            "passing",
            [
                "type filter hook forward priority filter; policy accept;",
                "iifname @closed drop",
                "oifname @closed drop",
                "iifname != @bridges oifname != @bridges accept",
                "iifname . oifname != @within drop",
                f"meta mark and {SOURCE_MASK:#x} == 0 drop",
                "ct state established,related accept",
                "ct state invalid drop",
                f"meta mark and {SOURCE_MASK:#x} vmap @egress",
                "goto arriving",
            ],
        ),
    ]


# ------------------------------------------------------------------------------------------------ script parts


def _chain(name: str, lines: list[str]) -> list[str]:
    return [f"chain {name} {{", *lines, "}"]


def _set(name: str, key: str, elements: list[str], interval: bool = False) -> list[str]:
    return [f"set {name} {{", f"type {key};", *(["flags interval;"] if interval else []), *_elements(elements), "}"]


def _map(name: str, types: str, elements: list[str]) -> list[str]:
    return [f"map {name} {{", f"type {types};", *_elements(elements), "}"]


def _elements(elements: list[str]) -> list[str]:
    return [f"elements = {{ {', '.join(elements)} }}"] if elements else []
