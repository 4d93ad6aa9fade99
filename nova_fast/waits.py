"""What a daemon that is up waits for before it can serve, written down where ``nova-fast up`` and ``status`` read it.

A daemon that cannot begin (libvirt is away, the external bridge is another cloud's) is patient: it tries again and
again, and its process is as alive as any other. Its log says why, but who has just typed ``up`` does not look there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from nova_fast.files import write_atomically

PATIENT = ("network", "compute")  # the daemons that say what they wait for


class Waiting(msgspec.Struct, frozen=True):
    """What a process says of itself."""

    pid: int
    sentence: str  # "" = it has begun


class Waits:
    """Written by a daemon that serves some hosts: what the first of them that waits is waiting for."""

    def __init__(self, path: Path, pid: int, hosts: Iterable[str]) -> None:
        self._path, self._pid = path, pid
        self._waiting: dict[str, str | None] = dict.fromkeys(hosts)  # None = has not tried yet

    def tell(self, host: str, sentence: str) -> None:
        """A host waits for something, or has begun (an empty sentence). Never raises."""
        if sentence:
            self._waiting[host] = sentence
        else:
            self._waiting.pop(host, None)
        first = next(iter(self._waiting.values()), "")
        if first is not None:
            with contextlib.suppress(OSError):  # the log has it too
                write_atomically(self._path, msgspec.json.encode(Waiting(self._pid, first)))


def path_of(run_path: Path, program: str) -> Path:
    """Where a program says it."""
    return run_path / f"{program}.waits"


def waited_for(run_path: Path, pids: Mapping[str, int]) -> dict[str, str]:
    """What these programs (name → process id) wait for before they can serve: name → sentence."""
    found = {}
    for program in PATIENT:
        if program in pids and (sentence := _read(run_path, program, pids[program])) != "":
            found[program] = sentence or "it has not begun yet"
    return found


def _read(run_path: Path, program: str, pid: int) -> str | None:
    """``None`` when this process has not said anything yet."""
    try:
        waiting = msgspec.json.decode(path_of(run_path, program).read_bytes(), type=Waiting)
    except (OSError, msgspec.DecodeError):
        return None
    return waiting.sentence if waiting.pid == pid else None
