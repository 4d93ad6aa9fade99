"""The cloud as the Placement API sees it, computed from the one truth: hosts, what is taken of them, and their servers.

A host is a resource provider, its UUID the provider's; a server that claims a host is a consumer. Nothing is stored for
that view, so it cannot differ from what the scheduler decides on. Providers and consumers of other kinds have records
of their own, and stand beside them here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from nova_fast.model.base import Value
from nova_fast.model.errors import NotFound
from nova_fast.model.hosts import Host
from nova_fast.model.placement import (
    DISK_GB,
    MEMORY_MB,
    SERVER_GENERATION,
    SERVER_TYPE,
    VCPU,
    Consumer,
    Provider,
    ProviderShare,
    ResourceProvider,
    amounts_of,
    inventories_of,
)
from nova_fast.model.servers import Server
from nova_fast.queries import hosts
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

_ARCHITECTURE_TRAITS = {"x86_64": "HW_ARCH_X86_64", "aarch64": "HW_ARCH_AARCH64", "ppc64le": "HW_ARCH_PPC64LE"}
#: What every compute host has, and what follows from the state of its service.
_HOST_TRAITS = frozenset(
    {"COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_ISO", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_IMAGE_TYPE_RAW"}
)
DISABLED = "COMPUTE_STATUS_DISABLED"
_encode = msgspec.msgpack.Encoder(order="sorted").encode


class Taken(Value, frozen=True):
    """What one consumer takes of a provider."""

    consumer: str
    generation: int
    resources: dict[str, int]


# ------------------------------------------------------------------------------------------------ providers


def provider(reader: Reader, uuid: str) -> Provider | None:
    """A provider by its UUID."""
    host = hosts.by_uuid(reader, uuid)
    if host is not None:
        return of_host(reader, host)
    record = reader.get(tables.PROVIDERS, uuid)
    return None if record is None else of_record(reader, record)


def need(reader: Reader, uuid: str) -> Provider:
    """A provider by its UUID. Raises NotFound."""
    found = provider(reader, uuid)
    if found is None:
        raise NotFound(f"No resource provider with uuid {uuid} found", code="placement.resource_provider.not_found")
    return found


def by_name(reader: Reader, name: str) -> list[Provider]:
    """The providers of this name. There is one, unless a host has come whose name a provider had taken."""
    host = reader.get(tables.HOSTS, name)
    record = reader.find(tables.PROVIDERS_BY_NAME, name)
    found = [] if host is None else [of_host(reader, host)]
    return found if record is None else [*found, of_record(reader, record)]


def every(reader: Reader) -> Iterator[Provider]:
    """Every provider: hosts by name, then the others."""
    for host in reader.scan(tables.HOSTS):
        yield of_host(reader, host)
    for record in reader.scan(tables.PROVIDERS):
        yield of_record(reader, record)


def roots(reader: Reader) -> Iterator[Provider]:
    """Every provider that is below no other."""
    for host in reader.scan(tables.HOSTS):
        yield of_host(reader, host)
    for record in reader.scan_index(tables.PROVIDERS_BY_PARENT, ""):
        yield of_record(reader, record)


def tree(reader: Reader, root: Provider) -> list[Provider]:
    """A provider and all below it."""
    found = [root]
    if not reader.size(tables.PROVIDERS):  # PERF: clouds of hosts alone need not look below each
        return found
    for above in found:  # grows while it is walked
        for record in reader.select(tables.PROVIDERS_BY_PARENT, above.uuid):
            found.append(_of_record(reader, record, root.root))
    return found


def sharing(reader: Reader, trait: str) -> list[Provider]:
    """The providers to which an operator gave this trait."""
    found = [of_host(reader, host) for host in reader.select(tables.HOSTS_BY_TRAIT, trait)]
    return found + [of_record(reader, record) for record in reader.select(tables.PROVIDERS_BY_TRAIT, trait)]


def root_of(reader: Reader, uuid: str) -> str:
    """The UUID of the root of a provider's tree; its own when it is not there or below nothing."""
    record = reader.get(tables.PROVIDERS, uuid)
    while record is not None and record.parent:
        uuid = record.parent
        record = reader.get(tables.PROVIDERS, uuid)
    return uuid


def of_host(reader: Reader, host: Host) -> Provider:
    """A compute host as a provider."""
    inventories, traits = inventories_of(host), traits_of(host)
    usage = hosts.usage(reader, host.name)
    used = {VCPU: usage.vcpus, MEMORY_MB: usage.ram_mib, DISK_GB: usage.disk_gib, **usage.resources}
    compute = {aggregate.id for aggregate in reader.select(tables.AGGREGATES_BY_HOST, host.name)}
    aggregates = tuple(sorted(compute | set(host.aggregates)))
    return Provider(
        uuid=host.uuid,
        name=host.name,
        generation=_generation(inventories, traits, aggregates),
        root=host.uuid,
        inventories=inventories,
        used=used,
        traits=traits,
        aggregates=aggregates,
        host=host.name,
    )


def of_record(reader: Reader, record: ResourceProvider) -> Provider:
    """Another provider, with what its consumers take."""
    return _of_record(reader, record, root_of(reader, record.uuid))


def _of_record(reader: Reader, record: ResourceProvider, root: str) -> Provider:
    used: Counter[str] = Counter()
    for consumer in reader.select(tables.CONSUMERS_BY_PROVIDER, record.uuid):
        used.update(_share(consumer, record.uuid))
    return Provider(
        uuid=record.uuid,
        name=record.name,
        generation=record.generation,
        root=root,
        inventories={own.resource_class: own for own in record.inventories},
        used=dict(used),
        traits=record.traits,
        aggregates=record.aggregates,
        parent=record.parent,
    )


def _generation(*facts: object) -> int:
    """A number that is another when any of these is.

    A host is changed by its heartbeats, its operators and the Compute API's aggregates. What all of them leave is
    what a client compares before it writes, so the number is made from that and need not be kept. It has 31 bits
    because clients put it into such integers.
    """
    return int.from_bytes(blake2b(_encode(facts), digest_size=4).digest(), "big") >> 1


def own_traits(host: Host) -> frozenset[str]:
    """What a host's driver vouches for and what follows from its state: nobody can give or take these."""
    found = _HOST_TRAITS | set(host.resources.traits)
    architecture = _ARCHITECTURE_TRAITS.get(host.resources.architecture)
    if architecture is not None:
        found |= {architecture}
    return found if host.enabled and not host.forced_down else found | {DISABLED}


def traits_of(host: Host) -> tuple[str, ...]:
    """The traits of a compute host."""
    return tuple(sorted(own_traits(host) | set(host.traits)))


# ------------------------------------------------------------------------------------------------ consumers


def consumer(reader: Reader, uuid: str) -> Consumer | None:
    """Who takes something under this UUID: a server that has a host, or another consumer."""
    server = reader.get(tables.SERVERS, uuid)
    return reader.get(tables.CONSUMERS, uuid) if server is None else _of_server(reader, server)


def taken_of(reader: Reader, found: Provider) -> list[Taken]:
    """Who takes what of a provider."""
    rows = []
    if found.host:
        for server in hosts.servers_on(reader, found.host):
            rows.append(
                Taken(
                    consumer=server.id,
                    generation=SERVER_GENERATION,
                    resources=amounts_of(server.claim),
                )
            )
    for other in reader.scan_index(tables.CONSUMERS_BY_PROVIDER, found.uuid):
        rows.append(Taken(consumer=other.uuid, generation=other.generation, resources=_share(other, found.uuid)))
    return rows


def consumers_of_project(reader: Reader, project_id: str, user_id: str | None = None) -> Iterator[Consumer]:
    """The consumers of a project, or of one user in it."""
    for server in reader.scan_index(tables.SERVERS_BY_PROJECT, project_id):
        found = _of_server(reader, server)
        if found is not None and user_id in (None, found.user_id):
            yield found
    for other in reader.scan_index(tables.CONSUMERS_BY_PROJECT, project_id[: tables.PROJECT_CHARACTERS]):
        if other.project_id == project_id and user_id in (None, other.user_id):
            yield other


def _of_server(reader: Reader, server: Server) -> Consumer | None:
    host = reader.get(tables.HOSTS, server.host) if server.host else None
    if host is None:
        return None
    share = ProviderShare(provider=host.uuid, resources=amounts_of(server.claim))
    return Consumer(
        uuid=server.id,
        generation=SERVER_GENERATION,
        project_id=server.project_id,
        user_id=server.user_id,
        shares=(share,),
        created_at_us=server.created_at_us,
        updated_at_us=server.updated_at_us,
        type=SERVER_TYPE,
    )


def _share(consumer: Consumer, uuid: str) -> dict[str, int]:
    return next((share.resources for share in consumer.shares if share.provider == uuid), {})
