"""Security groups and rules: the default group, protections, rules that make no sense, duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nova_fast.commands.security_groups import ensure_default_group, groups_by_name
from nova_fast.model.commands.networks import SetNetworkQuota
from nova_fast.model.commands.security_groups import (
    CreateSecurityGroupRules,
    CreateSecurityGroups,
    DeleteSecurityGroup,
    DeleteSecurityGroupRule,
    NewSecurityGroup,
    NewSecurityGroupRule,
    SecurityGroupChanges,
    UpdateSecurityGroup,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound, NovaFastError, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.networks import SecurityGroup, SecurityGroupRule
from nova_fast.queries import quotas
from nova_fast.queries.security_groups import rules_of
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.commands.network_world import ADMIN, ALICE, BOB, World


@pytest.fixture
def world() -> Iterator[World]:
    with memory_store() as store:
        yield World(store)


def code_of(world: World, request: Any) -> tuple[type[NovaFastError], str]:
    with pytest.raises(NovaFastError) as caught:
        world.do(request)
    return type(caught.value), caught.value.code


def group(world: World, name: str = "web", caller: Caller = ALICE) -> SecurityGroup:
    return world.do(CreateSecurityGroups(caller=caller, groups=(NewSecurityGroup(name=name),))).groups[0].group


def ask(group: SecurityGroup, **fields: Any) -> CreateSecurityGroupRules:
    usual = {"security_group_id": group.id, "direction": "ingress"}
    return CreateSecurityGroupRules(caller=ALICE, rules=(NewSecurityGroupRule(**{**usual, **fields}),))


def rule(world: World, group: SecurityGroup, **fields: Any) -> SecurityGroupRule:
    return world.do(ask(group, **fields)).rules[0]


def test_the_default_group_is_made_once_and_counted(world: World) -> None:
    first = world.tx(lambda tx: ensure_default_group(tx, ALICE.project_id))
    assert world.tx(lambda tx: ensure_default_group(tx, ALICE.project_id)) == first
    rules = world.read(lambda r: rules_of(r, first.id))
    assert {(r.direction, r.ethertype, r.remote_group_id) for r in rules} == {
        ("egress", "IPv4", None), ("egress", "IPv6", None),
        ("ingress", "IPv4", first.id), ("ingress", "IPv6", first.id),
    }  # fmt: skip
    used = world.read(lambda r: quotas.usage(r, ALICE.project_id))
    assert (used.security_groups, used.security_group_rules) == (1, 4)


def test_no_limit_keeps_a_project_from_its_default_group(world: World) -> None:
    limits = {"security_group": 0, "security_group_rule": 0}
    world.do(SetNetworkQuota(caller=ADMIN, project_id=ALICE.project_id, limits=limits))
    world.tx(lambda tx: ensure_default_group(tx, ALICE.project_id))
    request = CreateSecurityGroups(caller=ALICE, groups=(NewSecurityGroup(name="web"),))
    assert code_of(world, request) == (OverQuota, "OverQuota")


def test_a_new_group_lets_everything_out(world: World) -> None:
    made = group(world)
    rules = world.read(lambda r: rules_of(r, made.id))
    found = [(r.direction, r.ethertype, r.protocol) for r in rules]
    assert found == [("egress", "IPv4", None), ("egress", "IPv6", None)]


@pytest.mark.parametrize("name", ["default", "DEFAULT"])
def test_there_is_one_default_group(world: World, name: str) -> None:
    request = CreateSecurityGroups(caller=ALICE, groups=(NewSecurityGroup(name=name),))
    assert code_of(world, request) == (Conflict, "SecurityGroupDefaultAlreadyExists")
    request2 = UpdateSecurityGroup(caller=ALICE, group_id=group(world).id, changes=SecurityGroupChanges(name=name))
    assert code_of(world, request2) == (Conflict, "SecurityGroupDefaultAlreadyExists")


def test_the_default_group_keeps_its_name_and_its_owner_cannot_remove_it(world: World) -> None:
    default = world.tx(lambda tx: ensure_default_group(tx, ALICE.project_id))
    request = UpdateSecurityGroup(caller=ALICE, group_id=default.id, changes=SecurityGroupChanges(name="x"))
    assert code_of(world, request) == (Conflict, "SecurityGroupCannotUpdateDefault")
    delete = DeleteSecurityGroup(caller=ALICE, group_id=default.id)
    assert code_of(world, delete) == (Conflict, "SecurityGroupCannotRemoveDefault")
    world.do(UpdateSecurityGroup(caller=ALICE, group_id=default.id, changes=SecurityGroupChanges(description="d")))
    world.do(DeleteSecurityGroup(caller=ADMIN, group_id=default.id))
    used = world.read(lambda r: quotas.usage(r, ALICE.project_id))
    assert (used.security_groups, used.security_group_rules) == (0, 0)


def test_a_name_too_long_for_a_key_is_refused(world: World) -> None:
    request = CreateSecurityGroups(caller=ALICE, groups=(NewSecurityGroup(name="ü" * 255),))
    assert code_of(world, request)[0] is BadRequest
    assert len(group(world, "ü" * 200).name) == 200


def test_a_group_in_use_stays(world: World) -> None:
    made = group(world)
    port = world.port(world.network(), security_groups=(made.id,))
    assert port.security_groups == (made.id,)
    assert code_of(world, DeleteSecurityGroup(caller=ALICE, group_id=made.id)) == (Conflict, "SecurityGroupInUse")


def test_another_projects_group_does_not_exist(world: World) -> None:
    made = group(world)
    for request in (
        DeleteSecurityGroup(caller=BOB, group_id=made.id),
        UpdateSecurityGroup(caller=BOB, group_id=made.id, changes=SecurityGroupChanges(name="x")),
        CreateSecurityGroupRules(
            caller=BOB, rules=(NewSecurityGroupRule(security_group_id=made.id, direction="ingress"),)
        ),
    ):
        assert code_of(world, request) == (NotFound, "SecurityGroupNotFound")
    own = group(world, caller=BOB)
    assert code_of(world, ask(made, remote_group_id=own.id)) == (NotFound, "SecurityGroupNotFound")


def test_a_group_goes_with_the_rules_that_name_it(world: World) -> None:
    web, db = group(world, "web"), group(world, "db")
    rule(world, db, protocol="tcp", port_range_min=5432, port_range_max=5432, remote_group_id=web.id)
    world.do(DeleteSecurityGroup(caller=ALICE, group_id=web.id))
    assert len(world.read(lambda r: rules_of(r, db.id))) == 2
    used = world.read(lambda r: quotas.usage(r, ALICE.project_id))
    assert (used.security_groups, used.security_group_rules) == (2, 6)


def test_groups_are_found_by_name_and_id(world: World) -> None:
    web = group(world)

    def find(*names: str) -> tuple[str, ...]:
        return world.tx(lambda tx: groups_by_name(tx, ALICE.project_id, names))

    default = world.tx(lambda tx: ensure_default_group(tx, ALICE.project_id))
    assert find() == (default.id,)
    assert find("web", web.id, "default") == (web.id, default.id)
    theirs = group(world, "theirs", BOB)
    for name in ("nobody", theirs.id, "theirs", "x" * 600):
        with pytest.raises(NotFound):
            find(name)
    group(world, "web")
    with pytest.raises(Conflict) as caught:
        find("web")
    assert caught.value.code == "NoUniqueMatch"


WRONG_RULES = [
    ({"direction": "sideways"}, "HTTPBadRequest"),
    ({"ethertype": "IPv5"}, "HTTPBadRequest"),
    ({"protocol": "carrier-pigeon"}, "SecurityGroupRuleInvalidProtocol"),
    ({"protocol": "256"}, "SecurityGroupRuleInvalidProtocol"),
    ({"protocol": "-1"}, "SecurityGroupRuleInvalidProtocol"),
    ({"remote_ip_prefix": "rubbish"}, "InvalidCIDR"),
    ({"remote_ip_prefix": "fe80::%eth0/64", "ethertype": "IPv6"}, "InvalidCIDR"),
    ({"remote_ip_prefix": "fd00::/64"}, "SecurityGroupRuleParameterConflict"),
    ({"remote_ip_prefix": "10.0.0.0/8", "ethertype": "IPv6"}, "SecurityGroupRuleParameterConflict"),
    ({"port_range_min": 1, "port_range_max": 2}, "SecurityGroupProtocolRequiredWithPorts"),
    ({"protocol": "gre", "port_range_min": 1, "port_range_max": 2}, "SecurityGroupInvalidProtocolForPort"),
    ({"protocol": "tcp", "port_range_min": 1}, "SecurityGroupInvalidPortRange"),
    ({"protocol": "tcp", "port_range_max": 1}, "SecurityGroupInvalidPortRange"),
    ({"protocol": "tcp", "port_range_min": 2, "port_range_max": 1}, "SecurityGroupInvalidPortRange"),
    ({"protocol": "udp", "port_range_min": 0, "port_range_max": 1}, "SecurityGroupInvalidPortRange"),
    ({"protocol": "udp", "port_range_min": 1, "port_range_max": 65536}, "SecurityGroupInvalidPortRange"),
    ({"protocol": "icmp", "port_range_max": 0}, "SecurityGroupMissingIcmpType"),
    ({"protocol": "icmp", "port_range_min": 256}, "SecurityGroupInvalidIcmpValue"),
    ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 256}, "SecurityGroupInvalidIcmpValue"),
    ({"protocol": "icmpv6"}, "SecurityGroupEthertypeConflictWithProtocol"),
]


@pytest.mark.parametrize(("fields", "code"), WRONG_RULES)
def test_a_rule_that_makes_no_sense_is_refused_by_name(world: World, fields: dict[str, Any], code: str) -> None:
    assert code_of(world, ask(group(world), **fields)) == (BadRequest, code)


def test_a_rule_has_one_remote(world: World) -> None:
    made = group(world)
    request = ask(made, remote_group_id=made.id, remote_ip_prefix="10.0.0.0/8")
    assert code_of(world, request) == (BadRequest, "SecurityGroupMultipleRemoteEntites")
    assert code_of(world, ask(made, remote_group_id="nobody")) == (NotFound, "SecurityGroupNotFound")


SAME_RULES = [
    ({"protocol": "tcp"}, {"protocol": "6"}),
    ({"protocol": "TCP"}, {"protocol": "tcp", "port_range_min": 1, "port_range_max": 65535}),
    ({}, {"remote_ip_prefix": "0.0.0.0/0"}),
    ({"remote_ip_prefix": "10.0.0.7/8"}, {"remote_ip_prefix": "10.0.0.0/8"}),
    ({"remote_ip_prefix": "10.0.0.7"}, {"remote_ip_prefix": "10.0.0.7/32"}),
    ({"protocol": "icmp", "ethertype": "IPv6"}, {"protocol": "ipv6-icmp", "ethertype": "ipv6"}),
]


@pytest.mark.parametrize(("first", "second"), SAME_RULES)
def test_nothing_is_said_twice_however_it_is_written(
    world: World, first: dict[str, Any], second: dict[str, Any]
) -> None:
    made = group(world)
    rule(world, made, **first)
    assert code_of(world, ask(made, **second)) == (Conflict, "SecurityGroupRuleExists")
    rule(world, made, **{**second, "direction": "egress", "protocol": "vrrp" if "protocol" not in second else "udp",
                         "ethertype": "IPv4", "remote_ip_prefix": "10.1.0.0/16"})  # fmt: skip


def test_rules_are_counted_and_a_removed_rule_is_given_back(world: World) -> None:
    made = group(world)
    one = rule(world, made, protocol="tcp")
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).security_group_rules == 7
    revision = world.read(lambda r: r.get(tables.SECURITY_GROUPS, made.id)).revision
    world.do(DeleteSecurityGroupRule(caller=ALICE, rule_id=one.id))
    assert world.read(lambda r: r.get(tables.SECURITY_GROUPS, made.id)).revision == revision + 1
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).security_group_rules == 6
    assert code_of(world, DeleteSecurityGroupRule(caller=ALICE, rule_id=one.id)) == (
        NotFound, "SecurityGroupRuleNotFound",
    )  # fmt: skip
    world.do(SetNetworkQuota(caller=ADMIN, project_id=ALICE.project_id, limits={"security_group_rule": 6}))
    assert code_of(world, ask(made, protocol="udp")) == (OverQuota, "OverQuota")
