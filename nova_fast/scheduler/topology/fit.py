"""Whether the NUMA cells that a guest wants fit the cells of a host.

As Nova does (``nova.virt.hardware``: numa_fit_instance_to_host): host cells are tried in all orders, emptier ones
first, until one order takes every guest cell, and the devices are near enough then. A guest cell keeps what it got
where it was tried (the page size, the number of the host's cell), and what was tried is not tried again; a host that
does not fit because of that does not fit for Nova either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import NamedTuple

from nova_fast.model.guest_cells import ANY, ISOLATE, LARGE, MIXED, REQUIRE, SMALL, GuestCell, Wanted
from nova_fast.model.topology import KIB_PER_MIB, NumaCell, Pages, PciPool
from nova_fast.scheduler.topology.devices import DeviceRequest, have_devices


class Ratios(NamedTuple):
    """How much more than there is may be given out."""

    cpu: float
    ram: float


class Devices(NamedTuple):
    """PCI devices that are asked for, and those that are free."""

    pools: Sequence[PciPool] = ()
    requests: Sequence[DeviceRequest] = ()


NO_DEVICES = Devices()


class Guest:
    """A guest cell while it is tried."""

    __slots__ = ("cell", "number", "page_size_kib")

    def __init__(self, number: int, cell: GuestCell, page_size_kib: int) -> None:
        self.number = number
        self.cell = cell
        self.page_size_kib = page_size_kib


def fits(host: Sequence[NumaCell], wanted: Wanted, ratios: Ratios, devices: Devices = NO_DEVICES) -> bool:
    """Whether a host with these cells can take the guest."""
    return next(accepted(host, wanted, ratios, devices), None) is not None


def accepted(
    host: Sequence[NumaCell], wanted: Wanted, ratios: Ratios, devices: Devices = NO_DEVICES
) -> Iterator[tuple[Sequence[NumaCell], Sequence[Guest]]]:
    """The ways in which a host with these cells can take the guest: a cell for each of the guest's, best way first."""
    if len(host) < len(wanted.cells):
        return
    guests = [Guest(number, cell, wanted.page_size_kib) for number, cell in enumerate(wanted.cells)]
    fitting: dict[tuple[int, int], bool] = {}
    for order in permutations(_sorted(host, wanted, devices), len(guests)):
        if _take(order, guests, _Trial(wanted, ratios, fitting)) and _near_devices(host, guests, devices):
            yield order, guests


def fits_cell(cell: NumaCell, guest: Guest, wanted: Wanted, ratios: Ratios, reserved: int) -> bool:
    """Whether one cell takes one of the guest's, ``reserved`` CPUs for the emulator beside it."""
    return _fits_cell(cell, guest, _Trial(wanted, ratios, {}), reserved)


class _Trial(NamedTuple):
    """What holds for all cells, and what was found before: (host cell, guest cell) → whether it fits."""

    wanted: Wanted
    ratios: Ratios
    fitting: dict[tuple[int, int], bool]


def _take(order: Sequence[NumaCell], guests: list[Guest], trial: _Trial) -> bool:
    for position, (cell, guest) in enumerate(zip(order, guests, strict=True)):
        pair = (cell.number, guest.number)
        if pair not in trial.fitting:
            reserved = 1 if trial.wanted.isolates_emulator and position == 0 else 0
            trial.fitting[pair] = _fits_cell(cell, guest, trial, reserved)
        if not trial.fitting[pair]:
            return False
        guest.number = cell.number
    return True


def _near_devices(host: Sequence[NumaCell], guests: list[Guest], devices: Devices) -> bool:
    if not devices.requests:
        return True
    return have_devices(devices.pools, devices.requests, host, [guest.number for guest in guests])


def _sorted(host: Sequence[NumaCell], wanted: Wanted, devices: Devices) -> Sequence[NumaCell]:
    """The order in which cells are tried, when there is a choice."""
    if len(host) == len(wanted.cells):
        return host
    cells = sorted(host, key=lambda cell: cell.ram_mib - cell.ram_used_mib, reverse=True)
    if wanted.is_pinned:
        cells.sort(key=lambda cell: len(free_cpus(cell)), reverse=True)
    else:
        cells.sort(key=lambda cell: cell.vcpus_used)
    counts = {cell.number: sum(p.count for p in devices.pools if p.numa_node == cell.number) for cell in host}
    cells.sort(key=lambda cell: counts[cell.number], reverse=bool(devices.requests))
    return cells


def _fits_cell(cell: NumaCell, guest: Guest, trial: _Trial, reserved: int) -> bool:
    wanted = trial.wanted
    if not _fits_memory(cell, guest, wanted):
        return False
    own, shared = len(guest.cell.dedicated), len(guest.cell.shared)
    if wanted.is_pinned and own + reserved > len(cell.dedicated_cpus):
        return False
    shares = not wanted.is_pinned or wanted.policy == MIXED
    if shares and shared > len(cell.shared_cpus):
        return False
    if wanted.is_pinned:
        if own + reserved > len(free_cpus(cell)) or not _packs(cell, own, wanted.threads, reserved):
            return False
        guest.number = cell.number
    if not shares:
        return True
    cpus, memory = cell.vcpus_used + shared, cell.ram_used_mib + guest.cell.ram_mib
    return cpus <= len(cell.shared_cpus) * trial.ratios.cpu and memory <= cell.ram_mib * trial.ratios.ram


def _fits_memory(cell: NumaCell, guest: Guest, wanted: Wanted) -> bool:
    """Whether the cell has the memory, in pages of the size asked for; memory of pinned guests is never shared."""
    ram_mib = guest.cell.ram_mib
    if guest.page_size_kib:
        size = _page_size(cell, guest)
        if size is None:
            return False
        guest.page_size_kib = size
        return True
    if cell.pages:
        smallest = min(cell.pages, key=lambda pages: pages.size_kib)
        return _holds(smallest, ram_mib, only_free=wanted.is_pinned)
    return ram_mib <= cell.ram_mib - (cell.ram_used_mib if wanted.is_pinned else 0)


def _page_size(cell: NumaCell, guest: Guest) -> int | None:
    sizes = sorted(cell.pages, key=lambda pages: pages.size_kib, reverse=True)
    if guest.page_size_kib == SMALL:
        sizes = sizes[-1:]
    elif guest.page_size_kib == LARGE:
        sizes = sizes[:-1]
    elif guest.page_size_kib != ANY:
        sizes = [pages for pages in sizes if pages.size_kib == guest.page_size_kib][:1]
    return next((pages.size_kib for pages in sizes if _holds(pages, guest.cell.ram_mib, only_free=True)), None)


def _holds(pages: Pages, ram_mib: int, *, only_free: bool) -> bool:
    count = pages.total - pages.used - pages.reserved if only_free else pages.total
    ram_kib = ram_mib * KIB_PER_MIB
    return ram_kib <= count * pages.size_kib and ram_kib % pages.size_kib == 0


def free_cpus(cell: NumaCell) -> set[int]:
    """The CPUs of a cell that can become somebody's own."""
    return set(cell.dedicated_cpus) - set(cell.pinned_cpus)


def _packs(cell: NumaCell, own: int, threads: str, reserved: int) -> bool:
    """Whether so many vCPUs find CPUs under a policy for threads, and the emulator one more if it is reserved."""
    if not cell.siblings:
        return False
    free = free_cpus(cell)
    cores = [len(free & set(siblings)) for siblings in cell.siblings]
    threads_per_core = max(map(len, cell.siblings)) or 1
    if reserved and not own:  # Nova: the emulator's CPU is found beside those of the vCPUs
        return False
    if threads == ISOLATE:
        if threads_per_core != 1 and set(cell.dedicated_cpus) != set(cell.shared_cpus):
            return False
        whole = sum(count >= threads_per_core for count in cores)
        return 0 < own <= whole and sum(count > 0 for count in cores) - own >= reserved
    if own + reserved > sum(cores):
        return False
    if threads == REQUIRE:
        # The same number of threads of each core, at least two.
        usable = {number: sum(count >= number for count in cores) for number in range(2, max(cores) + 1)}
        return threads_per_core > 1 and any(number * count >= own for number, count in usable.items())
    return True
