"""Numbers that only grow are above all that were given out, and none was given out twice."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import readable


def numbers(reader: Reader) -> Iterator[Finding]:
    """Servers, networks, key pairs, aggregates, services with hosts, and the generations of the hosts' networks."""
    counters = reader.counters()
    given: dict[str, Iterator[tuple[str, int]]] = {
        "servers": ((f"server {row.id}", row.number) for row in readable(reader, tables.SERVERS)),
        "networks": ((f"network {row.id}", row.number) for row in readable(reader, tables.NETWORKS)),
        "key_pairs": ((f"key pair {row.user_id}/{row.name}", row.number) for row in readable(reader, tables.KEY_PAIRS)),
        "aggregates": ((f"aggregate {row.id}", row.number) for row in readable(reader, tables.AGGREGATES)),
        "services": _services(reader),
    }
    for name, rows in given.items():
        last = counters.get(f"number:{name}", 0)
        seen = bytearray(last // 8 + 1)  # one bit for each number: small for any number of rows
        for who, number in rows:
            if number > last:
                yield Finding("numbers", name, f"{who} has the number {number}, but only {last} were given out")
            elif number > 0:  # 0: from before there were numbers
                byte, bit = number // 8, 1 << number % 8
                if seen[byte] & bit:
                    yield Finding("numbers", name, f"{who} has the number {number}, which another has as well")
                seen[byte] |= bit
    last = counters.get("number:network_generation", 0)
    for row in readable(reader, tables.HOST_NETWORKS):
        if not row.applied_generation <= row.wanted_generation <= last:
            yield Finding(
                "numbers",
                row.host,
                f"the networks of host {row.host} are at {row.applied_generation} of {row.wanted_generation}, and only "
                f"{last} changes were numbered",
            )


def _services(reader: Reader) -> Iterator[tuple[str, int]]:
    """Computes and other services share one row of numbers."""
    for host in readable(reader, tables.HOSTS):
        yield f"host {host.name}", host.number
    for service in readable(reader, tables.SERVICES):
        yield f"service {service.name}", service.number
