"""The NUMA cells of a machine as they are told: which CPUs servers share, which become one server's own.

The options are Nova's (``nova.virt.libvirt.driver``: _get_host_numa_topology). Without any, all CPUs are for both, and
a host has no PCPU; with ``cpu_shared_set`` alone nobody has a CPU of his own; with ``cpu_dedicated_set`` alone nobody
shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from nova_fast.config import ComputeConfig
from nova_fast.model.errors import BadRequest
from nova_fast.model.flavors import parse_cpus
from nova_fast.model.topology import NumaCell, Pages


class MachineCell(NamedTuple):
    """A cell as the machine has it."""

    number: int
    cores: tuple[tuple[int, ...], ...]  # CPUs that are threads of one core
    ram_mib: int
    pages: tuple[tuple[int, int], ...]  # (KiB of a page, how many)
    socket: int | None = None


class CpuUse(NamedTuple):
    """Which CPUs are given out how."""

    shared: frozenset[int]
    dedicated: frozenset[int]
    kept: int  # of the dedicated ones, those kept for that by the configuration: the host's PCPU


def cpu_use(config: ComputeConfig, online: frozenset[int]) -> CpuUse:
    """Raises BadRequest for CPUs that are not there, or are to be both."""
    shared = _configured(config.cpu_shared_set, "cpu_shared_set", online)
    dedicated = _configured(config.cpu_dedicated_set, "cpu_dedicated_set", online)
    if shared & dedicated:
        both = ", ".join(map(str, sorted(shared & dedicated)))
        raise BadRequest(f"CPU {both} cannot be shared and dedicated.", field="compute.cpu_dedicated_set")
    if dedicated:
        return CpuUse(shared, dedicated, len(dedicated))
    return CpuUse(shared, frozenset(), 0) if shared else CpuUse(online, online, 0)


def _configured(text: str, option: str, online: frozenset[int]) -> frozenset[int]:
    field = f"compute.{option}"
    try:
        cpus = parse_cpus(text)
    except ValueError:
        raise BadRequest(f"{text!r} is no list of CPUs.", field=field, hint="like 2-7,^4") from None
    if not cpus <= online:
        missing = ", ".join(map(str, sorted(cpus - online)))
        raise BadRequest(f"There is no CPU {missing} on this machine.", field=field)
    return cpus


def told_cells(machine: Sequence[MachineCell], use: CpuUse, config: ComputeConfig) -> tuple[NumaCell, ...]:
    """The cells as the scheduler is told of them. Raises BadRequest for ``reserved_huge_pages`` that make no sense."""
    reserved = _reserved_pages(config.reserved_huge_pages)
    given = use.shared | use.dedicated
    cells = []
    for cell in machine:
        cpus = frozenset(cpu for core in cell.cores for cpu in core)
        cores = sorted({tuple(sorted(given.intersection(core))) for core in cell.cores})
        cells.append(
            NumaCell(
                number=cell.number,
                shared_cpus=tuple(sorted(cpus & use.shared)),
                dedicated_cpus=tuple(sorted(cpus & use.dedicated)),
                siblings=tuple([core for core in cores if core]),
                ram_mib=cell.ram_mib,
                pages=tuple(
                    [
                        Pages(size_kib=size, total=total, reserved=reserved.get((cell.number, size), 0))
                        for size, total in cell.pages
                    ]
                ),
                socket=cell.socket,
            )
        )
    return tuple(cells)


def _reserved_pages(entries: tuple[str, ...]) -> dict[tuple[int, int], int]:
    """(cell, KiB of a page) → how many are kept for others than servers."""
    found = {}
    for entry in entries:
        parts = dict(part.strip().partition(":")[::2] for part in entry.split(","))
        try:
            found[int(parts["node"]), int(parts["size"])] = int(parts["count"])
        except (KeyError, ValueError):
            raise BadRequest(
                f"{entry!r} names no pages.", field="compute.reserved_huge_pages", hint="node:0,size:2048,count:64"
            ) from None
    return found
