"""All subjects, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nova_fast.queries.check.aggregates import aggregates
from nova_fast.queries.check.decisions import decisions
from nova_fast.queries.check.events import events
from nova_fast.queries.check.finding import Finding
from nova_fast.queries.check.hosts import hosts
from nova_fast.queries.check.keyed import keyed
from nova_fast.queries.check.numbers import numbers
from nova_fast.queries.check.placement import placement
from nova_fast.queries.check.ports import ports
from nova_fast.queries.check.references import references
from nova_fast.queries.check.server_groups import server_groups
from nova_fast.queries.check.servers import servers
from nova_fast.queries.check.usages import usages
from nova_fast.queries.check.workflows import workflows
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import disagreements


def storage(reader: Reader) -> Iterator[Finding]:
    """Every record can be read, and every index has exactly the entries of its table."""
    for table in tables.TABLES:
        for found in disagreements(reader, table):
            yield Finding(table.name, found.key, found.sentence)


SUBJECTS: tuple[Callable[[Reader], Iterator[Finding]], ...] = (
    storage,
    references,
    usages,
    hosts,
    aggregates,
    placement,
    ports,
    servers,
    server_groups,
    decisions,
    workflows,
    events,
    numbers,
    keyed,
)


def recount(reader: Reader) -> Iterator[Finding]:
    """Everything that does not add up, as it is found."""
    for subject in SUBJECTS:
        yield from subject(reader)
