"""libvirt's words for the state of a domain, and ours.

Source: ``virDomainState`` of libvirt's domain API; the right side is what Nova's libvirt driver shows.
"""

from __future__ import annotations

import enum

import msgspec

from nova_fast.model.states import PowerState


class DomainState(enum.IntEnum):
    """The numbers are libvirt's."""

    NOSTATE = 0
    RUNNING = 1
    BLOCKED = 2
    PAUSED = 3
    SHUTDOWN = 4  # the guest has shut down, QEMU has not gone yet
    SHUTOFF = 5
    CRASHED = 6
    PMSUSPENDED = 7


ACTIVE_STATES = frozenset(
    {
        DomainState.RUNNING,
        DomainState.BLOCKED,
        DomainState.PAUSED,
        DomainState.SHUTDOWN,
        DomainState.CRASHED,
        DomainState.PMSUSPENDED,
    }
)


class DomainStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One domain as libvirt knows it."""

    server_id: str  # the UUID of the domain
    name: str
    state: DomainState
    saved: bool  # its memory is in a managed save file
    instances_dir: str | None  # from our own metadata; None = the domain is not ours
    starting: bool = False  # it has QEMU, but has not been started to the end

    @property
    def active(self) -> bool:
        """Whether it has a QEMU process."""
        return self.state in ACTIVE_STATES


_STATES = {
    DomainState.NOSTATE: PowerState.NOSTATE,
    DomainState.RUNNING: PowerState.RUNNING,
    DomainState.BLOCKED: PowerState.RUNNING,
    DomainState.PAUSED: PowerState.PAUSED,
    DomainState.SHUTDOWN: PowerState.RUNNING,
    DomainState.SHUTOFF: PowerState.SHUTDOWN,
    DomainState.CRASHED: PowerState.CRASHED,
    DomainState.PMSUSPENDED: PowerState.SUSPENDED,
}


def power_state(status: DomainStatus | None) -> PowerState:
    """What the API calls the state of a domain; NOSTATE when there is none."""
    if status is None:
        return PowerState.NOSTATE
    if status.state is DomainState.SHUTOFF and status.saved:
        return PowerState.SUSPENDED
    return _STATES[status.state]
