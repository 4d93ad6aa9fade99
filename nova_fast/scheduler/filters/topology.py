"""NUMATopologyFilter and PciPassthroughFilter: cells and devices, as ``scheduler.topology`` has them.

Both look at each host. Requests that ask for neither are not touched, except that a flavor or image with
``hw:cpu_thread_policy`` "require" keeps off hosts with cells but without threads.
"""

from __future__ import annotations

from nova_fast.config import SchedulerConfig
from nova_fast.model.guest_cells import DEDICATED, REQUIRE
from nova_fast.model.tasks import PlacementRequest
from nova_fast.model.topology import NumaCell
from nova_fast.scheduler.facts import HostState
from nova_fast.scheduler.filters.kinds import Judge, StateFilter
from nova_fast.scheduler.topology.devices import have_devices, read_aliases, wanted_devices
from nova_fast.scheduler.topology.fit import Devices, Ratios, fits
from nova_fast.scheduler.topology.wanted import wanted_cells

_ASKING = ("hw:numa", "hw:cpu_policy", "hw:mem_page_size", "hw:pmem", "hw:cpu_thread_policy", "resources:PCPU")
_ALIAS = "pci_passthrough:alias"
Cells = tuple[NumaCell, ...]


class NumaTopology(StateFilter):
    """The guest's NUMA cells fit the host's."""

    name = "NUMATopologyFilter"

    def __init__(self, options: SchedulerConfig) -> None:
        super().__init__(options)
        self._aliases = read_aliases(options.pci_alias)

    def applies(self, request: PlacementRequest) -> bool:
        images = tuple(prefix.replace("hw:", "hw_") for prefix in _ASKING)
        return any(key.startswith(_ASKING) for key in request.extra_specs) or any(
            key.startswith(images) for key in request.image_properties
        )

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return self.judge(request)(state)

    def judge(self, request: PlacementRequest) -> Judge:
        wanted = wanted_cells(request)
        requests = wanted_devices(request, self._aliases)
        wants_threads = _wants_threads(request)

        def look(state: HostState) -> bool:
            if wants_threads and state.numa and not _has_threads(state):
                return False
            if wanted is None:
                return True
            ratios = Ratios(state.facts.cpu_ratio, state.facts.ram_ratio)
            return bool(state.numa) and fits(state.numa, wanted, ratios, Devices(state.pci, requests))

        # PERF: hosts whose cells are alike share them: of 10,000 empty ones 1 is looked at, 40 us each.
        seen: dict[tuple[int, float, float], tuple[Cells, bool]] = {}

        def passes(state: HostState) -> bool:
            if state.pci:
                return look(state)
            key = (id(state.numa), state.facts.cpu_ratio, state.facts.ram_ratio)
            known = seen.get(key)
            if known is None:
                known = seen[key] = state.numa, look(state)  # kept, so that nothing else has its place in memory
            return known[1]

        return passes


def _wants_threads(request: PlacementRequest) -> bool:
    policies = (request.extra_specs.get("hw:cpu_policy"), request.image_properties.get("hw_cpu_policy"))
    threads = (request.extra_specs.get("hw:cpu_thread_policy"), request.image_properties.get("hw_cpu_thread_policy"))
    return DEDICATED in policies and REQUIRE in threads


def _has_threads(state: HostState) -> bool:
    return any(len(siblings) > 1 for cell in state.numa for siblings in cell.siblings)


class PciPassthrough(StateFilter):
    """The host has the PCI devices that the flavor asks for."""

    name = "PciPassthroughFilter"

    def __init__(self, options: SchedulerConfig) -> None:
        super().__init__(options)
        self._aliases = read_aliases(options.pci_alias)

    def applies(self, request: PlacementRequest) -> bool:
        return bool(request.extra_specs.get(_ALIAS))

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return self.judge(request)(state)

    def judge(self, request: PlacementRequest) -> Judge:
        requests = wanted_devices(request, self._aliases)
        return lambda state: have_devices(state.pci, requests)
