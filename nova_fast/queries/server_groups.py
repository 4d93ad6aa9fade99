"""Server groups, who is in them, and whether a host may take one more member."""

from __future__ import annotations

from nova_fast.model.errors import NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.server_groups import ServerGroup
from nova_fast.model.servers import Server
from nova_fast.model.tasks import GroupRule
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def listing(reader: Reader, project_id: str | None, offset: int, limit: int) -> list[ServerGroup]:
    """A page of a project's groups, or of everybody's, the oldest first."""
    if project_id is None:
        found = sorted(reader.scan(tables.SERVER_GROUPS), key=lambda group: (group.created_at_us, group.id))
        return found[offset : offset + limit]
    return list(reader.scan_index(tables.SERVER_GROUPS_BY_PROJECT, project_id, limit=offset + limit))[offset:]


def get(reader: Reader, caller: Caller, group_id: str) -> ServerGroup:
    """A group that exists for the caller. Raises NotFound."""
    group = reader.get(tables.SERVER_GROUPS, group_id)
    if group is None or not caller.may_see(group.project_id):
        raise NotFound(f"Instance group {group_id} could not be found.", code="server_group_not_found")
    return group


def members(reader: Reader, group_id: str) -> list[Server]:
    """The servers that name a group, the oldest first."""
    return sorted(reader.scan_index(tables.SERVERS_BY_GROUP, group_id), key=lambda s: (s.created_at_us, s.number))


def member_count(reader: Reader, group_id: str) -> int:
    """How many servers name a group."""
    return reader.count(tables.SERVERS_BY_GROUP, group_id)


def rule_of(reader: Reader, server: Server) -> GroupRule | None:
    """What a server's group asks of its host."""
    group = reader.get(tables.SERVER_GROUPS, server.group_id) if server.group_id else None
    if group is None:
        return None
    return GroupRule(id=group.id, policy=group.policy, max_servers_per_host=group.max_servers_per_host)


def may_join(reader: Reader, rule: GroupRule, host: str) -> bool:
    """Whether a host may take one more member: what the store holds every choice to, whoever made it."""
    if rule.policy == "anti-affinity":
        return reader.count(tables.SERVERS_BY_GROUP, rule.id, host) < rule.max_servers_per_host
    if rule.policy == "affinity" and not reader.count(tables.SERVERS_BY_GROUP, rule.id, host):
        return not any(server.host for server in reader.scan_index(tables.SERVERS_BY_GROUP, rule.id))
    return True
