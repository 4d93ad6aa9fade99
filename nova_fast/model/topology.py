"""NUMA cells and PCI devices: what a machine has, what a server was given of it, and what is taken in all.

A machine says in its heartbeats what it has (:class:`NumaCell`, :class:`PciPool`), taken or not. What is taken is
counted where servers are claimed (:class:`CellUsage`, addresses of devices), in the same way by the scheduler, by the
transaction that claims and by who counts again; so the arithmetic is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import TypeVar

import msgspec

from nova_fast.model.base import Value

KIB_PER_MIB = 1024
_One = TypeVar("_One", int, str)


class Pages(Value, frozen=True):
    """Memory pages of one size in a NUMA cell."""

    size_kib: int
    total: int
    used: int = 0
    reserved: int = 0


class NumaCell(Value, frozen=True):
    """One NUMA cell of a machine; what is taken of it is filled in by who looks, no machine reports it."""

    number: int
    shared_cpus: tuple[int, ...] = ()  # for servers that share CPUs
    dedicated_cpus: tuple[int, ...] = ()  # for servers that have CPUs of their own
    pinned_cpus: tuple[int, ...] = ()  # of these, the ones taken
    siblings: tuple[tuple[int, ...], ...] = ()  # CPUs that are threads of one core
    ram_mib: int = 0
    ram_used_mib: int = 0
    vcpus_used: int = 0  # of the shared CPUs
    pages: tuple[Pages, ...] = ()
    socket: int | None = None


class PciPool(Value, frozen=True):
    """PCI devices that a server cannot tell apart: those of a machine, or those of them that are free."""

    vendor_id: str
    product_id: str
    count: int
    device_type: str = ""  # type-PCI, type-PF, type-VF, vdpa
    numa_node: int | None = None
    tags: dict[str, str] = {}  # what the operator says of them: physical_network, …
    addresses: tuple[str, ...] = ()  # like 0000:81:00.1
    parents: tuple[str, ...] = ()  # of virtual functions, in the same order: the card that each is a part of


class PlacedCell(Value, frozen=True):
    """One NUMA cell of a guest, and what it has of a cell of its host."""

    host_cell: int
    vcpus: tuple[int, ...]  # of the guest
    ram_mib: int
    pins: tuple[tuple[int, int], ...] = ()  # vCPU → the CPU that is its own; others share those of the host's cell
    emulator_cpus: tuple[int, ...] = ()  # kept for the threads of the emulator
    cpus: tuple[int, ...] = ()  # all that are nobody else's: of vCPUs, of the emulator, idle threads of their cores
    page_kib: int = 0  # size of the pages that its memory is counted in; 0 = the host tells none
    own_pages: bool = False  # it asked for pages of this size


class GuestTopology(Value, frozen=True):
    """The cells and PCI devices of its host that a server has."""

    cells: tuple[PlacedCell, ...] = ()
    devices: tuple[str, ...] = ()  # addresses


class CellUsage(Value, frozen=True):
    """What the servers of a host take of one of its NUMA cells; servers without cells of their own count nowhere."""

    number: int
    cpus: tuple[int, ...] = ()  # that are somebody's own
    vcpus: int = 0  # on shared CPUs
    ram_mib: int = 0
    pages: dict[int, int] = {}  # KiB of a page → how many


class Taken(msgspec.Struct, frozen=True):
    """What is taken of a host's cells and devices."""

    cells: tuple[CellUsage, ...] = ()
    devices: tuple[str, ...] = ()


def changed(taken: Taken, topology: GuestTopology, sign: int) -> Taken:
    """What is taken when a server has come (1) or gone (-1). Raises ValueError for what was never taken, or is twice.

    Both are kept in order and without what is zero, so that equal usage is equal.
    """
    cells = {usage.number: usage for usage in taken.cells}
    for cell in topology.cells:
        usage = _changed_cell(cells.get(cell.host_cell, CellUsage(number=cell.host_cell)), cell, sign)
        if usage == CellUsage(number=cell.host_cell):
            cells.pop(cell.host_cell, None)
        else:
            cells[cell.host_cell] = usage
    return Taken(tuple([cells[number] for number in sorted(cells)]), _moved(taken.devices, topology.devices, sign))


def _changed_cell(usage: CellUsage, cell: PlacedCell, sign: int) -> CellUsage:
    pages = dict(usage.pages)
    if cell.page_kib:
        pages[cell.page_kib] = pages.get(cell.page_kib, 0) + sign * pages_of(cell)
        if not pages[cell.page_kib]:
            del pages[cell.page_kib]
    new = CellUsage(
        number=usage.number,
        cpus=_moved(usage.cpus, cell.cpus, sign),
        vcpus=usage.vcpus + sign * (len(cell.vcpus) - len(cell.pins)),
        ram_mib=usage.ram_mib + sign * cell.ram_mib,
        pages=pages,
    )
    if min(new.vcpus, new.ram_mib, *new.pages.values()) < 0:
        raise ValueError(f"cell {usage.number} was given back more than was taken")
    return new


def _moved(taken: tuple[_One, ...], moving: tuple[_One, ...], sign: int) -> tuple[_One, ...]:
    if not moving:
        return taken
    before, these = set(taken), set(moving)
    if len(these) != len(moving) or (before & these if sign > 0 else these - before):
        raise ValueError(f"{moving} cannot be {'taken' if sign > 0 else 'given back'}: {taken} are")
    return tuple(sorted(before | these if sign > 0 else before - these))


def pages_of(cell: PlacedCell) -> int:
    """How many pages the memory of a cell is."""
    return -(-cell.ram_mib * KIB_PER_MIB // cell.page_kib) if cell.page_kib else 0


def with_usage(cells: Sequence[NumaCell], taken: Iterable[CellUsage]) -> tuple[NumaCell, ...]:
    """A machine's cells with what is taken of them. What was taken of a cell that is gone is passed over."""
    by_number = {usage.number: usage for usage in taken}
    return tuple([_with_usage(cell, by_number.get(cell.number)) for cell in cells])


def _with_usage(cell: NumaCell, usage: CellUsage | None) -> NumaCell:
    if usage is None:
        return cell
    return msgspec.structs.replace(
        cell,
        pinned_cpus=usage.cpus,
        ram_used_mib=usage.ram_mib,
        vcpus_used=usage.vcpus,
        pages=tuple([msgspec.structs.replace(pages, used=usage.pages.get(pages.size_kib, 0)) for pages in cell.pages]),
    )


def free_pools(pools: Sequence[PciPool], taken: Sequence[str]) -> tuple[PciPool, ...]:
    """The devices that are free. A card of which a function is taken is not, nor the functions of a taken card."""
    if not taken or not pools:
        return tuple(pools)
    gone = set(taken)
    cards = {parent for pool in pools for one, parent in zip(pool.addresses, pool.parents, strict=False) if one in gone}
    return tuple([_free_of(pool, gone, cards) for pool in pools])


def _free_of(pool: PciPool, gone: Set[str], cards: Set[str]) -> PciPool:
    parents = pool.parents or ("",) * len(pool.addresses)
    free = [
        (one, parent)
        for one, parent in zip(pool.addresses, parents, strict=True)
        if one not in gone and one not in cards and parent not in gone
    ]
    return msgspec.structs.replace(
        pool,
        count=len(free),
        addresses=tuple([one for one, _ in free]),
        parents=tuple([parent for _, parent in free]) if pool.parents else (),
    )


def shortage(
    cells: Sequence[NumaCell], pools: Sequence[PciPool], wanted: GuestTopology, ratios: tuple[float, float]
) -> str:
    """What a host lacks of what was chosen for a server; "" when it has all.

    ``cells`` and ``pools`` are what is free of it now; ``ratios`` are those of CPUs and RAM.
    """
    free = {address for pool in pools for address in pool.addresses}
    missing = [address for address in wanted.devices if address not in free]
    if missing:
        return f"has no device {missing[0]} to give"
    by_number = {cell.number: cell for cell in cells}
    for cell in wanted.cells:
        host = by_number.get(cell.host_cell)
        if host is None:
            return f"has no NUMA cell {cell.host_cell}"
        if not set(cell.cpus) <= set(host.dedicated_cpus) - set(host.pinned_cpus):
            return f"has not the CPUs {', '.join(map(str, cell.cpus))} to give"
        if why := _short_of(host, cell, ratios):
            return why
    return ""


def _short_of(host: NumaCell, cell: PlacedCell, ratios: tuple[float, float]) -> str:
    """Memory of pinned guests and pages that were asked for are given once; all else as often as the ratios allow."""
    shared, pages = len(cell.vcpus) - len(cell.pins), {one.size_kib: one for one in host.pages}
    if shared and host.vcpus_used + shared > len(host.shared_cpus) * ratios[0]:
        return f"has not {shared} CPUs to share in cell {host.number}"
    if cell.page_kib and cell.page_kib not in pages:
        return f"has no pages of {cell.page_kib} KiB in cell {host.number}"
    once = cell.own_pages or bool(cell.pins)
    if once and cell.page_kib:
        size = pages[cell.page_kib]
        fits = pages_of(cell) <= size.total - size.used - size.reserved
    elif once:
        fits = cell.ram_mib <= host.ram_mib - host.ram_used_mib
    else:
        fits = True
    if shared and host.ram_used_mib + cell.ram_mib > host.ram_mib * ratios[1]:
        fits = False
    return "" if fits else f"has not {cell.ram_mib} MiB of memory in cell {host.number}"
