"""What is taken of each host is what the servers with its name take, and other consumers of it as a provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nova_fast.model.hosts import Claim, HostUsage, claim_of
from nova_fast.model.placement import claim_from
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, is_there, readable


def hosts(reader: Reader) -> Iterator[Finding]:
    """Every host and every count of it; servers and counts of hosts that are not there."""
    taken: dict[str, Counter[str]] = {}
    for server in readable(reader, tables.SERVERS):
        if server.host:
            own = taken.setdefault(server.host, Counter())
            own.update(_amounts(claim_of(server.flavor)))
            own["servers"] += 1
    names = {host.uuid: host.name for host in readable(reader, tables.HOSTS)}
    for consumer in readable(reader, tables.CONSUMERS):
        for share in consumer.shares:
            if share.provider in names:
                own = taken.setdefault(names[share.provider], Counter())
                own.update(_amounts(claim_from(share.resources)))
                own["servers"] += 1
    for name in names.values():
        taken.setdefault(name, Counter())
    for usage in readable(reader, tables.HOST_USAGE):
        taken.setdefault(usage.host, Counter())
    for name, own in taken.items():
        if not is_there(reader, tables.HOSTS, name):
            yield Finding("hosts", name, f"{own['servers']} servers are on host {name}, which is not there")
        recorded = find(reader, tables.HOST_USAGE, name) or HostUsage(host=name)
        said = _amounts(recorded) | {"servers": recorded.servers}
        for field in sorted(said.keys() | own.keys()):
            if said.get(field, 0) != own[field]:
                yield Finding(
                    "hosts",
                    name,
                    f"{said.get(field, 0)} {field} are counted as taken of host {name}, its servers take {own[field]}",
                )


def _amounts(taken: Claim | HostUsage) -> dict[str, int]:
    return {"vcpus": taken.vcpus, "ram_mib": taken.ram_mib, "disk_gib": taken.disk_gib, **taken.resources}
