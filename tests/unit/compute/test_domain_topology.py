"""A guest's cells, CPUs, pages and devices in the domain XML, as Nova's libvirt driver writes them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import msgspec
import pytest

from nova_fast.compute.drivers.libvirt.domain_xml import Disk, DomainSettings, domain_xml
from nova_fast.model.errors import BadRequest, Unavailable
from nova_fast.model.topology import GuestTopology, NumaCell, Pages, PlacedCell

from .builders import a_guest, a_nic

PAGES = (Pages(4, 1_000_000), Pages(2048, 512))
HOST = (
    NumaCell(number=0, shared_cpus=(0, 1), dedicated_cpus=(2, 3), ram_mib=4096, pages=PAGES),
    NumaCell(number=1, shared_cpus=(8, 9, 10), dedicated_cpus=(11, 12), ram_mib=4096, pages=PAGES),
)
SETTINGS = DomainSettings(virt_type="qemu", architecture="x86_64", instances_dir="/srv/instances", cells=HOST)
DISK = Disk(path="/i/disk", format="qcow2", boot_order=1)
PINNED = (
    PlacedCell(host_cell=1, vcpus=(0, 1), pins=((0, 11), (1, 12)), cpus=(11, 12), ram_mib=256, page_kib=4),
    PlacedCell(host_cell=0, vcpus=(2, 3), pins=((3, 2),), cpus=(2,), ram_mib=256, page_kib=4),
)


def xml(cells: tuple[PlacedCell, ...] = (), devices: tuple[str, ...] = (), **fields: Any) -> ET.Element:
    settings = msgspec.structs.replace(SETTINGS, **fields.pop("settings", {}))
    topology = GuestTopology(cells=cells, devices=devices) if cells or devices else None
    guest = a_guest(vcpus=4, topology=topology, nics=(a_nic(),), **fields)
    return ET.fromstring(domain_xml(guest, (DISK,), "/i/console.log", settings))


def attributes(root: ET.Element, path: str) -> list[dict[str, str]]:
    return [element.attrib for element in root.iterfind(path)]


def test_vcpus_are_pinned_to_their_own_cpus_and_others_float_over_their_cell() -> None:
    root = xml(PINNED)
    assert attributes(root, "cputune/vcpupin") == [
        {"vcpu": "0", "cpuset": "11"}, {"vcpu": "1", "cpuset": "12"},
        {"vcpu": "2", "cpuset": "0-1"}, {"vcpu": "3", "cpuset": "2"},
    ]  # fmt: skip
    assert attributes(root, "cputune/emulatorpin") == [{"cpuset": "0-2,11-12"}]


def test_memory_comes_from_the_cells_and_the_guest_sees_its_own() -> None:
    root = xml(PINNED)
    assert attributes(root, "numatune/memory") == [{"mode": "strict", "nodeset": "0-1"}]
    assert attributes(root, "numatune/memnode") == [
        {"cellid": "0", "mode": "strict", "nodeset": "1"}, {"cellid": "1", "mode": "strict", "nodeset": "0"},
    ]  # fmt: skip
    assert attributes(root, "cpu/numa/cell") == [
        {"id": "0", "cpus": "0-1", "memory": "256", "unit": "MiB"},
        {"id": "1", "cpus": "2-3", "memory": "256", "unit": "MiB"},
    ]
    assert root.find("memoryBacking") is None, "of the smallest pages, which nobody asked for"


def test_large_pages_back_the_cells_that_asked_for_them() -> None:
    large = tuple(msgspec.structs.replace(cell, page_kib=2048, own_pages=True) for cell in PINNED)
    root = xml(large)
    assert attributes(root, "memoryBacking/hugepages/page") == [
        {"size": "2048", "unit": "KiB", "nodeset": "0"}, {"size": "2048", "unit": "KiB", "nodeset": "1"},
    ]  # fmt: skip
    assert {cell["memAccess"] for cell in attributes(root, "cpu/numa/cell")} == {"shared"}
    small = tuple(msgspec.structs.replace(cell, own_pages=True) for cell in PINNED)
    assert xml(small).find("memoryBacking") is None


@pytest.mark.parametrize(
    ("specs", "emulator", "realtime"),
    [
        ({"hw:emulator_threads_policy": "isolate"}, "3", None),
        ({"hw:emulator_threads_policy": "share"}, "0-1,8", None),
        ({"hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^2"}, "0-1", "0-1,3"),
    ],
)
def test_the_emulators_threads_keep_where_they_may_run(
    specs: dict[str, str], emulator: str, realtime: str | None
) -> None:
    cells = (msgspec.structs.replace(PINNED[0], emulator_cpus=(3,)), PINNED[1])
    root = xml(cells, extra_specs=specs, settings={"shared_cpus": (0, 1, 8)})
    assert attributes(root, "cputune/emulatorpin") == [{"cpuset": emulator}]
    found = [one["vcpus"] for one in attributes(root, "cputune/vcpusched")]
    assert found == ([realtime] if realtime else [])
    assert (root.find("memoryBacking/locked") is not None) is bool(realtime)


def test_a_guest_without_cells_runs_on_the_shared_cpus_where_some_are_configured() -> None:
    assert attributes(xml(), "vcpu") == [{"placement": "static"}]
    shared = xml(settings={"shared_cpus": (0, 1, 8)})
    assert attributes(shared, "vcpu") == [{"placement": "static", "cpuset": "0-1,8"}]
    assert shared.find("cputune") is None and shared.find("numatune") is None and shared.find("cpu") is None


def test_a_device_is_named_by_its_address() -> None:
    root = xml(devices=("0000:81:00.1", "000a:03:1f.0"))
    assert attributes(root, "devices/hostdev") == [{"mode": "subsystem", "type": "pci", "managed": "yes"}] * 2
    assert attributes(root, "devices/hostdev/source/address") == [
        {"domain": "0x0000", "bus": "0x81", "slot": "0x00", "function": "0x1"},
        {"domain": "0x000a", "bus": "0x03", "slot": "0x1f", "function": "0x0"},
    ]
    with pytest.raises(BadRequest):
        xml(devices=("81:00.1",))


def test_a_cell_that_is_not_there_is_another_hosts_business() -> None:
    with pytest.raises(Unavailable):
        xml((msgspec.structs.replace(PINNED[0], host_cell=7),))


@pytest.mark.parametrize("virt_type", ["qemu", "kvm"])
def test_libvirts_own_schema_takes_it(virt_type: str) -> None:
    """The devices of it among others: there is no machine with one to pass through that tests could use."""
    libvirt = pytest.importorskip("libvirt")
    large = tuple(
        msgspec.structs.replace(cell, page_kib=2048, own_pages=True, emulator_cpus=(3,) if cell is PINNED[0] else ())
        for cell in PINNED
    )
    specs = {"hw:emulator_threads_policy": "isolate", "hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0"}
    root = xml(large, ("0000:81:00.1",), extra_specs=specs, settings={"virt_type": virt_type})
    assert validated(libvirt, root) == ""
    ET.SubElement(root, "numatune")
    assert "validate" in validated(libvirt, root), "what is no domain is seen"


def validated(libvirt: Any, root: ET.Element) -> str:
    """What libvirt's schema says against a domain; its driver for tests asks no hypervisor."""
    connection = libvirt.open("test:///default")
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    try:
        connection.defineXMLFlags(ET.tostring(root, encoding="unicode"), libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    except libvirt.libvirtError as error:
        return str(error) if "validate" in str(error) else ""
    finally:
        connection.close()
    return ""
