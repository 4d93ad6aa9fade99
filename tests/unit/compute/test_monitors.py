"""A monitor tells shares of time, and nothing new while a machine does what it did."""

from __future__ import annotations

import asyncio

import pytest

from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.compute.monitors import CPU, Monitors
from nova_fast.config import ComputeConfig
from nova_fast.model.errors import BadRequest
from nova_fast.model.hosts import HostResources

RESOURCES: HostResources = asyncio.run(FakeDriver(ComputeConfig(), lambda _state: None).resources())


class Machine:
    """A processor that does what the test says."""

    def __init__(self) -> None:
        self.user = self.kernel = self.idle = self.iowait = 0

    def spend(self, user: int = 0, kernel: int = 0, idle: int = 0, iowait: int = 0) -> None:
        self.user, self.kernel = self.user + user, self.kernel + kernel
        self.idle, self.iowait = self.idle + idle, self.iowait + iowait

    def read(self, path: str) -> str:
        if path == "/proc/cpuinfo":
            return "processor\t: 0\ncpu MHz\t\t: 2399.998\n"
        half = self.kernel // 2
        return f"cpu  {self.user - 1} 1 {self.kernel - half} {self.idle} {self.iowait} {half} 0 0 0 0\ncpu0 1 2 3\n"


def test_shares_are_of_the_time_since_it_was_last_looked_at() -> None:
    machine = Machine()
    monitors = Monitors((CPU,), machine.read)
    machine.spend(user=100, kernel=100, idle=700, iowait=100)
    first = monitors.added(RESOURCES).metrics
    assert {name: first[f"cpu.{name}.percent"] for name in ("user", "kernel", "idle", "iowait")} == {
        "user": 0.1, "kernel": 0.1, "idle": 0.7, "iowait": 0.1,
    }  # fmt: skip
    assert first["cpu.percent"] == 0.3 and first["cpu.frequency"] > 0
    machine.spend(user=950, idle=50)
    second = monitors.added(RESOURCES).metrics
    assert (second["cpu.user.percent"], second["cpu.idle.percent"], second["cpu.percent"]) == (0.95, 0.05, 0.95)


def test_a_machine_that_does_what_it_did_says_nothing_new() -> None:
    machine = Machine()
    monitors = Monitors((CPU,), machine.read)
    machine.spend(user=100, idle=900)
    first = monitors.added(RESOURCES)
    for user in (110, 90, 140, 60):
        machine.spend(user=user, idle=1000 - user)
        assert monitors.added(RESOURCES) == first
    machine.spend(user=160, idle=840)
    assert monitors.added(RESOURCES).metrics["cpu.user.percent"] == 0.16
    monitors.added(RESOURCES)  # no time has passed at all


def test_without_a_monitor_nothing_is_read() -> None:
    def read(path: str) -> str:
        raise AssertionError(path)

    assert Monitors((), read).added(RESOURCES) is RESOURCES
    with pytest.raises(BadRequest) as refused:
        Monitors(("memory.virt_driver",))
    assert refused.value.field == "compute.compute_monitors"
    real = Monitors((CPU,)).added(RESOURCES).metrics
    assert sum(real[f"cpu.{name}.percent"] for name in ("user", "kernel", "idle", "iowait")) == pytest.approx(
        1, abs=0.05
    )
