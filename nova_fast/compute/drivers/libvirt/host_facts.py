"""What this machine has: read from ``/proc``, the file system and libvirt's capabilities; told as HostResources."""

from __future__ import annotations

import os
import platform
import socket
import struct
import time
import xml.etree.ElementTree as ET
from pathlib import Path

from nova_fast.compute.drivers.cells import MachineCell, cpu_use, told_cells
from nova_fast.compute.drivers.libvirt.virt_type import cpu_flags
from nova_fast.compute.drivers.pci import read_devices, told_pools
from nova_fast.compute.drivers.traits import (
    EMULATED_FLAGS,
    EVERY_DRIVER,
    QEMU_GUEST,
    architecture_traits,
    cpu_traits,
)
from nova_fast.config import Config
from nova_fast.model.flavors import parse_cpus
from nova_fast.model.hosts import HostResources

_UTMP_RECORD_BYTES = 384  # on Linux; the first two bytes are the type of the record
_USER_PROCESS = 7
#: machine → the instruction sets that its guests may have.
_RUNS = {"x86_64": ("x86_64", "i686")}


def read_resources(config: Config, capabilities: str, hypervisor: tuple[str, int], virt_type: str) -> HostResources:
    """The whole of this machine; the disk is the file system that holds the instances.

    Raises BadRequest for options that do not fit the machine.
    """
    disk = os.statvfs(config.instances_path)
    use = cpu_use(config.compute, online_cpus(capabilities))
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return HostResources(
        vcpus=len(use.shared),
        ram_mib=ram_mib(Path("/proc/meminfo").read_text()),
        disk_gib=disk.f_blocks * disk.f_frsize >> 30,
        architecture=platform.machine(),
        hypervisor_type=hypervisor[0],
        hypervisor_version=hypervisor[1],
        virt_type=virt_type,
        cpu_info=cpu_info(capabilities),
        host_ip=outgoing_address(),
        uptime=uptime_text(time.strftime("%H:%M:%S"), uptime_s, logged_in_users(), os.getloadavg()),
        supported_instances=supported_instances(capabilities, platform.machine(), virt_type),
        traits=host_traits(capabilities, platform.machine(), cpu_flags(Path("/proc/cpuinfo").read_text()), virt_type),
        features=cpu_features(capabilities),
        numa=told_cells(machine_cells(capabilities), use, config.compute),
        pci=told_pools(read_devices(), config.compute.pci_device_spec) if config.compute.pci_device_spec else (),
        pcpus=use.kept,
    )


def online_cpus(capabilities: str) -> frozenset[int]:
    """The CPUs of the machine, by number; counted where libvirt knows no cells."""
    cpus = [cpu for cell in machine_cells(capabilities) for core in cell.cores for cpu in core]
    return frozenset(cpus or range(os.cpu_count() or 1))


def machine_cells(capabilities: str) -> tuple[MachineCell, ...]:
    """The NUMA cells of the machine: their CPUs, memory and pages. A cell with CPUs of several sockets tells none."""
    found = []
    for cell in _parsed(capabilities).iterfind("./host/topology/cells/cell"):
        cpus = cell.findall("./cpus/cpu")
        sockets = {cpu.get("socket_id") for cpu in cpus}
        pages = [(int(pages.get("size", "0")), int(pages.text or "0")) for pages in cell.iterfind("pages")]
        cores = {tuple(sorted(parse_cpus(cpu.get("siblings") or cpu.get("id") or ""))) for cpu in cpus}
        found.append(
            MachineCell(
                number=int(cell.get("id", "0")),
                cores=tuple(sorted(cores)),
                ram_mib=int(cell.findtext("memory", "0")) >> 10,
                pages=tuple(pages),
                socket=int(sockets.pop() or 0) if len(sockets) == 1 else None,
            )
        )
    return tuple(found)


def supported_instances(capabilities: str, machine: str, virt_type: str) -> tuple[tuple[str, str, str], ...]:
    """What guests can be: instruction set, hypervisor and kind of virtualization, as images ask for them.

    libvirt also lists what it could emulate; a guest here has the instruction set of its host (or the older one of 32
    bits), and hardware virtualization only where it is used.
    """
    sets = _RUNS.get(machine, (machine,))
    found = {
        (guest_set, domain.get("type", ""), guest.findtext("os_type", ""))
        for guest in _parsed(capabilities).iterfind("./guest")
        for arch in guest.iterfind("arch")
        for domain in arch.iterfind("domain")
        if (guest_set := arch.get("name", "")) in sets and domain.get("type") in ("qemu", virt_type)
    }
    return tuple(sorted(found)) or ((machine, virt_type, "hvm"),)


def host_traits(capabilities: str, machine: str, flags: frozenset[str], virt_type: str) -> tuple[str, ...]:
    """The traits of this machine; ``flags`` are its processor's, which guests have where KVM runs them."""
    found = {*EVERY_DRIVER, *QEMU_GUEST} | architecture_traits(machine)
    if machine in _RUNS:
        found |= cpu_traits(flags if virt_type == "kvm" else EMULATED_FLAGS)
    topology = _parsed(capabilities).find("./host/cpu/topology")
    if topology is not None and int(topology.get("threads", "1")) > 1:
        found.add("HW_CPU_HYPERTHREADING")
    return tuple(sorted(found))


def cpu_features(capabilities: str) -> tuple[str, ...]:
    """What the processor has beyond its model, by libvirt's names."""
    features = _parsed(capabilities).iterfind("./host/cpu/feature")
    return tuple(sorted(name for feature in features if (name := feature.get("name"))))


def _parsed(capabilities: str) -> ET.Element:
    return ET.fromstring(capabilities)  # noqa: S314 - libvirt's own words


def ram_mib(meminfo: str) -> int:
    """Total memory in MiB from the text of ``/proc/meminfo``."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) >> 10
    raise AssertionError("/proc/meminfo has no MemTotal")


def cpu_info(capabilities: str) -> dict[str, str]:
    """Architecture, vendor, model and topology of the host's processor, from libvirt's capabilities XML."""
    cpu = _parsed(capabilities).find("./host/cpu")
    if cpu is None:
        return {}
    info = {key: cpu.findtext(key, "") for key in ("arch", "vendor", "model")}
    topology = cpu.find("topology")
    if topology is not None:
        info |= {key: topology.get(key, "1") for key in ("sockets", "cores", "threads")}
    return {key: value for key, value in info.items() if value}


def uptime_text(clock: str, uptime_s: float, users: int, load: tuple[float, float, float]) -> str:
    """One line as ``uptime(1)`` writes it: `` 08:18:00 up 1 day,  2:03,  0 users,  load average: 0.39, 0.09, 0.03``."""
    minutes = int(uptime_s) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    up = f"{days} day{'s' if days != 1 else ''}, " if days else ""
    up += f"{hours:2d}:{minutes:02d}" if hours else f"{minutes} min"
    averages = ", ".join(f"{value:.2f}" for value in load)
    return f" {clock} up {up}, {users:2d} user{'s' if users != 1 else ''},  load average: {averages}"


def logged_in_users(utmp: Path = Path("/run/utmp")) -> int:
    """How many sessions the login records show; 0 on machines that keep none."""
    try:
        records = utmp.read_bytes()
    except OSError:
        return 0
    starts = range(0, len(records) - _UTMP_RECORD_BYTES + 1, _UTMP_RECORD_BYTES)
    return sum(struct.unpack_from("h", records, start)[0] == _USER_PROCESS for start in starts)


def outgoing_address() -> str:
    """The address this machine would leave from; nothing is sent. 127.0.0.1 without a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def supports_direct_io(folder: Path) -> bool:
    """Whether files in a folder can be opened with O_DIRECT (tmpfs of older kernels cannot)."""
    probe = folder / f".direct-{os.getpid()}"
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_DIRECT, 0o600))
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True
