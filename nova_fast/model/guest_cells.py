"""The NUMA cells that a server wants, from its flavor's extra specs and its image's properties.

Any of these asks for cells: a number of them, CPUs of its own (``hw:cpu_policy`` dedicated or mixed), a page size,
persistent memory. What contradicts itself is refused with BadRequest, in the sentences with which Nova's API answers a
POST (``nova.virt.hardware``: numa_get_constraints, get_mem_encryption_constraint).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from nova_fast.model.errors import BadRequest
from nova_fast.model.flavors import masked_vcpus, parse_cpus
from nova_fast.model.words import is_true

SMALL, LARGE, ANY = -1, -2, -3  # page sizes that a host chooses
SHARED, DEDICATED, MIXED = "shared", "dedicated", "mixed"
PREFER, ISOLATE, REQUIRE = "prefer", "isolate", "require"

_CPU_POLICIES = (DEDICATED, SHARED, MIXED)
_THREAD_POLICIES = (PREFER, ISOLATE, REQUIRE)
_EMULATOR_POLICIES = ("share", ISOLATE)
_NODES_MAX = 128
_SIZES = {"small": SMALL, "large": LARGE, "any": ANY}
_SIZE = re.compile(r"(\d*\.?\d+)([KMGT]?)i?(b|bit|B)")
_HYPERTHREADING = "HW_CPU_HYPERTHREADING"
_NUMBERED = r"([1-9][0-9]*)?:"
_RESOURCES = {name: re.compile(f"resources{_NUMBERED}{name}") for name in ("VCPU", "PCPU")}
_THREADS = re.compile(f"trait{_NUMBERED}{_HYPERTHREADING}")

Part = TypeVar("Part")


class Asked(NamedTuple):
    """What a server is to be made of, as far as its cells follow from it."""

    extra_specs: Mapping[str, str]
    image_properties: Mapping[str, str]
    vcpus: int
    ram_mib: int


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


def wanted_cells(asked: Asked) -> Wanted | None:
    """The cells that are asked for; None when it does not matter. Raises BadRequest for what contradicts itself."""
    specs = asked.extra_specs
    policy, threads = cpu_policy(asked), _thread_policy(asked)
    realtime, masked = realtime_vcpus(asked), _masked_vcpus(asked)
    emulator = _one_of(specs.get("hw:emulator_threads_policy", ""), _EMULATOR_POLICIES, "CPU emulator threads option")
    policy = _counted_policy(asked, policy, emulator)
    threads = _traited_threads(asked, threads)
    _check_policy(policy, threads, emulator, realtime, masked)
    nodes, size = _nodes(asked), _page_size(asked)
    if not (nodes or size or policy in (DEDICATED, MIXED) or specs.get("hw:pmem", "").strip(", ")):
        return None
    dedicated = frozenset(range(asked.vcpus)) if policy == DEDICATED else masked or realtime
    dedicated = dedicated if policy in (DEDICATED, MIXED) else frozenset()
    return Wanted(_cells(asked, nodes or 1, dedicated), size, policy, threads, emulator == ISOLATE)


def cpu_policy(asked: Asked) -> str:
    """Whether vCPUs have CPUs of their own; "" when nobody says."""
    flavor, image = asked.extra_specs.get("hw:cpu_policy", ""), asked.image_properties.get("hw_cpu_policy", "")
    _one_of(flavor, _CPU_POLICIES, "CPU policy", "flavor extra specs")
    _one_of(image, _CPU_POLICIES, "CPU policy", "image properties")
    if (flavor == MIXED and image == DEDICATED) or (flavor == SHARED and image in (DEDICATED, MIXED)):
        raise _refused(
            "Image property 'hw_cpu_policy' is not permitted to override CPU pinning policy set against the flavor"
        )
    return flavor or image


def feature(asked: Asked, name: str) -> str:
    """What the flavor says of a feature, else the image; "" = nothing."""
    return asked.extra_specs.get(f"hw:{name}") or asked.image_properties.get(f"hw_{name}", "")


def check_encryption(asked: Asked, flavor: str, image: str) -> None:
    """Raises BadRequest where encrypted memory is asked for and cannot be given; the names are for the sentence."""
    said, set_to = asked.extra_specs.get("hw:mem_encryption"), asked.image_properties.get("hw_mem_encryption")
    by_flavor = None if said is None else is_true(said)
    by_image = None if set_to is None else is_true(set_to)
    if not by_flavor and not by_image:
        return
    if by_flavor is not None and by_image is not None and by_flavor != by_image:
        raise _refused(
            f"Flavor {flavor} has hw:mem_encryption extra spec explicitly set to {said}, conflicting with image "
            f"{image} which has hw_mem_encryption property explicitly set to {by_image}"
        )
    if asked.image_properties.get("hw_firmware_type") != "uefi":
        requesters = [f"hw:mem_encryption extra spec in {flavor} flavor"] if by_flavor else []
        requesters += [f"hw_mem_encryption property of image {image}"] if by_image else []
        raise _refused(
            f"Memory encryption is requested by {' and '.join(requesters)} but the image metadata doesn't have the "
            "'hw_firmware_type' property set to 'uefi'"
        )


# ---------------------------------------------------------------------- policies
def _one_of(text: str, known: tuple[str, ...], what: str, source: str = "") -> str:
    if text and text not in known:
        whence = f" from '{source}'" if source else ""
        raise _refused(f"{what} requested{whence} is invalid, given: '{text}', available: '{known}'.")
    return text


def _thread_policy(asked: Asked) -> str:
    flavor = asked.extra_specs.get("hw:cpu_thread_policy", "")
    image = asked.image_properties.get("hw_cpu_thread_policy", "")
    _one_of(flavor, _THREAD_POLICIES, "CPU thread policy", "flavor extra specs")
    _one_of(image, _THREAD_POLICIES, "CPU thread policy", "image properties")
    if flavor not in ("", PREFER) and image not in ("", flavor):
        raise _refused(
            "Image property 'hw_cpu_thread_policy' is not permitted to override CPU thread pinning policy set against "
            "the flavor"
        )
    return flavor or image


def _counted_policy(asked: Asked, policy: str, emulator: str) -> str:
    """The CPU policy when vCPUs are asked for by their resource classes instead."""
    vcpus, pcpus = (_amount_of(asked, name) for name in ("VCPU", "PCPU"))
    if policy and (vcpus or pcpus):
        raise _refused(
            "It is not possible to use the 'resources:VCPU' or 'resources:PCPU' extra specs in combination with the "
            "'hw:cpu_policy' extra spec or 'hw_cpu_policy' image metadata property; use one or the other"
        )
    if vcpus and pcpus:
        raise _refused(
            "It is not possible to specify both 'resources:VCPU' and 'resources:PCPU' extra specs; use one or the other"
        )
    if pcpus and emulator == ISOLATE and asked.vcpus + 1 != pcpus:
        raise _refused(
            "You have requested 'hw:emulator_threads_policy=isolate' but have not requested sufficient PCPUs to handle "
            "this policy; you must allocate exactly flavor.vcpus + 1 PCPUs."
        )
    if pcpus and emulator != ISOLATE and asked.vcpus != pcpus:
        raise _refused(
            "There is a mismatch between the number of PCPUs requested via 'resourcesNN:PCPU' and the flavor); you "
            "must allocate exactly flavor.vcpus PCPUs"
        )
    return DEDICATED if pcpus else SHARED if vcpus else policy


def _amount_of(asked: Asked, name: str) -> int:
    pattern = _RESOURCES[name]
    return sum(
        int(text) for spec, text in asked.extra_specs.items() if pattern.fullmatch(spec) and text.strip().isdecimal()
    )


def _traited_threads(asked: Asked, threads: str) -> str:
    """The thread policy when the trait of threads is asked for instead."""
    trait = next((text for spec, text in asked.extra_specs.items() if _THREADS.fullmatch(spec)), "")
    if not trait and asked.image_properties.get(f"trait:{_HYPERTHREADING}") == "required":
        trait = "required"
    if threads and trait:
        raise _refused(
            "It is not possible to use the 'trait:HW_CPU_HYPERTHREADING' extra spec in combination with the "
            "'hw:cpu_thread_policy' extra spec or 'hw_cpu_thread_policy' image metadata property; use one or the other"
        )
    return {"forbidden": ISOLATE, "required": REQUIRE}.get(trait, threads)


def _check_policy(policy: str, threads: str, emulator: str, realtime: frozenset[int], masked: frozenset[int]) -> None:
    if policy == MIXED and bool(realtime) == bool(masked):
        raise _refused(
            "Dedicated CPU set can be specified from either 'hw:cpu_dedicated_mask' or 'hw:cpu_realtime_mask' when "
            "using 'mixed' CPU policy. 'hw:cpu_dedicated_mask' and 'hw:cpu_realtime_mask' can not be specified at the "
            "same time, or be specified with none of them."
        )
    if policy in ("", SHARED):
        if threads:
            raise _refused("Cannot set cpu thread pinning policy in a non dedicated cpu pinning policy")
        if emulator == ISOLATE:
            raise _refused("An isolated CPU emulator threads option requires a dedicated CPU policy option.")
    if policy != MIXED and masked:
        raise _refused("Cannot specify 'hw:cpu_dedicated_mask' without the 'mixed' policy.")
    if policy in ("", SHARED) and realtime:
        raise _refused("Cannot set realtime policy in a non dedicated cpu pinning policy")


# ---------------------------------------------------------------------- masks
def _masked_vcpus(asked: Asked) -> frozenset[int]:
    """The vCPUs of ``hw:cpu_dedicated_mask``; none without it."""
    mask = asked.extra_specs.get("hw:cpu_dedicated_mask", "")
    if not mask:
        return frozenset()
    every = frozenset(range(asked.vcpus))
    chosen = _read_cpus(f"0-{asked.vcpus - 1},{mask}" if mask.strip().startswith("^") else mask)
    if not chosen or chosen >= every:
        raise _refused(
            "Mixed instance must have at least 1 pinned vCPU and 1 unpinned vCPU. See 'hw:cpu_dedicated_mask'."
        )
    if not chosen <= every:
        raise _refused(
            'Mixed instance dedicated vCPU(s) mask is not a subset of vCPUs in the flavor. See "hw:cpu_dedicated_mask"'
        )
    return chosen


def realtime_vcpus(asked: Asked) -> frozenset[int]:
    """The vCPUs of ``hw:cpu_realtime_mask``, of the image before the flavor; all without a mask, none if not wanted."""
    if not is_true(asked.extra_specs.get("hw:cpu_realtime", "")):
        return frozenset()
    every, image_mask = frozenset(range(asked.vcpus)), asked.image_properties.get("hw_cpu_realtime_mask", "")
    mask = image_mask or asked.extra_specs.get("hw:cpu_realtime_mask", "")
    if mask:
        _read_cpus(mask)
    chosen = masked_vcpus({"hw:cpu_dedicated_mask": mask}, asked.vcpus) if mask else every
    if not chosen or (chosen == every and not asked.extra_specs.get("hw:emulator_threads_policy")):
        raise _refused(
            "Use of realtime CPUs requires either one or more non-realtime CPU(s) or offloaded emulator threads."
        )
    return chosen


# ---------------------------------------------------------------------- cells
def _cells(asked: Asked, nodes: int, dedicated: frozenset[int]) -> tuple[GuestCell, ...]:
    cpus = _listed(asked, "numa_cpus", _read_cpus)
    memory = _listed(asked, "numa_mem", _read_amount)
    if not cpus and not memory:
        if asked.vcpus % nodes or asked.ram_mib % nodes:
            raise _refused(
                "Instance CPUs and/or memory cannot be evenly distributed across instance NUMA nodes. Explicit "
                "assignment of CPUs and memory to nodes is required"
            )
        each = asked.vcpus // nodes
        cpus = [frozenset(range(node * each, node * each + each)) for node in range(nodes)]
        memory = [asked.ram_mib // nodes] * nodes
    elif len(cpus) != nodes or len(memory) != nodes:
        raise _refused("CPU and memory allocation must be provided for all NUMA nodes")
    else:
        _check_cells(asked, cpus, memory)
    return tuple([GuestCell(cell - dedicated, cell & dedicated, ram) for cell, ram in zip(cpus, memory, strict=True)])


def _check_cells(asked: Asked, cpus: list[frozenset[int]], memory: list[int]) -> None:
    left = set(range(asked.vcpus))
    for cell in cpus:
        for cpu in sorted(cell):
            if cpu >= asked.vcpus:
                raise _refused(f"CPU number {cpu} is larger than max {asked.vcpus - 1}")
            if cpu not in left:
                raise _refused(f"CPU number {cpu} is assigned to two nodes")
            left.remove(cpu)
    if left:
        raise _refused(f"CPU number {left} is not assigned to any node")
    if sum(memory) != asked.ram_mib:
        raise _refused(f"{sum(memory)} MB of memory assigned, but expected {asked.ram_mib} MB")


def _nodes(asked: Asked) -> int:
    flavor, image = asked.extra_specs.get("hw:numa_nodes", ""), asked.image_properties.get("hw_numa_nodes", "")
    if flavor and image:
        raise _overrides("hw_numa_nodes")
    text = flavor or image
    if text and (not text.isdecimal() or int(text) < 1):
        raise _refused(f"The property 'numa_nodes' cannot be '{text}'. It must be a number greater than 0")
    return int(text or 0)


def _listed(asked: Asked, name: str, read: Callable[[str], Part]) -> list[Part]:
    """The values of ``hw:NAME.0``, ``hw:NAME.1``, … of the flavor, or of the image."""
    flavor, image = (
        _numbered(source, f"{prefix}{name}", read)
        for source, prefix in ((asked.extra_specs, "hw:"), (asked.image_properties, "hw_"))
    )
    if flavor and image:
        raise _overrides(f"hw_{name}")
    return flavor or image


def _numbered(source: Mapping[str, str], name: str, read: Callable[[str], Part]) -> list[Part]:
    found = []
    for number in range(_NODES_MAX):
        text = source.get(f"{name}.{number}")
        if text is None:
            break
        found.append(read(text))
    return found


def _page_size(asked: Asked) -> int:
    flavor = asked.extra_specs.get("hw:mem_page_size", "")
    image = asked.image_properties.get("hw_mem_page_size", "")
    if image and not flavor:
        raise _refused(f"Page size {image} forbidden against '<empty>'")
    size = _read_size(flavor) if flavor else 0
    if not image:
        return size
    if size not in (ANY, LARGE):
        raise _refused(f"Page size {image} forbidden against '{flavor}'")
    return _read_size(image)


# ---------------------------------------------------------------------- texts
def _read_size(text: str) -> int:
    """KiB; a number alone is KiB."""
    if text in _SIZES:
        return _SIZES[text]
    if text.isdecimal():
        return int(text)
    found = _SIZE.fullmatch(text)
    if found is None:
        raise _refused(f"Invalid memory page size '{text}'")
    amount = float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")
    return int(amount / (1 if found[3] == "B" else 8)) // 1024


def _read_cpus(text: str) -> frozenset[int]:
    try:
        return parse_cpus(text)
    except ValueError:
        raise _refused(f"Invalid inclusion expression {text!r}") from None


def _read_amount(text: str) -> int:
    if not text.strip().isdecimal():
        raise _refused(f"Invalid memory of a NUMA node {text!r}")
    return int(text)


def _overrides(name: str) -> BadRequest:
    return _refused(f"Image property '{name}' is not permitted to override NUMA configuration set against the flavor")


def _refused(sentence: str) -> BadRequest:
    return BadRequest(sentence, code="guest_topology", field="flavorRef")
