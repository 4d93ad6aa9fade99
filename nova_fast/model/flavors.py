"""Flavors: what a server may be given."""

from __future__ import annotations

from nova_fast.model.base import Record
from nova_fast.model.words import TRUE_WORDS


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


def masked_vcpus(extra_specs: dict[str, str], vcpus: int, image_mask: str = "") -> frozenset[int]:
    """The vCPUs of a mixed guest that have a CPU of their own; none when the mask cannot be read or names others.

    ``hw:cpu_dedicated_mask`` names them, else the mask of realtime vCPUs, of the image before the flavor.
    """
    mask = extra_specs.get("hw:cpu_dedicated_mask", "")
    if not mask and extra_specs.get("hw:cpu_realtime", "").lower() in TRUE_WORDS:
        mask = image_mask or extra_specs.get("hw:cpu_realtime_mask", "")
    try:
        chosen = parse_cpus(f"0-{vcpus - 1},{mask}" if mask.strip().startswith("^") else mask)
    except ValueError:
        return frozenset()
    return chosen if chosen <= frozenset(range(vcpus)) else frozenset()


def parse_cpus(text: str) -> frozenset[int]:
    """Numbers of CPUs from a list like ``1-4,^3,6``. Raises ValueError when it is none."""
    taken: set[int] = set()
    rejected: set[int] = set()
    for rule in (part.strip() for part in text.split(",")):
        if rule:
            first, dash, last = rule.removeprefix("^").partition("-")
            (rejected if rule.startswith("^") else taken).update(range(int(first), int(last if dash else first) + 1))
    return frozenset(taken - rejected)
