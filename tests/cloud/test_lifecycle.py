"""``nova-fast up``, ``status`` and ``down`` with the real daemons, over drivers that need no rights."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.ports import free_ports
from nova_fast.cli import lifecycle, processes, programs, status, supervisor
from nova_fast.cli.lifecycle import Cloud
from nova_fast.config import load

pytestmark = pytest.mark.slow
TIMEOUT_S = 120


class Machine:
    """One configuration, and ``nova-fast`` on it."""

    def __init__(self, folder: Path) -> None:
        self.config_file = folder / "nova-fast.toml"
        names = ("identity_port", "compute_port", "image_port", "network_port", "placement_port")
        ports = "\n".join(f"{name} = {port}" for name, port in zip(names, free_ports(5), strict=True))
        self.config_file.write_text(
            f'state_dir = "{folder}/var"\n[compute]\ndriver = "fake"\n[network]\ndriver = "fake"\n'
            f"[api]\nworkers = 2\n{ports}\n"
        )
        self.cloud = Cloud(load(self.config_file), str(self.config_file))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            programs.own_argv(*arguments, "--config", str(self.config_file)),
            env=programs.own_environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def rows(self) -> dict[str, status.Row]:
        return {row.name: row for row in status.cloud_rows(self.cloud)}

    def pid_of(self, name: str) -> int:
        pid = self.rows()[name].pid
        assert pid is not None
        return pid


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.run("down")
    assert supervisor.leftovers(machine.cloud.setting) == {}


def test_up_answers_and_down_leaves_no_process(machine: Machine) -> None:
    up = machine.run("up")
    assert up.returncode == 0, up.stderr
    assert lifecycle.api_answers(machine.cloud.config)
    assert lifecycle.has_host(machine.cloud.config), "a server asked for now would have found no host"
    assert machine.run("status").returncode == 0
    again = machine.run("up")
    assert (again.returncode, again.stdout) == (0, "nova-fast: is up already\n")
    pids = [row.pid for row in machine.rows().values()]
    assert len(pids) == 7
    assert machine.run("down", "--all").returncode == 0
    assert not any(pid is not None and processes.identify(pid) for pid in pids)
    assert machine.run("status").returncode == 1
    assert not lifecycle.api_answers(machine.cloud.config)


def test_a_killed_daemon_comes_back(machine: Machine) -> None:
    assert machine.run("up").returncode == 0
    for name in ("conductor", "scheduler", "network", "compute", "api-0", "api-1"):
        pid = machine.pid_of(name)
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while (row := machine.rows()[name]).pid in (None, pid):
            assert time.monotonic() < deadline, name
            time.sleep(0.02)
        assert row.last_exit == "killed by SIGKILL"


def test_a_cloud_whose_supervisor_was_killed_serves_on_and_can_be_managed(machine: Machine) -> None:
    assert machine.run("up").returncode == 0
    before = machine.rows()
    os.kill(machine.pid_of("supervisor"), signal.SIGKILL)
    while machine.rows()["supervisor"].pid is not None:
        time.sleep(0.02)
    assert lifecycle.api_answers(machine.cloud.config)
    assert machine.run("status").returncode == 1
    again = machine.run("up")
    assert again.returncode == 0, again.stderr
    assert "stopped what an earlier run left behind" in again.stdout
    after = machine.rows()
    assert all(after[name].pid not in (None, before[name].pid) for name in after)
    assert machine.run("status").returncode == 0
