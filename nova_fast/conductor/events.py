"""The event log as the hub reads it: by generation, in order, as far back as it is kept."""

from __future__ import annotations

from nova_fast.state import schema as tables
from nova_fast.state.store import Store

#: Events that are kept beside the log: what a commit brought is read by the feed in the same turn.
RECENT_MAX = 4_096


class EventLog:
    """Reads events from a snapshot; implements the hub's EventSource.

    PERF: the last ones are read from memory; who follows reads nothing else, and it was a tenth of the loop's time.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent: list[tuple[int, bytes]] = []  # without a gap, to the last commit that was told

    def committed(self, rows: list[tuple[int, bytes]]) -> None:
        """What a commit has added to the log; every commit is told, in order."""
        if not rows:
            return
        if self._recent and rows[0][0] != self._recent[-1][0] + 1:
            self._recent = []
        self._recent += rows
        if len(self._recent) > 2 * RECENT_MAX:
            del self._recent[:-RECENT_MAX]

    def read(self, after_generation: int, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` events behind a generation."""
        if self._recent and self._recent[0][0] - 1 <= after_generation <= self._recent[-1][0]:
            begin = after_generation + 1 - self._recent[0][0]
            return self._recent[begin : begin + limit]
        with self._store.snapshot() as snapshot:
            rows = snapshot.scan(tables.EVENTS, after=(after_generation,), limit=limit)
            return [(row.generation, row.body) for row in rows]

    def oldest(self) -> int:
        """The oldest generation that is kept; one more than the newest when none is."""
        with self._store.snapshot() as snapshot:
            first = next(snapshot.scan(tables.EVENTS, limit=1), None)
            return first.generation if first is not None else snapshot.generation() + 1
