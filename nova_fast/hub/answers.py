"""The answers a receiver remembers, in two halves: when the newer one is full or of age, the older one is dropped.

PERF: nothing is kept for each answer but its frame under its id. A queue of times and ids beside them took 0.8 KiB more
for each of 10,000 peers that had once asked something.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from nova_fast.hub.limits import Limits

_NONE: Final = MappingProxyType[bytes, bytes]({})


class Answers:
    """Of one sender: the newest half of ``answers_max`` (or of their bytes) at least, and all younger than the age."""

    __slots__ = ("_bytes", "_limits", "_newer", "_older", "_since_s")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._newer: dict[bytes, bytes] = {}  # id → frame
        self._older: MappingProxyType[bytes, bytes] | dict[bytes, bytes] = _NONE
        self._bytes = 0  # of the newer ones
        self._since_s = 0.0  # the older ones were dropped last, or the first of all came

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def get(self, call_id: bytes) -> bytes | None:
        """The frame that answered this call, if it is remembered."""
        return self._newer.get(call_id) or self._older.get(call_id)

    def add(self, call_id: bytes, frame: bytes, now_s: float) -> None:
        """A call has been answered."""
        limits = self._limits
        if not (self._newer or self._older):
            self._since_s = now_s
        self._newer[call_id] = frame
        self._bytes += len(frame)
        if 2 * len(self._newer) >= limits.answers_max or 2 * self._bytes >= limits.answers_bytes_max:
            self._drop_older(now_s)

    def forget_old(self, now_s: float) -> None:
        """Called now and then: nothing is kept for longer than twice its age and the time between two calls."""
        if (self._newer or self._older) and now_s - self._since_s >= self._limits.answers_age_s:
            self._drop_older(now_s)

    def _drop_older(self, now_s: float) -> None:
        self._older = self._newer or _NONE
        self._newer = {}
        self._bytes = 0
        self._since_s = now_s
