"""Starting workflows, and the entry of ``os-instance-actions`` that shows how each one goes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nova_fast.model.errors import Failure, Kind
from nova_fast.model.identity import Caller
from nova_fast.model.servers import ActionEvent, Server, ServerAction
from nova_fast.model.states import Action
from nova_fast.model.workflows import Direction, Workflow
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

#: action → the event name that Nova's instance actions show.
EVENT_NAMES = {
    Action.CREATE: "compute__do_build_and_run_instance",
    Action.DELETE: "compute_terminate_instance",
    Action.START: "compute_start_instance",
    Action.STOP: "compute_stop_instance",
    Action.REBOOT: "compute_reboot_instance",
    Action.PAUSE: "compute_pause_instance",
    Action.UNPAUSE: "compute_unpause_instance",
    Action.SUSPEND: "compute_suspend_instance",
    Action.RESUME: "compute_resume_instance",
}


QUEUED_FROM = 64  # servers of one request; fewer are begun in its transaction
QUEUED_TOGETHER_FROM = 7  # the same for requests that are done together


def start_workflow(tx: Transaction, server: Server, caller: Caller, action: Action, *, hard: bool = False) -> Workflow:
    """Record an action and the workflow that does it; the conductor takes it from there in the same transaction.

    A delete replaces whatever is under way: a create is told to unwind and is followed by it. A hard reboot replaces
    another power action. Nothing else may be under way.
    """
    current = tx.get(tables.WORKFLOWS, server.id)
    if current is not None and current.kind == "delete_server":
        assert action is Action.DELETE, f"{server.id} is being deleted"
        return current
    request_id = record_action(tx, server, caller, action)
    if current is not None:
        assert action is Action.DELETE or (hard and current.kind == "power_server"), f"{server.id} is busy"
        forget_task(tx, current)
        if current.kind == "create_server":
            return _unwind_and_delete(tx, current, request_id)
        finish_action(tx, current, "", _DELETED if action is Action.DELETE else _REPLACED)
    workflow = Workflow(
        server_id=server.id,
        kind=_KINDS.get(action, "power_server"),
        step=0,
        direction=Direction.FORWARD,
        request_id=request_id,
        started_at_us=tx.now_us,
        action=action,
        hard=hard,
    )
    tx.put(tables.WORKFLOWS, workflow)
    return workflow


class Creation(msgspec.Struct, frozen=True):
    """A server that is new, who asked for it, and the password for its config drive if it has one."""

    server: Server
    caller: Caller
    admin_password: str


def start_creations(tx: Transaction, creations: Sequence[Creation], *, of_one: bool = True) -> None:
    """The same for servers that are new, of one request or (not ``of_one``) of several. Many wait for their turn."""
    unnamed = iter(tx.new_uuids(sum([not one.caller.request_id for one in creations])))
    ids = [one.caller.request_id or f"req-{next(unnamed)}" for one in creations]
    named = list(zip(creations, ids, strict=True))
    actions = [_action(tx, one.server, one.caller, Action.CREATE, request_id) for one, request_id in named]
    tx.insert_all(tables.SERVER_ACTIONS, actions)
    queued = len(creations) > (QUEUED_FROM if of_one else QUEUED_TOGETHER_FROM)
    workflows = [
        Workflow(
            server_id=one.server.id,
            kind=_KINDS[Action.CREATE],
            step=0,
            direction=Direction.FORWARD,
            request_id=request_id,
            started_at_us=tx.now_us,
            action=Action.CREATE,
            admin_password=one.admin_password if one.server.config_drive else "",
            queued=queued,
        )
        for one, request_id in named
    ]
    if queued:
        tx.insert_all(tables.WORKFLOWS, workflows)
        return
    for workflow in workflows:  # PERF: the engine moves them on in this transaction, and they are written once
        tx.insert(tables.WORKFLOWS, workflow)


def record_action(tx: Transaction, server: Server, caller: Caller, action: Action, *, done: bool = False) -> str:
    """Add an entry to the server's actions; returns its request id."""
    request_id = caller.request_id
    if not request_id or tx.get(tables.SERVER_ACTIONS, (server.id, request_id)) is not None:
        request_id = f"req-{tx.new_uuid()}"
    entry = _action(tx, server, caller, action, request_id)
    tx.put(tables.SERVER_ACTIONS, msgspec.structs.replace(entry, events=()) if done else entry)
    return request_id


def _action(tx: Transaction, server: Server, caller: Caller, action: Action, request_id: str) -> ServerAction:
    events: tuple[ActionEvent, ...] = ()
    if action in EVENT_NAMES:
        events = (ActionEvent(event=EVENT_NAMES[action], start_at_us=tx.now_us, host=server.host),)
    return ServerAction(
        server_id=server.id,
        request_id=request_id,
        action=action.value,
        user_id=caller.user_id,
        project_id=caller.project_id,
        start_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        events=events,
    )


def finish_action(tx: Transaction, workflow: Workflow, host: str, failure: Failure | None = None) -> None:
    """Say in the server's actions how a workflow ended."""
    entry = tx.get(tables.SERVER_ACTIONS, (workflow.server_id, workflow.request_id))
    if entry is None:
        return
    events = tuple(
        msgspec.structs.replace(
            event,
            finish_at_us=tx.now_us,
            result="Error" if failure else "Success",
            host=host or event.host,
            details=failure.message if failure else None,
        )
        for event in entry.events
    )
    message = "Error" if failure else None
    tx.put(
        tables.SERVER_ACTIONS, msgspec.structs.replace(entry, events=events, message=message, updated_at_us=tx.now_us)
    )


def forget_task(tx: Transaction, workflow: Workflow) -> None:
    """Stop waiting for what was asked; a late answer finds no row and changes nothing."""
    if workflow.task_id and tx.get(tables.TASKS, workflow.task_id) is not None:
        tx.delete(tables.TASKS, workflow.task_id)


_KINDS = {Action.CREATE: "create_server", Action.DELETE: "delete_server"}

_DELETED = Failure(kind=Kind.CONFLICT, code="cancelled", message="The server was deleted meanwhile.")
_REPLACED = Failure(kind=Kind.CONFLICT, code="cancelled", message="A hard reboot replaced this action.")


def _unwind_and_delete(tx: Transaction, current: Workflow, request_id: str) -> Workflow:
    changed = msgspec.structs.replace(
        current,
        task_id="",
        direction=Direction.UNWIND,
        failure=_DELETED,
        then="delete_server",
        then_request_id=request_id,
        admin_password="",
        queued=False,
    )
    tx.put(tables.WORKFLOWS, changed)
    return changed
