"""Which CPUs and pages Nova gives a guest on each host: what its NUMATopologyFilter finds and throws away.

Nova takes the CPUs of a set in the order in which Python keeps it. That is an accident, so here sets are in ascending
order, as with us.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from nova import objects
from nova.scheduler.host_manager import HostState
from nova.virt import hardware

Case = dict[str, Any]


def _ordered(items: Iterable[Any] = ()) -> list[Any]:
    return sorted(items) if isinstance(items, set | frozenset) else list(items)


def prepare_cells() -> None:
    """Let sets be in order."""
    hardware.list = _ordered
    hardware.itertools = SimpleNamespace(
        permutations=itertools.permutations, chain=lambda *parts: itertools.chain(*map(_ordered, parts))
    )


def chosen_cells(states: list[HostState], spec: objects.RequestSpec) -> Case:
    """What each host would give: None where Nova says that it does not fit, "stale" for what cannot be.

    A host for which Nova fails is left out.
    """
    found: Case = {}
    for state in states:
        asked = spec.obj_clone()
        if asked.numa_topology is None or not state.numa_topology:
            continue
        limits = objects.NUMATopologyLimits(
            cpu_allocation_ratio=state.cpu_allocation_ratio, ram_allocation_ratio=state.ram_allocation_ratio
        )
        try:
            topology = hardware.numa_fit_instance_to_host(
                state.numa_topology,
                asked.numa_topology,
                {},
                limits=limits,
                pci_requests=asked.pci_requests.requests if asked.pci_requests else None,
                pci_stats=state.pci_stats,
            )
        except Exception:
            continue
        if topology is not None and not _makes_sense(state.numa_topology, topology):
            found[state.host] = "stale"
        else:
            found[state.host] = topology and [_told(cell) for cell in topology.cells]
    return found


def _makes_sense(host: objects.NUMATopology, guest: objects.InstanceNUMATopology) -> bool:
    """Whether each cell has CPUs that are its host cell's, and free.

    Nova remembers that a pair of cells fits, and not which CPUs it found; so a cell may be left with those of another.
    """
    free = {cell.id: cell.free_pcpus for cell in host.cells}
    return all(
        set((cell.cpu_pinning or {}).values()) | (cell.cpuset_reserved or set()) <= free[cell.id]
        for cell in guest.cells
    )


def _told(cell: objects.InstanceNUMACell) -> Case:
    pins = cell.cpu_pinning or {}
    return {
        "host_cell": cell.id,
        "vcpus": sorted(cell.cpuset | cell.pcpuset),
        "pins": sorted([vcpu, cpu] for vcpu, cpu in pins.items()),
        "emulator": sorted(cell.cpuset_reserved or ()),
        "page_kib": int(cell.pagesize or 0),
        "ram_mib": cell.memory,
    }
