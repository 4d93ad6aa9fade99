"""Host aggregates, and what zone a host is in because of them."""

from __future__ import annotations

from nova_fast.model.aggregates import ZONE_KEY, Aggregate
from nova_fast.model.errors import NotFound
from nova_fast.model.hosts import Host
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def listing(reader: Reader) -> list[Aggregate]:
    """Every aggregate, in the order in which they were made."""
    return list(reader.scan_index(tables.AGGREGATES_BY_NUMBER))


def get(reader: Reader, number: int) -> Aggregate:
    """An aggregate by what the Compute API calls its id. Raises NotFound."""
    found = reader.find(tables.AGGREGATES_BY_NUMBER, number)
    if found is None:
        raise NotFound(f"Aggregate {number} could not be found.", code="aggregate_not_found")
    return found


def of_host(reader: Reader, host: str) -> list[Aggregate]:
    """The aggregates a host is in."""
    return reader.select(tables.AGGREGATES_BY_HOST, host)


def zone_of(reader: Reader, host: Host) -> str:
    """The zone of a host: that of its aggregates, which agree, else the one its own daemon names."""
    for aggregate in of_host(reader, host.name):
        if ZONE_KEY in aggregate.metadata:
            return aggregate.metadata[ZONE_KEY]
    return host.own_zone
