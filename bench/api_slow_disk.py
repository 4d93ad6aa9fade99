"""REST changes where a sync takes milliseconds, as on most disks: the one this runs on may hardly take any."""

from __future__ import annotations

import json
import time
from statistics import median

from bench import closed_loop
from bench.api_changes import WRITERS
from bench.api_reads import Length
from bench.cloud import Cloud, Options, running_cloud
from bench.histogram import Latencies
from bench.journeys import request_bytes
from bench.results import report
from bench.slow_disk import suffered_ms

#: Of a sync: a network disk or a good SSD, an SSD that keeps its promise, a disk that turns.
SYNCS_MS = (1, 4, 10)


def measure_slow_disks(length: Length, *, quick: bool = False) -> None:
    """One client that waits for each answer, and 64 of them, on disks of several speeds."""
    for sync_ms in SYNCS_MS[:1] if quick else SYNCS_MS:
        with running_cloud(Options(slow_disk_ms=sync_ms)) as (cloud, _):
            _measure(cloud, f"post_servers_disk_{sync_ms}ms", length)


def _measure(cloud: Cloud, name: str, length: Length) -> None:
    cloud.log_in()
    post = request_bytes("POST", "/v2.1/servers", cloud.headers, json.dumps(cloud.prepare()).encode())
    assert cloud.environment is not None
    sync_ms = suffered_ms(cloud.folder, cloud.environment)
    report(f"{name}_sync_p50", sync_ms, "ms", None)
    for clients in (1, WRITERS):
        latencies = Latencies()
        rates, finished = [], []
        closed_loop.run(cloud.ports["compute"], clients, 0.5, [post])
        for _ in range(length.rounds):
            cloud.wait_idle()
            found = closed_loop.run(cloud.ports["compute"], clients, length.round_s, [post])
            ended = time.perf_counter()
            cloud.wait_idle()
            finished.append(found.count / (found.seconds + time.perf_counter() - ended))
            rates.append(found.rate)
            latencies.merge(found.percentiles())
        measured = f"{name}_{clients}_client{'s' if clients > 1 else ''}"
        report(f"{measured}_accepted", median(rates), "1/s", None)
        report(f"{measured}_all_active", median(finished), "1/s", None)
        for percent in (50, 99):
            report(f"{measured}_p{percent}", latencies.ms(percent), "ms", None)
        report(f"{measured}_p50_in_syncs", latencies.ms(50) / sync_ms, "syncs", None)
