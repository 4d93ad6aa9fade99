"""The event log: what happened, by generation, as far back as it is kept."""

from __future__ import annotations

import msgspec

from nova_fast.queries.reading import Reader
from nova_fast.state import schema as tables


class Logged(msgspec.Struct, frozen=True):
    """One event of the log."""

    generation: int
    body: bytes  # encoded


def span(reader: Reader) -> tuple[int, int]:
    """The oldest generation that is kept, and the newest; of an empty log the oldest is one more."""
    newest = reader.generation()
    first = next(reader.scan(tables.EVENTS, limit=1), None)
    return (first.generation if first is not None else newest + 1), newest


def events_after(reader: Reader, generation: int, limit: int) -> list[Logged]:
    """At most ``limit`` events behind a generation, in order."""
    rows = reader.scan(tables.EVENTS, after=(generation,), limit=limit)
    return [Logged(row.generation, row.body) for row in rows]
