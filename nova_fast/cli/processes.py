"""Processes that outlive the one that started them: who they are, whether they live, how to end them.

A process is known by its pid, its start time and the boot it belongs to, so that a pid that was given to somebody else
is never taken for ours. Signals go through a pidfd that was opened before the identity was checked: no race is left.
"""

from __future__ import annotations

import os
import select
import signal
import time
from pathlib import Path

import msgspec

from nova_fast.files import write_atomically

KILL_WAIT_S = 5.0  # the kernel needs a moment to take a killed process apart


class ProcessIdentity(msgspec.Struct, frozen=True):
    """One process, for ever: no other has these three."""

    pid: int
    started_ticks: int  # since boot, field 22 of /proc/PID/stat
    boot_id: str


def boot_id() -> str:
    """The kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a running process; ``None`` when there is none or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the name before it may hold anything
    if fields[0] in (b"Z", b"X"):
        return None
    return ProcessIdentity(pid=pid, started_ticks=int(fields[19]), boot_id=boot_id())


def own_identity() -> ProcessIdentity:
    """The identity of this process."""
    identity = identify(os.getpid())
    assert identity is not None
    return identity


def is_alive(identity: ProcessIdentity | None) -> bool:
    """Whether this very process still runs."""
    return identity is not None and identify(identity.pid) == identity


def write_pid_file(path: Path, identity: ProcessIdentity) -> None:
    write_atomically(path, msgspec.json.encode(identity))


def read_pid_file(path: Path) -> ProcessIdentity | None:
    """What a pid file says; ``None`` when there is no file or it is not one of ours."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=ProcessIdentity)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def running(path: Path) -> ProcessIdentity | None:
    """The process a pid file names, if it still runs."""
    identity = read_pid_file(path)
    return identity if is_alive(identity) else None


def stop(identities: list[ProcessIdentity], deadline_s: float) -> list[ProcessIdentity]:
    """End processes, children or not: SIGTERM to all, SIGKILL after the deadline. Returns those that had to be killed.

    Raises TimeoutError when the kernel does not let go of a killed process.
    """
    handles = {handle: identity for identity in identities if (handle := _open(identity)) is not None}
    try:
        _signal(handles, signal.SIGTERM)
        stubborn = _wait(handles, deadline_s)
        _signal(stubborn, signal.SIGKILL)
        if immortal := _wait(stubborn, KILL_WAIT_S):
            raise TimeoutError(f"cannot end pid {', '.join(str(i.pid) for i in immortal.values())}")
        return list(stubborn.values())
    finally:
        for handle in handles:
            os.close(handle)


def _open(identity: ProcessIdentity) -> int | None:
    try:
        handle = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if is_alive(identity):
        return handle
    os.close(handle)
    return None


def _signal(handles: dict[int, ProcessIdentity], number: signal.Signals) -> None:
    for handle in handles:
        try:
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            continue  # it has just ended


def _wait(handles: dict[int, ProcessIdentity], timeout_s: float) -> dict[int, ProcessIdentity]:
    """Those that still run after the time."""
    left = dict(handles)
    poll = select.poll()
    for handle in left:
        poll.register(handle, select.POLLIN)
    deadline = time.monotonic() + timeout_s
    while left and (remaining_s := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(remaining_s * 1000):
            poll.unregister(handle)
            del left[handle]
    return left


def proportional_memory_kib(pid: int) -> int | None:
    """The memory a process answers for (PSS: shared pages are divided among those who share); ``None`` when unknown."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except OSError:
        return None
    return None
