"""Somebody who kills daemons with SIGKILL at random moments; the moments come from a seed that is printed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from nova_fast.cli import libvirt_host, processes
from nova_fast.config import load

from .conftest import Cloud, wait_for

SEED = "NOVA_FAST_FAULT_SEED"  # set it to have the moments of a run again
BACK_TIMEOUT_S = 60
SUPERVISOR = "supervisor"
LIBVIRTD = "libvirtd"
VIRTLOGD = "virtlogd"
LIBVIRT_HOST = "libvirt-host"  # the supervisor of libvirtd and virtlogd, where we started them


def seeded() -> random.Random:
    """The random numbers of this run; says their seed."""
    seed = int(os.environ.get(SEED) or time.time_ns() % 1_000_000)
    print(f"{SEED}={seed}")  # noqa: T201 - whoever reads of a failure needs it
    return random.Random(seed)


SUPERVISORS = (SUPERVISOR, LIBVIRT_HOST)


class Killer:
    """Kills, waits until the supervisor has brought back what was killed, and remembers when it did what."""

    def __init__(self, cloud: Cloud, moments: random.Random, pause_s: tuple[float, float] = (0.1, 0.9)) -> None:
        self.cloud = cloud
        self.kills: list[tuple[float, tuple[str, ...]]] = []  # (time.monotonic(), who)
        self._moments = moments
        self._pause_s = pause_s

    def run(self, plan: Iterable[tuple[str, ...]], over: Callable[[], bool] = lambda: False) -> None:
        """Kill these, one group after the other."""
        for victims in plan:
            time.sleep(self._moments.uniform(*self._pause_s))
            if over():
                return
            self.kill(victims)

    def kill(self, victims: tuple[str, ...]) -> None:
        """Kill these together. If the supervisor is among them ``nova-fast up`` follows, as when a machine starts."""
        before = self.running()
        self.kills.append((time.monotonic(), victims))
        for name in sorted(victims, key=lambda name: name not in SUPERVISORS):  # else they start the first ones again
            if name in before:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(before[name], signal.SIGKILL)
        if SUPERVISOR in victims:
            self.cloud.up()
        wait_for(
            f"{', '.join(victims)} are back",
            lambda: all(self.running().get(name) not in (None, before.get(name)) for name in victims),
            BACK_TIMEOUT_S,
            0.05,
        )

    def last(self, *names: str) -> float:
        """When one of these was killed last; long ago if never."""
        return max((at for at, victims in self.kills if set(names) & set(victims)), default=float("-inf"))

    def running(self) -> dict[str, int]:
        """name → process id of the daemons that run, the supervisor, and libvirt's if they are ours."""
        config = load(self.cloud.config)
        found = dict(_programs(config.run_path / "cloud.json"))
        if supervisor := processes.running(config.run_path / "cloud.pid"):
            found[SUPERVISOR] = supervisor.pid
        if owner := processes.running(config.run_path / f"{libvirt_host.SETTING_NAME}.pid"):
            found[LIBVIRT_HOST] = owner.pid
            ours = dict(_programs(config.run_path / f"{libvirt_host.SETTING_NAME}.json"))
            found |= {name: ours[name] for name in (LIBVIRTD, VIRTLOGD) if name in ours}
        return found


def _programs(status_file: Path) -> list[tuple[str, int]]:
    try:
        programs = json.loads(status_file.read_text())["programs"]
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return [(each["name"], each["identity"]["pid"]) for each in programs if each["identity"]]
