"""Long operations as the store keeps them: which step they are at, and what was asked of whom."""

from __future__ import annotations

import enum

from nova_fast.model.base import Record
from nova_fast.model.errors import Failure


class Direction(enum.StrEnum):
    FORWARD = "forward"
    UNWIND = "unwind"


class Workflow(Record, frozen=True):
    """A long operation on one server. A server has at most one at a time, keyed by the server's id."""

    server_id: str
    kind: str  # the name of the workflow: create_server, delete_server, power_server
    step: int  # index of the step that runs (or is being undone)
    direction: Direction
    request_id: str  # the server action that shows its progress
    started_at_us: int
    task_id: str = ""  # the task whose result it waits for; "" = none
    action: str = ""  # for power_server
    hard: bool = False  # for reboot
    attempts: int = 1
    excluded_hosts: tuple[str, ...] = ()
    failure: Failure | None = None  # why it unwinds
    then: str = ""  # the workflow to start when this one has ended (delete_server)
    then_request_id: str = ""
    admin_password: str = ""  # for the config drive; goes with the workflow
    conflicts: int = 0  # races for a host that were lost
    host_failure: Failure | None = None  # why the last host that was tried could not do it
    observed: int | None = None  # PowerState that the host told of by itself meanwhile
    observed_sequence: int = 0  # the number of that statement
    queued: bool = False  # one of many that were asked for at once: it begins when its turn comes


class Task(Record, frozen=True):
    """Something asked of a daemon, recorded before it is sent and gone when its result is recorded.

    Its message is made from the store each time it is sent, so a resend never carries stale facts.
    """

    id: str  # 32 hex characters; the receiver is idempotent by it
    server_id: str
    peer: str  # compute@host, network@host, scheduler
    step: str
    deadline_us: int  # steady time
    generation: int = 0  # for network tasks: the store generation that must have been applied
