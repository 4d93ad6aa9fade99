"""Security groups: named sets of rules that ports are put into.

Every project gets a group named ``default`` the first time it needs one: everything out, and everything in from its own
members.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import UNSET

from nova_fast.commands import usage
from nova_fast.commands.host_networks import mark_group_dirty
from nova_fast.commands.network_limits import owner_of, take
from nova_fast.commands.registry import command
from nova_fast.model.commands.security_groups import (
    CreateSecurityGroups,
    DeleteSecurityGroup,
    EnsureDefaultSecurityGroup,
    SecurityGroupsResult,
    UpdateSecurityGroup,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.networks import SecurityGroup, SecurityGroupRule
from nova_fast.model.tasks import Done
from nova_fast.queries import security_groups as queries
from nova_fast.queries.security_groups import DEFAULT_NAME
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

ETHERTYPES = ("IPv4", "IPv6")
GROUPS_PER_PORT_MAX = 64
NAME_BYTES_MAX = 400  # a name is part of a key of the store


def ensure_default_group(tx: Transaction, project_id: str) -> SecurityGroup:
    """The group ``default`` of a project, made now if it was not there."""
    found = queries.default_group(tx, project_id)
    if found is not None:
        return found
    group = _insert_group(tx, project_id, DEFAULT_NAME, "Default security group")
    for ethertype in ETHERTYPES:
        _insert_rule(tx, group, "ingress", ethertype, group.id)
    # The group is made for the project, not asked for by it, so it is counted but no limit stops it.
    usage.give_back(tx, project_id, security_groups=-1, security_group_rules=-2 * len(ETHERTYPES))
    return group


def groups_by_name(tx: Transaction, project_id: str, names: Iterable[str]) -> tuple[str, ...]:
    """The ids of groups of a project given by id or name; none given = the default group.

    Raises NotFound (``SecurityGroupNotFound``) and Conflict (``NoUniqueMatch``) when a name fits several.
    """
    ids: dict[str, None] = {}
    for name in names:
        ids[_group_id(tx, project_id, name)] = None
    return tuple(ids) or (ensure_default_group(tx, project_id).id,)


def _group_id(tx: Transaction, project_id: str, name: str) -> str:
    group = tx.get(tables.SECURITY_GROUPS, name)
    if group is not None and group.project_id == project_id:
        return group.id
    if name == DEFAULT_NAME:
        return ensure_default_group(tx, project_id).id
    try:
        found = list(tx.scan_index(tables.SECURITY_GROUPS_BY_PROJECT, project_id, name, limit=2))
    except ValueError:  # longer than a name can be
        found = []
    if len(found) > 1:
        raise Conflict(
            f"Multiple security groups found matching '{name}'. Use an ID to be more specific.", code="NoUniqueMatch"
        )
    if not found:
        raise NotFound(f"Security group {name} not found for project {project_id}.", code="SecurityGroupNotFound")
    return found[0].id


@command(CreateSecurityGroups)
def create_security_groups(tx: Transaction, request: CreateSecurityGroups) -> SecurityGroupsResult:
    """Make groups that let everything out and nothing in.

    Raises Conflict (``SecurityGroupDefaultAlreadyExists``), OverQuota.
    """
    rows = []
    for new in request.groups:
        project_id = owner_of(request.caller, new.project_id)
        ensure_default_group(tx, project_id)
        _check_name(new.name)
        take(tx, project_id, security_groups=1, security_group_rules=len(ETHERTYPES))
        rows.append(queries.group_row(tx, _insert_group(tx, project_id, new.name, new.description)))
    return SecurityGroupsResult(groups=tuple(rows))


@command(EnsureDefaultSecurityGroup)
def ensure_default_security_group(tx: Transaction, request: EnsureDefaultSecurityGroup) -> SecurityGroupsResult:
    """Make the default group of a project that the caller acts for."""
    group = ensure_default_group(tx, owner_of(request.caller, request.project_id))
    return SecurityGroupsResult(groups=(queries.group_row(tx, group),))


@command(UpdateSecurityGroup)
def update_security_group(tx: Transaction, request: UpdateSecurityGroup) -> SecurityGroupsResult:
    """Change name or description.

    Raises NotFound, Conflict (``SecurityGroupCannotUpdateDefault``, ``SecurityGroupDefaultAlreadyExists``).
    """
    group = queries.need_group(tx, request.caller, request.group_id)
    changes = request.changes
    name = group.name if changes.name is UNSET else changes.name
    if name != group.name:
        if group.name == DEFAULT_NAME:
            raise Conflict("Updating default security group not allowed.", code="SecurityGroupCannotUpdateDefault")
        _check_name(name)
    changed = msgspec.structs.replace(
        group,
        name=name,
        description=group.description if changes.description is UNSET else changes.description,
        updated_at_us=tx.now_us,
        revision=group.revision + 1,
    )
    tx.put(tables.SECURITY_GROUPS, changed)
    return SecurityGroupsResult(groups=(queries.group_row(tx, changed),))


@command(DeleteSecurityGroup)
def delete_security_group(tx: Transaction, request: DeleteSecurityGroup) -> Done:
    """Remove a group and every rule in or naming it.

    Raises NotFound, Conflict (``SecurityGroupInUse``, ``SecurityGroupCannotRemoveDefault``).
    """
    group = queries.need_group(tx, request.caller, request.group_id)
    if group.name == DEFAULT_NAME and not request.caller.is_admin:
        raise Conflict(
            "Insufficient rights for removing default security group.", code="SecurityGroupCannotRemoveDefault"
        )
    if next(tx.scan_index(tables.PORTS_BY_GROUP, group.id, limit=1), None) is not None:
        raise Conflict(f"Security Group {group.id} in use.", code="SecurityGroupInUse", hint="A port uses it.")
    for rule in list(tx.scan_index(tables.RULES_BY_REMOTE_GROUP, group.id)):
        if rule.security_group_id != group.id:
            remove_rule(tx, rule)
    for rule in queries.rules_of(tx, group.id):
        remove_rule(tx, rule)
    tx.delete(tables.SECURITY_GROUPS, group.id)
    usage.give_back(tx, group.project_id, security_groups=1)
    return Done()


def remove_rule(tx: Transaction, rule: SecurityGroupRule) -> None:
    """Take a rule away, and tell the hosts that follow it."""
    tx.delete(tables.SECURITY_GROUP_RULES, rule.id)
    usage.give_back(tx, rule.project_id, security_group_rules=1)
    touch_group(tx, rule.security_group_id)


def touch_group(tx: Transaction, group_id: str) -> None:
    """A group's rules have changed: a new revision, and work for the hosts that have ports in it."""
    group = tx.get(tables.SECURITY_GROUPS, group_id)
    assert group is not None, f"a rule is in group {group_id}, which is not there"
    tx.put(tables.SECURITY_GROUPS, msgspec.structs.replace(group, revision=group.revision + 1, updated_at_us=tx.now_us))
    mark_group_dirty(tx, group_id)


def checked_groups(tx: Transaction, caller: Caller, project_id: str, ids: Iterable[str]) -> tuple[str, ...]:
    """Ids of groups for a port of a project, each once. Raises NotFound (``SecurityGroupNotFound``)."""
    unique = tuple(dict.fromkeys(ids))
    for group_id in unique:
        group = tx.get(tables.SECURITY_GROUPS, group_id)
        if group is None or not (group.project_id == project_id or caller.may_see(group.project_id)):
            raise NotFound(f"Security group {group_id} does not exist", code="SecurityGroupNotFound")
    if len(unique) > GROUPS_PER_PORT_MAX:
        raise BadRequest(
            f"A port may be in {GROUPS_PER_PORT_MAX} security groups at most.",
            code="InvalidInput",
            field="security_groups",
        )
    return unique


def _check_name(name: str) -> None:
    if name.lower() == DEFAULT_NAME:
        raise Conflict("Default security group already exists.", code="SecurityGroupDefaultAlreadyExists")
    if len(name.encode()) > NAME_BYTES_MAX or "\0" in name:
        raise BadRequest(f"A name has at most {NAME_BYTES_MAX} bytes in UTF-8.", code="HTTPBadRequest", field="name")


def _insert_group(tx: Transaction, project_id: str, name: str, description: str) -> SecurityGroup:
    """A new group with its two rules for what goes out; the caller has counted them."""
    group = SecurityGroup(
        id=tx.new_uuid(),
        project_id=project_id,
        name=name,
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        description=description,
        revision=1,
    )
    tx.insert(tables.SECURITY_GROUPS, group)
    for ethertype in ETHERTYPES:
        _insert_rule(tx, group, "egress", ethertype, None)
    return group


def _insert_rule(tx: Transaction, group: SecurityGroup, direction: str, ethertype: str, remote: str | None) -> None:
    rule = SecurityGroupRule(
        id=tx.new_uuid(),
        security_group_id=group.id,
        project_id=group.project_id,
        direction=direction,
        ethertype=ethertype,
        created_at_us=tx.now_us,
        remote_group_id=remote,
    )
    tx.insert(tables.SECURITY_GROUP_RULES, rule)
