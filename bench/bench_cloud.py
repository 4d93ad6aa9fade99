"""The whole cloud: real daemons, real store, real HTTP; fake computes play the hypervisors.

* from ``nova-fast up`` to the first answer, and the idle memory of its processes;
* boots to ACTIVE with 100 fake computes for a minute, and what each costs the control plane in processor time;
* deletions a second, memory and disk a server;
* the same cloud with 1 to 10,000 computes: heartbeats, memory a host, boots a second (``bench/cloud_growth.py``).

The fake computes run on the same cores and are not the control plane: their share is said beside it. A feeder asks for
servers a hundred in one call, so that the API is not what is measured.

    python -m bench cloud
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from bench import closed_loop
from bench.cloud import CONTROL_PLANE, Books, Cloud, Options, running_cloud
from bench.cloud_growth import measure_growth
from bench.crowd import Crowd, crowd_of
from bench.journeys import request_bytes
from bench.machine import pss_mib
from bench.results import report
from bench.targets import promised

COMPUTES = 100
IN_ONE_CALL = 100
UNDER_WAY = 1_500  # servers; enough that nobody waits for work, few enough that none waits long
DELETERS = 64
WARM_UP_S = 5.0
WINDOW_S = 10.0  # the worst of these says how steady it is
PATIENCE_S = 60.0  # until one server comes to rest, on a machine that is busy with other things


class Boots(msgspec.Struct, frozen=True):
    """What a minute of boots found."""

    count: int
    seconds: float
    worst_rate: float  # of a window of WINDOW_S
    cpu_ms: dict[str, float]  # for each boot, by daemon

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def control_plane_ms(self) -> float:
        return sum(ms for name, ms in self.cpu_ms.items() if name.split("-")[0] in CONTROL_PLANE)


def boot_for(cloud: Cloud, create: dict[str, Any], books: Books, seconds: float) -> Boots:
    """Keep servers under way for so long, or until one came to rest; those that came to rest in the time count."""

    def feed(until: float) -> None:
        while time.monotonic() < until:
            if books.under_way() < UNDER_WAY:
                cloud.create(create, IN_ONE_CALL)
            else:
                time.sleep(0.01)

    feed(time.monotonic() + min(WARM_UP_S, seconds / 3))
    marks = [(time.monotonic(), books.settled())]
    cpu = cloud.cpu()
    while marks[-1][0] - marks[0][0] < (seconds if marks[-1][1] > marks[0][1] else max(seconds, PATIENCE_S)):
        feed(time.monotonic() + min(1.0, seconds / 4))
        marks.append((time.monotonic(), books.settled()))
    used = {name: after - cpu.get(name, 0.0) for name, after in cloud.cpu().items()}
    count, took_s = marks[-1][1] - marks[0][1], marks[-1][0] - marks[0][0]
    assert count, "nothing came to rest"
    return Boots(count, took_s, _worst(marks), {name: 1000 * spent / count for name, spent in used.items()})


def _worst(marks: list[tuple[float, int]]) -> float:
    """The lowest rate of any window of WINDOW_S, or of the whole when it is shorter."""
    rates = [
        (later - earlier) / (end - begin)
        for number, (begin, earlier) in enumerate(marks)
        for end, later in marks[number + 1 :]
        if end - begin >= min(WINDOW_S, marks[-1][0] - marks[0][0])
    ]
    return min(rates)


def main(*, quick: bool = False) -> None:
    with running_cloud(Options(hosts=1)) as (cloud, start_s):
        report("up_to_first_answer", start_s, "s", 2.0, less_is_better=True)
        time.sleep(1 if quick else 3)
        promised("idle_pss", cloud.pss_mib())
        for name, pid in sorted(cloud.processes().items()):
            report(f"idle_pss_{name}", pss_mib(pid), "MiB", None)
        cloud.log_in()
        create = cloud.prepare()
        with crowd_of(cloud) as crowd, cloud.books() as books:
            crowd.grow(20 if quick else COMPUTES, networks=True)
            measure_boots(cloud, create, books, crowd, quick=quick)
            measure_deletion(cloud, books)
            if not quick:
                with_port = {"server": {**create["server"], "networks": [{"uuid": cloud.network()}]}}
                boots = boot_for(cloud, with_port, books, 20)
                report("boots_with_port_100_computes", boots.rate, "1/s", None)
    measure_growth(boot_for, quick=quick)


def measure_boots(cloud: Cloud, create: dict[str, Any], books: Books, crowd: Crowd, *, quick: bool) -> None:
    """Boots a second, sustained; and what they leave in memory and on disk."""
    before_mib, before_bytes, before = cloud.pss_mib(), cloud.used_bytes(), crowd.heard()
    boots = boot_for(cloud, create, books, 2 if quick else 60)
    crowd_ms = 1000 * (crowd.heard().cpu_s - before.cpu_s) / boots.count
    if quick:
        report("boots_to_active_20_computes", boots.rate, "1/s", None)
    else:
        promised("boots_to_active_100_computes", boots.rate)
    report("boots_to_active_worst_10_s", boots.worst_rate, "1/s", None)
    promised("control_plane_cpu_per_boot", boots.control_plane_ms)
    for name, ms in sorted(boots.cpu_ms.items()):
        report(f"cpu_per_boot_{name}", ms, "ms", None)
    report("cpu_per_boot_fake_computes", crowd_ms, "ms", None)
    cloud.wait_idle()
    servers = books.servers()
    report("memory_a_server", (cloud.pss_mib() - before_mib) * 1024 / servers, "KiB", None)
    report("disk_a_server", (cloud.used_bytes() - before_bytes) / servers, "B", None)


def measure_deletion(cloud: Cloud, books: Books) -> None:
    """Every server is deleted by 64 clients; the time runs until the last is gone."""
    deletes = [
        request_bytes("DELETE", f"/v2.1/servers/{server_id}", cloud.headers)
        for server_id in books.server_ids(limit=20_000)
    ]
    before, cpu = books.servers(), cloud.cpu()
    begin = time.monotonic()
    found = closed_loop.run(cloud.ports["compute"], DELETERS, 120, deletes, once=True)
    report("deletes_accepted", found.rate, "1/s", None)
    report("deletes_accepted_p99", found.percentiles().ms(99), "ms", None)
    while books.under_way():
        assert time.monotonic() - begin < 300, "deletions did not end"
        time.sleep(0.02)
    took_s = time.monotonic() - begin
    assert books.servers() == before - len(deletes), "not all servers are gone"
    report("deletes", len(deletes) / took_s, "1/s", None)
    used = sum(after - cpu.get(name, 0.0) for name, after in cloud.cpu().items() if name.split("-")[0] in CONTROL_PLANE)
    report("control_plane_cpu_per_delete", 1000 * used / len(deletes), "ms", None)


if __name__ == "__main__":
    main()
