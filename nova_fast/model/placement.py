"""What placement knows beside hosts and servers: other providers, other consumers, and names that operators made.

A compute host is a provider and a server is a consumer, and both are read from their own records; nothing here repeats
them. What takes of a provider is found in the consumers, so no sum is kept that could disagree with them.
"""

from __future__ import annotations

import msgspec

from nova_fast.model.base import Record, Value
from nova_fast.model.hosts import Claim, Host, Inventory, stock_of

VCPU, MEMORY_MB, DISK_GB = "VCPU", "MEMORY_MB", "DISK_GB"
#: What every compute host has: class → the fields of HostResources, of Host and of Shares that say how much.
HOST_CLASSES = {
    VCPU: ("vcpus", "reserved_vcpus", "cpu_ratio"),
    MEMORY_MB: ("ram_mib", "reserved_ram_mib", "ram_ratio"),
    DISK_GB: ("disk_gib", "reserved_disk_gib", "disk_ratio"),
}
AMOUNT_MAX = 0x7FFFFFFF
CAPACITY_MAX = 2**63 - 1
#: The prefix of names that operators may make.
CUSTOM = "CUSTOM_"
#: The type of consumers that are servers, and of those whose type nobody said.
SERVER_TYPE, UNKNOWN_TYPE = "INSTANCE", "unknown"
#: The generation of every server as a consumer: nothing that is written here changes one.
SERVER_GENERATION = 1
#: A provider with this trait gives to every tree with which it shares an aggregate.
SHARING_TRAIT = "MISC_SHARES_VIA_AGGREGATE"


class ResourceProvider(Record, frozen=True):
    """Something that gives resources and is no compute host: a shared pool, a device or agent below a host."""

    uuid: str
    name: str  # unique
    created_at_us: int
    updated_at_us: int
    generation: int = 0  # grows with every change of what it has and of what is taken
    parent: str = ""  # UUID of a provider or host
    inventories: tuple[Inventory, ...] = ()
    traits: tuple[str, ...] = ()
    aggregates: tuple[str, ...] = ()  # UUIDs, of the Compute API's aggregates or of none


class ProviderShare(Value, frozen=True):
    """What a consumer takes of one provider."""

    provider: str  # UUID
    resources: dict[str, int]


class Consumer(Record, frozen=True):
    """Something that takes resources and is no server of ours."""

    uuid: str
    generation: int
    project_id: str
    user_id: str
    shares: tuple[ProviderShare, ...]
    created_at_us: int
    updated_at_us: int
    type: str = UNKNOWN_TYPE


class Trait(Record, frozen=True):
    """A trait that an operator made."""

    name: str
    created_at_us: int


class ResourceClass(Record, frozen=True):
    """A resource class that an operator made."""

    name: str
    created_at_us: int


class Provider(Value, frozen=True):
    """A provider of either kind, as it is at one moment."""

    uuid: str
    name: str
    generation: int
    root: str
    inventories: dict[str, Inventory]  # by resource class
    used: dict[str, int]
    traits: tuple[str, ...]
    aggregates: tuple[str, ...]
    parent: str = ""
    host: str = ""  # the name of the compute host it is

    def fits(self, name: str, amount: int) -> bool:
        """Whether one consumer could take so much of a resource class."""
        own = self.inventories.get(name)
        return own is not None and allows(own, amount) and self.used.get(name, 0) + amount <= capacity_of(own)


def capacity_of(inventory: Inventory) -> int:
    """What can be given out in all; a ratio may be larger than any number that answers can carry."""
    return min(int((inventory.total - inventory.reserved) * inventory.allocation_ratio), CAPACITY_MAX)


def allows(inventory: Inventory, amount: int) -> bool:
    """Whether one consumer may take this amount at all, however much is left."""
    return inventory.min_unit <= amount <= inventory.max_unit and amount % inventory.step_size == 0


def inventories_of(host: Host) -> dict[str, Inventory]:
    """What a compute host has, by resource class. One server may take all of it, at most what is really there."""
    found = {}
    for name, (total_field, reserved_field, ratio_field) in HOST_CLASSES.items():
        total = getattr(host.resources, total_field)
        if total > 0:
            found[name] = Inventory(
                resource_class=name,
                total=total,
                reserved=min(getattr(host, reserved_field), total),
                max_unit=min(total, AMOUNT_MAX),
                allocation_ratio=getattr(host, ratio_field),
            )
    return found | {own.resource_class: own for own in stock_of(host)}


def amounts_of(claim: Claim) -> dict[str, int]:
    """A claim by resource class; what is zero is no allocation."""
    amounts = {VCPU: claim.vcpus, MEMORY_MB: claim.ram_mib, DISK_GB: claim.disk_gib, **claim.resources}
    return {name: amount for name, amount in amounts.items() if amount}


def claim_from(resources: dict[str, int]) -> Claim:
    """Amounts by resource class as a claim of a host."""
    others = {name: amount for name, amount in resources.items() if name not in HOST_CLASSES}
    return Claim(
        vcpus=resources.get(VCPU, 0),
        ram_mib=resources.get(MEMORY_MB, 0),
        disk_gib=resources.get(DISK_GB, 0),
        resources=others,
    )


def with_inventories(record: ResourceProvider, inventories: dict[str, Inventory]) -> ResourceProvider:
    """The provider with these inventories and no others."""
    return msgspec.structs.replace(record, inventories=tuple(inventories[name] for name in sorted(inventories)))
