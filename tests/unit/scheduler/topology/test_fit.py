"""Guest cells that fit host cells, and those that do not."""

from __future__ import annotations

from typing import Any

import pytest

from nova_fast.model.guest_cells import ANY, LARGE, SMALL, GuestCell, Wanted
from nova_fast.model.topology import NumaCell, Pages, PciPool
from nova_fast.scheduler.topology.devices import DeviceRequest
from nova_fast.scheduler.topology.fit import Devices, Ratios, fits

NO_RATIO = Ratios(1.0, 1.0)
PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7))
SINGLES = tuple((cpu,) for cpu in range(8))


def host(number: int = 0, **changes: Any) -> NumaCell:
    defaults: dict[str, Any] = {"shared_cpus": range(4), "ram_mib": 1024, "siblings": PAIRS}
    made = defaults | changes
    return NumaCell(number=number, **{k: tuple(v) if isinstance(v, range) else v for k, v in made.items()})


def guest(shared: int = 0, dedicated: int = 0, ram_mib: int = 512) -> GuestCell:
    return GuestCell(frozenset(range(shared)), frozenset(range(shared, shared + dedicated)), ram_mib)


def wanted(*cells: GuestCell, size: int = 0, policy: str = "", threads: str = "", emulator: bool = False) -> Wanted:
    return Wanted(cells, size, policy, threads, emulator)


@pytest.mark.parametrize(
    ("changes", "asked", "ratios", "fit"),
    [
        ({}, guest(4), NO_RATIO, True),
        ({}, guest(5), NO_RATIO, False),
        ({"vcpus_used": 1}, guest(4), NO_RATIO, False),
        ({"vcpus_used": 4}, guest(4), Ratios(2.0, 1.0), True),
        ({}, guest(5), Ratios(16.0, 1.0), False),  # no guest is larger than the cell
        ({}, guest(1, ram_mib=1024), NO_RATIO, True),
        ({}, guest(1, ram_mib=1025), Ratios(1.0, 4.0), False),
        ({"ram_used_mib": 600}, guest(1), NO_RATIO, False),
        ({"ram_used_mib": 600}, guest(1), Ratios(1.0, 2.0), True),
    ],
)
def test_shared_cpus_and_memory_may_be_given_out_more_than_once(
    changes: dict[str, Any], asked: GuestCell, ratios: Ratios, fit: bool
) -> None:
    assert fits([host(**changes)], wanted(asked), ratios) is fit


@pytest.mark.parametrize(
    ("size", "ram_mib", "fit"),
    [
        (4, 8, True),
        (4, 9, False),  # more than is free
        (2048, 8, True),
        (2048, 10, False),
        (2048, 7, False),  # not in whole pages
        (1048576, 1024, False),  # the host has no such pages
        (SMALL, 8, True),
        (SMALL, 9, False),
        (LARGE, 8, True),
        (LARGE, 3, False),
        (ANY, 3, True),
        (0, 16, True),  # small pages, also those in use
        (0, 17, False),
    ],
)
def test_memory_comes_in_pages(size: int, ram_mib: int, fit: bool) -> None:
    pages = (Pages(size_kib=4, total=4096, used=2000, reserved=48), Pages(size_kib=2048, total=6, used=1, reserved=1))
    assert fits([host(pages=pages)], wanted(guest(1, ram_mib=ram_mib), size=size), NO_RATIO) is fit


def test_pinned_guests_share_no_memory() -> None:
    cell = host(dedicated_cpus=range(8), ram_used_mib=600)
    assert not fits([cell], wanted(guest(0, 1), policy="dedicated"), Ratios(1.0, 9.0))
    assert fits([cell], wanted(guest(0, 1, ram_mib=400), policy="dedicated"), NO_RATIO)


@pytest.mark.parametrize(
    ("pinned", "own", "threads", "emulator", "fit"),
    [
        ((), 8, "", False, True),
        ((), 8, "", True, False),  # no CPU is left for the emulator
        ((), 7, "", True, True),
        ((1,), 8, "", False, False),
        ((1, 3, 5, 7), 4, "", False, True),
        ((1, 3, 5, 7), 4, "prefer", False, True),
        ((1, 3, 5, 7), 2, "require", False, False),  # no two threads of a core
        ((1, 3, 5), 2, "require", False, True),
        ((1, 3, 5), 3, "require", False, False),
        ((), 5, "require", True, True),
        ((), 1, "isolate", False, False),  # threads, and CPUs of the new kind
    ],
)
def test_pinned_vcpus_find_threads(pinned: tuple[int, ...], own: int, threads: str, emulator: bool, fit: bool) -> None:
    cell = host(dedicated_cpus=range(8), pinned_cpus=pinned, shared_cpus=())
    asked = wanted(guest(0, own), policy="dedicated", threads=threads, emulator=emulator)
    assert fits([cell], asked, NO_RATIO) is fit


@pytest.mark.parametrize(
    ("siblings", "shared", "pinned", "own", "emulator", "fit"),
    [
        (SINGLES, (), (), 8, False, True),
        (SINGLES, (), (), 8, True, False),
        (SINGLES, (), (0,), 7, False, True),
        (PAIRS, range(8), (), 4, False, True),  # the same CPUs for both kinds: a core each
        (PAIRS, range(8), (), 4, True, False),
        (PAIRS, range(8), (0,), 4, False, False),
        (PAIRS, range(8), (0,), 3, True, True),
    ],
)
def test_isolated_vcpus_have_a_core_each(
    siblings: Any, shared: Any, pinned: tuple[int, ...], own: int, emulator: bool, fit: bool
) -> None:
    cell = host(dedicated_cpus=range(8), pinned_cpus=pinned, shared_cpus=shared, siblings=siblings)
    asked = wanted(guest(0, own), policy="dedicated", threads="isolate", emulator=emulator)
    assert fits([cell], asked, NO_RATIO) is fit


def test_mixed_guests_need_both_kinds() -> None:
    cell = host(dedicated_cpus=(4, 5), shared_cpus=(0, 1), vcpus_used=1)
    assert fits([cell], wanted(guest(1, 2), policy="mixed"), NO_RATIO)
    assert not fits([cell], wanted(guest(2, 2), policy="mixed"), NO_RATIO)
    assert fits([cell], wanted(guest(2, 2), policy="mixed"), Ratios(2.0, 1.0))
    assert not fits([cell], wanted(guest(1, 3), policy="mixed"), NO_RATIO)


def test_each_guest_cell_has_a_host_cell_of_its_own() -> None:
    cells = [host(0, ram_mib=256), host(1, ram_mib=512), host(2, ram_mib=1024)]
    assert fits(cells, wanted(guest(1, ram_mib=1000), guest(1, ram_mib=500)), NO_RATIO)
    assert not fits(cells, wanted(guest(1, ram_mib=600), guest(1, ram_mib=600)), NO_RATIO)
    assert not fits(cells[:1], wanted(guest(1), guest(1)), NO_RATIO)


def test_devices_are_near_the_cells_that_the_guest_gets() -> None:
    cells = [host(0, ram_mib=256), host(1, ram_mib=1024)]
    pool = PciPool(vendor_id="8086", product_id="1", count=1, numa_node=0)

    def fit(policy: str, ram_mib: int) -> bool:
        device = DeviceRequest(1, policy, ({"vendor_id": "8086"},))
        return fits(cells, wanted(guest(1, ram_mib=ram_mib)), NO_RATIO, Devices((pool,), (device,)))

    assert fit("required", 200) and not fit("required", 600)
    assert fit("preferred", 600)
