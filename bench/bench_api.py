"""The REST API as clients load it: one worker, the real conductor and store behind it.

* Reads against two peers in the same run: a bare Falcon application on the same HTTP server that sends the same JSON,
  and a bare protocol that sends the same bytes (the floor). They are loaded in turns, and the median of the ratios
  counts.
* Reads while servers are created and deleted 50 times a second: kept answers cannot hide there.
* Changes against the disk: how long the same disk takes to sync one page, measured between the rounds.
* An open loop for each mix of requests: latency from the intended time of sending, at half of what the ramp found, and
  the knee itself, where p99 leaves its bound or less is answered than was asked.
* ``wrk`` for GETs, where it is installed.

    python -m bench api
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import msgspec

from bench import closed_loop, open_loop, wrk
from bench.arrivals import POISSON
from bench.cloud import Cloud, running_cloud
from bench.histogram import Latencies
from bench.journeys import request_bytes
from bench.knee import ramp
from bench.machine import sync_p50_ms
from bench.peers import FALCON, PROTOCOL, running
from bench.results import Refused, not_measured, report
from bench.targets import promised

READERS, LISTERS, WRITERS = 32, 4, 64
ROWS = 1000
TAIL_MIN = 3  # arrivals behind a percentile, else it is an accident
CHANGES = 50.0  # a second, beside the reads


class Mix(msgspec.Struct, frozen=True):
    """How a mix of requests is ramped: from this rate on, until p99 is above this."""

    name: str
    first_rate: float
    p99_ms_max: float


#: Bounds are a few times what the mix takes when nothing waits; a lifecycle looks every 50 ms.
MIXES = (
    Mix("read", 500, 20),
    Mix("list", 10, 100),
    Mix("create_delete", 100, 100),
    Mix("lifecycle", 20, 1000),
    Mix("mixed", 100, 100),
)


class Lengths(msgspec.Struct, frozen=True):
    """How long everything is measured."""

    seconds: float  # a measure, all its rounds together
    rounds: int  # turns of the peers and us
    bulk: int  # servers in one call
    step_s: float  # a step of a ramp
    mixes: tuple[Mix, ...]


FULL = Lengths(10.0, 5, 10_000, 4.0, MIXES)
QUICK = Lengths(0.6, 2, 1_000, 1.0, ())


def main(*, quick: bool = False) -> None:
    lengths = QUICK if quick else FULL
    with running_cloud() as (cloud, _):
        cloud.log_in()
        create = cloud.prepare()
        with_port = {"server": {**create["server"], "networks": [{"uuid": cloud.network()}]}}
        cloud.create(with_port, ROWS)
        cloud.wait_idle()
        measure_reads(cloud, lengths)
        measure_lists(cloud, lengths)
        if not quick:
            measure_changing(cloud, create, lengths)
        for mix in lengths.mixes:
            measure_mix(cloud, create, mix, lengths)
        if quick:
            measure_quick_mix(cloud, create)
        measure_one_writer(cloud, create, lengths)
        measure_writers(cloud, create, lengths)
        measure_bulk(cloud, create, lengths)


# ------------------------------------------------------------------------------------------------ reads
def measure_reads(cloud: Cloud, lengths: Lengths) -> None:
    """GET /servers/{id} of 200 servers with a port each, in turns with the peers."""
    _, listed, _ = cloud.ask("compute", "GET", "/v2.1/servers?limit=200")
    paths = [f"/v2.1/servers/{server['id']}" for server in listed["servers"]]
    _, record, _ = cloud.ask("compute", "GET", paths[0])
    assert record["server"]["addresses"], "the servers that are read have a port"
    gets = [request_bytes("GET", path, cloud.headers) for path in paths]
    body = json.dumps(record, separators=(",", ":")).encode()
    report("get_server_bytes", len(body), "B", None)
    rates: dict[str, list[float]] = {"ours": [], "falcon": [], "protocol": []}
    ours, cpu_shares = Latencies(), []
    with running(FALCON, body) as falcon, running(PROTOCOL, body) as protocol:
        ports = {"ours": cloud.ports["compute"], "falcon": falcon, "protocol": protocol}
        for turn in range(lengths.rounds + 1):
            for who, port in ports.items():
                found = closed_loop.run(port, READERS, lengths.seconds / lengths.rounds / 2, gets)
                if turn:  # the first warms up
                    rates[who].append(found.rate)
                    if who == "ours":
                        ours.merge(found.percentiles())
                        cpu_shares.append(found.cpu_share)
    _report_reads(rates, ours, cpu_shares)
    if wrk.missing():
        not_measured("get_server_wrk", wrk.missing())
    else:
        by_wrk = wrk.run(cloud.ports["compute"], lengths.seconds / 2, cloud.headers, paths)
        report("get_server_wrk", by_wrk.rate, "1/s", None)
        report("get_server_wrk_p99", by_wrk.p99_ms, "ms", None)


def _report_reads(rates: dict[str, list[float]], ours: Latencies, cpu_shares: list[float]) -> None:
    report("get_server_per_worker", median(rates["ours"]), "1/s", None)
    report("bare_falcon_json", median(rates["falcon"]), "1/s", None)
    report("bare_protocol", median(rates["protocol"]), "1/s", None)
    shares = [100 * one / other for one, other in zip(rates["ours"], rates["falcon"], strict=True)]
    promised("get_server_share_of_bare_falcon", median(shares))
    floor = [100 * one / other for one, other in zip(rates["ours"], rates["protocol"], strict=True)]
    report("get_server_share_of_floor", median(floor), "%", None)
    for percent in (50, 99, 99.9):
        report(f"get_server_p{percent:g}", ours.ms(percent), "ms", None)
    report("get_server_generator_cpu", 100 * median(cpu_shares), "% of a core", None)


def measure_lists(cloud: Cloud, lengths: Lengths) -> None:
    """GET /servers/detail with 1,000 rows, in turns with a bare send of the very same bytes."""
    path = f"/v2.1/servers/detail?limit={ROWS}"
    _, listed, _ = cloud.ask("compute", "GET", path)
    assert len(listed["servers"]) == ROWS
    body = json.dumps(listed, separators=(",", ":")).encode()
    get = [request_bytes("GET", path, cloud.headers)]
    rates, p99s, ours = [], [], Latencies()
    with running(PROTOCOL, body) as protocol:
        for turn in range(lengths.rounds + 1):
            bare = closed_loop.run(protocol, LISTERS, lengths.seconds / lengths.rounds / 2, get)
            found = closed_loop.run(cloud.ports["compute"], LISTERS, lengths.seconds / lengths.rounds, get)
            if turn:
                rates.append(found.rate)
                p99s.append(found.percentiles().ms(99) / bare.percentiles().ms(99))
                ours.merge(found.percentiles())
    report("get_servers_detail_1000_bytes", len(body), "B", None)
    promised("get_servers_detail_1000", median(rates))
    for percent in (50, 99):
        report(f"get_servers_detail_1000_p{percent}", ours.ms(percent), "ms", None)
    promised("get_servers_detail_1000_p99_to_bare_send", median(p99s))


def measure_changing(cloud: Cloud, create: dict[str, Any], lengths: Lengths) -> None:
    """Reads and lists at rest and while the cloud changes, in turns; and what each costs the API's process."""
    with cloud.books() as books:
        ids = books.server_ids(200)
    gets = [request_bytes("GET", f"/v2.1/servers/{server_id}", cloud.headers) for server_id in ids]
    lists = [request_bytes("GET", f"/v2.1/servers/detail?limit={ROWS}", cloud.headers)]
    seconds = lengths.seconds / lengths.rounds
    kinds = (("get_server", READERS, gets), ("get_servers_detail_1000", LISTERS, lists))
    for name, connections, requests in kinds:
        ratios, costs = [], []
        for _ in range(lengths.rounds):
            rest, _ = _costly(cloud, connections, seconds, requests)
            with ThreadPoolExecutor(1) as beside:
                changes = job(cloud, create, "create_delete", CHANGES, seconds + 2)
                changing = beside.submit(open_loop.run, changes)
                time.sleep(1.5)  # the generator's process starts and its warm-up begins
                found, cost_us = _costly(cloud, connections, seconds, requests)
                assert not changing.result().errors, "changes beside the reads failed"
            cloud.wait_idle()
            ratios.append(100 * found / rest)
            costs.append(cost_us)
        report(f"{name}_while_changing", median(ratios), "% of the rate at rest", None)
        report(f"{name}_while_changing_api_cpu", median(costs), "us a request", None)


def _costly(cloud: Cloud, connections: int, seconds: float, requests: list[bytes]) -> tuple[float, float]:
    """Answers a second, and the processor time of the API's process for each in µs."""
    before = cloud.cpu()["api-0"]
    found = closed_loop.run(cloud.ports["compute"], connections, seconds, requests)
    return found.rate, 1e6 * (cloud.cpu()["api-0"] - before) / found.count


# ------------------------------------------------------------------------------------------------ changes
def measure_one_writer(cloud: Cloud, create: dict[str, Any], lengths: Lengths) -> None:
    """One client that waits for each answer: what a durable change takes when nothing waits."""
    post = request_bytes("POST", "/v2.1/servers", cloud.headers, json.dumps(create).encode())
    latencies, syncs = Latencies(), []
    for _ in range(lengths.rounds):
        syncs.append(sync_p50_ms(cloud.folder, 20))
        latencies.merge(
            closed_loop.run(cloud.ports["compute"], 1, lengths.seconds / lengths.rounds, [post]).percentiles()
        )
        cloud.wait_idle()
    report("disk_sync_p50", median(syncs), "ms", None)
    for percent in (50, 99):
        report(f"post_servers_1_client_p{percent}", latencies.ms(percent), "ms", None)
    report("post_servers_1_client_p50_in_syncs", latencies.ms(50) / median(syncs), "syncs", None)


def measure_writers(cloud: Cloud, create: dict[str, Any], lengths: Lengths) -> None:
    """64 clients that wait; what is accepted is booted meanwhile, and that costs the same cores."""
    post = request_bytes("POST", "/v2.1/servers", cloud.headers, json.dumps(create).encode())
    rates, latencies, syncs = [], Latencies(), []
    closed_loop.run(cloud.ports["compute"], WRITERS, 0.5, [post])
    for _ in range(lengths.rounds):
        cloud.wait_idle()
        syncs.append(sync_p50_ms(cloud.folder, 20))
        found = closed_loop.run(cloud.ports["compute"], WRITERS, lengths.seconds / lengths.rounds, [post])
        rates.append(found.rate)
        latencies.merge(found.percentiles())
    cloud.wait_idle()
    promised("post_servers_accepted_64_clients", median(rates))
    for percent in (50, 99, 99.9):
        report(f"post_servers_64_clients_p{percent:g}", latencies.ms(percent), "ms", None)
    promised("post_servers_64_clients_p50_in_syncs", latencies.ms(50) / median(syncs))
    promised("post_servers_64_clients_p99_to_p50", latencies.ms(99) / latencies.ms(50))


def measure_bulk(cloud: Cloud, create: dict[str, Any], lengths: Lengths) -> None:
    """One call for many servers: until it is accepted, and until all of them run."""
    accepted, booted = [], []
    for _ in range(1 if lengths.bulk < 10_000 else 3):
        begin = time.perf_counter()
        cloud.create(create, lengths.bulk)
        accepted.append(lengths.bulk / (time.perf_counter() - begin))
        cloud.wait_idle()
        booted.append(lengths.bulk / (time.perf_counter() - begin))
    if lengths.bulk == 10_000:
        promised("bulk_create_accepted_10000", median(accepted))
    else:
        report(f"bulk_create_accepted_{lengths.bulk}", median(accepted), "servers/s", None)
    report(f"bulk_boots_{lengths.bulk}", median(booted), "1/s", None)


# ------------------------------------------------------------------------------------------------ the open loop
def job(cloud: Cloud, create: dict[str, Any], mix: str, rate: float, seconds: float) -> open_loop.Job:
    with cloud.books() as books:
        ids = books.server_ids(200)
    return open_loop.Job(
        port=cloud.ports["compute"], rate=rate, seconds=seconds, mix=mix, headers=cloud.headers, create=create,
        ids=ids, warm_up_s=min(1.0, seconds / 2),
    )  # fmt: skip


def measure_mix(cloud: Cloud, create: dict[str, Any], mix: Mix, lengths: Lengths) -> None:
    """The knee of a mix, and its percentiles at half of it with users that come at random."""

    def load(rate: float) -> open_loop.Run:
        found = open_loop.run(job(cloud, create, mix.name, rate, lengths.step_s))
        cloud.wait_idle()
        return found

    knee = ramp(load, mix.first_rate, mix.p99_ms_max)
    print(f"ramp of {mix.name}: " + ", ".join(f"{rate:.0f}/s p99 {p99_ms:.1f} ms" for rate, p99_ms in knee.steps))
    print(f"the ramp of {mix.name} ended: {knee.why}")
    if knee.run is None:
        not_measured(f"open_loop_{mix.name}", knee.why)
        return
    suffix = "_of_generator" if knee.by_generator else ""
    report(f"open_loop_{mix.name}_knee{suffix}", knee.rate, "1/s", None)
    half = job(cloud, create, mix.name, knee.rate / 2, 2 * lengths.step_s)
    report_run(f"open_loop_{mix.name}_half_load", open_loop.run(msgspec.structs.replace(half, arrivals=POISSON)))
    cloud.wait_idle()


def measure_quick_mix(cloud: Cloud, create: dict[str, Any]) -> None:
    """One short open loop: that it runs, not what it finds."""
    report_run("open_loop_mixed_50", open_loop.run(job(cloud, create, "mixed", 50, 2.0)))
    cloud.wait_idle()


def report_run(name: str, run: open_loop.Run) -> None:
    """The percentiles of an open loop, as far as it has enough arrivals for them."""
    try:
        latencies = run.checked().percentiles()
    except Refused as refused:
        not_measured(name, refused)
        return
    for percent in (50, 99, 99.9):
        if latencies.count * (1 - percent / 100) >= TAIL_MIN:
            report(f"{name}_p{percent:g}", latencies.ms(percent), "ms", None)
        else:
            not_measured(f"{name}_p{percent:g}", f"{latencies.count} arrivals are too few")
    report(f"{name}_generator_cpu", 100 * run.cpu_share, "% of a core", None)


if __name__ == "__main__":
    main()
