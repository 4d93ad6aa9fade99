"""Server states: which exist, what the API calls them, and which action is allowed in which.

Source: ``api/states-and-quotas.md`` of the design (Nova 34, 2026.2).
"""

from __future__ import annotations

import enum

from nova_fast.model.base import Value


class VmState(enum.StrEnum):
    """What a server is, when nothing is being done to it."""

    BUILDING = "building"
    ACTIVE = "active"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    ERROR = "error"
    DELETED = "deleted"


class TaskState(enum.StrEnum):
    """What is being done to a server now."""

    SCHEDULING = "scheduling"
    NETWORKING = "networking"
    SPAWNING = "spawning"
    REBOOTING = "rebooting"
    REBOOTING_HARD = "rebooting_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    SUSPENDING = "suspending"
    RESUMING = "resuming"
    POWERING_OFF = "powering-off"
    POWERING_ON = "powering-on"
    DELETING = "deleting"


class PowerState(enum.IntEnum):
    """What the hypervisor says of the guest; the numbers are the API's."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7


_STATUS_BY_VM_STATE = {
    VmState.BUILDING: "BUILD",
    VmState.ACTIVE: "ACTIVE",
    VmState.PAUSED: "PAUSED",
    VmState.SUSPENDED: "SUSPENDED",
    VmState.STOPPED: "SHUTOFF",
    VmState.ERROR: "ERROR",
    VmState.DELETED: "DELETED",
}

_STATUS_BY_TASK = {TaskState.REBOOTING: "REBOOT", TaskState.REBOOTING_HARD: "HARD_REBOOT"}

#: API status → the vm_states it covers, for list filters (None = no such status).
VM_STATES_BY_STATUS = {
    **{status: vm_state for vm_state, status in _STATUS_BY_VM_STATE.items()},
    **dict.fromkeys(_STATUS_BY_TASK.values(), VmState.ACTIVE),
}


def api_status(vm_state: VmState, task_state: TaskState | None) -> str:
    """The ``status`` the API shows for a pair of states."""
    if vm_state is VmState.ACTIVE and task_state is not None:
        return _STATUS_BY_TASK.get(task_state, "ACTIVE")
    return _STATUS_BY_VM_STATE[vm_state]


class Action(enum.StrEnum):
    """What a user may ask of an existing server through a workflow; the names are the instance-action names."""

    CREATE = "create"
    DELETE = "delete"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    SUSPEND = "suspend"
    RESUME = "resume"
    LOCK = "lock"
    UNLOCK = "unlock"


class ActionRule(Value, frozen=True):
    """When a power action is allowed, what shows meanwhile, and where it ends."""

    allowed: tuple[VmState, ...]
    task_state: TaskState
    result: VmState


_HARD_REBOOT_STATES = (VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.SUSPENDED, VmState.ERROR)

#: (action, hard reboot?) → rule. A server must have no task state, but for a hard reboot (see below).
ACTION_RULES: dict[tuple[Action, bool], ActionRule] = {
    (Action.START, False): ActionRule(
        allowed=(VmState.STOPPED,), task_state=TaskState.POWERING_ON, result=VmState.ACTIVE
    ),
    (Action.STOP, False): ActionRule(
        allowed=(VmState.ACTIVE, VmState.ERROR), task_state=TaskState.POWERING_OFF, result=VmState.STOPPED
    ),
    (Action.REBOOT, False): ActionRule(
        allowed=(VmState.ACTIVE,), task_state=TaskState.REBOOTING, result=VmState.ACTIVE
    ),
    (Action.REBOOT, True): ActionRule(
        allowed=_HARD_REBOOT_STATES, task_state=TaskState.REBOOTING_HARD, result=VmState.ACTIVE
    ),
    (Action.PAUSE, False): ActionRule(allowed=(VmState.ACTIVE,), task_state=TaskState.PAUSING, result=VmState.PAUSED),
    (Action.UNPAUSE, False): ActionRule(
        allowed=(VmState.PAUSED,), task_state=TaskState.UNPAUSING, result=VmState.ACTIVE
    ),
    (Action.SUSPEND, False): ActionRule(
        allowed=(VmState.ACTIVE,), task_state=TaskState.SUSPENDING, result=VmState.SUSPENDED
    ),
    (Action.RESUME, False): ActionRule(
        allowed=(VmState.SUSPENDED,), task_state=TaskState.RESUMING, result=VmState.ACTIVE
    ),
}

#: What may still be running when a hard reboot is asked for: it replaces it.
HARD_REBOOT_REPLACES = frozenset(
    {
        TaskState.REBOOTING,
        TaskState.REBOOTING_HARD,
        TaskState.PAUSING,
        TaskState.UNPAUSING,
        TaskState.SUSPENDING,
        TaskState.RESUMING,
    }
)
