"""Who holds what of which host: what the scheduler starts from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import Claimed
from nova_fast.model.hosts import Host, HostUsage
from nova_fast.model.servers import Server
from nova_fast.model.states import VmState
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.table import text_parts


class Membership(NamedTuple):
    """A server of a group, and where it is."""

    group_id: str
    host: str
    server_id: str


class FleetSnapshot(NamedTuple):
    """All hosts and what is taken of them at one moment, and the little that must be known of single servers."""

    hosts: list[tuple[Host, HostUsage]]
    claimed: list[Claimed]  # by servers that are being built, and by those that were asked about
    aggregates: list[Aggregate]
    busy: list[str]  # the servers that are being built
    members: list[Membership]


def fleet(reader: Reader, pending: Iterable[str] = ()) -> FleetSnapshot:
    """What a scheduler starts from that has chosen hosts for some servers and heard no more of them.

    PERF: no server is read but those that have something done to them: a million took 10 s. What others take of a
    host is in its usage.
    """
    building = [
        server
        for workflow in reader.scan(tables.WORKFLOWS)
        if (server := reader.get(tables.SERVERS, workflow.server_id)) and server.vm_state is VmState.BUILDING
    ]
    busy = [server.id for server in building if server.host]
    asked = {server.id: server for server in building if server.host} | _placed(reader, pending)
    claimed = [
        Claimed(server_id=server.id, host=server.host, claim=server.claim, group_id=server.group_id)
        for server in asked.values()
    ]
    return FleetSnapshot(
        list(_hosts(reader)), claimed, list(reader.scan(tables.AGGREGATES)), busy, list(_members(reader))
    )


def images_placed(reader: Reader) -> list[tuple[str, dict[str, str]]]:
    """The host and the image's properties of every server: who weighs these pays for reading all servers."""
    return [(server.host, server.image_properties) for server in reader.scan_index(tables.SERVERS_BY_HOST)]


def hosts_of(reader: Reader, server_ids: Iterable[str]) -> set[str]:
    """The hosts on which any of these servers is."""
    return {server.host for server in _placed(reader, server_ids).values()}


def _placed(reader: Reader, server_ids: Iterable[str]) -> dict[str, Server]:
    found = (reader.get(tables.SERVERS, server_id) for server_id in server_ids)
    return {server.id: server for server in found if server is not None and server.host}


def _hosts(reader: Reader) -> Iterator[tuple[Host, HostUsage]]:
    """Every host with its usage. PERF: both tables are walked once, in the same order."""
    usages = reader.scan(tables.HOST_USAGE)
    usage = next(usages, None)
    for host in reader.scan(tables.HOSTS):
        while usage is not None and usage.host < host.name:
            usage = next(usages, None)
        yield host, usage if usage is not None and usage.host == host.name else HostUsage(host=host.name)


def _members(reader: Reader) -> Iterator[Membership]:
    """The members of all groups that have a host. PERF: from the keys of the index alone."""
    for key, _primary in reader.raw(tables.SERVERS_BY_GROUP.name):
        group_id, host, server_id = text_parts(bytes(key))
        if host:
            yield Membership(group_id, host, server_id)
