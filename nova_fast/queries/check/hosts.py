"""What is taken of each host is what the servers with its name take, and other consumers of it as a provider."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nova_fast.model.hosts import Claim, HostUsage
from nova_fast.model.placement import claim_from
from nova_fast.model.topology import GuestTopology, Taken, changed
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, is_there, readable


def hosts(reader: Reader) -> Iterator[Finding]:
    """Every host and every count of it; servers and counts of hosts that are not there."""
    taken: dict[str, Counter[str]] = {}
    given: dict[str, Taken] = {}  # cells and devices, by host
    for server in readable(reader, tables.SERVERS):
        if server.host:
            own = taken.setdefault(server.host, Counter())
            own.update(_amounts(server.claim))
            own["servers"] += 1
            if server.claim.topology is not None:
                yield from _take(given, server.host, server.id, server.claim.topology)
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
        counted, added = Taken(recorded.cells, recorded.devices), given.get(name, Taken())
        if counted != added:
            yield Finding(
                "hosts", name, f"{counted} are counted as taken of the cells of host {name}, its servers take {added}"
            )


def _take(given: dict[str, Taken], host: str, server_id: str, topology: GuestTopology) -> Iterator[Finding]:
    """Add what a server takes of its host's cells and devices; that it is somebody's already is a finding."""
    try:
        given[host] = changed(given.get(host, Taken()), topology, 1)
    except ValueError as error:
        yield Finding("hosts", host, f"server {server_id} on host {host} has what another has: {error}")


def _amounts(taken: Claim | HostUsage) -> dict[str, int]:
    return {"vcpus": taken.vcpus, "ram_mib": taken.ram_mib, "disk_gib": taken.disk_gib, **taken.resources}
