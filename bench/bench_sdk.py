"""The ZeroMQ client SDK (``nova_fast.client``) against the same cloud as REST: one API worker, one client process.

* Reads, pipelined: ``get_many`` of 500 servers, four calls at once, each answer decoded into a typed server; and single
  ``get`` calls, 256 at once. In turns with REST over 32 connections, so that the two can be compared.
* 10,000 servers in one call; changes one by one, 64 at once.
* The mixes of ``bench/mixes.py`` in the same open loop, up to their knee.

    python -m bench sdk
"""

from __future__ import annotations

import importlib.util
import time
from statistics import median
from typing import Any

from bench import closed_loop
from bench.bench_api import STEP_S
from bench.cloud import Cloud, running_cloud
from bench.journeys import request_bytes
from bench.mixes import MIXES, Way, measure_mix
from bench.results import not_measured, report
from bench.targets import promised

ROUNDS = 5
SERVERS = 500


def main(*, quick: bool = False) -> None:
    if importlib.util.find_spec("nova_fast.client") is None:
        not_measured("sdk_reads_pipelined", "there is no nova_fast.client in this tree")
        return
    with running_cloud() as (cloud, _):
        cloud.log_in()
        create = cloud.prepare()
        with_port = {"server": {**create["server"], "networks": [{"uuid": cloud.network()}]}}
        cloud.create(with_port, SERVERS)
        cloud.wait_idle()
        measure_reads(cloud, 0.5 if quick else 10.0, 1 if quick else ROUNDS)
        measure_changes(cloud, create, 0.5 if quick else 5.0, quick=quick)
        if not quick:
            door = {"file": str(cloud.folder / "var" / "sdk.json")}
            for mix in MIXES:
                measure_mix(cloud, create, mix, STEP_S, Way("bench.sdk_load", "sdk_open_loop", door))


def measure_reads(cloud: Cloud, seconds: float, rounds: int) -> None:
    """Both ways of reading with the SDK, and REST, in turns."""
    with cloud.books() as books:
        ids = books.server_ids(SERVERS)
    gets = [request_bytes("GET", f"/v2.1/servers/{server_id}", cloud.headers) for server_id in ids]
    rates: dict[str, list[float]] = {"many": [], "gets": [], "rest": []}
    shares: list[float] = []
    for turn in range(rounds + 1):
        for way in ("many", "gets"):
            found = _closed(cloud, way, seconds / rounds, ids=ids)
            if turn:  # the first warms up
                rates[way].append(found.rate)
                if way == "many":
                    shares.append(found.cpu_share)
        rest = closed_loop.run(cloud.ports["compute"], 32, seconds / rounds, gets)
        if turn:
            rates["rest"].append(rest.rate)
    promised("sdk_reads_pipelined", median(rates["many"]))
    report("sdk_reads_single_calls", median(rates["gets"]), "1/s", None)
    report("sdk_reads_client_cpu", 100 * median(shares), "% of a core", None)
    ratios = [many / rest for many, rest in zip(rates["many"], rates["rest"], strict=True)]
    report("sdk_reads_to_rest", median(ratios), "times", None)


def measure_changes(cloud: Cloud, create: dict[str, Any], seconds: float, *, quick: bool) -> None:
    """Servers one by one, and many in one call; all of them must run in the end."""
    found = _closed(cloud, "creates", seconds, create=create)
    report("sdk_creates_64_at_once", found.rate, "1/s", None)
    for percent in (50, 99):
        report(f"sdk_creates_64_at_once_p{percent}", found.percentiles().ms(percent), "ms", None)
    cloud.wait_idle()
    count = 1_000 if quick else 10_000
    begin = time.perf_counter()
    bulk = _closed(cloud, "bulk", 0.0, create=create, count=count)
    report(f"sdk_bulk_create_accepted_{count}", count / bulk.seconds, "servers/s", None)
    cloud.wait_idle()
    report(f"sdk_bulk_boots_{count}", count / (time.perf_counter() - begin), "1/s", None)


def _closed(
    cloud: Cloud, way: str, seconds: float, *, ids: list[str] | None = None, create: Any = None, count: int = 0
) -> closed_loop.Run:
    from bench import sdk_load

    file = str(cloud.folder / "var" / "sdk.json")
    job = sdk_load.ClosedJob(file=file, way=way, seconds=seconds, ids=ids or [], create=create or {}, count=count)
    return sdk_load.run_closed(job)


if __name__ == "__main__":
    main()
