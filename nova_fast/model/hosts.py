"""Hosts: the machines that run servers, what they have and what is taken."""

from __future__ import annotations

import math

from nova_fast.model.base import Record, Value
from nova_fast.model.flavors import Flavor

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


class Host(Record, frozen=True):
    """A compute host: identity, resources, and what its operator decided about it."""

    name: str
    uuid: str  # names the hypervisor and the resource provider
    service_uuid: str
    number: int  # the id of the service and hypervisor before microversion 2.53
    zone: str
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


class HostUsage(Record, frozen=True):
    """What the servers of a host take; changed in the transactions that claim and return."""

    host: str
    vcpus: int = 0
    ram_mib: int = 0
    disk_gib: int = 0
    servers: int = 0


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


def capacity(host: Host) -> Claim:
    """What a host can give in all: (total - reserved) x allocation ratio, as placement counts it."""
    resources = host.resources
    return Claim(
        vcpus=math.floor((resources.vcpus - host.reserved_vcpus) * host.cpu_ratio),
        ram_mib=math.floor((resources.ram_mib - host.reserved_ram_mib) * host.ram_ratio),
        disk_gib=math.floor((resources.disk_gib - host.reserved_disk_gib) * host.disk_ratio),
    )


class HostNetwork(Record, frozen=True):
    """How far the network daemon of a host is: numbers of changes of what it should do."""

    host: str
    wanted_generation: int  # the last change of what this host's networks should be
    applied_generation: int = 0  # the last change that the host has carried out


def claim_of(flavor: Flavor) -> Claim:
    """What a server of this flavor takes of a host; the swap disk counts in whole GiB."""
    return Claim(
        vcpus=flavor.vcpus,
        ram_mib=flavor.ram_mib,
        disk_gib=flavor.disk_gib + flavor.ephemeral_gib + math.ceil(flavor.swap_mib / _MIB_PER_GIB),
    )
