"""What hangs on servers: user data, actions, and a state that somebody is about to change or nobody is."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.model.servers import ServerAction
from nova_fast.model.states import VmState
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, is_there, readable


def servers(reader: Reader) -> Iterator[Finding]:
    """Every server, and whatever is left of one that is gone."""
    for server in readable(reader, tables.SERVERS):
        idle = not is_there(reader, tables.WORKFLOWS, server.id)
        wrong = ""
        if idle and server.task_state is not None:
            wrong = f"shows the task state {server.task_state}, but nothing is being done to it"
        elif idle and server.vm_state in (VmState.BUILDING, VmState.DELETED):
            wrong = f"is {server.vm_state}, but nothing is being done to it"
        elif not idle and server.task_state is None:
            wrong = "has a workflow, but shows no task state"
        if wrong:
            yield Finding("servers", server.id, f"server {server.id} {wrong}")
        if server.has_user_data != is_there(reader, tables.USER_DATA, server.id):
            said = "has lost its user data" if server.has_user_data else "has user data that it does not know of"
            yield Finding("servers", server.id, f"server {server.id} {said}")
    for key, _raw in reader.raw(tables.USER_DATA.name):
        server_id = key.rstrip(b"\0").decode(errors="replace")
        if not is_there(reader, tables.SERVERS, server_id):
            yield Finding("servers", server_id, f"user data is left of server {server_id}, which is gone")
    for action in readable(reader, tables.SERVER_ACTIONS):
        if wrong := _action(reader, action):
            yield Finding("servers", action.server_id, f"the action {action.request_id} ({action.action}) {wrong}")


def _action(reader: Reader, action: ServerAction) -> str:
    if not is_there(reader, tables.SERVERS, action.server_id):
        return f"is left of server {action.server_id}, which is gone"
    if all(event.finish_at_us for event in action.events):
        return ""
    workflow = find(reader, tables.WORKFLOWS, action.server_id)
    if workflow is None or action.request_id not in (workflow.request_id, workflow.then_request_id):
        return f"of server {action.server_id} has not ended, but nothing carries it on"
    return ""
