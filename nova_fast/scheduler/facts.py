"""Facts: what filters and weighers may know of a host.

Three views, by how often they change:

* :class:`HostFacts`: what an operator or the machine itself says of a host and seldom changes: zone, aggregates with
  their metadata, traits, hypervisor, processor, ratios. Hosts that agree in all of it share a profile
  (``scheduler.profiles``), so a filter on facts is asked once for each profile and costs nothing per host. What differs
  from host to host (its name, its address, its exact amount of RAM) is not here for that reason.
* :class:`HostState`: one host as it is now, in Nova's numbers. Only what has to look at each host takes it: slow.
* :class:`Fleet`: who is where: what names hosts instead of looking at them.

A request is the message itself, ``model.tasks.PlacementRequest``.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Hashable, Iterable, Mapping, Set
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import msgspec

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.hosts import Claim, Host, HostResources
from nova_fast.model.tasks import PlacementRequest
from nova_fast.model.topology import NumaCell, PciPool

UNLIMITED = 2**31 - 1
ZONE_KEY = "availability_zone"  # the metadata key that makes an aggregate a zone

Metadata = tuple[tuple[str, str], ...]  # of one aggregate: (key, value), sorted by key
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class HostFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What seldom changes of a host; hashable, equal for hosts that no filter on facts can tell apart."""

    zone: str = "nova"
    aggregates: tuple[Metadata, ...] = ()  # the metadata of each aggregate that has any; sorted, each once
    traits: frozenset[str] = frozenset()
    supported_instances: tuple[tuple[str, str, str], ...] = ()  # (architecture, hypervisor type, vm mode)
    hypervisor_type: str = ""
    hypervisor_version: int = 0
    cpu_info: str = ""  # JSON as Nova's: arch, vendor, model, topology {sockets, cores, threads}, features […]
    cpu_ratio: float = 1.0
    ram_ratio: float = 1.0
    disk_ratio: float = 1.0
    isolated: bool = False  # one of the isolated_hosts of the configuration
    # The most that one server may take, where the ratio would allow more than the machine has (placement's max_unit).
    vcpus_max: int = UNLIMITED
    ram_mib_max: int = UNLIMITED
    disk_gib_max: int = UNLIMITED

    def values(self, key: str) -> set[str]:
        """What the aggregates of the host say under a metadata key."""
        return {value for metadata in self.aggregates for name, value in metadata if name == key}

    def metadata(self) -> dict[str, set[str]]:
        """All metadata of all aggregates; a value with commas is a list of values."""
        found: dict[str, set[str]] = {}
        for metadata in self.aggregates:
            for name, value in metadata:
                found.setdefault(name, set()).update(part.strip() for part in value.split(","))
        return found


class HostState(msgspec.Struct, kw_only=True):
    """One host as it is now, in Nova's numbers, for what has to look at each host."""

    name: str
    facts: HostFacts
    uuid: str = ""
    host_ip: str = ""
    up: bool = True  # heartbeats arrive, and nobody forced it down
    enabled: bool = True
    disabled_reason: str | None = None
    vcpus_total: int = 0  # of the machine, without a ratio
    vcpus_used: int = 0  # reserved ones too
    ram_total_mib: int = 0
    ram_free_mib: int = 0  # total - reserved - used, without a ratio; may be negative
    disk_total_gib: int = 0
    disk_free_gib: int = 0  # total - reserved - used, without a ratio
    room: Claim = Claim(vcpus=0, ram_mib=0, disk_gib=0)  # what may still be claimed: with ratios, less what is reserved
    io_ops: int = 0
    servers: int = 0
    failed_builds: int = 0
    pci_free: int = 0
    metrics: Mapping[str, float] = {}
    numa: tuple[NumaCell, ...] = ()
    pci: tuple[PciPool, ...] = ()
    image_properties: Mapping[tuple[str, str], int] = {}  # (name, value) → servers here whose image has it


class Offer(NamedTuple):
    """How much of a resource class one server may claim of a host: placement's inventory, less what is taken."""

    free: int
    smallest: int = 1
    largest: int = UNLIMITED
    step: int = 1


class Fleet(Protocol):
    """Who is where. Names that are not known are passed over."""

    def hosts_of(self, server_ids: Iterable[str]) -> Set[str]:
        """The hosts on which any of these servers is (a claim that is not committed yet counts)."""
        ...

    def members(self, group_id: str) -> Mapping[str, int]:
        """How many servers of a server group each host has; hosts without any are left out."""
        ...

    def hosts_within(self, network: Network) -> Set[str]:
        """The hosts whose address is in a network."""
        ...

    def offers(self, resource_class: str) -> Mapping[str, Offer]:
        """The hosts that have a resource class beyond RAM, vCPUs and disk, and what they give of it."""
        ...

    def sharing(self, vcpus: int) -> Set[str]:
        """The hosts that keep no CPUs for one server each, and have room for so many vCPUs."""
        ...


def facts_of(host: Host, aggregates: Iterable[Aggregate], isolated_hosts: Set[str] = frozenset()) -> HostFacts:
    """What filters may know of a host that is in these aggregates; ``isolated_hosts`` is the option of this name.

    A zone that an aggregate gives wins over the host's own. A host that reports no supported instances (a daemon of an
    older release) supports at least its own kind.
    """
    metadata = {tuple(sorted(aggregate.metadata.items())) for aggregate in aggregates if aggregate.metadata}
    zones = sorted(value for entry in metadata for name, value in entry if name == ZONE_KEY)
    resources = host.resources
    return HostFacts(
        zone=zones[0] if zones else host.zone,
        aggregates=tuple(sorted(metadata)),
        traits=frozenset(resources.traits) | frozenset(host.traits),
        supported_instances=resources.supported_instances or (_own_kind(resources),),
        hypervisor_type=resources.hypervisor_type,
        hypervisor_version=resources.hypervisor_version,
        cpu_info=_cpu_info(tuple(resources.cpu_info.items()), resources.features),
        cpu_ratio=host.cpu_ratio,
        ram_ratio=host.ram_ratio,
        disk_ratio=host.disk_ratio,
        isolated=host.name in isolated_hosts,
        vcpus_max=resources.vcpus if host.cpu_ratio > 1 else UNLIMITED,
        ram_mib_max=resources.ram_mib if host.ram_ratio > 1 else UNLIMITED,
        disk_gib_max=resources.disk_gib if host.disk_ratio > 1 else UNLIMITED,
    )


def facts_key(host: Host) -> Hashable:
    """All that ``facts_of`` looks at of a host itself, but for its name; it costs a fraction of them.

    Hosts that agree in it have the same facts, if they are in the same aggregates.
    """
    resources = host.resources
    return (
        (host.zone, host.traits, resources.traits, resources.supported_instances, resources.features),
        (resources.hypervisor_type, resources.hypervisor_version, resources.architecture, resources.virt_type),
        (host.cpu_ratio, resources.vcpus if host.cpu_ratio > 1 else 0),
        (host.ram_ratio, resources.ram_mib if host.ram_ratio > 1 else 0),
        (host.disk_ratio, resources.disk_gib if host.disk_ratio > 1 else 0),
        *resources.cpu_info.items(),
    )


def _own_kind(resources: HostResources) -> tuple[str, str, str]:
    return (resources.architecture, (resources.virt_type or resources.hypervisor_type).lower(), "hvm")


@lru_cache(maxsize=4096)
def _cpu_info(known: tuple[tuple[str, str], ...], features: tuple[str, ...]) -> str:
    """The processor in the shape of Nova's ``cpu_info``. A fleet has few kinds."""
    flat = dict(known)
    named = flat.pop("features", "")
    info: dict[str, Any] = {
        "topology": {part: int(flat.pop(part)) for part in ("sockets", "cores", "threads") if part in flat},
        "features": list(features) or [name for name in named.split(",") if name],
    }
    bits = flat.pop("maxphysaddr_bits", "")
    if bits:
        info["maxphysaddr"] = {"bits": int(bits)}
    return json.dumps(info | flat, sort_keys=True)


def hint(request: PlacementRequest, name: str) -> str | list[str] | None:
    """A scheduler hint; a list of one is that one, as in Nova."""
    value = request.hints.get(name)
    return value[0] if isinstance(value, list) and len(value) == 1 else value
