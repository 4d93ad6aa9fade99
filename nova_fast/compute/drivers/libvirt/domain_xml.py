"""A guest as libvirt's domain XML. Pure.

Built as a tree and never as text, so that no name can become markup. Every domain carries an element of our own
namespace with the server's id and the folder its cloud keeps instances in: only domains that carry *our* folder are
listed, changed or removed, so that several clouds and a person's own machines can share one libvirt.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import msgspec

from nova_fast import __version__
from nova_fast.compute.drivers.libvirt.domain_topology import add_devices, add_topology
from nova_fast.model.errors import BadRequest, NotImplementedHere
from nova_fast.model.tasks import Guest, GuestNic
from nova_fast.model.topology import NumaCell

METADATA_NAMESPACE = "urn:nova-fast:guest:1"
TB_CACHE_MIB = 64  # of translated code a TCG guest may keep; QEMU's own default is up to 1 GiB
SPARE_PCIE_PORTS = 16  # devices that can be plugged into a running q35 guest
VIDEO_RAM_KIB = 16_384

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_IDENTIFIER = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_.-]{0,63}")
_INTERFACE = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_.-]{0,14}")
_MAC = re.compile(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}")


class Backing(msgspec.Struct, frozen=True, kw_only=True):
    """The file an overlay lies on; many guests share it."""

    path: str
    format: str


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """A disk of a guest, as a file of this host."""

    path: str
    format: str  # raw, qcow2
    device: str = "disk"  # disk, cdrom
    read_only: bool = False
    shared: bool = False  # with other guests
    boot_order: int = 0  # 0 = not booted from
    backing: Backing | None = None


class DomainSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all guests of a host have in common."""

    virt_type: str  # kvm, qemu
    architecture: str
    instances_dir: str
    cache_mode: str = "none"  # of the page cache; none needs a file system with O_DIRECT
    separate_user: bool = True  # QEMU runs as a user of its own, to whom libvirt gives the files
    cells: tuple[NumaCell, ...] = ()  # of the host
    shared_cpus: tuple[int, ...] = ()  # configured for guests that have no cells; none = all CPUs


def identifier(value: str, what: str) -> str:
    """The value, which is safe as a part of a path and as a libvirt name. Raises BadRequest."""
    if not _IDENTIFIER.fullmatch(value):
        raise BadRequest(f"{value!r} is no usable {what}.", field=what)
    return value


def domain_xml(guest: Guest, disks: tuple[Disk, ...], console_log: str, settings: DomainSettings) -> str:
    """The XML of a guest.

    Raises BadRequest for values libvirt could misread, NotImplementedHere for a machine we do not know, Unavailable
    for a NUMA cell that the host does not have.
    """
    if settings.architecture != "x86_64":
        raise NotImplementedHere(
            f"Guests on {settings.architecture} hosts are not supported.",
            hint="Use an x86_64 host, or the fake driver.",
        )
    assert settings.virt_type in ("kvm", "qemu") and guest.vcpus > 0 and guest.ram_mib > 0
    root = ET.Element("domain", type=settings.virt_type)
    _text(root, "name", identifier(guest.domain_name, "domain_name"))
    _text(root, "uuid", identifier(guest.server_id, "server_id"))
    _text(root, "title", " ".join(guest.name.split()) or guest.server_id)
    _metadata(root, guest, settings)
    _text(root, "memory", str(guest.ram_mib), unit="MiB")
    _text(root, "vcpu", str(guest.vcpus), placement="static")
    _platform(root, guest, settings)
    add_topology(root, guest, settings.cells, settings.shared_cpus)
    devices = ET.SubElement(root, "devices")
    _controllers(devices, settings)
    for disk, target in zip(disks, _targets(disks, settings), strict=True):
        _disk(devices, disk, target, settings)
    for nic in guest.nics:
        _interface(devices, nic)
    add_devices(devices, guest)
    _consoles(devices, console_log)
    return ET.tostring(root, encoding="unicode")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = _NOT_XML.sub("", text)
    return element


def _metadata(root: ET.Element, guest: Guest, settings: DomainSettings) -> None:
    ET.register_namespace("nova_fast", METADATA_NAMESPACE)
    owner = ET.SubElement(ET.SubElement(root, "metadata"), f"{{{METADATA_NAMESPACE}}}guest")
    owner.set("server", guest.server_id)
    owner.set("instances", settings.instances_dir)
    owner.set("project", _NOT_XML.sub("", guest.project_id))


def _platform(root: ET.Element, guest: Guest, settings: DomainSettings) -> None:
    """Machine, processor, clock, and what happens when the guest goes down."""
    kvm = settings.virt_type == "kvm"
    sysinfo = ET.SubElement(ET.SubElement(root, "sysinfo", type="smbios"), "system")
    # cloud-init knows an OpenStack guest by this product name and only then asks for metadata.
    for name, value in (
        ("manufacturer", "OpenStack Foundation"),
        ("product", "OpenStack Nova"),
        ("version", __version__),
        ("serial", guest.server_id),
        ("uuid", guest.server_id),
        ("family", "Virtual Machine"),
    ):
        _text(sysinfo, "entry", value, name=name)
    system = ET.SubElement(root, "os")
    _text(system, "type", "hvm", arch=settings.architecture, machine="q35" if kvm else "pc")
    ET.SubElement(system, "smbios", mode="sysinfo")
    features = ET.SubElement(root, "features")
    ET.SubElement(features, "acpi")
    ET.SubElement(features, "apic")
    if kvm:
        ET.SubElement(root, "cpu", mode="host-model", check="none")
    else:
        _text(ET.SubElement(features, "tcg"), "tb-cache", str(TB_CACHE_MIB), unit="MiB")
    clock = ET.SubElement(root, "clock", offset="utc")
    ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
    ET.SubElement(clock, "timer", name="hpet", present="no")
    _text(root, "on_poweroff", "destroy")
    _text(root, "on_reboot", "restart")
    _text(root, "on_crash", "destroy")


def _controllers(devices: ET.Element, settings: DomainSettings) -> None:
    ET.SubElement(devices, "controller", type="usb", model="none")
    if settings.virt_type == "kvm":
        ET.SubElement(devices, "controller", type="pci", index="0", model="pcie-root")
        for _ in range(SPARE_PCIE_PORTS):
            ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")


def _targets(disks: tuple[Disk, ...], settings: DomainSettings) -> list[tuple[str, str]]:
    """A device name and a bus for each disk: vda, vdb, … for disks; CD-ROMs on the bus the machine has."""
    assert len(disks) <= 26
    cdrom_bus, cdrom_prefix = ("sata", "sd") if settings.virt_type == "kvm" else ("ide", "hd")
    targets, letters = [], {"disk": iter("abcdefghijklmnopqrstuvwxyz"), "cdrom": iter("abcd")}
    for disk in disks:
        letter = next(letters[disk.device])
        targets.append((f"vd{letter}", "virtio") if disk.device == "disk" else (cdrom_prefix + letter, cdrom_bus))
    return targets


def _disk(devices: ET.Element, disk: Disk, target: tuple[str, str], settings: DomainSettings) -> None:
    element = ET.SubElement(devices, "disk", type="file", device=disk.device)
    driver = ET.SubElement(element, "driver", name="qemu", type=disk.format, cache=settings.cache_mode)
    if not disk.read_only:
        driver.set("discard", "unmap")
    _source(element, disk.path, shared=disk.shared, settings=settings)
    if disk.backing is not None:
        # The whole chain is said here, so that libvirt probes no file for it.
        backing = ET.SubElement(element, "backingStore", type="file")
        ET.SubElement(backing, "format", type=disk.backing.format)
        _source(backing, disk.backing.path, shared=True, settings=settings)
        ET.SubElement(backing, "backingStore")
    ET.SubElement(element, "target", dev=target[0], bus=target[1])
    if disk.boot_order:
        ET.SubElement(element, "boot", order=str(disk.boot_order))
    if disk.read_only:
        ET.SubElement(element, "readonly")


def _source(parent: ET.Element, path: str, *, shared: bool, settings: DomainSettings) -> None:
    source = ET.SubElement(parent, "source", file=path)
    if shared and settings.separate_user:
        # SAFETY: what many guests read belongs to none of them: libvirt must not make QEMU's user its owner.
        ET.SubElement(source, "seclabel", model="dac", relabel="no")


def _interface(devices: ET.Element, nic: GuestNic) -> None:
    for value, pattern, what in (
        (nic.bridge, _INTERFACE, "bridge"),
        (nic.tap, _INTERFACE, "tap"),
        (nic.mac_address, _MAC, "mac_address"),
    ):
        if not pattern.fullmatch(value):
            raise BadRequest(f"{value!r} is no usable {what}.", field=what)
    element = ET.SubElement(devices, "interface", type="bridge")
    ET.SubElement(element, "source", bridge=nic.bridge)
    ET.SubElement(element, "mac", address=nic.mac_address)
    ET.SubElement(element, "target", dev=nic.tap)
    ET.SubElement(element, "model", type="virtio")
    ET.SubElement(element, "mtu", size=str(nic.mtu))
    ET.SubElement(element, "rom", enabled="no")  # else every boot loads a PXE ROM


def _consoles(devices: ET.Element, console_log: str) -> None:
    serial = ET.SubElement(devices, "serial", type="pty")
    # append: a guest that resumes or reboots goes on in the same log; virtlogd rotates it.
    ET.SubElement(serial, "log", file=console_log, append="on")
    ET.SubElement(serial, "target", port="0")
    console = ET.SubElement(devices, "console", type="pty")
    ET.SubElement(console, "target", type="serial", port="0")
    ET.SubElement(devices, "input", type="tablet", bus="virtio")
    graphics = ET.SubElement(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
    ET.SubElement(graphics, "listen", type="address", address="127.0.0.1")
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="vga", vram=str(VIDEO_RAM_KIB))
    balloon = ET.SubElement(devices, "memballoon", model="virtio")
    ET.SubElement(balloon, "stats", period="10")
    random = ET.SubElement(devices, "rng", model="virtio")
    _text(random, "backend", "/dev/urandom", model="random")
