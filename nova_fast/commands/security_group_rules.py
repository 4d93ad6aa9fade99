"""Security-group rules: what may be said in one, and that nothing is said twice.

Source: Networking API v2.0, security group rules; the names and numbers of protocols are IANA's.
"""

from __future__ import annotations

import ipaddress

from nova_fast.commands.network_limits import owner_of, take
from nova_fast.commands.registry import command
from nova_fast.commands.security_groups import ETHERTYPES, remove_rule, touch_group
from nova_fast.model.commands.security_groups import (
    CreateSecurityGroupRules,
    DeleteSecurityGroupRule,
    NewSecurityGroupRule,
    SecurityGroupRulesResult,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.networks import SecurityGroupRule
from nova_fast.model.tasks import Done
from nova_fast.queries import security_groups as queries
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

PROTOCOLS = {
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43,
    "ospf": 89, "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
_ICMP, _ICMPV6 = 1, 58
_ONLY_IPV6 = frozenset({41, 43, 44, 58, 59, 60})
_DIRECTIONS = ("ingress", "egress")
PORT_MAX = 65535
TYPE_MAX = 255


@command(CreateSecurityGroupRules)
def create_security_group_rules(tx: Transaction, request: CreateSecurityGroupRules) -> SecurityGroupRulesResult:
    """Add rules to groups.

    Raises NotFound (group or remote group), BadRequest (a rule that makes no sense), Conflict
    (``SecurityGroupRuleExists``), OverQuota.
    """
    return SecurityGroupRulesResult(rules=tuple(_create(tx, request.caller, new) for new in request.rules))


@command(DeleteSecurityGroupRule)
def delete_security_group_rule(tx: Transaction, request: DeleteSecurityGroupRule) -> Done:
    """Raises NotFound."""
    remove_rule(tx, queries.need_rule(tx, request.caller, request.rule_id))
    return Done()


def _create(tx: Transaction, caller: Caller, new: NewSecurityGroupRule) -> SecurityGroupRule:
    group = queries.need_group(tx, caller, new.security_group_id)
    project_id = owner_of(caller, new.project_id or group.project_id)
    rule = SecurityGroupRule(
        id=tx.new_uuid(),
        security_group_id=group.id,
        project_id=project_id,
        direction=_one_of("direction", new.direction, _DIRECTIONS),
        ethertype=_one_of("ethertype", new.ethertype, ETHERTYPES),
        created_at_us=tx.now_us,
        protocol=_protocol(new.protocol),
        port_range_min=new.port_range_min,
        port_range_max=new.port_range_max,
        remote_ip_prefix=_prefix(new.remote_ip_prefix),
        remote_group_id=new.remote_group_id,
        description=new.description,
    )
    _check_remote(tx, caller, rule)
    _check_protocol(rule)
    for other in queries.rules_of(tx, group.id):
        if _meaning(other) == _meaning(rule):
            raise Conflict(
                f"Security group rule already exists. Rule id is {other.id}.", code="SecurityGroupRuleExists"
            )
    take(tx, project_id, security_group_rules=1)
    tx.insert(tables.SECURITY_GROUP_RULES, rule)
    touch_group(tx, group.id)
    return rule


def _one_of(field: str, text: str, allowed: tuple[str, ...]) -> str:
    for word in allowed:
        if text.lower() == word.lower():
            return word
    raise BadRequest(
        f"Invalid input for {field}. Reason: '{text}' is not in {list(allowed)}.", code="HTTPBadRequest", field=field
    )


def _protocol(text: str | None) -> str | None:
    if text is None or text.lower() in ("", "any"):
        return None
    name = text.lower()
    if name in PROTOCOLS or (name.isascii() and name.isdigit() and int(name) <= TYPE_MAX):
        return name if name in PROTOCOLS else str(int(name))
    raise BadRequest(
        f"Security group rule protocol {text} not supported. Only protocol values {sorted(PROTOCOLS)} and integer "
        "representations [0 to 255] are supported.",
        code="SecurityGroupRuleInvalidProtocol",
        field="protocol",
    )


def protocol_number(protocol: str | None, ethertype: str) -> int | None:
    """The IP protocol of a rule; ``icmp`` in an IPv6 rule means ICMPv6. None = every protocol."""
    if protocol is None:
        return None
    number = PROTOCOLS.get(protocol)
    number = int(protocol) if number is None else number
    return _ICMPV6 if number == _ICMP and ethertype == "IPv6" else number


def _prefix(text: str | None) -> str | None:
    if text is None or text == "":
        return None
    try:
        if "%" in text:
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadRequest(
            f"Invalid CIDR {text} given as IP prefix.", code="InvalidCIDR", field="remote_ip_prefix"
        ) from None
    return text if "/" in text else str(network)


def _check_remote(tx: Transaction, caller: Caller, rule: SecurityGroupRule) -> None:
    if rule.remote_ip_prefix is not None and rule.remote_group_id is not None:
        raise BadRequest(
            "Only remote_ip_prefix or remote_group_id may be provided.",
            code="SecurityGroupMultipleRemoteEntites",
            field="remote_group_id",
        )
    if rule.remote_ip_prefix is not None:
        version = ipaddress.ip_network(rule.remote_ip_prefix, strict=False).version
        if f"IPv{version}" != rule.ethertype:
            raise BadRequest(
                f"Conflicting value ethertype {rule.ethertype} for CIDR {rule.remote_ip_prefix}",
                code="SecurityGroupRuleParameterConflict",
                field="ethertype",
            )
    if rule.remote_group_id is not None:
        remote = tx.get(tables.SECURITY_GROUPS, rule.remote_group_id)
        if remote is None or not (caller.may_see(remote.project_id) or remote.project_id == rule.project_id):
            raise NotFound(f"Security group {rule.remote_group_id} does not exist", code="SecurityGroupNotFound")


def _check_protocol(rule: SecurityGroupRule) -> None:
    number = protocol_number(rule.protocol, rule.ethertype)
    low, high = rule.port_range_min, rule.port_range_max
    if number is not None and rule.ethertype == "IPv4" and number in _ONLY_IPV6:
        raise BadRequest(
            f"Invalid ethertype {rule.ethertype} for protocol {rule.protocol}.",
            code="SecurityGroupEthertypeConflictWithProtocol",
            field="ethertype",
        )
    if low is None and high is None:
        return
    if number is None:
        raise BadRequest(
            "Must also specify protocol if port range is given.",
            code="SecurityGroupProtocolRequiredWithPorts",
            field="protocol",
        )
    if number in (_ICMP, _ICMPV6):
        _check_icmp(rule, low, high)
    elif number not in _WITH_PORTS:
        raise BadRequest(
            f"Port range cannot be specified for protocol {rule.protocol}: it has none.",
            code="SecurityGroupInvalidProtocolForPort",
            field="port_range_min",
        )
    elif low is None or high is None or not 1 <= low <= high <= PORT_MAX:
        raise BadRequest(
            "For TCP/UDP protocols, port_range_min must be <= port_range_max, and both between 1 and 65535.",
            code="SecurityGroupInvalidPortRange",
            field="port_range_min",
        )


def _check_icmp(rule: SecurityGroupRule, low: int | None, high: int | None) -> None:
    if low is None:
        raise BadRequest(
            f"ICMP code (port-range-max) {high} is provided but ICMP type (port-range-min) is missing.",
            code="SecurityGroupMissingIcmpType",
            field="port_range_min",
        )
    for field, value in (("port_range_min", low), ("port_range_max", high)):
        if value is not None and not 0 <= value <= TYPE_MAX:
            raise BadRequest(
                f"Invalid value for ICMP {'type' if field == 'port_range_min' else 'code'} ({field}) {value}.",
                code="SecurityGroupInvalidIcmpValue",
                field=field,
            )


def _meaning(rule: SecurityGroupRule) -> tuple[object, ...]:
    """What a rule lets through, however it is written."""
    prefix = None
    if rule.remote_ip_prefix is not None:
        network = ipaddress.ip_network(rule.remote_ip_prefix, strict=False)
        prefix = str(network) if network.prefixlen else None
    number = protocol_number(rule.protocol, rule.ethertype)
    ports = (rule.port_range_min, rule.port_range_max)
    if number in _WITH_PORTS and ports == (1, PORT_MAX):
        ports = (None, None)
    return (rule.direction, rule.ethertype, number, ports, prefix, rule.remote_group_id)
