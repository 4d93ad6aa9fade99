"""One security-group rule as an nft match.

The text is made of numbers, parsed prefixes and names of sets that this package chose; nothing a user wrote is copied.
Protocol names follow Neutron's list (Networking API v2.0, security group rules); ``None`` and ``any`` mean all.
"""

from __future__ import annotations

from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import RuleSpec
from nova_fast.network.linux.plan import checked_prefix

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

PROTOCOLS = {
    "ah": 51,
    "dccp": 33,
    "egp": 8,
    "esp": 50,
    "gre": 47,
    "icmp": ICMP,
    "icmpv6": ICMPV6,
    "igmp": 2,
    "ipip": 4,
    "ipv6-encap": 41,
    "ipv6-frag": 44,
    "ipv6-icmp": ICMPV6,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "ipv6-route": 43,
    "ospf": 89,
    "pgm": 113,
    "rsvp": 46,
    "sctp": 132,
    "tcp": TCP,
    "udp": UDP,
    "udplite": 136,
    "vrrp": 112,
}
WITH_PORTS = frozenset({TCP, UDP, 33, 132, 136})


def protocol_number(name: str | None, ipv6: bool) -> int | None:
    """The IP protocol of a rule; ``None`` means any. Raises BadRequest for a name that nobody knows."""
    if name is None or name.lower() in ("", "any"):
        return None
    text = name.lower()
    if text.isascii() and text.isdigit() and int(text) <= 255:
        number = int(text)
    elif text in PROTOCOLS:
        number = PROTOCOLS[text]
    else:
        raise BadRequest(f"{name!r} is not a protocol")
    return ICMPV6 if ipv6 and number == ICMP else number


def match_of(rule: RuleSpec, set_name: str | None) -> str:
    """What a packet must be for this rule to let it through.

    ``set_name`` is the set that holds the members of ``rule.remote_group_id``. Raises BadRequest.
    """
    assert (rule.remote_group_id is None) == (set_name is None)
    if rule.ethertype not in ("IPv4", "IPv6"):
        raise BadRequest(f"{rule.ethertype!r} is not an ethertype")
    if rule.direction not in ("ingress", "egress"):
        raise BadRequest(f"{rule.direction!r} is not a direction")
    ipv6 = rule.ethertype == "IPv6"
    family = "ip6" if ipv6 else "ip"
    remote = f"{family} {'saddr' if rule.direction == 'ingress' else 'daddr'}"
    parts = [f"meta nfproto {'ipv6' if ipv6 else 'ipv4'}"]
    if rule.remote_ip_prefix is not None:
        prefix = checked_prefix(rule.remote_ip_prefix)
        if (prefix.version == 6) != ipv6:
            raise BadRequest(f"{prefix} is not {rule.ethertype}")
        if prefix.prefixlen:
            parts.append(f"{remote} {prefix}")
    if set_name is not None:
        parts.append(f"{remote} @{set_name}")
    return " ".join(parts + _protocol_parts(rule, protocol_number(rule.protocol, ipv6)))


def _protocol_parts(rule: RuleSpec, number: int | None) -> list[str]:
    if number is None:
        return []
    parts = [f"meta l4proto {number}"]
    low, high = rule.port_range_min, rule.port_range_max
    if number in WITH_PORTS and (low is not None or high is not None):
        first = _within(0 if low is None else low, 65535)
        last = _within(65535 if high is None else high, 65535)
        if first > last:
            raise BadRequest(f"the port range {first} to {last} is upside down")
        parts.append(f"th dport {first}" if first == last else f"th dport {first}-{last}")
    if number in (ICMP, ICMPV6) and low is not None:
        word = "icmp" if number == ICMP else "icmpv6"
        parts.append(f"{word} type {_within(low, 255)}")
        if high is not None:
            parts.append(f"{word} code {_within(high, 255)}")
    return parts


def _within(value: int, largest: int) -> int:
    if not 0 <= value <= largest:
        raise BadRequest(f"{value} is outside 0 to {largest}")
    return value
