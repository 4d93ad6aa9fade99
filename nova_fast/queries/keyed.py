"""What was answered under an Idempotency-Key."""

from __future__ import annotations

from nova_fast.model.keyed import KeyedAnswer
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def answer(reader: Reader, identity: str) -> KeyedAnswer | None:
    """The kept answer of this id."""
    return reader.get(tables.KEYED_ANSWERS, identity)
