"""Hosts: the machines that run servers, what they have and what is taken."""

from __future__ import annotations

from nova_fast.model.base import Record, Value


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
