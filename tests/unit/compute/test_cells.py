"""Which CPUs of a machine are told to be shared and which dedicated, as Nova's options say it."""

from __future__ import annotations

import asyncio

import pytest

from nova_fast.compute.drivers.cells import MachineCell, cpu_use, told_cells
from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.config import ComputeConfig
from nova_fast.model.errors import BadRequest
from nova_fast.model.topology import Pages

ONLINE = frozenset(range(8))
MACHINE = (
    MachineCell(0, ((0, 4), (1, 5)), 4096, ((4, 1_000_000), (2048, 100)), 0),
    MachineCell(1, ((2, 6), (3, 7)), 4096, ((4, 1_000_000), (2048, 100)), 1),
)


@pytest.mark.parametrize(
    ("shared", "dedicated", "is_shared", "is_dedicated", "kept"),
    [
        ("", "", "01234567", "01234567", 0),  # all for both, and no PCPU
        ("0-3", "", "0123", "", 0),
        ("", "0-3", "", "0123", 4),
        ("0,4", "1-7,^4", "04", "123567", 6),
    ],
)
def test_options_say_what_cpus_are_for(
    shared: str, dedicated: str, is_shared: str, is_dedicated: str, kept: int
) -> None:
    use = cpu_use(ComputeConfig(cpu_shared_set=shared, cpu_dedicated_set=dedicated), ONLINE)
    assert (use.shared, use.dedicated, use.kept) == ({*map(int, is_shared)}, {*map(int, is_dedicated)}, kept)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"cpu_shared_set": "0-3", "cpu_dedicated_set": "3"}, "compute.cpu_dedicated_set"),
        ({"cpu_dedicated_set": "9"}, "compute.cpu_dedicated_set"),
        ({"cpu_shared_set": "two"}, "compute.cpu_shared_set"),
        ({"reserved_huge_pages": ("node:0,count:64",)}, "compute.reserved_huge_pages"),
    ],
)
def test_options_that_do_not_fit_the_machine_are_refused(options: dict[str, object], field: str) -> None:
    config = ComputeConfig(**options)  # type: ignore[arg-type]
    with pytest.raises(BadRequest) as refused:
        told_cells(MACHINE, cpu_use(config, ONLINE), config)
    assert refused.value.field == field


def test_cells_tell_cores_of_cpus_that_are_given_out_and_pages_that_are_kept() -> None:
    config = ComputeConfig(
        cpu_shared_set="0", cpu_dedicated_set="1,5,2,3", reserved_huge_pages=("node:1,size:2048,count:64",)
    )
    first, second = told_cells(MACHINE, cpu_use(config, ONLINE), config)
    assert (first.shared_cpus, first.dedicated_cpus, first.siblings) == ((0,), (1, 5), ((0,), (1, 5)))
    assert (second.shared_cpus, second.dedicated_cpus, second.siblings) == ((), (2, 3), ((2,), (3,)))
    assert second.pages == (Pages(4, 1_000_000), Pages(2048, 100, 0, 64))
    assert (first.pages[1].reserved, first.socket, second.socket) == (0, 0, 1)


def test_a_fake_host_has_the_cells_that_are_configured() -> None:
    config = ComputeConfig(
        fake_vcpus=8, fake_ram_mib=4096, fake_numa_cells=2, fake_threads_per_core=2, fake_huge_pages=100,
        cpu_dedicated_set="2-7",
    )  # fmt: skip
    resources = asyncio.run(FakeDriver(config, lambda _state: None).resources())
    assert (resources.vcpus, resources.pcpus) == (0, 6)
    assert [cell.dedicated_cpus for cell in resources.numa] == [(2, 3), (4, 5, 6, 7)]
    assert resources.numa[1].siblings == ((4, 5), (6, 7))
    assert [(pages.size_kib, pages.total) for pages in resources.numa[0].pages] == [(4, 473088), (2048, 100)]
    assert asyncio.run(FakeDriver(ComputeConfig(), lambda _state: None).resources()).numa == ()
