"""Making and forgetting server groups. Members come with ``create_servers`` and go with their servers."""

from __future__ import annotations

import msgspec

from nova_fast.commands import usage
from nova_fast.commands.registry import command
from nova_fast.model.commands.server_groups import CreateServerGroup, DeleteServerGroup, ServerGroupResult
from nova_fast.model.errors import Forbidden
from nova_fast.model.server_groups import ServerGroup
from nova_fast.queries import server_groups
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction


@command(CreateServerGroup)
def create_server_group(tx: Transaction, request: CreateServerGroup) -> ServerGroupResult:
    """Make a group of the caller's project. Raises OverQuota."""
    project_id = request.caller.project_id
    if not project_id:
        raise Forbidden("A server group belongs to a project: the token must be scoped to one.", code="no_project")
    usage.take(tx, project_id, server_groups=1)
    group = ServerGroup(
        id=tx.new_uuid(),
        project_id=project_id,
        user_id=request.caller.user_id,
        name=request.name,
        policy=request.policy,
        created_at_us=tx.now_us,
        max_servers_per_host=request.max_servers_per_host,
        has_rules=request.has_rules,
    )
    tx.insert(tables.SERVER_GROUPS, group)
    return ServerGroupResult(group=group)


@command(DeleteServerGroup)
def delete_server_group(tx: Transaction, request: DeleteServerGroup) -> ServerGroupResult:
    """Forget a group. Raises NotFound.

    Its servers name it no longer, so no record ever names a group that is gone. They do not change in any way that
    their owner sees but ``server_groups``, so nobody is told.
    """
    group = server_groups.get(tx, request.caller, request.group_id)
    for server in server_groups.members(tx, group.id):
        tx.put(tables.SERVERS, msgspec.structs.replace(server, group_id=""))
    tx.delete(tables.SERVER_GROUPS, group.id)
    usage.give_back(tx, group.project_id, server_groups=1)
    return ServerGroupResult(group=group)
