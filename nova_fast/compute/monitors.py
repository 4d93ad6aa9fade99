"""What a machine does with its processors, for MetricsFilter and MetricsWeigher; told if ``compute_monitors`` says so.

As Nova's monitor ``cpu.virt_driver`` tells it: the share of the time since it was last looked at, as a part of 1 in
steps of one percent, and the frequency in MHz. The times themselves, which Nova tells too, grow all the time; a
heartbeat is written when it says something new, so they are left out, and a share is told when it has changed by
``STEP`` since it was last told. A machine that does what it did writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from nova_fast.model.errors import BadRequest
from nova_fast.model.hosts import HostResources

CPU = "cpu.virt_driver"
STEP = 0.05
_KINDS = ("user", "kernel", "idle", "iowait")
#: Columns of the line ``cpu`` of /proc/stat, as libvirt adds them up.
_COLUMNS = {"user": (0, 1), "kernel": (2, 5, 6), "idle": (3,), "iowait": (4,)}
_MAX_FREQUENCY = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
_KHZ_PER_MHZ = 1000

Read = Callable[[str], str]


def _read(path: str) -> str:
    return Path(path).read_text()


class Monitors:
    """The monitors of one host."""

    def __init__(self, names: tuple[str, ...], read: Read = _read) -> None:
        """Raises BadRequest for a monitor that is none."""
        unknown = [name for name in names if name != CPU]
        if unknown:
            raise BadRequest(
                f"There is no monitor {unknown[0]!r}.", field="compute.compute_monitors", hint=f"Use {CPU}."
            )
        self._on = bool(names)
        self._read = read
        self._before = dict.fromkeys(_KINDS, 0)
        self._told: dict[str, float] = {}
        self._frequency_mhz = 0

    def added(self, resources: HostResources) -> HostResources:
        """The resources with what was measured."""
        if not self._on:
            return resources
        measured = self._measure()
        known = self._told.keys() == measured.keys()
        if not known or any(abs(measured[name] - told) >= STEP - 1e-9 for name, told in self._told.items()):
            self._told = measured
        return msgspec.structs.replace(resources, metrics=self._told)

    def _measure(self) -> dict[str, float]:
        numbers = [int(number) for number in self._read("/proc/stat").splitlines()[0].split()[1:]]
        now = {kind: sum(numbers[column] for column in _COLUMNS[kind]) for kind in _KINDS}
        spent = {kind: max(0, now[kind] - self._before[kind]) for kind in _KINDS}
        self._before = now
        total = sum(spent.values()) or 1
        shares = {f"cpu.{kind}.percent": _percent(spent[kind] / total) for kind in _KINDS}
        return {**shares, "cpu.percent": _percent((total - spent["idle"]) / total), "cpu.frequency": self._frequency()}

    def _frequency(self) -> int:
        """What the processor is made for; looked at once, because what it runs at changes with every breath."""
        if not self._frequency_mhz:
            lines = self._read("/proc/cpuinfo").splitlines()
            told = [line.partition(":")[2] for line in lines if line.lower().startswith("cpu mhz")]
            self._frequency_mhz = int(float(told[0])) if told else 0
            if _MAX_FREQUENCY.exists():
                self._frequency_mhz = int(_MAX_FREQUENCY.read_text()) // _KHZ_PER_MHZ
        return self._frequency_mhz


def _percent(share: float) -> float:
    return int(share * 100) / 100
