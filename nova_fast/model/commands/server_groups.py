"""What can be asked of server groups."""

from __future__ import annotations

from nova_fast.model.base import Message
from nova_fast.model.identity import Caller
from nova_fast.model.server_groups import ServerGroup


class CreateServerGroup(Message, frozen=True):
    """Make a group without members. → ServerGroupResult. Raises OverQuota."""

    caller: Caller
    name: str
    policy: str
    max_servers_per_host: int = 1
    has_rules: bool = False  # the request said how many


class DeleteServerGroup(Message, frozen=True):
    """Forget a group; its servers stay where they are, in no group. → ServerGroupResult (as it was)."""

    caller: Caller
    group_id: str


class ServerGroupResult(Message, frozen=True):
    group: ServerGroup


COMMANDS = (CreateServerGroup, DeleteServerGroup)
RESULTS = (ServerGroupResult,)
