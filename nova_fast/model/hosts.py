"""Hosts: the machines that run servers, what they have and what is taken."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from nova_fast.model.base import Record, Value
from nova_fast.model.flavors import Flavor, masked_vcpus
from nova_fast.model.placement_names import RESOURCE_CLASSES
from nova_fast.model.topology import CellUsage, GuestTopology, NumaCell, PciPool
from nova_fast.model.words import is_true

#: The scope of extra specs that ask for amounts of resource classes.
RESOURCES = "resources:"
#: The class of CPUs that are one server's alone.
PCPU = "PCPU"
NO_PROPERTIES: Mapping[str, str] = MappingProxyType({})
_MIB_PER_GIB = 1024


class HostResources(Value, frozen=True):
    """What a compute daemon found on its machine; sent in every heartbeat."""

    vcpus: int
    ram_mib: int
    disk_gib: int
    architecture: str  # x86_64, aarch64, …
    hypervisor_type: str  # QEMU, KVM, fake
    hypervisor_version: int
    virt_type: str  # kvm, qemu
    cpu_info: dict[str, str] = {}
    host_ip: str = ""
    uptime: str = ""
    supported_instances: tuple[tuple[str, str, str], ...] = ()  # (architecture, hypervisor type, vm mode)
    traits: tuple[str, ...] = ()  # standard traits the driver vouches for: COMPUTE_…, HW_CPU_…
    features: tuple[str, ...] = ()  # CPU flags, as cpu_info shows them
    metrics: dict[str, float] = {}  # what a monitor measures, by Nova's names: cpu.user.percent, …
    numa: tuple[NumaCell, ...] = ()
    pci: tuple[PciPool, ...] = ()
    pcpus: int = 0  # CPUs kept for servers that have CPUs of their own; the others are vcpus


class Inventory(Value, frozen=True):
    """How much of one resource class a host or another provider has, as placement counts it."""

    resource_class: str
    total: int
    reserved: int = 0
    min_unit: int = 1
    max_unit: int = 2**31 - 1
    step_size: int = 1
    allocation_ratio: float = 1.0


class Shares(Value, frozen=True):
    """How much of a host may be given out, as far as somebody said it: its configuration, or an operator."""

    cpu_ratio: float | None = None
    ram_ratio: float | None = None
    disk_ratio: float | None = None
    reserved_vcpus: int | None = None
    reserved_ram_mib: int | None = None
    reserved_disk_gib: int | None = None


class Host(Record, frozen=True):
    """A compute host: identity, resources, and what its operator decided about it."""

    name: str
    uuid: str  # names the hypervisor and the resource provider
    service_uuid: str
    number: int  # the id of the service and hypervisor before microversion 2.53
    zone: str  # where servers find it: that of its aggregates, else its own
    resources: HostResources
    created_at_us: int
    reported_at_us: int  # last heartbeat recorded
    up: bool = True  # heartbeats arrive
    enabled: bool = True
    disabled_reason: str | None = None
    forced_down: bool = False
    cpu_ratio: float = 4.0
    ram_ratio: float = 1.0
    disk_ratio: float = 1.0
    reserved_vcpus: int = 0
    reserved_ram_mib: int = 512
    reserved_disk_gib: int = 0
    strays: bool = False  # it may have guests that are wanted no more, and is to compare
    failed_builds: int = 0  # servers that could not be built here since the last one that could
    traits: tuple[str, ...] = ()  # what operators say of it, beside what its driver vouches for
    inventories: tuple[Inventory, ...] = ()  # of resource classes that operators added
    default_zone: str = ""  # what its daemon says; "" = it has not spoken since there are aggregates
    reported: Shares = Shares()  # what its configuration says of ratios and reserved amounts
    decided: Shares = Shares()  # what an operator said instead, through the placement API: goes before
    aggregates: tuple[str, ...] = ()  # UUIDs known to placement only, that are no aggregate of the Compute API

    @property
    def own_zone(self) -> str:
        """Its zone when no aggregate gives it one."""
        return self.default_zone or self.zone


class HostUsage(Record, frozen=True):
    """What the servers of a host take, and other consumers; changed in the transactions that claim and return."""

    host: str
    vcpus: int = 0
    ram_mib: int = 0
    disk_gib: int = 0
    servers: int = 0  # and other consumers
    resources: dict[str, int] = {}  # of the classes that operators added
    cells: tuple[CellUsage, ...] = ()  # by number; those of which nothing is taken are left out
    devices: tuple[str, ...] = ()  # PCI addresses, in order


class Service(Record, frozen=True):
    """A daemon that is not a compute (those are :class:`Host` rows): conductor, scheduler, network, api."""

    name: str  # peer name: scheduler, network@host, …
    binary: str  # nova-scheduler
    host: str
    uuid: str
    number: int
    zone: str
    reported_at_us: int
    up: bool = True
    enabled: bool = True
    disabled_reason: str | None = None
    forced_down: bool = False


class Claim(Value, frozen=True):
    """What one server takes of a host."""

    vcpus: int
    ram_mib: int
    disk_gib: int
    resources: dict[str, int] = {}  # of the classes that operators added: the flavor's resources:CUSTOM_…
    topology: GuestTopology | None = None  # cells and devices, where a host was chosen; None = it asked for none


def capacity(host: Host) -> Claim:
    """What a host can give in all: (total - reserved) x allocation ratio, as placement counts it."""
    resources = host.resources
    return Claim(
        vcpus=math.floor((resources.vcpus - host.reserved_vcpus) * host.cpu_ratio),
        ram_mib=math.floor((resources.ram_mib - host.reserved_ram_mib) * host.ram_ratio),
        disk_gib=math.floor((resources.disk_gib - host.reserved_disk_gib) * host.disk_ratio),
    )


def stock_of(host: Host) -> tuple[Inventory, ...]:
    """What a host has of other classes than vCPUs, RAM and disk: CPUs kept for one server each, and an operator's."""
    own = host.resources.pcpus
    if not own:
        return host.inventories
    others = tuple([one for one in host.inventories if one.resource_class != PCPU])  # set before the host kept any
    return (Inventory(resource_class=PCPU, total=own, max_unit=own), *others)


def most_of(inventory: Inventory) -> int:
    """What all consumers together may take of an inventory: (total - reserved) x allocation ratio."""
    return math.floor((inventory.total - inventory.reserved) * inventory.allocation_ratio)


def settled(host: Host) -> Host:
    """The host with the ratios and reserved amounts that count: decided, else reported, else the defaults."""
    counts = {}
    for name in Shares.__struct_fields__:
        decided, reported = getattr(host.decided, name), getattr(host.reported, name)
        counts[name] = decided if decided is not None else reported if reported is not None else _DEFAULTS[name]
    return msgspec.structs.replace(host, **counts)


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Host)}


class HostNetwork(Record, frozen=True):
    """How far the network daemon of a host is: numbers of changes of what it should do."""

    host: str
    wanted_generation: int  # the last change of what this host's networks should be
    applied_generation: int = 0  # the last change that the host has carried out


def _is_of_class(spec: str) -> bool:
    """Whether an extra spec asks for a resource class; what only looks like one is passed over, as Nova does."""
    name = spec.removeprefix(RESOURCES)
    return name != spec and (name in RESOURCE_CLASSES or name.startswith("CUSTOM_"))


def claim_of(flavor: Flavor, image_properties: Mapping[str, str] = NO_PROPERTIES) -> Claim:
    """What a server of this flavor and image takes of a host; the swap disk counts in whole GiB.

    Extra specs ``resources:CLASS`` add resource classes or replace the flavor's own amounts, 0 takes none of it (Nova
    admin guide, "Extra specs"). vCPUs with a CPU of their own are PCPU, no VCPU; persistent memory and encryption of
    memory are classes, too.
    """
    disk_gib = flavor.disk_gib + flavor.ephemeral_gib + math.ceil(flavor.swap_mib / _MIB_PER_GIB)
    if not flavor.extra_specs and not image_properties:  # PERF: the plain case, twice for each server that boots
        return Claim(vcpus=flavor.vcpus, ram_mib=flavor.ram_mib, disk_gib=disk_gib)
    asked = {
        name.removeprefix(RESOURCES): int(amount)
        for name, amount in flavor.extra_specs.items()
        if _is_of_class(name) and amount.isdecimal()
    }
    if "VCPU" not in asked and "PCPU" not in asked and (pinned := pinned_vcpus(flavor, image_properties)):
        isolated = flavor.extra_specs.get("hw:emulator_threads_policy") == "isolate"
        asked |= {"VCPU": flavor.vcpus - pinned, PCPU: pinned + isolated}
    for name in _feature_classes(flavor.extra_specs, image_properties):
        asked[name] = asked.get(name, 0) + 1
    return Claim(
        vcpus=asked.pop("VCPU", 0 if PCPU in asked else flavor.vcpus),
        ram_mib=asked.pop("MEMORY_MB", flavor.ram_mib),
        disk_gib=asked.pop("DISK_GB", disk_gib),
        resources={name: amount for name, amount in asked.items() if amount},
    )


def pinned_vcpus(flavor: Flavor, image_properties: Mapping[str, str] = NO_PROPERTIES) -> int:
    """How many vCPUs have a CPU of their own: the CPU policy of the flavor, else of the image, dedicated or mixed."""
    policy = flavor.extra_specs.get("hw:cpu_policy") or image_properties.get("hw_cpu_policy")
    if policy == "mixed":
        mask = image_properties.get("hw_cpu_realtime_mask", "")
        return len(masked_vcpus(flavor.extra_specs, flavor.vcpus, mask))
    return flavor.vcpus if policy == "dedicated" else 0


def _feature_classes(extra_specs: dict[str, str], image_properties: Mapping[str, str]) -> list[str]:
    """The classes of which a feature takes one; named more than once, more than one."""
    labels = [label.strip() for label in extra_specs.get("hw:pmem", "").split(",")]
    classes = ["CUSTOM_PMEM_NAMESPACE_" + re.sub(r"[^A-Z0-9]", "_", label.upper()) for label in labels if label]
    asked = (extra_specs.get("hw:mem_encryption", ""), image_properties.get("hw_mem_encryption", ""))
    if any(map(is_true, asked)):
        classes.append("MEM_ENCRYPTION_CONTEXT")
    return classes
