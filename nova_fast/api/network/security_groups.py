"""``/v2.0/security-groups``. Source: Networking API v2.0, "Security groups".

The group ``default`` of a project is made the first time somebody of the project looks at its groups.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.listing import answer_list, choose_fields, query_type
from nova_fast.api.network.shapes import Body, Boolean, Identifier, Name, bad_value, boolean, one_or_many, owner
from nova_fast.api.network.views import View, group_view
from nova_fast.model.commands.security_groups import (
    CreateSecurityGroups,
    DeleteSecurityGroup,
    EnsureDefaultSecurityGroup,
    NewSecurityGroup,
    SecurityGroupChanges,
    SecurityGroupRow,
    UpdateSecurityGroup,
)
from nova_fast.queries import security_groups as queries

GroupQuery = query_type("GroupQuery", "id", "name", "shared")


class GroupBody(Body, frozen=True):
    """What a new group may say of itself; groups keep track of connections, so ``stateful`` can only be true."""

    name: Name = ""
    description: Name = ""
    project_id: Identifier | UnsetType = UNSET
    tenant_id: Identifier | UnsetType = UNSET
    stateful: Boolean = True

    def new(self) -> NewSecurityGroup:
        """As a command says it. Raises BadRequest."""
        _only_stateful(self.stateful)
        return NewSecurityGroup(
            name=self.name, project_id=owner(self.project_id, self.tenant_id), description=self.description
        )


class CreateBody(Body, frozen=True):
    security_group: GroupBody | UnsetType = UNSET
    security_groups: list[GroupBody] | UnsetType = UNSET


class GroupUpdate(Body, frozen=True):
    name: Name | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    stateful: Boolean = True


class UpdateBody(Body, frozen=True):
    security_group: GroupUpdate


def _only_stateful(value: Boolean) -> None:
    if not boolean(value, "stateful"):
        raise bad_value("stateful", "stateless security groups are not supported.")


def _view(row: SecurityGroupRow) -> View:
    return group_view(row.group, row.rules)


async def ensure_default(request: Request) -> None:
    """Make the default group of the caller's project unless it is there."""
    project_id = request.caller.project_id
    if not project_id:
        return
    with request.snapshot() as snapshot:
        missing = queries.default_group(snapshot, project_id) is None
    if missing:
        await request.command(EnsureDefaultSecurityGroup(caller=request.caller, project_id=project_id))


@face.route("GET", "/security-groups", policy="reader", errors=(400,), query=GroupQuery)
async def list_security_groups(request: Request) -> dict[str, Any]:
    """The groups the caller may see."""
    await ensure_default(request)
    with request.snapshot() as snapshot:
        groups = list(queries.visible_groups(snapshot, request.caller))
        rows = [_view(queries.group_row(snapshot, group)) for group in groups]
    return answer_list(request, "security_groups", rows)


@face.route("POST", "/security-groups", ok=201, policy="member", errors=(400, 409), body=CreateBody)
async def create_security_groups(request: Request) -> dict[str, Any]:
    """Make one group, or several: all or none."""
    bodies, bulk = one_or_many(request.body.security_group, request.body.security_groups, "security_group")
    result = await request.command(CreateSecurityGroups(caller=request.caller, groups=tuple(b.new() for b in bodies)))
    views = [_view(row) for row in result.groups]
    return {"security_groups": views} if bulk else {"security_group": views[0]}


@face.route("GET", "/security-groups/{group_id}", policy="reader", errors=(404,))
async def show_security_group(request: Request, group_id: str) -> dict[str, Any]:
    """One group with its rules."""
    with request.snapshot() as snapshot:
        row = queries.group_row(snapshot, queries.need_group(snapshot, request.caller, group_id))
    return {"security_group": choose_fields(request, _view(row))}


@face.route("PUT", "/security-groups/{group_id}", policy="member", errors=(400, 404, 409), body=UpdateBody)
async def update_security_group(request: Request, group_id: str) -> dict[str, Any]:
    """Change name or description."""
    body: GroupUpdate = request.body.security_group
    _only_stateful(body.stateful)
    changes = SecurityGroupChanges(name=body.name, description=body.description)
    result = await request.command(UpdateSecurityGroup(caller=request.caller, group_id=group_id, changes=changes))
    return {"security_group": _view(result.groups[0])}


@face.route("DELETE", "/security-groups/{group_id}", ok=204, policy="member", errors=(404, 409))
async def delete_security_group(request: Request, group_id: str) -> None:
    """Remove a group that no port uses."""
    await request.command(DeleteSecurityGroup(caller=request.caller, group_id=group_id))
