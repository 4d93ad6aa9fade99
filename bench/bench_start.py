"""The start of a large cloud: from ``nova-fast up`` to the first answer, and to the first server with a host.

Makes a cloud in a temporary folder on this disk, fills its store with 10,000 hosts and 100,000 servers (each with port,
action and event), starts it and asks at once, again and again: for a page of servers, and for a new one until the
scheduler has given it a host. The daemons of the 10,000 hosts are not there: what is measured is the start of the
conductor, the scheduler and the API. On the same store: the check, and a backup.

    python -m bench start
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import time
from typing import Any

from bench.cloud import Cloud, running_cloud
from bench.fill import fill
from bench.machine import ROOT
from bench.results import report

HOSTS, SERVERS = 10_000, 100_000
HOSTS_QUICK, SERVERS_QUICK = 2_000, 20_000
WAIT_S = 60.0


class Start:
    """What was measured of one start."""

    def __init__(self, first_answer_s: float, first_placement_s: float, up_s: float) -> None:
        self.first_answer_s = first_answer_s
        self.first_placement_s = first_placement_s
        self.up_s = up_s


def filled(cloud: Cloud, hosts: int, servers: int) -> dict[str, Any]:
    """Fill the store of a cloud that runs, and leave it stopped; returns the body of a create request."""
    cloud.log_in()
    create = cloud.prepare()
    cloud.nova_fast("down")
    fill(cloud.folder / "var" / "store", hosts, servers, cloud.project, "bench")
    return create


def start(cloud: Cloud, create: dict[str, Any]) -> Start:
    """Start a stopped cloud and ask at once."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "nova_fast.cli.main", "up", "--config", str(cloud.config)]
    up = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _until_answered(cloud, "GET", "/v2.1/servers?limit=100")
        first_answer_s = time.perf_counter() - begin
        server_id = _until_answered(cloud, "POST", "/v2.1/servers", create)["server"]["id"]
        while not _host_of(cloud, server_id):
            assert time.perf_counter() - begin < WAIT_S, "no host was chosen"
            time.sleep(0.01)
        first_placement_s = time.perf_counter() - begin
    finally:
        assert up.wait(WAIT_S) == 0
    return Start(first_answer_s, first_placement_s, time.perf_counter() - begin)


def _until_answered(cloud: Cloud, method: str, path: str, body: Any = None) -> Any:
    end = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
            return cloud.ask("compute", method, path, body)[1]
        assert time.monotonic() < end, f"{method} {path} was not answered"
        time.sleep(0.01)


def _host_of(cloud: Cloud, server_id: str) -> str:
    _, body, _ = cloud.ask("compute", "GET", f"/v2.1/servers/{server_id}")
    assert body["server"]["status"] != "ERROR", body["server"]["fault"]
    return str(body["server"]["OS-EXT-SRV-ATTR:host"] or "")


def main(*, quick: bool = False) -> None:
    hosts, servers = (HOSTS_QUICK, SERVERS_QUICK) if quick else (HOSTS, SERVERS)
    label = f"{servers // 1000}k"
    with running_cloud() as (cloud, _):
        create = filled(cloud, hosts, servers)
        size = cloud.used_bytes()
        report(f"store_{label}", size / (1 << 20), "MiB", None)
        started = start(cloud, create)
        report(f"start_to_first_answer_{label}", started.first_answer_s, "s", 5.0, less_is_better=True)
        report(f"start_to_first_placement_{label}", started.first_placement_s, "s", 5.0, less_is_better=True)
        report(f"start_up_returns_{label}", started.up_s, "s", None)
        report(f"start_pss_{label}", cloud.pss_mib(), "MiB", None)
        begin = time.perf_counter()
        cloud.nova_fast("check")
        report(f"check_{label}", time.perf_counter() - begin, "s", None)
        begin = time.perf_counter()
        cloud.nova_fast("backup", str(cloud.folder / "backup"))
        report(f"backup_{label}", time.perf_counter() - begin, "s", None)


if __name__ == "__main__":
    main()
