"""Security groups and rules as a caller may see them."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.model.commands.security_groups import SecurityGroupRow
from nova_fast.model.errors import NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.networks import SecurityGroup, SecurityGroupRule
from nova_fast.queries.networks import FILTER_BYTES_MAX
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

DEFAULT_NAME = "default"


def default_group(reader: Reader, project_id: str) -> SecurityGroup | None:
    """The group named ``default`` of a project, if it was made already."""
    return next(reader.scan_index(tables.SECURITY_GROUPS_BY_PROJECT, project_id, DEFAULT_NAME, limit=1), None)


def need_group(reader: Reader, caller: Caller, group_id: str) -> SecurityGroup:
    """The group. Raises NotFound (``SecurityGroupNotFound``) when it does not exist for the caller."""
    group = reader.get(tables.SECURITY_GROUPS, group_id)
    if group is None or not caller.may_see(group.project_id):
        raise NotFound(f"Security group {group_id} does not exist", code="SecurityGroupNotFound")
    return group


def need_rule(reader: Reader, caller: Caller, rule_id: str) -> SecurityGroupRule:
    """The rule. Raises NotFound (``SecurityGroupRuleNotFound``) when it does not exist for the caller."""
    rule = reader.get(tables.SECURITY_GROUP_RULES, rule_id)
    if rule is None or not _sees_rule(reader, caller, rule):
        raise NotFound(f"Security group rule {rule_id} does not exist", code="SecurityGroupRuleNotFound")
    return rule


def rules_of(reader: Reader, group_id: str) -> list[SecurityGroupRule]:
    """The rules of a group, oldest first."""
    return sorted(reader.scan_index(tables.RULES_BY_GROUP, group_id), key=lambda rule: (rule.created_at_us, rule.id))


def group_row(reader: Reader, group: SecurityGroup) -> SecurityGroupRow:
    """A group with its rules."""
    return SecurityGroupRow(group=group, rules=tuple(rules_of(reader, group.id)))


def visible_groups(reader: Reader, caller: Caller) -> Iterator[SecurityGroup]:
    """Every group that exists for the caller."""
    if caller.is_admin:
        return reader.scan(tables.SECURITY_GROUPS)
    return reader.scan_index(tables.SECURITY_GROUPS_BY_PROJECT, caller.project_id)


def visible_rules(reader: Reader, caller: Caller, group_id: str = "") -> Iterator[SecurityGroupRule]:
    """Every rule that exists for the caller, narrowed to a group where that is known."""
    if len(group_id.encode()) > FILTER_BYTES_MAX:
        return
    rules = reader.scan_index(tables.RULES_BY_GROUP, group_id) if group_id else reader.scan(tables.SECURITY_GROUP_RULES)
    for rule in rules:
        if _sees_rule(reader, caller, rule):
            yield rule


def _sees_rule(reader: Reader, caller: Caller, rule: SecurityGroupRule) -> bool:
    if caller.may_see(rule.project_id):
        return True
    group = reader.get(tables.SECURITY_GROUPS, rule.security_group_id)
    return group is not None and caller.may_see(group.project_id)
