"""What flavors and images ask of NUMA cells."""

from __future__ import annotations

from typing import Any

import pytest

from nova_fast.model.errors import BadRequest
from nova_fast.model.flavors import Flavor, parse_cpus
from nova_fast.model.guest_cells import ANY, LARGE, SMALL, Asked, GuestCell, Wanted, check_encryption
from nova_fast.model.hosts import Claim, claim_of
from nova_fast.scheduler.topology.wanted import wanted_cells
from tests.unit.scheduler.filters.asking import request


def wanted(specs: dict[str, str], properties: dict[str, str] | None = None, vcpus: int = 4) -> Wanted | None:
    claim = Claim(vcpus=vcpus, ram_mib=1024, disk_gib=1)
    return wanted_cells(request(claim=claim, extra_specs=specs, image_properties=properties or {}))


def cell(shared: Any, dedicated: Any, ram_mib: int) -> GuestCell:
    return GuestCell(frozenset(shared), frozenset(dedicated), ram_mib)


@pytest.mark.parametrize(
    ("specs", "properties", "cells"),
    [
        ({}, {}, None),
        ({"hw:cpu_policy": "shared"}, {}, None),
        ({"hw:numa_nodes": "1"}, {}, [cell(range(4), (), 1024)]),
        ({}, {"hw_numa_nodes": "2"}, [cell((0, 1), (), 512), cell((2, 3), (), 512)]),
        ({"hw:cpu_policy": "dedicated"}, {}, [cell((), range(4), 1024)]),
        ({}, {"hw_cpu_policy": "dedicated"}, [cell((), range(4), 1024)]),
        ({"resources:PCPU": "4"}, {}, [cell((), range(4), 1024)]),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0-1"}, {}, [cell((0, 1), (2, 3), 1024)]),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0,2", "hw:numa_nodes": "2"}, {},
         [cell((1,), (0,), 512), cell((3,), (2,), 512)]),
        ({"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0"}, {},
         [cell((0,), (1, 2, 3), 1024)]),
        ({"hw:mem_page_size": "large"}, {}, [cell(range(4), (), 1024)]),
        ({"hw:pmem": "4GB"}, {}, [cell(range(4), (), 1024)]),
        ({"hw:numa_nodes": "2", "hw:numa_cpus.0": "0", "hw:numa_cpus.1": "1-3", "hw:numa_mem.0": "24",
          "hw:numa_mem.1": "1000"}, {}, [cell((0,), (), 24), cell((1, 2, 3), (), 1000)]),
    ],
)  # fmt: skip
def test_cells_are_asked_for(specs: dict[str, str], properties: dict[str, str], cells: list[GuestCell] | None) -> None:
    found = wanted(specs, properties)
    assert (None if found is None else list(found.cells)) == cells


@pytest.mark.parametrize(
    ("flavor", "image", "size"),
    [
        ("small", "", SMALL),
        ("large", "", LARGE),
        ("any", "", ANY),
        ("2048", "", 2048),
        ("2MB", "", 2048),
        ("1GiB", "", 1048576),
        ("16384Kb", "", 2048),
        ("any", "2048", 2048),
        ("large", "1GB", 1048576),
    ],
)
def test_pages_have_a_size(flavor: str, image: str, size: int) -> None:
    found = wanted({"hw:mem_page_size": flavor}, {"hw_mem_page_size": image} if image else {})
    assert found is not None and found.page_size_kib == size


@pytest.mark.parametrize(
    ("specs", "properties", "threads"),
    [
        ({}, {}, ""),
        ({"hw:cpu_thread_policy": "require"}, {}, "require"),
        ({"hw:cpu_thread_policy": "prefer"}, {"hw_cpu_thread_policy": "isolate"}, "prefer"),
        ({}, {"hw_cpu_thread_policy": "isolate"}, "isolate"),
        ({"trait:HW_CPU_HYPERTHREADING": "forbidden"}, {}, "isolate"),
        ({}, {"trait:HW_CPU_HYPERTHREADING": "required"}, "require"),
    ],
)
def test_threads_have_a_policy(specs: dict[str, str], properties: dict[str, str], threads: str) -> None:
    found = wanted(specs | {"hw:cpu_policy": "dedicated"}, properties)
    assert found is not None and found.threads == threads


PINNED = {"hw:cpu_policy": "dedicated"}
MIXED = {"hw:cpu_policy": "mixed"}


@pytest.mark.parametrize(
    ("specs", "properties", "sentence"),
    [
        ({"hw:numa_nodes": "3"}, {}, "cannot be evenly distributed across instance NUMA nodes"),
        ({"hw:numa_nodes": "two"}, {}, "The property 'numa_nodes' cannot be 'two'. It must be a number greater than 0"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3"}, {}, "must be provided for all NUMA nodes"),
        ({"hw:numa_nodes": "2"}, {"hw_numa_nodes": "2"}, "Image property 'hw_numa_nodes' is not permitted to override"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-2", "hw:numa_mem.0": "1024"}, {}, "CPU number {3} is not"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-4", "hw:numa_mem.0": "1024"}, {}, "4 is larger than max 3"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1000"}, {},
         "1000 MB of memory assigned, but expected 1024 MB"),
        ({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-x", "hw:numa_mem.0": "1024"}, {}, "Invalid inclusion expression"),
        ({"hw:cpu_policy": "own"}, {}, "CPU policy requested from 'flavor extra specs' is invalid, given: 'own'"),
        ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}, "'hw_cpu_policy' is not permitted to override"),
        (MIXED, {}, "or be specified with none of them."),
        (MIXED | {"hw:cpu_dedicated_mask": "1,9"}, {}, "mask is not a subset of vCPUs in the flavor"),
        (MIXED | {"hw:cpu_dedicated_mask": "0-3"}, {}, "at least 1 pinned vCPU and 1 unpinned vCPU"),
        (PINNED | {"hw:cpu_dedicated_mask": "0"}, {}, "without the 'mixed' policy"),
        (PINNED | {"hw:cpu_realtime": "yes"}, {}, "either one or more non-realtime CPU"),
        ({"hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0"}, {}, "Cannot set realtime policy"),
        (PINNED | {"resources:PCPU": "4"}, {}, "use one or the other"),
        ({"resources:PCPU": "3"}, {}, "There is a mismatch between the number of PCPUs"),
        ({"resources:PCPU": "4", "hw:emulator_threads_policy": "isolate"}, {}, "exactly flavor.vcpus + 1 PCPUs"),
        ({"hw:emulator_threads_policy": "isolate"}, {}, "requires a dedicated CPU policy option"),
        ({"hw:emulator_threads_policy": "own"}, {}, "available: '('share', 'isolate')'"),
        ({"hw:mem_page_size": "huge"}, {}, "Invalid memory page size 'huge'"),
        ({}, {"hw_mem_page_size": "large"}, "Page size large forbidden against '<empty>'"),
        ({"hw:mem_page_size": "small"}, {"hw_mem_page_size": "large"}, "Page size large forbidden against 'small'"),
        ({"hw:cpu_thread_policy": "prefer"}, {}, "Cannot set cpu thread pinning policy in a non dedicated"),
        (PINNED | {"hw:cpu_thread_policy": "isolate"}, {"hw_cpu_thread_policy": "require"}, "override CPU thread"),
        (PINNED | {"hw:cpu_thread_policy": "isolate", "trait:HW_CPU_HYPERTHREADING": "required"}, {},
         "It is not possible to use the 'trait:HW_CPU_HYPERTHREADING' extra spec"),
    ],
)  # fmt: skip
def test_contradictions_are_refused_in_novas_words(
    specs: dict[str, str], properties: dict[str, str], sentence: str
) -> None:
    with pytest.raises(BadRequest) as refused:
        wanted(specs, properties)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("specs", "properties", "sentence"),
    [
        ({}, {}, ""),
        ({"hw:mem_encryption": "false"}, {}, ""),
        ({"hw:mem_encryption": "true"}, {"hw_firmware_type": "uefi"}, ""),
        ({"hw:mem_encryption": "true"}, {}, "requested by hw:mem_encryption extra spec in small flavor but the image"),
        ({}, {"hw_mem_encryption": "yes"}, "requested by hw_mem_encryption property of image i but the image"),
        (
            {"hw:mem_encryption": "true"},
            {"hw_mem_encryption": "no"},
            "explicitly set to true, conflicting with image i",
        ),
    ],
)
def test_encrypted_memory_asks_for_an_image_that_can(
    specs: dict[str, str], properties: dict[str, str], sentence: str
) -> None:
    refused = ""
    try:
        check_encryption(Asked(specs, properties, 1, 64), "small", "i")
    except BadRequest as error:
        refused = str(error)
    assert sentence in refused and bool(sentence) == bool(refused)


def test_cpus_are_ranges_and_exceptions() -> None:
    assert parse_cpus("1-4,^3, 6,,^9") == {1, 2, 4, 6}


def test_cells_are_of_the_guest_not_of_what_is_claimed_for_it() -> None:
    claim = Claim(vcpus=0, ram_mib=1, disk_gib=1)
    found = wanted_cells(request(claim=claim, vcpus=2, ram_mib=64, extra_specs={"hw:numa_nodes": "2"}))
    assert found is not None and found.cells == (cell((0,), (), 32), cell((1,), (), 32))


@pytest.mark.parametrize(
    ("specs", "vcpus", "resources"),
    [
        ({}, 4, {}),
        ({"hw:cpu_policy": "shared"}, 4, {}),
        ({"hw:cpu_policy": "dedicated"}, 0, {"PCPU": 4}),
        ({"hw:cpu_policy": "dedicated", "hw:emulator_threads_policy": "isolate"}, 0, {"PCPU": 5}),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0"}, 1, {"PCPU": 3}),
        ({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "x"}, 4, {}),
        ({"resources:PCPU": "4"}, 0, {"PCPU": 4}),
        ({"hw:pmem": "6GB, 6GB,small-1"}, 4, {"CUSTOM_PMEM_NAMESPACE_6GB": 2, "CUSTOM_PMEM_NAMESPACE_SMALL_1": 1}),
        ({"hw:mem_encryption": "True", "resources:MEM_ENCRYPTION_CONTEXT": "1"}, 4, {"MEM_ENCRYPTION_CONTEXT": 2}),
        ({"hw:mem_encryption": "no"}, 4, {}),
        ({"resources:PCPU": "4", "resources:VCPU": "1"}, 1, {"PCPU": 4}),
    ],
)
def test_what_a_flavor_asks_by_feature_is_claimed_by_class(
    specs: dict[str, str], vcpus: int, resources: dict[str, int]
) -> None:
    claim = claim_of(Flavor(id="f", name="f", vcpus=4, ram_mib=1, disk_gib=1, extra_specs=specs))
    assert (claim.vcpus, claim.resources) == (vcpus, resources)


@pytest.mark.parametrize(
    ("specs", "properties", "vcpus", "resources"),
    [
        ({}, {"hw_cpu_policy": "dedicated"}, 0, {"PCPU": 4}),
        ({"hw:cpu_policy": "shared"}, {"hw_cpu_policy": "dedicated"}, 4, {}),
        ({"hw:cpu_dedicated_mask": "0"}, {"hw_cpu_policy": "mixed"}, 3, {"PCPU": 1}),
        ({"hw:cpu_policy": "mixed", "hw:cpu_realtime": "1"}, {"hw_cpu_realtime_mask": "^0"}, 1, {"PCPU": 3}),
        ({}, {"hw_mem_encryption": "true"}, 4, {"MEM_ENCRYPTION_CONTEXT": 1}),
        ({"hw:mem_encryption": "true"}, {"hw_mem_encryption": "true"}, 4, {"MEM_ENCRYPTION_CONTEXT": 1}),
    ],
)
def test_an_image_counts_in_the_claim_as_a_flavor_does(
    specs: dict[str, str], properties: dict[str, str], vcpus: int, resources: dict[str, int]
) -> None:
    claim = claim_of(Flavor(id="f", name="f", vcpus=4, ram_mib=1, disk_gib=1, extra_specs=specs), properties)
    assert (claim.vcpus, claim.resources) == (vcpus, resources)
