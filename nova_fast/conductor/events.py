"""The event log as the hub reads it: by generation, in order, as far back as it is kept."""

from __future__ import annotations

from nova_fast.state import schema as tables
from nova_fast.state.store import Store


class EventLog:
    """Reads events from a snapshot; implements the hub's EventSource."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, after_generation: int, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` events behind a generation."""
        with self._store.snapshot() as snapshot:
            rows = snapshot.scan(tables.EVENTS, after=(after_generation,), limit=limit)
            return [(row.generation, row.body) for row in rows]

    def oldest(self) -> int:
        """The oldest generation that is kept; one more than the newest when none is."""
        with self._store.snapshot() as snapshot:
            first = next(snapshot.scan(tables.EVENTS, limit=1), None)
            return first.generation if first is not None else snapshot.generation() + 1
