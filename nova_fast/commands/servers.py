"""Servers: changing, locking, acting on and deleting them. Creating them is in ``create_servers``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from nova_fast.commands.host_networks import mark_host_dirty
from nova_fast.commands.registry import command
from nova_fast.commands.workflows import record_action, start_workflow
from nova_fast.model.commands.servers import (
    Accepted,
    ActOnServer,
    ChangeServerTag,
    DeleteServer,
    DeleteServerMetadata,
    LockServer,
    ResetServerState,
    ServerResult,
    SetServerMetadata,
    SetServerTags,
    UpdateServer,
)
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NotFound, OverQuota
from nova_fast.model.events import ServerChanged
from nova_fast.model.identity import Caller
from nova_fast.model.quotas import UNLIMITED
from nova_fast.model.servers import Server
from nova_fast.model.states import (
    ACTION_RULES,
    HARD_REBOOT_REPLACES,
    Action,
    ActionRule,
    TaskState,
    VmState,
    api_status,
)
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

TAGS_MAX = 50
_METADATA_STATES = (VmState.ACTIVE, VmState.PAUSED, VmState.SUSPENDED, VmState.STOPPED)


def save_server(tx: Transaction, server: Server, **changes: Any) -> Server:
    """Write a server with changes, stamp it, and tell the watchers."""
    changed = _stamped(tx, server, **changes)
    tx.put(tables.SERVERS, changed)
    tx.emit(_changed(changed))
    return changed


def save_servers(tx: Transaction, servers: Sequence[Server]) -> None:
    """The same for several."""
    changed = [_stamped(tx, server) for server in servers]
    for server in changed:
        tx.put(tables.SERVERS, server)
    tx.emit_all([_changed(server) for server in changed])


def _stamped(tx: Transaction, server: Server, **changes: Any) -> Server:
    updated_at_us = max(tx.now_us, server.updated_at_us)  # never back, though the clock may be set: people poll by it
    return msgspec.structs.replace(server, **changes, updated_at_us=updated_at_us)


def insert_servers(tx: Transaction, servers: Sequence[Server]) -> None:
    """Write new servers, and tell the watchers."""
    tx.insert_all(tables.SERVERS, servers)
    tx.emit_all([_changed(server) for server in servers])


def _changed(server: Server) -> ServerChanged:
    return ServerChanged(
        server_id=server.id,
        project_id=server.project_id,
        status=api_status(server.vm_state, server.task_state),
        task_state=server.task_state,
        host=server.host,
    )


def own_server(tx: Transaction, caller: Caller, server_id: str) -> Server:
    """The server, if it exists for the caller. Raises NotFound."""
    server = tx.get(tables.SERVERS, server_id)
    if server is None or not caller.may_see(server.project_id):
        raise NotFound(f"Instance {server_id} could not be found.", code="instance_not_found")
    return server


def changeable_server(tx: Transaction, caller: Caller, server_id: str) -> Server:
    """The same, and not locked against the caller. Raises NotFound or Conflict."""
    server = own_server(tx, caller, server_id)
    if server.locked and not caller.is_admin:
        raise Conflict(f"Instance {server_id} is locked", code="instance_locked", hint="unlock it first")
    return server


def _wrong_state(server: Server, action: str) -> Conflict:
    what, state = ("task_state", server.task_state) if server.task_state else ("vm_state", server.vm_state)
    return Conflict(
        f"Cannot '{action}' instance {server.id} while it is in {what} {state}", code="instance_invalid_state"
    )


@command(DeleteServer)
def delete_server(tx: Transaction, request: DeleteServer) -> Accepted:
    """Accept a deletion in any state; a second one is the same one."""
    server = changeable_server(tx, request.caller, request.server_id)
    if server.task_state is not TaskState.DELETING:
        start_workflow(tx, server, request.caller, Action.DELETE)
        save_server(tx, server, task_state=TaskState.DELETING)
    assert tx.get(tables.WORKFLOWS, server.id) is not None, f"nothing deletes {server.id}"
    return Accepted()


@command(ActOnServer)
def act_on_server(tx: Transaction, request: ActOnServer) -> Accepted:
    """Accept a power action that the server's state allows. Raises Conflict otherwise."""
    server = changeable_server(tx, request.caller, request.server_id)
    rule = ACTION_RULES[(request.action, request.hard)]
    if not _allowed(server, rule, request.hard):
        raise _wrong_state(server, request.action)
    if not server.host or not server.launched_at_us:
        raise Conflict(
            f"Cannot '{request.action}' instance {server.id}, which was never built.",
            code="instance_not_launched",
            hint="delete it and create it again",
        )
    start_workflow(tx, server, request.caller, request.action, hard=request.hard)
    save_server(tx, server, task_state=rule.task_state)
    return Accepted()


def _allowed(server: Server, rule: ActionRule, hard: bool) -> bool:
    if server.vm_state not in rule.allowed:
        return False
    return server.task_state is None or (hard and server.task_state in HARD_REBOOT_REPLACES)


@command(UpdateServer)
def update_server(tx: Transaction, request: UpdateServer) -> ServerResult:
    """Change names and addresses that are only labels."""
    server = changeable_server(tx, request.caller, request.server_id)
    fields = ("name", "description", "hostname", "disk_config", "access_ip_v4", "access_ip_v6")
    changes = {field: value for field in fields if (value := getattr(request, field)) is not UNSET}
    if server.host and changes.get("hostname", server.hostname) != server.hostname:
        mark_host_dirty(tx, server.host)  # its name server tells the name
    return ServerResult(server=save_server(tx, server, **changes))


@command(LockServer)
def lock_server(tx: Transaction, request: LockServer) -> Accepted:
    """Lock or unlock. An owner may not take off an admin's lock."""
    server = own_server(tx, request.caller, request.server_id)
    if not request.locked and server.admin_locked and not request.caller.is_admin:
        raise Forbidden(f"Instance {server.id} was locked by an admin.", code="instance_admin_locked")
    owner = request.caller.project_id == server.project_id
    if request.locked and server.locked and owner:
        return Accepted()  # and an admin's lock stays an admin's
    by_admin = request.locked and request.caller.is_admin and not owner
    record_action(tx, server, request.caller, Action.LOCK if request.locked else Action.UNLOCK, done=True)
    reason = request.reason if request.locked else None
    save_server(tx, server, locked=request.locked, locked_reason=reason, admin_locked=by_admin)
    return Accepted()


@command(ResetServerState)
def reset_server_state(tx: Transaction, request: ResetServerState) -> Accepted:
    """Set the state by hand. Refused while something is under way: that has a deadline and will end by itself."""
    server = own_server(tx, request.caller, request.server_id)
    if tx.get(tables.WORKFLOWS, server.id) is not None:
        raise _wrong_state(server, "reset_state")
    save_server(tx, server, vm_state=request.vm_state, task_state=None)
    return Accepted()


@command(SetServerMetadata)
def set_server_metadata(tx: Transaction, request: SetServerMetadata) -> ServerResult:
    """Merge or replace metadata, within the quota of items."""
    server = changeable_server(tx, request.caller, request.server_id)
    _check_metadata_state(server)
    metadata = request.metadata if request.replace else {**server.metadata, **request.metadata}
    check_metadata_quota(tx, server.project_id, metadata)
    return ServerResult(server=save_server(tx, server, metadata=metadata))


@command(DeleteServerMetadata)
def delete_server_metadata(tx: Transaction, request: DeleteServerMetadata) -> ServerResult:
    """Remove one key. Raises NotFound when it is not there."""
    server = changeable_server(tx, request.caller, request.server_id)
    _check_metadata_state(server)
    if request.key not in server.metadata:
        raise NotFound("Metadata item was not found", code="metadata_not_found", field=request.key)
    metadata = {key: value for key, value in server.metadata.items() if key != request.key}
    return ServerResult(server=save_server(tx, server, metadata=metadata))


def _check_metadata_state(server: Server) -> None:
    if server.vm_state not in _METADATA_STATES:
        raise _wrong_state(server, "update metadata")


def check_metadata_quota(tx: Transaction, project_id: str, metadata: dict[str, str]) -> None:
    """Raises OverQuota when a server would have more items than the project may have."""
    limit = quotas.limits(tx, project_id)["metadata_items"]
    if limit != UNLIMITED and len(metadata) > limit:
        raise OverQuota(f"Maximum number of metadata items exceeds {limit}", code="metadata_limit_exceeded")


@command(SetServerTags)
def set_server_tags(tx: Transaction, request: SetServerTags) -> ServerResult:
    """Replace all tags."""
    server = changeable_server(tx, request.caller, request.server_id)
    tags = tuple(sorted(set(request.tags)))
    _check_tag_count(tags)
    return ServerResult(server=save_server(tx, server, tags=tags))


@command(ChangeServerTag)
def change_server_tag(tx: Transaction, request: ChangeServerTag) -> ServerResult:
    """Add or remove one tag."""
    server = changeable_server(tx, request.caller, request.server_id)
    there = request.tag in server.tags
    if not request.present and not there:
        raise NotFound(f"Instance {server.id} has no tag '{request.tag}'", code="tag_not_found")
    if there == request.present:
        return ServerResult(server=server)
    tags = {*server.tags, request.tag} if request.present else set(server.tags) - {request.tag}
    _check_tag_count(tuple(tags))
    return ServerResult(server=save_server(tx, server, tags=tuple(sorted(tags))), created=request.present)


def _check_tag_count(tags: tuple[str, ...]) -> None:
    if len(tags) > TAGS_MAX:
        raise BadRequest(f"The number of tags exceeded the per-server limit {TAGS_MAX}", field="tags")
