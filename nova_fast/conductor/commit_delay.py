"""How long the next commit waits for more, because it costs the same for few and for many.

Whoever has just been answered is about to send the next command. A commit that began at once, with no more than what
the engine has to record, would make that command wait for two: the one under way and its own. So behind a batch of
commands the next one waits until as many are there again, and no longer than a part of what the disk takes for a
commit. Where the disk is fast nobody waits, except behind a crowd, whose commands cost more than their commit.

This is the group commit of databases (``commit_delay`` and ``commit_siblings`` of PostgreSQL), set by what is measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from nova_fast.conductor.batches import LOOK_S, Pause

#: PERF: of what the disk takes for a commit. On a disk that syncs in 10 ms one client that waits for its answers has
#: them in half the time; the median of a stream that waits for nobody is a tenth longer at most
#: (``bench/api_slow_disk.py``).
SHARE = 0.75
MOST_S = 0.025  # whatever the disk takes
_COMMITS = 8  # the fastest of the last so many is what the disk takes: the others had to wait for a processor

#: PERF: behind a crowd a tenth less work a request at 64 clients, because the loop takes in meanwhile what has arrived.
CROWD_S = 0.003
#: PERF: and no longer than until so many are there. 64 clients are in two halves then, one of which the API works off
#: while the other is committed: a fifth more requests a second.
CROWD_ENOUGH = 24


class CommitDelay:
    """What is known of commands and commits. Commands are counted on the loop, all else in the writer's thread."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """``waiting()``: how many pieces of work of any kind wait for the next commit."""
        self._waiting = waiting
        self._came = 0  # commands that have been given
        self._taken = 0  # of them, in batches
        self._commits_s: deque[float] = deque(maxlen=_COMMITS)

    def came(self) -> None:
        """Somebody waits for the answer to one more command."""
        self._came += 1

    def committed(self, disk_s: float) -> None:
        """The disk has taken so long for a commit."""
        self._commits_s.append(disk_s)

    def behind(self, commands: int, *, crowd: bool) -> Pause | None:
        """How the next batch gathers, behind one that had so many commands."""
        self._taken += commands
        disk_s = min(SHARE * min(self._commits_s, default=0.0), MOST_S)
        if commands and disk_s > (CROWD_S if crowd else LOOK_S):
            return Pause(disk_s, commands, self._commands)
        return Pause(CROWD_S, CROWD_ENOUGH, self._waiting) if crowd else None

    def _commands(self) -> int:
        return self._came - self._taken
