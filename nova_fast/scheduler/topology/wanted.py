"""The NUMA cells that a server wants, from its flavor's extra specs and its image's properties.

Any of these asks for cells: a number of them, CPUs of its own (``hw:cpu_policy`` dedicated or mixed), a page size,
persistent memory. What contradicts itself is refused with BadRequest, as the API of Nova does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from nova_fast.model.errors import BadRequest
from nova_fast.model.flavors import masked_vcpus, parse_cpus
from nova_fast.model.tasks import PlacementRequest

SMALL, LARGE, ANY = -1, -2, -3  # page sizes that a host chooses
SHARED, DEDICATED, MIXED = "shared", "dedicated", "mixed"
PREFER, ISOLATE, REQUIRE = "prefer", "isolate", "require"

_NODES_MAX = 128
_SIZES = {"small": SMALL, "large": LARGE, "any": ANY}
_SIZE = re.compile(r"(\d*\.?\d+)([KMGT]?)i?(b|bit|B)")
_HYPERTHREADING = "trait:HW_CPU_HYPERTHREADING"

Part = TypeVar("Part")


class GuestCell(NamedTuple):
    """One NUMA cell of a guest: vCPUs that share, vCPUs with a CPU of their own, memory."""

    shared: frozenset[int]
    dedicated: frozenset[int]
    ram_mib: int


class Wanted(NamedTuple):
    """All cells of a guest, and what holds for each of them."""

    cells: tuple[GuestCell, ...]
    page_size_kib: int  # SMALL, LARGE, ANY; 0 = it does not matter
    policy: str  # SHARED, DEDICATED, MIXED or ""
    threads: str  # PREFER, ISOLATE, REQUIRE or ""
    isolates_emulator: bool  # one more CPU of its own for the emulator's threads

    @property
    def is_pinned(self) -> bool:
        return self.policy in (DEDICATED, MIXED)


def wanted_cells(request: PlacementRequest) -> Wanted | None:
    """The cells a request asks for; None when it does not care."""
    specs, (vcpus, _ram_mib) = request.extra_specs, _own_amounts(request)
    policy = cpu_policy(request)
    nodes = _number(feature(request, "numa_nodes"), "hw:numa_nodes")
    size = _page_size(request)
    if not (nodes or size or policy in (DEDICATED, MIXED) or specs.get("hw:pmem", "").strip(", ")):
        return None
    dedicated = _dedicated_vcpus(request, policy, vcpus)
    emulator = specs.get("hw:emulator_threads_policy") == ISOLATE
    return Wanted(_cells(request, nodes or 1, dedicated), size, policy, _thread_policy(request), emulator)


def cpu_policy(request: PlacementRequest) -> str:
    """Whether vCPUs have CPUs of their own; "" when nobody says."""
    flavor, image = request.extra_specs.get("hw:cpu_policy", ""), request.image_properties.get("hw_cpu_policy", "")
    known = ("", SHARED, DEDICATED, MIXED)
    forbidden = (flavor == MIXED and image == DEDICATED) or (flavor == SHARED and image in (DEDICATED, MIXED))
    if flavor not in known or image not in known or forbidden:
        raise _refused("hw:cpu_policy", f"flavor {flavor!r} and image {image!r}")
    if "resources:PCPU" in request.extra_specs:
        return DEDICATED
    return flavor or image


def feature(request: PlacementRequest, name: str) -> str:
    """What the flavor says of a feature, else the image; "" = nothing."""
    return request.extra_specs.get(f"hw:{name}") or request.image_properties.get(f"hw_{name}", "")


def _cells(request: PlacementRequest, nodes: int, dedicated: frozenset[int]) -> tuple[GuestCell, ...]:
    cpus = _listed(request, "numa_cpus", _read_cpus)
    memory = _listed(request, "numa_mem", lambda text: _number(text, "hw:numa_mem"))
    vcpus, ram_mib = _own_amounts(request)
    if not cpus and not memory:
        if vcpus % nodes or ram_mib % nodes:
            raise _refused("hw:numa_nodes", f"{nodes} cells do not divide {vcpus} vCPUs and {ram_mib} MiB")
        each = vcpus // nodes
        cpus = [frozenset(range(node * each, node * each + each)) for node in range(nodes)]
        memory = [ram_mib // nodes] * nodes
    elif len(cpus) != nodes or len(memory) != nodes:
        raise _refused("hw:numa_cpus", f"{nodes} cells want as many lists of vCPUs and amounts of memory")
    elif sorted(cpu for cell in cpus for cpu in cell) != list(range(vcpus)) or sum(memory) != ram_mib:
        raise _refused("hw:numa_cpus", "each vCPU and each MiB must be in one cell")
    return tuple([GuestCell(cell - dedicated, cell & dedicated, ram) for cell, ram in zip(cpus, memory, strict=True)])


def _own_amounts(request: PlacementRequest) -> tuple[int, int]:
    """vCPUs and RAM of the guest, which are not what is claimed when its flavor says otherwise."""
    return request.vcpus or request.claim.vcpus, request.ram_mib or request.claim.ram_mib


def _dedicated_vcpus(request: PlacementRequest, policy: str, vcpus: int) -> frozenset[int]:
    """The vCPUs with a CPU of their own: all, or those of a mask."""
    every = frozenset(range(vcpus))
    if policy != MIXED:
        return every if policy == DEDICATED else frozenset()
    chosen = masked_vcpus(request.extra_specs, vcpus, request.image_properties.get("hw_cpu_realtime_mask", ""))
    if not chosen:
        raise _refused("hw:cpu_dedicated_mask", f"it names no vCPUs of {vcpus}")
    return chosen


def _thread_policy(request: PlacementRequest) -> str:
    flavor = request.extra_specs.get("hw:cpu_thread_policy", "")
    image = request.image_properties.get("hw_cpu_thread_policy", "")
    if flavor not in ("", PREFER) and image not in ("", flavor):
        raise _refused("hw:cpu_thread_policy", f"flavor {flavor!r} and image {image!r}")
    policy = flavor or image
    trait = request.extra_specs.get(_HYPERTHREADING) or request.image_properties.get(_HYPERTHREADING, "")
    return {"forbidden": ISOLATE, "required": REQUIRE}.get(trait, policy)


def _page_size(request: PlacementRequest) -> int:
    flavor = request.extra_specs.get("hw:mem_page_size", "")
    image = request.image_properties.get("hw_mem_page_size", "")
    if not flavor and image:
        raise _refused("hw_mem_page_size", "only with a flavor that allows it")
    size = _read_size(flavor) if flavor else 0
    if not image:
        return size
    if size not in (ANY, LARGE):
        raise _refused("hw_mem_page_size", f"{image!r} against the flavor's {flavor!r}")
    return _read_size(image)


def _read_size(text: str) -> int:
    """KiB; a number alone is KiB."""
    if text in _SIZES:
        return _SIZES[text]
    if text.isdecimal():
        return int(text)
    found = _SIZE.fullmatch(text)
    if found is None:
        raise _refused("hw:mem_page_size", repr(text))
    amount = float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")
    return int(amount / (1 if found[3] == "B" else 8)) // 1024


def _read_cpus(text: str) -> frozenset[int]:
    try:
        return parse_cpus(text)
    except ValueError:
        raise _refused("hw:numa_cpus", repr(text)) from None


def _listed(request: PlacementRequest, name: str, read: Callable[[str], Part]) -> list[Part]:
    """The values of ``hw:NAME.0``, ``hw:NAME.1``, … of the flavor, else of the image."""
    for source, prefix in ((request.extra_specs, "hw:"), (request.image_properties, "hw_")):
        found = []
        for number in range(_NODES_MAX):
            text = source.get(f"{prefix}{name}.{number}")
            if text is None:
                break
            found.append(read(text))
        if found:
            return found
    return []


def _number(text: str, field: str) -> int:
    if text and not text.isdecimal():
        raise _refused(field, repr(text))
    return int(text or 0)


def _refused(field: str, why: str) -> BadRequest:
    return BadRequest(f"The guest's topology cannot be made: {field}: {why}.", field=field)
