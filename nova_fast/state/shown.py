"""Which servers look different since when: a short log, for whoever keeps answers about them.

An answer about a server is made of its record, its ports, its host, and the names of networks and security groups. A
table says in the schema what of its records is shown, and by which servers (:class:`Shown`); whatever command changes
one, the transaction writes the keys of those servers into one row of the log, in the same commit. So whoever has read
the log up to the commit he looks at knows of every answer he keeps whether it still holds, and no command has to think
of it. The log is a ring: who comes back after too many commits is told that anything may have changed.

SAFETY: a release that does not know this log may have written the store meanwhile. The log's number is kept together
with the steady time of its commit, which every commit of every release moves on; where the two differ the log is
behind, and everything counts as changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from nova_fast.model.base import Record

if TYPE_CHECKING:
    from nova_fast.state.reader import Reader

R = TypeVar("R", bound=Record)

DATABASE = "shown_changes"
#: In the meta database: the number of the last row, and the steady time of the commit that this says it of.
NUMBER_AND_TIME = b"shown"
ROWS = 1024  # of the ring: some seconds of a cloud that boots as fast as it can
KEYS_MAX = 4096  # of a row; more count as everything
_BYTES = 8


@dataclass(frozen=True, slots=True)
class Shown(Generic[R]):
    """What servers show of a table's records, and which servers: their keys, or None when any might."""

    who: Callable[[Reader, R], Iterable[bytes] | None]
    parts: Callable[[R], object]


class Changes:
    """What one transaction changes of what servers show, in its order, so that a part of it can be taken back."""

    __slots__ = ("noted",)

    def __init__(self) -> None:
        #: A key, and whether the server is new; without a key, every server.
        self.noted: list[tuple[bytes | None, bool]] = []

    def born(self, key: bytes) -> None:
        """A server is new in this transaction, so nothing of it has been shown."""
        self.noted.append((key, True))

    def note(self, reader: Reader, shown: Shown[R], old: R | None, new: R | None) -> None:
        """A record was put or deleted."""
        if old is not None and new is not None and shown.parts(old) == shown.parts(new):
            return
        for record in (old, new):
            keys = () if record is None else shown.who(reader, record)
            self.noted += [(None, False)] if keys is None else [(key, False) for key in keys]

    def row(self) -> bytes | None:
        """The keys, each ends in a NUL; nothing = everything may have changed; None = nothing has."""
        seen: dict[bytes, bool] = {}  # by key: whether somebody may have an answer about it
        for key, new in self.noted:
            if key is None:
                return b""
            seen.setdefault(key, not new)
        keys = sorted(key for key, known in seen.items() if known)
        if len(keys) > KEYS_MAX:
            return b""
        return b"".join(keys) if keys else None


def pack(number: int, rest: bytes) -> bytes:
    """A number and what belongs to it."""
    return number.to_bytes(_BYTES, "big") + rest


def unpack(raw: bytes) -> tuple[int, bytes]:
    """The inverse of :func:`pack`."""
    return int.from_bytes(raw[:_BYTES], "big"), raw[_BYTES:]


def place(number: int) -> bytes:
    """Where a row of the log lies."""
    return (number % ROWS).to_bytes(_BYTES, "big")
