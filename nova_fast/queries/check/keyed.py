"""What is kept of requests with an Idempotency-Key is what their owners are counted to have, so the bound holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, readable


def keyed(reader: Reader) -> Iterator[Finding]:
    """How many answers each owner has."""
    kept = Counter(row.owner for row in readable(reader, tables.KEYED_ANSWERS))
    for usage in readable(reader, tables.KEYED_USAGE):
        kept.setdefault(usage.owner, 0)
    for owner, count in kept.items():
        usage_row = find(reader, tables.KEYED_USAGE, owner)
        said = usage_row.count if usage_row is not None else 0
        if said != count:
            yield Finding("keyed", owner, f"{said} keyed answers are counted for {owner}, and {count} are kept")
