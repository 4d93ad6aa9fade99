"""The cloud as the Placement API sees it, computed from the one truth: hosts, what is taken of them, and their servers.

A host is a resource provider, its UUID the provider's; a server that claims a host is a consumer. Nothing is stored for
this view, so it cannot differ from what the scheduler decides on.
"""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.model.base import Value
from nova_fast.model.errors import NotFound
from nova_fast.model.hosts import Claim, Host, claim_of
from nova_fast.model.servers import Server
from nova_fast.queries import hosts
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

#: Resource classes a host provides, in the order of the API's answers.
VCPU, MEMORY_MB, DISK_GB = "VCPU", "MEMORY_MB", "DISK_GB"
#: The classes of the API that have a meaning here; amounts of any other are never there.
RESOURCE_CLASSES = (VCPU, MEMORY_MB, DISK_GB)
_ARCHITECTURE_TRAITS = {"x86_64": "HW_ARCH_X86_64", "aarch64": "HW_ARCH_AARCH64", "ppc64le": "HW_ARCH_PPC64LE"}
#: Every trait a provider may have.
TRAITS = (
    "COMPUTE_IMAGE_TYPE_ISO",
    "COMPUTE_IMAGE_TYPE_QCOW2",
    "COMPUTE_IMAGE_TYPE_RAW",
    "COMPUTE_NODE",
    "COMPUTE_STATUS_DISABLED",
    *sorted(_ARCHITECTURE_TRAITS.values()),
)


class Inventory(Value, frozen=True):
    """What a provider has of one resource class."""

    total: int
    reserved: int
    allocation_ratio: float

    @property
    def capacity(self) -> int:
        return int((self.total - self.reserved) * self.allocation_ratio)


class Provider(Value, frozen=True):
    """A host with its inventory and usage by resource class."""

    host: Host
    generation: int
    inventory: dict[str, Inventory]
    used: dict[str, int]
    traits: tuple[str, ...]

    def has_room(self, amounts: dict[str, int]) -> bool:
        """Whether a single consumer could take these amounts."""
        return all(
            name in self.inventory
            and amount <= self.inventory[name].total
            and self.used[name] + amount <= self.inventory[name].capacity
            for name, amount in amounts.items()
        )


class Wanted(Value, frozen=True):
    """Which providers are asked for."""

    name: str | None = None
    uuid: str | None = None
    in_tree: str | None = None
    resources: dict[str, int] = {}
    required: tuple[frozenset[str], ...] = ()  # of each set one trait must be there
    forbidden: frozenset[str] = frozenset()


def amounts_of(claim: Claim) -> dict[str, int]:
    """A claim by resource class; what is zero is no allocation."""
    amounts = {VCPU: claim.vcpus, MEMORY_MB: claim.ram_mib, DISK_GB: claim.disk_gib}
    return {name: amount for name, amount in amounts.items() if amount}


def provider(reader: Reader, host: Host) -> Provider:
    """A host as a provider. The generation grows whenever anything in the cloud changes, so never too little."""
    resources, used = host.resources, hosts.usage(reader, host.name)
    inventory = {
        VCPU: Inventory(total=resources.vcpus, reserved=host.reserved_vcpus, allocation_ratio=host.cpu_ratio),
        MEMORY_MB: Inventory(
            total=resources.ram_mib,
            reserved=min(host.reserved_ram_mib, resources.ram_mib),
            allocation_ratio=host.ram_ratio,
        ),
        DISK_GB: Inventory(
            total=resources.disk_gib,
            reserved=min(host.reserved_disk_gib, resources.disk_gib),
            allocation_ratio=host.disk_ratio,
        ),
    }
    return Provider(
        host=host,
        generation=reader.generation(),
        inventory={name: one for name, one in inventory.items() if one.total > 0},
        used={VCPU: used.vcpus, MEMORY_MB: used.ram_mib, DISK_GB: used.disk_gib},
        traits=_traits(host),
    )


def need(reader: Reader, uuid: str) -> Provider:
    """A provider by its UUID. Raises NotFound."""
    host = hosts.by_uuid(reader, uuid)
    if host is None:
        raise NotFound(f"No resource provider with uuid {uuid} found", code="resource_provider_not_found")
    return provider(reader, host)


def providers(reader: Reader, wanted: Wanted) -> Iterator[Provider]:
    """The providers that meet every condition, in the order of their names."""
    for host in reader.scan(tables.HOSTS):
        if wanted.name not in (None, host.name) or wanted.uuid not in (None, host.uuid):
            continue
        if wanted.in_tree not in (None, host.uuid):
            continue
        found = provider(reader, host)
        traits = frozenset(found.traits)
        if traits & wanted.forbidden or not all(traits & any_of for any_of in wanted.required):
            continue
        if found.has_room(wanted.resources):
            yield found


def consumers_of(reader: Reader, host: str) -> list[Server]:
    """The servers that take something of a host."""
    return hosts.servers_on(reader, host)


def consumer(reader: Reader, server_id: str) -> Server | None:
    """The server that is this consumer, if it takes something."""
    server = reader.get(tables.SERVERS, server_id)
    return server if server is not None and server.host else None


def usages_of_project(reader: Reader, project_id: str, user_id: str | None = None) -> tuple[int, dict[str, int]]:
    """How many consumers a project (or one user in it) has, and what they take together."""
    count, sums = 0, dict.fromkeys(RESOURCE_CLASSES, 0)
    for server in reader.scan_index(tables.SERVERS_BY_PROJECT, project_id):
        if not server.host or user_id not in (None, server.user_id):
            continue
        count += 1
        for name, amount in amounts_of(claim_of(server.flavor)).items():
            sums[name] += amount
    return count, {name: amount for name, amount in sums.items() if amount}


def _traits(host: Host) -> tuple[str, ...]:
    found = {"COMPUTE_NODE", "COMPUTE_IMAGE_TYPE_ISO", "COMPUTE_IMAGE_TYPE_QCOW2", "COMPUTE_IMAGE_TYPE_RAW"}
    architecture = _ARCHITECTURE_TRAITS.get(host.resources.architecture)
    if architecture is not None:
        found.add(architecture)
    if not host.enabled or host.forced_down:
        found.add("COMPUTE_STATUS_DISABLED")
    return tuple(sorted(found))
