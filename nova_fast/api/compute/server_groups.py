"""Server groups: servers that are to run on one host, or on different ones.

Source: Compute API v2.1, "Server groups (os-server-groups)": one policy in a list up to 2.63, ``policy`` with ``rules``
since 2.64; the soft policies since 2.15.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.compute import shapes
from nova_fast.api.compute.face import face
from nova_fast.api.framework.paging import clamp_limit
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.server_groups import CreateServerGroup, DeleteServerGroup, ServerGroupResult
from nova_fast.model.errors import BadRequest
from nova_fast.model.server_groups import ServerGroup
from nova_fast.queries import server_groups
from nova_fast.queries.reading import Reader

ONE = "/os-server-groups/{server_group_id}"
OFFSET_MAX = 1 << 31
Name = Annotated[str, Meta(min_length=1, max_length=255)]
OnlyOne = Meta(min_length=1, max_length=1)
HardPolicy = Literal["anti-affinity", "affinity"]
Policy = Literal["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"]


class HardGroup(msgspec.Struct, forbid_unknown_fields=True):
    """Before microversion 2.15."""

    name: Name
    policies: Annotated[list[HardPolicy], OnlyOne]


class NewGroup(msgspec.Struct, forbid_unknown_fields=True):
    """Before microversion 2.64."""

    name: Name
    policies: Annotated[list[Policy], OnlyOne]


class Rules(msgspec.Struct, forbid_unknown_fields=True):
    max_server_per_host: int | str | UnsetType = UNSET


class RuledGroup(msgspec.Struct, forbid_unknown_fields=True):
    """Since microversion 2.64."""

    name: Name
    policy: Policy
    rules: Rules | UnsetType = UNSET


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    server_group: HardGroup


class CreateBody215(msgspec.Struct, forbid_unknown_fields=True):
    server_group: NewGroup


class CreateBody264(msgspec.Struct, forbid_unknown_fields=True):
    server_group: RuledGroup


class ListQuery(msgspec.Struct):
    all_projects: str | None = None
    limit: int | None = None
    offset: int = 0


class StrictListQuery(ListQuery, forbid_unknown_fields=True):
    pass


def _view(request: Request, reader: Reader, group: ServerGroup) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "members": [server.id for server in server_groups.members(reader, group.id)],
    }
    if request.at_least("2.64"):
        body["policy"] = group.policy
        body["rules"] = {"max_server_per_host": group.max_servers_per_host} if group.has_rules else {}
    else:
        body |= {"policies": [group.policy], "metadata": {}}
    if request.at_least("2.13"):
        body |= {"project_id": group.project_id, "user_id": group.user_id}
    return body


@face.route(
    "GET", "/os-server-groups", errors=(400,), policy="reader", query={"2.1": ListQuery, "2.75": StrictListQuery}
)
async def list_server_groups(request: Request) -> dict[str, Any]:
    """The project's groups; for an admin who asks for it, everybody's."""
    query: ListQuery = request.query
    limit = clamp_limit(request, query.limit or None)
    if not 0 <= query.offset < OFFSET_MAX:
        raise BadRequest("Invalid input for field/attribute offset. It must not be negative.", field="offset")
    everybody = query.all_projects is not None and request.caller.is_admin
    project_id = None if everybody else request.caller.project_id
    with request.snapshot() as snapshot:
        rows = server_groups.listing(snapshot, project_id, query.offset, limit)
        return {"server_groups": [_view(request, snapshot, row) for row in rows]}


@face.route("GET", ONE, errors=(404,), policy="reader")
async def show_server_group(request: Request, server_group_id: str) -> dict[str, Any]:
    """One group with its members."""
    with request.snapshot() as snapshot:
        group = server_groups.get(snapshot, request.caller, server_group_id)
        return {"server_group": _view(request, snapshot, group)}


@face.route(
    "POST",
    "/os-server-groups",
    errors=(400, 403),
    policy="member",
    body={"2.1": CreateBody, "2.15": CreateBody215, "2.64": CreateBody264},
)
async def create_server_group(request: Request) -> dict[str, Any]:
    """Make a group; servers join it when they are created, by a scheduler hint."""
    asked: HardGroup | NewGroup | RuledGroup = request.body.server_group
    most: int | str | UnsetType = UNSET
    if isinstance(asked, RuledGroup):
        policy: str = asked.policy
        if not isinstance(asked.rules, UnsetType):
            most = asked.rules.max_server_per_host
        if most is not UNSET and policy != "anti-affinity":
            raise BadRequest("Only anti-affinity policy supports rules.", field="rules")
    else:
        policy = asked.policies[0]
    ruled = not isinstance(most, UnsetType)
    command = CreateServerGroup(
        caller=request.caller,
        name=shapes.printable_name(asked.name, "name"),
        policy=policy,
        max_servers_per_host=1 if isinstance(most, UnsetType) else shapes.whole_number(most, "max_server_per_host", 1),
        has_rules=ruled,
    )
    result: ServerGroupResult = await request.command(command)
    with request.snapshot() as snapshot:
        return {"server_group": _view(request, snapshot, result.group)}


@face.route("DELETE", ONE, ok=204, errors=(404,), policy="member")
async def delete_server_group(request: Request, server_group_id: str) -> None:
    """Forget a group; its servers stay."""
    await request.command(DeleteServerGroup(caller=request.caller, group_id=server_group_id))
