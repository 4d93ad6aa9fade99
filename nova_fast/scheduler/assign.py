"""Assign: what of a host a server gets, where that is more than amounts: NUMA cells, CPUs of its own, PCI devices.

The filters say which hosts could have the server; here the CPUs, pages and devices of the one that was chosen are
given to it. What it takes may hang on the host, too: CPUs of its own are PCPU where the host keeps some for that, and
vCPUs where it keeps none (unless ``disable_fallback_pcpu_query`` says that such a host will not do).
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from nova_fast.config import SchedulerConfig
from nova_fast.model.guest_cells import Wanted
from nova_fast.model.hosts import PCPU, Claim
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.hosts import KnownHost
from nova_fast.scheduler.topology.choose import choose
from nova_fast.scheduler.topology.devices import DeviceRequest, read_aliases, wanted_devices
from nova_fast.scheduler.topology.fit import Devices, Ratios
from nova_fast.scheduler.topology.wanted import wanted_cells


class Needs(NamedTuple):
    """What a request needs beside amounts."""

    cells: Wanted | None
    devices: tuple[DeviceRequest, ...]


class Assigner:
    """Knows the aliases of devices."""

    def __init__(self, options: SchedulerConfig) -> None:
        """Raises BadRequest for an alias that cannot be read."""
        self._aliases = read_aliases(options.pci_alias)

    def needs(self, request: PlacementRequest) -> Needs | None:
        """None for a request of amounts alone. Raises BadRequest for one that contradicts itself."""
        if not request.extra_specs and not request.image_properties:
            return None
        cells, devices = wanted_cells(request), wanted_devices(request, self._aliases)
        return Needs(cells, devices) if cells is not None or devices else None

    def claim(self, known: KnownHost, request: PlacementRequest, needs: Needs) -> Claim | None:
        """What a server takes of a host that passes all filters; None when it does not fit all the same."""
        cells, pools = known.free()
        ratios = Ratios(known.host.cpu_ratio, known.host.ram_ratio)
        topology = choose(cells, needs.cells, ratios, Devices(pools, needs.devices))
        if topology is None:
            return None
        claim = request.claim
        if PCPU in claim.resources and known.offer(PCPU) is None:
            others = {name: amount for name, amount in claim.resources.items() if name != PCPU}
            claim = msgspec.structs.replace(claim, vcpus=request.vcpus, resources=others)
        return msgspec.structs.replace(claim, topology=topology)
