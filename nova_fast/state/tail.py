"""The end of the log of events: what a transaction emits is held back, and appended in one piece.

The log is only ever appended to and read by others, so its rows need nothing of what rows of other tables have: nobody
asks in a transaction what is under a key of it. PERF: a sixth of the time of rows that are held as others are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import lmdb
import msgspec

from nova_fast.model.events import Event
from nova_fast.state import schema
from nova_fast.state.journal import JournaledWrites
from nova_fast.state.reader import GENERATION
from nova_fast.state.table import encode_keys

_encode = msgspec.msgpack.Encoder().encode

#: In a journal: the engine was given the events up to here.
APPENDED: Final[Any] = object()


class EventTail(JournaledWrites):
    """What a transaction says."""

    def __init__(self, txn: lmdb.Transaction, databases: dict[str, Any]) -> None:
        super().__init__(txn, databases)
        self.events: list[tuple[int, Event]] = []
        self.event_rows: list[tuple[int, bytes]] = []  # the same as the log has them
        self._appended = 0  # of these

    def emit(self, event: Event) -> None:
        """Append an event to the log; watchers see it after the commit."""
        generation = self._bump(GENERATION)
        self.events.append((generation, event))
        self.event_rows.append((generation, _encode(event)))

    def emit_all(self, events: Sequence[Event]) -> None:
        """Append events to the log, in this order."""
        last = self._bump(GENERATION, len(events))
        numbered = list(enumerate(events, last - len(events) + 1))
        self.events += numbered
        self.event_rows += [(generation, _encode(event)) for generation, event in numbered]

    def _append_events(self) -> None:
        """Give the engine what it has not been given."""
        new = self.event_rows[self._appended :]
        if not new:
            return
        row_of = schema.EventRow
        keys = encode_keys([(number,) for number, _ in new])
        rows = [
            (key, _encode(row_of(generation=number, body=body))) for key, (number, body) in zip(keys, new, strict=True)
        ]
        added = self._write_run(schema.EVENTS.name, rows)
        assert added, "the log has one of these events already"
        self._journal.append((APPENDED, self._appended, None))
        self._appended = len(self.event_rows)

    def _forget_events(self, count: int) -> None:
        """Say no more than the first so many."""
        del self.events[count:], self.event_rows[count:]

    def _bump(self, name: bytes, by: int = 1) -> int:
        raise NotImplementedError
