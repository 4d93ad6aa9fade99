"""Flavors: what a server may be given."""

from __future__ import annotations

from nova_fast.model.base import Record


class Flavor(Record, frozen=True):
    """A flavor as an admin made it. A server keeps a copy, so deleting or changing one touches no server."""

    id: str  # any string of at most 255 characters
    name: str  # unique
    vcpus: int
    ram_mib: int
    disk_gib: int
    ephemeral_gib: int = 0
    swap_mib: int = 0
    rxtx_factor: float = 1.0
    is_public: bool = True
    description: str | None = None
    extra_specs: dict[str, str] = {}
    access: tuple[str, ...] = ()  # projects that may use it when it is not public
    created_at_us: int = 0


#: The classical set that clients and documents use; made once, when a cloud is made.
CLASSICAL_FLAVORS = (
    Flavor(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1),
    Flavor(id="2", name="m1.small", vcpus=1, ram_mib=2048, disk_gib=20),
    Flavor(id="3", name="m1.medium", vcpus=2, ram_mib=4096, disk_gib=40),
    Flavor(id="4", name="m1.large", vcpus=4, ram_mib=8192, disk_gib=80),
    Flavor(id="5", name="m1.xlarge", vcpus=8, ram_mib=16384, disk_gib=160),
    Flavor(id="42", name="m1.nano", vcpus=1, ram_mib=128, disk_gib=1),
    Flavor(id="84", name="m1.micro", vcpus=1, ram_mib=256, disk_gib=1),
)
