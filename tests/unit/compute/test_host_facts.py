"""What the host says of itself, and whether QEMU can reach the guests' files."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path

import pytest

from nova_fast.compute.drivers.libvirt.binding import without_paths
from nova_fast.compute.drivers.libvirt.file_access import FileAccess, QemuUser, barring_folder, disk_errors, qemu_user
from nova_fast.compute.drivers.libvirt.host_facts import (
    cpu_features,
    cpu_info,
    host_traits,
    logged_in_users,
    machine_cells,
    online_cpus,
    ram_mib,
    read_resources,
    supported_instances,
    uptime_text,
)
from nova_fast.compute.drivers.traits import _FLAGS
from nova_fast.config import ComputeConfig, Config
from nova_fast.model.errors import Conflict, InternalError, Unavailable
from nova_fast.model.placement_names import TRAITS

CAPABILITIES = """<capabilities><host><uuid>u</uuid>
<cpu><arch>x86_64</arch><model>Haswell</model><vendor>Intel</vendor>
<topology sockets='1' dies='1' cores='4' threads='2'/>
<feature name='vmx'/><feature name='avx'/></cpu>
<secmodel><model>none</model><doi>0</doi></secmodel>
<secmodel><model>dac</model><doi>0</doi><baselabel type='kvm'>+64055:+107</baselabel>
<baselabel type='qemu'>+64055:+107</baselabel></secmodel></host>
<guest><os_type>hvm</os_type><arch name='i686'><domain type='qemu'/><domain type='kvm'/></arch></guest>
<guest><os_type>hvm</os_type><arch name='x86_64'><domain type='qemu'/><domain type='kvm'/></arch></guest>
<guest><os_type>hvm</os_type><arch name='aarch64'><domain type='qemu'/></arch></guest></capabilities>"""
NOBODY_ELSE = QemuUser(user_id=54321, group_id=54322)


def test_the_processor_is_described() -> None:
    assert cpu_info(CAPABILITIES) == {
        "arch": "x86_64",
        "model": "Haswell",
        "vendor": "Intel",
        "sockets": "1",
        "cores": "4",
        "threads": "2",
    }
    assert cpu_features(CAPABILITIES) == ("avx", "vmx")
    assert cpu_info("<capabilities><host/></capabilities>") == {}


def test_guests_are_of_the_hosts_own_instruction_set_and_of_kvm_only_where_it_is_used() -> None:
    emulated = (("i686", "qemu", "hvm"), ("x86_64", "qemu", "hvm"))
    assert supported_instances(CAPABILITIES, "x86_64", "qemu") == emulated
    hardware = (("i686", "kvm", "hvm"), ("x86_64", "kvm", "hvm"))
    assert supported_instances(CAPABILITIES, "x86_64", "kvm") == tuple(sorted(emulated + hardware))
    assert supported_instances(CAPABILITIES, "aarch64", "qemu") == (("aarch64", "qemu", "hvm"),)
    assert supported_instances("<capabilities><host/></capabilities>", "x86_64", "kvm") == (("x86_64", "kvm", "hvm"),)


def test_traits_are_standard_ones_that_a_guest_can_be_given() -> None:
    every = frozenset(_FLAGS)
    kvm = set(host_traits(CAPABILITIES, "x86_64", every, "kvm"))
    assert kvm <= TRAITS
    assert {"HW_CPU_X86_AVX2", "HW_CPU_X86_INTEL_VMX", "HW_CPU_X86_SSE42", "HW_CPU_HYPERTHREADING"} <= kvm
    assert {"COMPUTE_NODE", "COMPUTE_STORAGE_BUS_VIRTIO", "HW_ARCH_X86_64", "COMPUTE_ARCH_X86_64"} <= kvm
    emulated = set(host_traits(CAPABILITIES, "x86_64", every, "qemu"))
    assert {trait for trait in emulated if trait.startswith("HW_CPU_X86")} == {
        f"HW_CPU_X86_{name}" for name in ("MMX", "SSE", "SSE2", "SSE3")
    }
    assert "HW_CPU_X86_AVX" not in host_traits(CAPABILITIES, "x86_64", every - {"avx"}, "kvm")
    for machine in ("aarch64", "ppc64le", "s390x", "riscv64", "vax"):
        assert set(host_traits("<capabilities><host/></capabilities>", machine, every, "kvm")) <= TRAITS


def test_qemus_user_is_read_from_the_capabilities() -> None:
    assert qemu_user(CAPABILITIES) == QemuUser(user_id=64055, group_id=107)
    assert qemu_user("<capabilities><host/></capabilities>") is None


def test_memory_is_in_mib() -> None:
    assert ram_mib("MemTotal:       24683840 kB\nMemFree: 1 kB\n") == 24105


@pytest.mark.parametrize(
    ("uptime_s", "users", "expected"),
    [
        (0, 0, " 08:18:00 up 0 min,  0 users,  load average: 0.39, 0.09, 0.03"),
        (17 * 60, 1, " 08:18:00 up 17 min,  1 user,  load average: 0.39, 0.09, 0.03"),
        (3 * 3600 + 65, 2, " 08:18:00 up  3:01,  2 users,  load average: 0.39, 0.09, 0.03"),
        (86400 + 60, 0, " 08:18:00 up 1 day, 1 min,  0 users,  load average: 0.39, 0.09, 0.03"),
        (12 * 86400 + 11 * 3600, 0, " 08:18:00 up 12 days, 11:00,  0 users,  load average: 0.39, 0.09, 0.03"),
    ],
)
def test_uptime_reads_as_uptime_writes_it(uptime_s: float, users: int, expected: str) -> None:
    assert uptime_text("08:18:00", uptime_s, users, (0.39, 0.09, 0.03)) == expected


def test_login_records_are_counted(tmp_path: Path) -> None:
    records = tmp_path / "utmp"
    records.write_bytes(b"".join(struct.pack("h382x", kind) for kind in (7, 2, 7, 8)))
    assert logged_in_users(records) == 2
    assert logged_in_users(tmp_path / "none") == 0


def test_this_machine_is_described(tmp_path: Path) -> None:
    config = Config(compute=ComputeConfig(instances_dir=str(tmp_path)))
    resources = read_resources(config, CAPABILITIES, ("QEMU", 7002000), "qemu")
    assert resources.vcpus == os.cpu_count()
    assert resources.ram_mib == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    disk = subprocess.run(["df", "-B1", "--output=size", str(tmp_path)], capture_output=True, text=True, check=True)
    assert resources.disk_gib == int(disk.stdout.split()[-1]) >> 30
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", resources.host_ip)
    assert "load average" in resources.uptime


CELLS = """<capabilities><host><cpu/><topology><cells num='2'>
<cell id='0'><memory unit='KiB'>8388608</memory><pages unit='KiB' size='4'>2096896</pages>
<pages unit='KiB' size='2048'>128</pages><distances/><cpus num='4'>
<cpu id='0' socket_id='0' core_id='0' siblings='0,4'/><cpu id='4' socket_id='0' core_id='0' siblings='0,4'/>
<cpu id='1' socket_id='0' core_id='1' siblings='1,5'/><cpu id='5' socket_id='0' core_id='1' siblings='1,5'/>
</cpus></cell>
<cell id='1'><memory unit='KiB'>4194304</memory><cpus num='2'>
<cpu id='2' socket_id='0' core_id='2' siblings='2'/><cpu id='3' socket_id='1' core_id='3' siblings='3'/></cpus></cell>
</cells></topology></host></capabilities>"""


def test_cells_are_read_as_libvirt_tells_them() -> None:
    first, second = machine_cells(CELLS)
    assert (first.number, first.cores, first.ram_mib) == (0, ((0, 4), (1, 5)), 8192)
    assert first.pages == ((4, 2096896), (2048, 128))
    assert (first.socket, second.socket) == (0, None), "CPUs of two sockets are of none"
    assert (second.cores, second.pages) == (((2,), (3,)), ())
    assert online_cpus(CELLS) == frozenset(range(6))
    assert online_cpus("<capabilities><host/></capabilities>") == frozenset(range(os.cpu_count() or 1))


def test_the_configured_cpus_are_the_hosts_pcpu(tmp_path: Path) -> None:
    options = ComputeConfig(instances_dir=str(tmp_path), cpu_shared_set="0,4", cpu_dedicated_set="1-3,5")
    resources = read_resources(Config(compute=options), CELLS, ("QEMU", 7002000), "qemu")
    assert (resources.vcpus, resources.pcpus) == (2, 4)
    assert [cell.dedicated_cpus for cell in resources.numa] == [(1, 5), (2, 3)]


def test_a_folder_that_bars_qemus_way_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    inner.parent.chmod(0o700)
    # pytest's own folders may bar the way, too; the first from the root down is named.
    closed = [step for step in inner.parents if step.stat().st_mode & 0o001 == 0]
    assert barring_folder(inner, NOBODY_ELSE) == closed[-1]
    assert barring_folder(inner, QemuUser(user_id=0, group_id=0)) is None
    assert barring_folder(Path("/usr/bin"), NOBODY_ELSE) is None
    with pytest.raises(Conflict) as caught:
        FileAccess(NOBODY_ELSE).check_way(inner)
    assert caught.value.hint is not None
    assert "chmod o+x" in caught.value.hint


def test_errors_of_the_disk_say_what_to_do() -> None:
    with pytest.raises(Unavailable, match="disk is full"), disk_errors("make a disk"):
        raise OSError(28, "No space left on device", "/secret/path")
    with pytest.raises(InternalError, match=r"^Cannot make a disk: Input/output error\.$"), disk_errors("make a disk"):
        raise OSError(5, "Input/output error", "/secret/path")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "Cannot access storage file '/srv/cloud/i/disk': No such file",
            "Cannot access storage file 'disk': No such file",
        ),
        ("Cannot get interface MTU on 'nfbr1': No such device", "Cannot get interface MTU on 'nfbr1': No such device"),
        ("/usr/bin/qemu: Could not open '/a/b'", "qemu: Could not open 'b'"),
        ("read/write error", "read/write error"),
        ("qemu:///system", "qemu:///system"),
    ],
)
def test_messages_for_people_name_files_without_their_folders(text: str, shown: str) -> None:
    assert without_paths(text) == shown
