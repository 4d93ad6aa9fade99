"""What a guest has of its host's cells, CPUs, pages and PCI devices, as parts of the domain XML. Pure.

As Nova's libvirt driver writes them (``nova.virt.libvirt.driver``: _get_guest_numa_config): a vCPU with a CPU of its
own is pinned to it, another floats over the shared CPUs of the cell that its own lies on; memory comes strictly from
there.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping

from nova_fast.model.errors import BadRequest, Unavailable
from nova_fast.model.guest_cells import Asked, realtime_vcpus
from nova_fast.model.tasks import Guest
from nova_fast.model.topology import NumaCell, PlacedCell

REALTIME_PRIORITY = 1  # Nova's default of [libvirt]realtime_scheduler_priority
_ADDRESS = re.compile(r"([0-9a-f]{4}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


def add_topology(root: ET.Element, guest: Guest, host: tuple[NumaCell, ...], shared_cpus: tuple[int, ...]) -> None:
    """Say what the guest has of the host's cells; ``shared_cpus`` are those configured for guests without any.

    Raises Unavailable for a cell that the host does not have (any more).
    """
    cells = guest.topology.cells if guest.topology is not None else ()
    if not cells:
        if shared_cpus:
            vcpu = root.find("vcpu")
            assert vcpu is not None
            vcpu.set("cpuset", _listed(shared_cpus))
        return
    by_number = {cell.number: cell for cell in host}
    missing = [cell.host_cell for cell in cells if cell.host_cell not in by_number]
    if missing:
        raise Unavailable(f"This host has no NUMA cell {missing[0]} to put the guest on.", code="no_such_cell")
    asked = Asked(guest.extra_specs, guest.image.properties, guest.vcpus, guest.ram_mib)
    realtime = realtime_vcpus(asked)
    huge = _huge_cells(cells, by_number)
    _add_backing(root, cells, huge, locked=bool(realtime))
    _add_cpu_tune(root, guest, by_number, shared_cpus, realtime)
    _add_numa_tune(root, cells)
    _add_guest_cells(root, cells, shared=bool(huge))


def add_devices(devices: ET.Element, guest: Guest) -> None:
    """Hand the guest its PCI devices; libvirt takes them from the host's drivers and gives them back. BadRequest."""
    for address in guest.topology.devices if guest.topology is not None else ():
        found = _ADDRESS.fullmatch(address)
        if found is None:
            raise BadRequest(f"{address!r} is no address of a PCI device.", field="topology")
        element = ET.SubElement(devices, "hostdev", mode="subsystem", type="pci", managed="yes")
        source = ET.SubElement(element, "source")
        names = ("domain", "bus", "slot", "function")
        ET.SubElement(source, "address", {name: f"0x{part}" for name, part in zip(names, found.groups(), strict=True)})


def _huge_cells(cells: tuple[PlacedCell, ...], host: Mapping[int, NumaCell]) -> dict[int, int]:
    """The guest's cells whose memory is of pages larger than the host's smallest, with the KiB of a page."""
    found = {}
    for number, cell in enumerate(cells):
        smallest = min((pages.size_kib for pages in host[cell.host_cell].pages), default=cell.page_kib)
        if cell.own_pages and cell.page_kib > smallest:
            found[number] = cell.page_kib
    return found


def _add_backing(root: ET.Element, cells: tuple[PlacedCell, ...], huge: dict[int, int], *, locked: bool) -> None:
    if not huge and not locked:
        return
    backing = ET.SubElement(root, "memoryBacking")
    if huge:
        pages = ET.SubElement(backing, "hugepages")
        for number, size_kib in huge.items():
            ET.SubElement(pages, "page", size=str(size_kib), unit="KiB", nodeset=str(number))
    if locked:
        ET.SubElement(backing, "nosharepages")
        ET.SubElement(backing, "locked")


def _add_cpu_tune(
    root: ET.Element,
    guest: Guest,
    host: Mapping[int, NumaCell],
    shared_cpus: tuple[int, ...],
    realtime: frozenset[int],
) -> None:
    assert guest.topology is not None
    cpus: dict[int, tuple[int, ...]] = {}  # where each vCPU may run
    for cell in guest.topology.cells:
        own = dict(cell.pins)
        for vcpu in cell.vcpus:
            cpus[vcpu] = (own[vcpu],) if vcpu in own else host[cell.host_cell].shared_cpus
    tune = ET.SubElement(root, "cputune")
    for vcpu in sorted(cpus):
        ET.SubElement(tune, "vcpupin", vcpu=str(vcpu), cpuset=_listed(cpus[vcpu]))
    policy = guest.extra_specs.get("hw:emulator_threads_policy", "")
    kept = [cpu for cell in guest.topology.cells for cpu in cell.emulator_cpus]
    if policy == "isolate" and kept:
        emulator = kept
    elif policy == "share" and shared_cpus:
        emulator = list(shared_cpus)
    else:
        emulator = [cpu for vcpu, own in cpus.items() if vcpu not in realtime for cpu in own]
    if emulator:
        ET.SubElement(tune, "emulatorpin", cpuset=_listed(emulator))
    if realtime:
        ET.SubElement(tune, "vcpusched", vcpus=_listed(realtime), scheduler="fifo", priority=str(REALTIME_PRIORITY))


def _add_numa_tune(root: ET.Element, cells: tuple[PlacedCell, ...]) -> None:
    tune = ET.SubElement(root, "numatune")
    ET.SubElement(tune, "memory", mode="strict", nodeset=_listed(cell.host_cell for cell in cells))
    for number, cell in enumerate(cells):
        ET.SubElement(tune, "memnode", cellid=str(number), mode="strict", nodeset=str(cell.host_cell))


def _add_guest_cells(root: ET.Element, cells: tuple[PlacedCell, ...], *, shared: bool) -> None:
    processor = root.find("cpu")
    if processor is None:
        processor = ET.SubElement(root, "cpu")
    numa = ET.SubElement(processor, "numa")
    for number, cell in enumerate(cells):
        element = ET.SubElement(
            numa, "cell", id=str(number), cpus=_listed(cell.vcpus), memory=str(cell.ram_mib), unit="MiB"
        )
        if shared:
            element.set("memAccess", "shared")


def _listed(cpus: Iterable[int]) -> str:
    """Numbers as libvirt lists them: ``0-2,5``."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
