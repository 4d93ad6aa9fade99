"""Who holds what of which host: what the scheduler starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import Claimed
from nova_fast.model.hosts import Host, HostUsage, claim_of
from nova_fast.model.placement import claim_from
from nova_fast.model.states import VmState
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


class FleetSnapshot(NamedTuple):
    """All hosts and all that is held of them, at one moment."""

    hosts: list[tuple[Host, HostUsage]]
    claimed: list[Claimed]  # the servers that carry a host's name, and the consumers that placement knows
    aggregates: list[Aggregate]
    busy: list[str]  # the servers that are being built


def fleet(reader: Reader) -> FleetSnapshot:
    """What a scheduler starts from."""
    hosts = [
        (host, reader.get(tables.HOST_USAGE, host.name) or HostUsage(host=host.name))
        for host in reader.scan(tables.HOSTS)
    ]
    servers = list(reader.scan_index(tables.SERVERS_BY_HOST))
    claimed = [
        Claimed(server_id=server.id, host=server.host, claim=claim_of(server.flavor), group_id=server.group_id)
        for server in servers
    ]
    busy = [server.id for server in servers if server.vm_state is VmState.BUILDING]
    claimed += _foreign_claims(reader)
    return FleetSnapshot(hosts, claimed, list(reader.scan(tables.AGGREGATES)), busy)


def _foreign_claims(reader: Reader) -> Iterator[Claimed]:
    """What consumers that only placement knows have of hosts."""
    for consumer in reader.scan(tables.CONSUMERS):
        for share in consumer.shares:
            host = reader.find(tables.HOSTS_BY_UUID, share.provider)
            if host is not None:
                yield Claimed(server_id=consumer.uuid, host=host.name, claim=claim_from(share.resources))
