"""What a recipe is: steps in order, and what to do when all are done or all are undone.

A step either happens inside the transaction (no ``message``) or asks a daemon and waits for its answer. Everything here
is pure: it reads and writes through the transaction, and the message of a task is made from a snapshot when it is
sent, so a resend after a restart never carries stale facts.

A change returns the server as it is now; whoever moves the workflow writes it where it stops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from nova_fast.model.base import Message
from nova_fast.model.errors import Failure, Kind
from nova_fast.model.servers import Fault, Server
from nova_fast.model.states import TaskState
from nova_fast.model.workflows import Workflow
from nova_fast.queries.ports import has_ports
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.transaction import Transaction

FAULT_CODE = 500
FAULT_CHARACTERS_MAX = 255

#: Who is asked: the name of a peer, or None when there is nothing to ask.
PeerOf = Callable[[Reader, Server, Workflow], str | None]
MessageOf = Callable[[Reader, Server, Workflow], Message]
Change = Callable[[Transaction, Server, Workflow], Server]
#: Takes the answer. May raise NovaFastError: then the step has failed.
Take = Callable[[Transaction, Server, Workflow, Message], Server]
Answered = tuple[Server, Workflow, Message]
#: Takes the answers of several servers, in order; None, and nothing has happened, when one by one is the way.
TakeAll = Callable[[Transaction, Sequence[Answered]], list[Server] | None]


def nothing(_tx: Transaction, server: Server, _workflow: Workflow) -> Server:
    """A change that changes nothing."""
    return server


def ignore(_tx: Transaction, server: Server, _workflow: Workflow, _answer: Message) -> Server:
    """An answer that changes nothing."""
    return server


def showing(task_state: TaskState) -> Change:
    """The beginning of a step that users see while it lasts."""

    def show(_tx: Transaction, server: Server, _workflow: Workflow) -> Server:
        return server if server.task_state is task_state else msgspec.structs.replace(server, task_state=task_state)

    return show


def nobody(_reader: Reader, _server: Server, _workflow: Workflow) -> str | None:
    """The peer of a step that happens inside the transaction."""
    return None


def compute_of(_reader: Reader, server: Server, _workflow: Workflow) -> str | None:
    """The compute daemon of the server's host."""
    return f"compute@{server.host}" if server.host else None


def network_of(reader: Reader, server: Server, _workflow: Workflow) -> str | None:
    """The network daemon of the server's host; nobody for a server without network cards."""
    return f"network@{server.host}" if server.host and has_ports(reader, server.id) else None


def host_down(reader: Reader, server: Server) -> bool:
    """Whether the server's host cannot be asked: no heartbeats, said to be down by an admin, or gone."""
    if not server.host:
        return False
    host = reader.get(tables.HOSTS, server.host)
    return host is None or not host.up or host.forced_down


def fault_of(failure: Failure, now_us: int) -> Fault:
    """A failure as a server shows it; what failed inside a daemon is for its log."""
    message = failure.message if failure.kind is not Kind.INTERNAL else "An unexpected error occurred."
    details = " ".join(part for part in (message, failure.hint) if part)
    return Fault(code=FAULT_CODE, message=message[:FAULT_CHARACTERS_MAX], details=details, created_at_us=now_us)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step, and its undo. ``undo_peer`` is asked first, then ``undo`` changes the state back."""

    name: str
    begin: Change = nothing
    peer: PeerOf = nobody
    message: MessageOf | None = None
    done: Take = ignore
    done_together: TakeAll | None = None  # in less time
    finish: Change = nothing  # for a step without a message: all of it
    undo_peer: PeerOf = nobody
    undo_message: MessageOf | None = None
    undo: Change = nothing
    timeout_s: float | None = None  # None = the configured one
    #: What is left to do the host finds out by itself: when it is down nobody waits, and a failure stops nothing.
    host_finds_out: bool = False


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """A long operation."""

    kind: str
    steps: tuple[Step, ...]
    #: All steps are done. Returns the server, or None when it is gone.
    ended: Callable[[Transaction, Server, Workflow], Server | None]
    #: All steps are undone. Returns the workflow to run again, or None when it is over.
    failed: Callable[[Transaction, Server, Workflow, Failure], Workflow | None]
