"""The log of events has no gap and ends at the last generation: whoever follows it misses nothing."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nova_fast.model.events import Event
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import readable

_decode = msgspec.msgpack.Decoder(Event).decode


def events(reader: Reader) -> Iterator[Finding]:
    """Every event can be read and follows the one before it."""
    generation = reader.generation()
    last: int | None = None
    for row in readable(reader, tables.EVENTS):
        if last is not None and row.generation != last + 1:
            yield _finding(row.generation, f"event {row.generation} follows event {last}: those between are lost")
        last = row.generation
        try:
            _decode(row.body)
        except msgspec.MsgspecError:
            yield _finding(last, f"event {last} cannot be read")
    if (last or 0) != generation:
        yield _finding(generation, f"the log ends at event {last or 0}, but the store is at generation {generation}")


def _finding(generation: int, sentence: str) -> Finding:
    return Finding("events", str(generation), sentence)
