"""Aggregates have hosts that are there, each in one zone at most, and every host is in the zone that follows."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import is_there, readable


def aggregates(reader: Reader) -> Iterator[Finding]:
    """Every aggregate, then every host."""
    zones: dict[str, str] = {}  # host → the zone that an aggregate gives it
    for aggregate in readable(reader, tables.AGGREGATES):
        for host in sorted(set(aggregate.hosts)):
            if not is_there(reader, tables.HOSTS, host):
                yield _finding(aggregate.id, f"aggregate {aggregate.name} has host {host}, which is not there")
            elif aggregate.zone and zones.setdefault(host, aggregate.zone) != aggregate.zone:
                yield _finding(
                    aggregate.id, f"aggregates put host {host} into zones {zones[host]} and {aggregate.zone}"
                )
        if len(set(aggregate.hosts)) != len(aggregate.hosts):
            yield _finding(aggregate.id, f"aggregate {aggregate.name} has a host twice")
    for host_record in readable(reader, tables.HOSTS):
        wanted = zones.get(host_record.name, host_record.own_zone)
        if host_record.zone != wanted:
            yield _finding(
                host_record.name, f"host {host_record.name} is in zone {host_record.zone}, and should be in {wanted}"
            )


def _finding(key: str, sentence: str) -> Finding:
    return Finding("aggregates", key, sentence)
