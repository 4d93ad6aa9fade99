"""REST changes where a sync takes milliseconds, as on most disks: the one this runs on may hardly take any.

Each POST is accepted when its commit is on the disk, and a commit is two syncs, one after the other.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import msgspec

from bench import open_loop
from bench.api_changes import WRITERS, run_clients
from bench.api_reads import Length
from bench.arrivals import POISSON
from bench.cloud import Cloud, Options, running_cloud
from bench.mixes import job, report_run
from bench.results import report
from bench.slow_disk import SYNCS_MS, suffered_ms

STREAM = 400.0  # requests a second, that wait for nobody


def measure_slow_disks(length: Length, *, quick: bool = False) -> None:
    """One client that waits for each answer, 64 of them, and a stream that waits for none, on several disks."""
    for sync_ms in SYNCS_MS[:1] if quick else SYNCS_MS:
        name = f"post_servers_disk_{sync_ms}ms"
        with running_cloud(Options(slow_disk_ms=sync_ms)) as (cloud, _):
            cloud.log_in()
            create = cloud.prepare()
            assert cloud.environment is not None
            suffered = suffered_ms(cloud.folder, cloud.environment)
            report(f"{name}_sync_p50", suffered, "ms", None)
            for clients in (1, WRITERS):
                in_name = f"{name}_{clients}_client{'s' if clients > 1 else ''}"
                p50_ms = _measure_clients(cloud, create, in_name, clients, length)
                report(f"{in_name}_p50_in_syncs", p50_ms / suffered, "syncs", None)
            stream = job(cloud, create, "create", STREAM, length.seconds)
            report_run(f"{name}_stream", open_loop.run(msgspec.structs.replace(stream, arrivals=POISSON)))
            cloud.wait_idle()


def _measure_clients(cloud: Cloud, create: dict[str, Any], name: str, clients: int, length: Length) -> float:
    """So many clients that wait for their answers; p50 in ms."""
    found = run_clients(cloud, create, clients, length)
    report(f"{name}_accepted", median(found.rates), "1/s", None)
    report(f"{name}_all_active", median(found.finished), "1/s", None)
    for percent in (50, 99):
        report(f"{name}_p{percent}", found.latencies.ms(percent), "ms", None)
    return found.latencies.ms(50)
