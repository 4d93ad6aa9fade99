"""Who holds what of which host: what the scheduler starts from."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.model.events import Claimed
from nova_fast.model.hosts import Host, HostUsage, claim_of
from nova_fast.model.placement import claim_from
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def hosts_with_usage(reader: Reader) -> Iterator[tuple[Host, HostUsage]]:
    """Every host and what is taken of it."""
    for host in reader.scan(tables.HOSTS):
        yield host, reader.get(tables.HOST_USAGE, host.name) or HostUsage(host=host.name)


def claims(reader: Reader) -> Iterator[Claimed]:
    """Every claim: by definition, the servers that carry a host's name, and the consumers that placement knows."""
    for server in reader.scan_index(tables.SERVERS_BY_HOST):
        yield Claimed(server_id=server.id, host=server.host, claim=claim_of(server.flavor), group_id=server.group_id)
    for consumer in reader.scan(tables.CONSUMERS):
        for share in consumer.shares:
            host = reader.find(tables.HOSTS_BY_UUID, share.provider)
            if host is not None:
                yield Claimed(server_id=consumer.uuid, host=host.name, claim=claim_from(share.resources))
