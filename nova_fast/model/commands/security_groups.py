"""Commands for security groups and their rules."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from nova_fast.model.base import Message, Value
from nova_fast.model.identity import Caller
from nova_fast.model.networks import SecurityGroup, SecurityGroupRule


class NewSecurityGroup(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str = ""
    project_id: str = ""  # "" = the caller's
    description: str = ""


class SecurityGroupChanges(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str | UnsetType = UNSET
    description: str | UnsetType = UNSET


class SecurityGroupRow(Value, frozen=True):
    """A security group together with its rules, as it is shown."""

    group: SecurityGroup
    rules: tuple[SecurityGroupRule, ...] = ()


class CreateSecurityGroups(Message, frozen=True):
    """Make all of these groups, each letting everything out, or none. → SecurityGroupsResult."""

    caller: Caller
    groups: tuple[NewSecurityGroup, ...]


class UpdateSecurityGroup(Message, frozen=True):
    """→ SecurityGroupsResult with one row."""

    caller: Caller
    group_id: str
    changes: SecurityGroupChanges


class DeleteSecurityGroup(Message, frozen=True):
    """Remove a group that no port uses, and the rules that name it. → Done."""

    caller: Caller
    group_id: str


class EnsureDefaultSecurityGroup(Message, frozen=True):
    """Make the group ``default`` of the caller's project unless it is there. → SecurityGroupsResult."""

    caller: Caller
    project_id: str


class SecurityGroupsResult(Message, frozen=True):
    groups: tuple[SecurityGroupRow, ...]


class NewSecurityGroupRule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    security_group_id: str
    direction: str
    project_id: str = ""  # "" = the group's
    ethertype: str = "IPv4"
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None
    remote_ip_prefix: str | None = None
    remote_group_id: str | None = None
    description: str = ""


class CreateSecurityGroupRules(Message, frozen=True):
    """Make all of these rules, or none. → SecurityGroupRulesResult."""

    caller: Caller
    rules: tuple[NewSecurityGroupRule, ...]


class DeleteSecurityGroupRule(Message, frozen=True):
    """→ Done."""

    caller: Caller
    rule_id: str


class SecurityGroupRulesResult(Message, frozen=True):
    rules: tuple[SecurityGroupRule, ...]


COMMANDS = (
    CreateSecurityGroups,
    UpdateSecurityGroup,
    DeleteSecurityGroup,
    EnsureDefaultSecurityGroup,
    CreateSecurityGroupRules,
    DeleteSecurityGroupRule,
)
RESULTS = (SecurityGroupsResult, SecurityGroupRulesResult)
