"""Which CPUs, pages and devices of a host a guest gets, where ``fit`` has found that it fits.

CPUs are chosen as Nova does (``nova.virt.hardware``: _pack_instance_onto_cores): as many threads of each core as the
guest can fill, emptier cores first in the order of the host; where threads must not be shared, one of each core that is
free as a whole. Among the threads of a core the lower number goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nova_fast.model.guest_cells import ISOLATE, REQUIRE, Wanted
from nova_fast.model.topology import GuestTopology, NumaCell, PlacedCell
from nova_fast.scheduler.topology.devices import take_devices
from nova_fast.scheduler.topology.fit import NO_DEVICES, Devices, Guest, Ratios, accepted, fits_cell, free_cpus

Cores = list[list[int]]  # free CPUs, core by core


def choose(
    host: Sequence[NumaCell], wanted: Wanted | None, ratios: Ratios, devices: Devices = NO_DEVICES
) -> GuestTopology | None:
    """What a guest gets of a host; None when it does not fit."""
    if wanted is None:
        taken = take_devices(devices.pools, devices.requests)
        return None if taken is None else GuestTopology(devices=taken)
    for order, guests in accepted(host, wanted, ratios, devices):
        cells = list(_placed(order, guests, wanted, ratios))
        numbers = [cell.number for cell in order]
        taken = take_devices(devices.pools, devices.requests, host, numbers)
        if len(cells) == len(guests) and taken is not None:
            return GuestTopology(cells=tuple(cells), devices=taken)
    return None


def _placed(order: Sequence[NumaCell], guests: Sequence[Guest], wanted: Wanted, ratios: Ratios) -> Iterator[PlacedCell]:
    """The cells of the guest on these of the host, as far as they fit there: all that was tried before is forgotten."""
    for position, (cell, guest) in enumerate(zip(order, guests, strict=True)):
        reserved = 1 if wanted.isolates_emulator and position == 0 else 0
        tried = Guest(cell.number, guest.cell, guest.page_size_kib)
        if not fits_cell(cell, tried, wanted, ratios, reserved):
            return
        pins: dict[int, int] = {}
        emulator: list[int] = []
        if wanted.is_pinned and not guest.cell.dedicated:
            assert not reserved, "a cell without CPUs of its own keeps none for the emulator"
        elif wanted.is_pinned:
            packed = pack(cell, guest.cell.dedicated, wanted.threads, reserved)
            if packed is None:
                return
            pins, emulator = packed
        own = {*pins.values(), *emulator}
        if wanted.threads == ISOLATE:
            own |= {cpu for siblings in cell.siblings if own & set(siblings) for cpu in siblings}
        smallest = min((pages.size_kib for pages in cell.pages), default=0)
        yield PlacedCell(
            host_cell=cell.number,
            vcpus=tuple(sorted(guest.cell.shared | guest.cell.dedicated)),
            ram_mib=guest.cell.ram_mib,
            pins=tuple(sorted(pins.items())),
            emulator_cpus=tuple(emulator),
            cpus=tuple(sorted(own)),
            page_kib=tried.page_size_kib or smallest,
            own_pages=bool(tried.page_size_kib),
        )


def pack(cell: NumaCell, vcpus: frozenset[int], threads: str, reserved: int) -> tuple[dict[int, int], list[int]] | None:
    """A CPU for each vCPU, and those kept for the emulator; None when there are not so many under the policy."""
    free = free_cpus(cell)
    cores = [sorted(free & set(siblings)) for siblings in cell.siblings]
    for usable in _ways(cores, max(map(len, cell.siblings), default=0), threads):
        cpus = [cpu for core in usable for cpu in core]
        if len(cpus) < len(vcpus):
            continue
        pins = dict(zip(sorted(vcpus), cpus, strict=False))
        emulator = _left(cores, set(pins.values()), whole=threads == ISOLATE)[:reserved]
        if len(emulator) == reserved:
            return pins, emulator
    return None


def _ways(cores: Cores, threads_per_core: int, threads: str) -> Iterator[Cores]:
    """The CPUs that may be used, by core, in the order in which these ways are tried."""
    if threads == ISOLATE:
        yield [core[:1] for core in cores if len(core) >= threads_per_core]
        return
    for count in range(max(map(len, cores), default=0), 1 if threads == REQUIRE else 0, -1):
        yield [core[:count] for core in cores if len(core) >= count]
    if threads != REQUIRE:
        yield cores


def _left(cores: Cores, taken: set[int], *, whole: bool) -> list[int]:
    """The free CPUs that are nobody's, or those of cores of which nobody has any."""
    return [cpu for core in cores if not (whole and taken & set(core)) for cpu in core if cpu not in taken]
