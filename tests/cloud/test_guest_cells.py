"""A real guest with a NUMA cell and a CPU of its own, from the options of its host to the threads of its process.

The host has one cell and two CPUs: CPU 0 is shared, CPU 1 is kept. The guest is asked for through the API with the
scheduler's and the conductor's whole part in it; libvirt says what became of it, and so does the kernel.
"""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import GUEST_BOOT_TIMEOUT_S, Cloud, new_cloud, wait_for
from .openstack_session import Session

URI = os.environ.get("NOVA_FAST_TEST_LIBVIRT_URI", "qemu:///system")
pytestmark = [
    pytest.mark.needs_qemu,
    pytest.mark.slow,
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one CPU cannot be shared and another's own"),
]


@pytest.fixture(scope="module")
def cloud(local_libvirt: None) -> Iterator[Cloud]:
    with new_cloud(cpu_shared_set="0", cpu_dedicated_set="1", stop_grace_s=1) as cloud:
        cloud.up()
        yield cloud


@pytest.fixture(scope="module")
def cli(cloud: Cloud, guest_image: Path) -> Iterator[Session]:
    with Session(cloud.environment()) as session:
        session.text("image", "create", "--file", str(guest_image), "--disk-format", "qcow2", "tiny")
        options = ("--vcpus", "2", "--ram", "96", "--disk", "1")
        specs = ("hw:cpu_policy=mixed", "hw:cpu_dedicated_mask=1", "hw:numa_nodes=1")
        session.text("flavor", "create", *options, *(part for spec in specs for part in ("--property", spec)), "celled")
        yield session


def virsh(*arguments: str) -> str:
    done = subprocess.run(
        ["virsh", "-q", "-c", URI, *arguments], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout


def test_a_guest_runs_where_it_was_put(cloud: Cloud, cli: Session) -> None:
    made = cli.openstack("server", "create", "--image", "tiny", "--flavor", "celled", "--nic", "none", "box")
    wait_for("the guest has booted", lambda: "login:" in cloud.console(made["id"]), GUEST_BOOT_TIMEOUT_S, 1)
    domain = ET.fromstring(virsh("dumpxml", made["id"]))
    pins = {pin.get("vcpu"): pin.get("cpuset") for pin in domain.iterfind("cputune/vcpupin")}
    assert pins == {"0": "0", "1": "1"}
    assert [cell.attrib["cpus"] for cell in domain.iterfind("cpu/numa/cell")] == ["0-1"]
    memory = domain.find("numatune/memory")
    assert memory is not None and (memory.get("mode"), memory.get("nodeset")) == ("strict", "0")
    asked = [line.split() for line in virsh("vcpupin", made["id"]).splitlines() if line.strip()]
    assert asked == [["0", "0"], ["1", "1"]]
    allowed = threads_of(made["id"])
    assert allowed["CPU 0/TCG"] == {0} and allowed["CPU 1/TCG"] == {1}
    taken_by(cli, {"PCPU": 1, "VCPU": 1})
    second = cli.openstack("server", "create", "--image", "tiny", "--flavor", "celled", "--nic", "none", "late")
    fault = wait_for("it is refused", lambda: refused(cli, second["id"]), 60)
    assert "No valid host" in fault
    for server in (second, made):
        cli.text("server", "delete", server["id"])
    wait_for("both are gone", lambda: not cli.openstack("server", "list"), 60)
    taken_by(cli, {"PCPU": 0, "VCPU": 0})


def refused(cli: Session, server_id: str) -> str:
    shown: dict[str, Any] = cli.openstack("server", "show", server_id)
    return str(shown["fault"]) if shown["status"] == "ERROR" else ""


def taken_by(cli: Session, wanted: dict[str, int]) -> None:
    (provider,) = cli.openstack("resource", "provider", "list")
    rows = cli.openstack("resource", "provider", "usage", "show", provider["uuid"])
    used = {row["resource_class"]: row["usage"] for row in rows}
    assert {name: used[name] for name in wanted} == wanted


def threads_of(server_id: str) -> dict[str, set[int]]:
    """The threads of a guest's process by their names, and the CPUs on which the kernel lets them run."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"qemu-system" in arguments[0] and server_id.encode() in arguments:
                return {
                    (task / "comm").read_text().strip(): os.sched_getaffinity(int(task.name))
                    for task in (entry / "task").iterdir()
                }
    raise AssertionError("the guest has no process")
