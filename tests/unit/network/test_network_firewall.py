"""The packet filter as text: every kind of rule, nothing that could be injected, and what must be cut."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import GroupSpec, NetworkSpec, PortSpec, RuleSpec
from nova_fast.network.linux.firewall import FREE, ROUTER, FirewallInput, number_profiles, render
from nova_fast.network.linux.plan import bridges_to_close, plan_network
from nova_fast.network.linux.policy import Policy, check_groups, flows_to_cut, policy_of
from nova_fast.network.linux.rules import match_of

CLOUD = "0a1b2c3d"
SAFE = re.compile(r'[A-Za-z0-9_ .,:;/{}@"=!<>\n-]*')


def rule(direction: str = "ingress", ethertype: str = "IPv4", **fields: Any) -> RuleSpec:
    return RuleSpec(direction=direction, ethertype=ethertype, **fields)


def port(number: int = 1, **changes: Any) -> PortSpec:
    fields: dict[str, Any] = {
        "id": f"p{number}",
        "tap": f"tapp{number}",
        "mac_address": f"fa:16:3e:00:00:{number:02x}",
        "addresses": (f"10.0.0.{number}",),
        "hostname": "web",
        "server_id": "s",
        "project_id": "p",
        "security_groups": ("g",),
    }
    return PortSpec(**{**fields, **changes})


def wanted(*ports: PortSpec, groups: tuple[GroupSpec, ...] = ()) -> FirewallInput:
    spec = NetworkSpec(id="n1", number=1, bridge="nfb1", namespace="nf-1", mtu=1450, subnets=(), ports=ports)
    plans = (plan_network(CLOUD, spec),)
    return FirewallInput(cloud_id=CLOUD, networks=plans, groups=groups, numbers=number_profiles(plans, {}))


def chain(text: str, name: str) -> list[str]:
    lines = text.split("\n")
    begin = lines.index(f"chain {name} {{") + 1
    return lines[begin : lines.index("}", begin)]


V4, V6 = "meta nfproto ipv4", "meta nfproto ipv6"
MATCHES: list[tuple[RuleSpec, str]] = [
    (rule(), V4),
    (rule(ethertype="IPv6"), V6),
    (rule(protocol="any"), V4),
    (rule(protocol="tcp"), f"{V4} meta l4proto 6"),
    (rule(protocol="TCP", port_range_min=22, port_range_max=22), f"{V4} meta l4proto 6 th dport 22"),
    (rule(protocol="udp", port_range_min=1, port_range_max=9), f"{V4} meta l4proto 17 th dport 1-9"),
    (rule(protocol="6", port_range_min=1000), f"{V4} meta l4proto 6 th dport 1000-65535"),
    (rule(protocol="sctp", port_range_max=9), f"{V4} meta l4proto 132 th dport 0-9"),
    (rule(protocol="icmp"), f"{V4} meta l4proto 1"),
    (rule(protocol="icmp", port_range_min=8), f"{V4} meta l4proto 1 icmp type 8"),
    (rule(protocol="1", port_range_min=3, port_range_max=4), f"{V4} meta l4proto 1 icmp type 3 icmp code 4"),
    (
        rule(ethertype="IPv6", protocol="icmpv6", port_range_min=128, port_range_max=0),
        f"{V6} meta l4proto 58 icmpv6 type 128 icmpv6 code 0",
    ),
    (rule(ethertype="IPv6", protocol="icmp"), f"{V6} meta l4proto 58"),
    (rule(protocol="vrrp"), f"{V4} meta l4proto 112"),
    (rule(protocol="253", port_range_min=1), f"{V4} meta l4proto 253"),
    (rule(protocol="0"), f"{V4} meta l4proto 0"),
    (rule(remote_ip_prefix="192.0.2.7/24"), f"{V4} ip saddr 192.0.2.0/24"),
    (rule("egress", remote_ip_prefix="192.0.2.0/24"), f"{V4} ip daddr 192.0.2.0/24"),
    (rule("egress", "IPv6", remote_ip_prefix="2001:DB8::/32"), f"{V6} ip6 daddr 2001:db8::/32"),
    (rule(remote_ip_prefix="0.0.0.0/0"), V4),
]


@pytest.mark.parametrize(("spec", "match"), MATCHES)
def test_every_kind_of_rule_has_its_match(spec: RuleSpec, match: str) -> None:
    assert match_of(spec, None) == match


def test_a_remote_group_is_a_set() -> None:
    assert match_of(rule(remote_group_id="g"), "m1_4") == f"{V4} ip saddr @m1_4"
    assert match_of(rule("egress", remote_group_id="g"), "m1_4") == f"{V4} ip daddr @m1_4"


@pytest.mark.parametrize(
    "spec",
    [
        rule(protocol="tcp accept;"),
        rule(protocol="256"),
        rule(protocol="-1"),
        rule(protocol="²"),
        rule(ethertype="ARP"),
        rule("sideways"),
        rule(remote_ip_prefix="10.0.0.0/8 accept"),
        rule(remote_ip_prefix="2001:db8::/32"),
        rule(protocol="tcp", port_range_min=5, port_range_max=4),
        rule(protocol="tcp", port_range_min=1, port_range_max=70000),
        rule(protocol="icmp", port_range_min=300),
    ],
)
def test_a_rule_that_means_nothing_is_refused(spec: RuleSpec) -> None:
    with pytest.raises(BadRequest):
        match_of(spec, None)
    assert list(check_groups([GroupSpec(id="g", rules=(spec,), members=())])) == ["g"]


def test_a_group_with_a_member_that_is_no_address_is_refused() -> None:
    assert list(check_groups([GroupSpec(id="g", rules=(), members=("10.0.0.1 }",))])) == ["g"]


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_id_or_name_reaches_the_script(port_id: str, group_id: str, name: str) -> None:
    spec = port(id=port_id, hostname=name, server_id=name, project_id=name, security_groups=(group_id,))
    group = GroupSpec(id=group_id, rules=(rule(remote_group_id=group_id),), members=("10.0.0.1",))
    text = render(wanted(spec, groups=(group,)))
    same = render(wanted(port(), groups=(msgspec.structs.replace(group, id="g", rules=(rule(remote_group_id="g"),)),)))
    assert text == same
    assert SAFE.fullmatch(text)


def test_a_group_without_rules_lets_nothing_through() -> None:
    text = render(wanted(port(), groups=(GroupSpec(id="g", rules=(), members=()),)))
    assert chain(text, "gi_1") == []
    assert chain(text, "ge_1") == []
    assert chain(text, "i_1")[-1] == "drop"
    assert chain(text, "e_1")[-1] == "drop"


def test_a_port_of_a_group_that_nobody_described_is_closed() -> None:
    text = render(wanted(port(security_groups=("unknown",))))
    assert not [line for line in chain(text, "i_1") if line.startswith("jump")]
    assert chain(text, "i_1")[-1] == "drop"


def test_ports_with_the_same_groups_share_their_chains() -> None:
    ports = [port(number, security_groups=groups) for number, groups in enumerate([("a", "b"), ("b", "a"), ("a",)], 1)]
    found = wanted(*ports)
    assert sorted(found.numbers.values()) == [1, 2]
    text = render(found)
    number = found.numbers[("a", "b")]
    assert f'"tapp1" : {number:#x}, "tapp2" : {number:#x}' in text


def test_profiles_keep_their_numbers_when_others_come_and_go() -> None:
    first = wanted(port(1, security_groups=("b",)))
    second = wanted(port(1, security_groups=("b",)), port(2, security_groups=("a",)))
    numbers = number_profiles(second.networks, first.numbers)
    assert numbers[("b",)] == first.numbers[("b",)]
    assert len(set(numbers.values())) == 2
    assert not {0, FREE, ROUTER} & set(numbers.values())


def test_a_port_without_port_security_is_marked_but_not_pinned() -> None:
    text = render(wanted(port(port_security_enabled=False)))
    assert f'"tapp1" : {FREE:#x}' in text
    assert '"tapp1" : goto to_free' in text
    assert '"tapp1" . fa:16:3e' not in text


def test_pins_hold_own_addresses_pairs_and_link_local_ones() -> None:
    pairs = (("10.9.0.0/16", "fa:16:3e:00:00:99"), ("10.0.0.100", ""))
    text = render(wanted(port(addresses=("10.0.0.1", "fd00::1"), allowed_address_pairs=pairs)))
    tap = '"tapp1" . fa:16:3e:00:00:01'
    assert f"{tap} . 10.0.0.1" in text
    assert f"{tap} . 10.0.0.100" in text
    assert '"tapp1" . fa:16:3e:00:00:99 . 10.9.0.0/16' in text
    assert f"{tap} . fd00::1" in text
    assert f"{tap} . fe80::f816:3eff:fe00:1" in text
    assert f"{tap} . 10.9.0.0/16" not in text


def test_a_wanted_network_that_cannot_be_planned_is_closed_not_open() -> None:
    good = NetworkSpec(id="n1", number=1, bridge="nfb1", namespace="nf-1", mtu=1450, subnets=(), ports=(port(),))
    specs = [good, *(msgspec.structs.replace(good, id=name, bridge=name) for name in ("nfb2", 'x"; drop', "nfb1"))]
    closed = bridges_to_close(specs, {"n1": plan_network(CLOUD, good)})
    assert closed == ("nfb2",)
    text = render(msgspec.structs.replace(wanted(port()), closed=closed))
    assert chain(text, "passing")[1:3] == ["iifname @closed drop", "oifname @closed drop"]
    assert 'set closed {\ntype ifname;\nelements = { "nfb2" }' in text


def test_the_tables_are_replaced_in_one_transaction() -> None:
    text = render(wanted(port()))
    for family, name in (("bridge", f"nfport_{CLOUD}"), ("inet", f"nfsg_{CLOUD}")):
        assert text.index(f"delete table {family} {name}") < text.rindex(f"table {family} {name} {{")


# ------------------------------------------------------------------------------------------------ what must be cut


def policy(*ports: PortSpec, rules: tuple[RuleSpec, ...] = (), members: tuple[str, ...] = ()) -> Policy:
    made = wanted(*ports, groups=(GroupSpec(id="g", rules=rules, members=members),))
    return policy_of(made.networks, made.groups)


def cut(before: Policy, after: Policy) -> set[str]:
    return {address for addresses in flows_to_cut(before, after).values() for address in addresses}


SSH, WEB, SAME = (
    rule(protocol="tcp", port_range_min=22, port_range_max=22),
    rule(protocol="tcp", port_range_min=80, port_range_max=80),
    rule(remote_group_id="g"),
)


def test_nothing_is_cut_when_nothing_was_taken_away() -> None:
    before = policy(port(), rules=(SSH,), members=("10.0.0.1",))
    assert cut(before, before) == set()
    assert cut(before, policy(port(), port(2), rules=(SSH, WEB), members=("10.0.0.1", "10.0.0.2"))) == set()
    assert cut(Policy(), before) == set()


def test_a_removed_rule_cuts_the_ports_that_had_it() -> None:
    ports = (port(), port(2, security_groups=("other",)))
    assert cut(policy(*ports, rules=(SSH, WEB)), policy(*ports, rules=(WEB,))) == {"10.0.0.1"}


def test_a_member_that_leaves_is_cut_and_the_others_are_not() -> None:
    before = policy(port(), port(2), rules=(SAME,), members=("10.0.0.1", "10.0.0.2", "10.0.0.9"))
    after = policy(port(), port(2), rules=(SAME,), members=("10.0.0.1", "10.0.0.2"))
    assert cut(before, after) == {"10.0.0.9"}


def test_a_removed_port_address_or_group_is_cut() -> None:
    before = policy(port(addresses=("10.0.0.1", "10.0.0.7")), rules=(SSH,))
    assert cut(before, policy(rules=(SSH,))) == {"10.0.0.1", "10.0.0.7"}
    assert cut(before, policy(port(), rules=(SSH,))) == {"10.0.0.7"}
    assert cut(policy(port(), rules=(SSH,)), policy(port(security_groups=()), rules=(SSH,))) == {"10.0.0.1"}


def test_port_security_that_is_switched_on_cuts_what_was_free() -> None:
    free = policy(port(port_security_enabled=False), rules=(SSH,))
    assert cut(free, policy(port(), rules=(SSH,))) == {"10.0.0.1"}
    assert cut(policy(port(), rules=(SSH,)), free) == set()


def test_a_policy_can_be_stored() -> None:
    made = policy(port(), rules=(SSH, SAME), members=("10.0.0.1",))
    assert msgspec.json.decode(msgspec.json.encode(made), type=Policy) == made
