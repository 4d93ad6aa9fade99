"""``POST /servers/{id}/action``: what a server can be made to do, each action declared beside the others."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.hub.peer import Peer
from nova_fast.model.commands.servers import ActOnServer, LockServer, ResetServerState
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.states import Action, VmState
from nova_fast.model.tasks import ConsoleOutput, ReadServerConsole
from nova_fast.queries.servers import visible_server

PATH = "/servers/{server_id}/action"
CONSOLE_TIMEOUT_S = 20
LINES_MAX = 1 << 31  # the largest number the hypervisor's side is asked for


class RebootBody(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]


class LockBody(msgspec.Struct, forbid_unknown_fields=True):
    locked_reason: str | None = None


class ResetStateBody(msgspec.Struct, forbid_unknown_fields=True):
    state: Literal["active", "error"]


class ConsoleOutputBody(msgspec.Struct, forbid_unknown_fields=True):
    length: int | str | None = None


async def _act(request: Request, server_id: str, action: Action, *, hard: bool = False) -> None:
    await request.command(ActOnServer(caller=request.caller, server_id=server_id, action=action, hard=hard))


@face.route("POST", PATH, action="os-start", ok=202, errors=(404, 409), policy="member", body=Any)
async def start(request: Request, server_id: str) -> None:
    """Start a stopped server."""
    await _act(request, server_id, Action.START)


@face.route("POST", PATH, action="os-stop", ok=202, errors=(404, 409), policy="member", body=Any)
async def stop(request: Request, server_id: str) -> None:
    """Ask the guest to shut down, and switch it off when it does not."""
    await _act(request, server_id, Action.STOP)


@face.route("POST", PATH, action="reboot", ok=202, errors=(400, 404, 409), policy="member", body=RebootBody)
async def reboot(request: Request, server_id: str) -> None:
    """Reboot through the guest's own shutdown (SOFT), or by making the guest again (HARD)."""
    await _act(request, server_id, Action.REBOOT, hard=request.body.type.upper() == "HARD")


@face.route("POST", PATH, action="pause", ok=202, errors=(404, 409, 501), policy="member", body=Any)
async def pause(request: Request, server_id: str) -> None:
    """Stop the guest's processors; its memory stays where it is."""
    await _act(request, server_id, Action.PAUSE)


@face.route("POST", PATH, action="unpause", ok=202, errors=(404, 409, 501), policy="member", body=Any)
async def unpause(request: Request, server_id: str) -> None:
    """Let a paused guest go on."""
    await _act(request, server_id, Action.UNPAUSE)


@face.route("POST", PATH, action="suspend", ok=202, errors=(404, 409), policy="member", body=Any)
async def suspend(request: Request, server_id: str) -> None:
    """Save the guest's memory to disk and switch it off."""
    await _act(request, server_id, Action.SUSPEND)


@face.route("POST", PATH, action="resume", ok=202, errors=(404, 409), policy="member", body=Any)
async def resume(request: Request, server_id: str) -> None:
    """Let a suspended guest go on."""
    await _act(request, server_id, Action.RESUME)


@face.route(
    "POST", PATH, action="lock", ok=202, errors=(404,), policy="member", body={"2.1": Any, "2.73": LockBody | None}
)
async def lock(request: Request, server_id: str) -> None:
    """Refuse changes by anyone but an admin until unlocked."""
    body = request.body
    reason = body.locked_reason if isinstance(body, LockBody) else None
    if reason is not None and not 1 <= len(reason) <= 255:
        raise BadRequest("Invalid input for field/attribute locked_reason.", field="locked_reason")
    await request.command(LockServer(caller=request.caller, server_id=server_id, locked=True, reason=reason))


@face.route("POST", PATH, action="unlock", ok=202, errors=(403, 404), policy="member", body=Any)
async def unlock(request: Request, server_id: str) -> None:
    """Allow changes again."""
    await request.command(LockServer(caller=request.caller, server_id=server_id, locked=False))


@face.route("POST", PATH, action="os-resetState", ok=202, errors=(404, 409), policy="admin", body=ResetStateBody)
async def reset_state(request: Request, server_id: str) -> None:
    """Say what a server's state is."""
    state = VmState.ACTIVE if request.body.state == "active" else VmState.ERROR
    await request.command(ResetServerState(caller=request.caller, server_id=server_id, vm_state=state))


@face.route(
    "POST", PATH, action="os-getConsoleOutput", errors=(400, 404, 409, 501), policy="member", body=ConsoleOutputBody
)
async def console_output(request: Request, server_id: str) -> dict[str, str]:
    """The end of the console log."""
    lines = _lines(request.body.length)
    with request.snapshot() as snapshot:
        server = visible_server(snapshot, request.caller, server_id)
    if not server.host:
        raise Conflict(f"Instance {server_id} is not ready", code="instance_not_ready", hint="it is on no host yet")
    peer = request.services.get(Peer)
    answer = await peer.call(ReadServerConsole(server_id=server_id, lines=lines), timeout_s=CONSOLE_TIMEOUT_S)
    assert isinstance(answer, ConsoleOutput)
    return {"output": answer.text}


def _lines(length: int | str | None) -> int | None:
    """How many lines; None or -1 = all that is kept."""
    if length is None:
        return None
    try:
        lines = int(length)
    except ValueError:
        lines = -2
    if not -1 <= lines <= LINES_MAX:
        raise BadRequest("Invalid input for field/attribute length.", field="length")
    return None if lines == -1 else lines
