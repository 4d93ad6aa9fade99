"""A cloud with 1, 10, 100, 1,000 and 10,000 fake computes: what each host costs, and what a boot costs among them.

The computes speak to the hub over tcp with CURVE, as hosts in a rack do, and send a heartbeat every 5 s each. What
the hub costs is the whole process it lives in, the conductor: nothing is subtracted. At each size the heartbeats are
counted where they are answered; if fewer came than were due, there is no figure.

Heartbeats and memory are measured in a cloud without servers, so that a host's memory is not mixed with theirs; boots
in a second one, and beside them what the hub's process has with the servers that are left there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench import crowd as crowds
from bench.cloud import Cloud, Options, prepared_cloud
from bench.crowd import Crowd
from bench.machine import ROOT, cpu_s, pss_mib
from bench.plot import Panel, write_panels
from bench.ports import free_ports
from bench.results import Refused, not_measured, report
from bench.targets import TARGETS, promised

PLOT = ROOT / "docs" / "cloud-growth.svg"
SIZES, SIZES_QUICK = (1, 10, 100, 1_000, 10_000), (60,)
SETTLE_S, SETTLE_QUICK_S = 10.0, 1.0
WATCH_S, WATCH_QUICK_S = 30.0, 2.2  # several heartbeats
BOOT_S, BOOT_QUICK_S = 10.0, 1.0
HEARTBEAT_S, HEARTBEAT_QUICK_S = 5.0, 1.0


class Size(msgspec.Struct, frozen=True):
    """What was found with so many computes."""

    hosts: int
    hub_cores: float
    hub_mib: float
    scheduler_mib: float


def measure_growth(boot_for: Callable[..., Any], *, quick: bool) -> None:
    """Run the sizes one after the other, on one cloud for heartbeats and on another for boots."""
    found = _measure_heartbeats(quick=quick)
    boots = _measure_boots(boot_for, quick=quick)
    if not quick and len(found) == len(boots) == len(SIZES):
        plot(PLOT, found, boots)


@contextlib.contextmanager
def _growing_cloud(*, quick: bool) -> Iterator[tuple[Cloud, Crowd]]:
    [port] = free_ports(1)
    every_s = HEARTBEAT_QUICK_S if quick else HEARTBEAT_S
    options = Options(hosts=1, hub=f"tcp://127.0.0.1:{port}", heartbeat_s=every_s)
    with prepared_cloud(options, crowds.let_in) as (cloud, _):
        cloud.log_in()
        with crowds.crowd_of(cloud) as crowd:
            yield cloud, crowd


def _measure_heartbeats(*, quick: bool) -> list[Size]:
    """Grow the crowd and watch it beat; the last size has targets."""
    found: list[Size] = []
    with _growing_cloud(quick=quick) as (cloud, crowd):
        for hosts in SIZES_QUICK if quick else SIZES:
            try:
                found.append(_heartbeats(cloud, crowd, hosts, quick=quick))
            except Refused as refused:
                not_measured(f"heartbeats_{hosts}", refused)
                break
    if len(found) > 1:
        before, last = found[-2:]
        more = last.hosts - before.hosts
        report("memory_a_host_hub", (last.hub_mib - before.hub_mib) * 1024 / more, "KiB", None)
        report("memory_a_host_scheduler", (last.scheduler_mib - before.scheduler_mib) * 1024 / more, "KiB", None)
    return found


def _measure_boots(boot_for: Callable[..., Any], *, quick: bool) -> list[tuple[float, float]]:
    """Grow the crowd and boot servers among it: computes, and boots a second."""
    found: list[tuple[float, float]] = []
    with _growing_cloud(quick=quick) as (cloud, crowd), cloud.books() as books:
        create = cloud.prepare()
        for hosts in SIZES_QUICK if quick else SIZES:
            crowd.grow(hosts - 1)  # the cloud plays one itself
            boots = boot_for(cloud, create, books, BOOT_QUICK_S if quick else BOOT_S)
            cloud.wait_idle()
            found.append((hosts, boots.rate))
            report(f"boots_{hosts}_computes", boots.rate, "1/s", None)
            report(f"control_plane_cpu_per_boot_{hosts}_computes", boots.control_plane_ms, "ms", None)
        conductor = cloud.processes()["conductor"]
        report("servers_after_all_boots", books.servers(), "servers", None)
        report("hub_pss_after_all_boots", pss_mib(conductor), "MiB", None)
        report("hub_pss_after_all_boots_of_files", pss_mib(conductor, "Pss_File"), "MiB", None)
    return found


def _heartbeats(cloud: Cloud, crowd: Crowd, hosts: int, *, quick: bool) -> Size:
    """Add computes up to this number and watch them beat. Raises Refused when they could not keep their rhythm."""
    up_s = crowd.grow(hosts - 1)  # the cloud plays one itself
    time.sleep(SETTLE_QUICK_S if quick else SETTLE_S)
    pids = cloud.processes()
    hub_s, heard, begin = cpu_s(pids["conductor"]), crowd.heard(), time.monotonic()
    time.sleep(WATCH_QUICK_S if quick else WATCH_S)
    seconds = time.monotonic() - begin
    hub_s, later = cpu_s(pids["conductor"]) - hub_s, crowd.heard()
    with cloud.books() as books:
        if (up := books.hosts_up()) < hosts:
            raise Refused(f"{up} of {hosts} hosts are up")
    crowd.check_rhythm(heard, later, seconds, HEARTBEAT_QUICK_S if quick else HEARTBEAT_S)
    size = Size(
        hosts=hosts,
        hub_cores=hub_s / seconds,
        hub_mib=pss_mib(pids["conductor"]),
        scheduler_mib=pss_mib(pids["scheduler"]),
    )
    if hosts == 10_000:
        promised("heartbeats_10000_hub_cores", size.hub_cores)
        promised("heartbeats_10000_hub_pss", size.hub_mib)
        report("heartbeats_10000_hub_pss_of_files", pss_mib(pids["conductor"], "Pss_File"), "MiB", None)
    else:
        report(f"heartbeats_{hosts}_hub_cores", size.hub_cores, "cores", None)
        report(f"heartbeats_{hosts}_hub_pss", size.hub_mib, "MiB", None)
    report(f"heartbeats_{hosts}_fake_computes_cores", (later.cpu_s - heard.cpu_s) / seconds, "cores", None)
    if hosts > 1:
        report(f"hosts_{hosts}_up", up_s, "s", None)
    return size


def plot(path: Path, found: list[Size], boots: list[tuple[float, float]]) -> None:
    """Three panels: boots, processor, memory."""
    write_panels(
        path,
        [
            Panel("boots to ACTIVE a second", "fake computes", [("boots", boots)]),
            Panel(
                "cores for heartbeats every 5 s",
                "fake computes",
                [("the hub's process", [(s.hosts, max(s.hub_cores, 0.001)) for s in found])],
                ("promised at 10,000", TARGETS["heartbeats_10000_hub_cores"].value),
            ),
            Panel(
                "memory, MiB (PSS)",
                "fake computes",
                [
                    ("the hub's process", [(s.hosts, s.hub_mib) for s in found]),
                    ("the scheduler", [(s.hosts, s.scheduler_mib) for s in found]),
                ],
                ("promised for the hub at 10,000", TARGETS["heartbeats_10000_hub_pss"].value),
            ),
        ],
    )
