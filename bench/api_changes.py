"""REST changes: what a durable POST takes, how many are accepted, and ten thousand in one call.

Latency is told three times: of one client that waits for each answer, of 64 such clients (who queue behind each other:
their p50 cannot be below 64 divided by the rate), and of an open loop at half of what the 64 reached.
"""

from __future__ import annotations

import json
import time
from statistics import median
from typing import Any, NamedTuple

import msgspec

from bench import closed_loop, open_loop
from bench.api_reads import Length
from bench.arrivals import POISSON
from bench.cloud import Cloud
from bench.histogram import Latencies
from bench.journeys import request_bytes
from bench.machine import sync_p50_ms
from bench.mixes import job, report_run
from bench.results import report
from bench.targets import promised

WRITERS = 64


def measure_one_writer(cloud: Cloud, create: dict[str, Any], length: Length) -> None:
    """One client that waits for each answer: what a durable change takes when nothing waits."""
    post = request_bytes("POST", "/v2.1/servers", cloud.headers, json.dumps(create).encode())
    latencies, syncs = Latencies(), []
    for _ in range(length.rounds):
        syncs.append(sync_p50_ms(cloud.folder, 20))
        latencies.merge(closed_loop.run(cloud.ports["compute"], 1, length.round_s, [post]).percentiles())
        cloud.wait_idle()
    report("disk_sync_p50", median(syncs), "ms", None)
    for percent in (50, 99):
        report(f"post_servers_1_client_p{percent}", latencies.ms(percent), "ms", None)
    report("post_servers_1_client_p50_in_syncs", latencies.ms(50) / median(syncs), "syncs", None)


class Rounds(NamedTuple):
    """What clients that wait for their answers found, round by round."""

    latencies: Latencies  # of all rounds
    rates: list[float]  # accepted a second
    booted: list[float]  # ACTIVE a second, until the last was accepted
    finished: list[float]  # ACTIVE a second, until the last was ACTIVE
    syncs_ms: list[float]  # before each round


def run_clients(cloud: Cloud, create: dict[str, Any], clients: int, length: Length) -> Rounds:
    """So many clients that wait; each round begins when nothing is under way."""
    post = request_bytes("POST", "/v2.1/servers", cloud.headers, json.dumps(create).encode())
    rounds = Rounds(Latencies(), [], [], [], [])
    closed_loop.run(cloud.ports["compute"], clients, 0.5, [post])
    for _ in range(length.rounds):
        cloud.wait_idle()
        rounds.syncs_ms.append(sync_p50_ms(cloud.folder, 20))
        found = closed_loop.run(cloud.ports["compute"], clients, length.round_s, [post])
        ended = time.perf_counter()
        with cloud.books() as books:
            rounds.booted.append((found.count - books.under_way()) / found.seconds)
        cloud.wait_idle()
        rounds.finished.append(found.count / (found.seconds + time.perf_counter() - ended))
        rounds.rates.append(found.rate)
        rounds.latencies.merge(found.percentiles())
    return rounds


def measure_writers(cloud: Cloud, create: dict[str, Any], length: Length) -> None:
    """64 clients that wait; what is accepted is booted meanwhile, and that costs the same cores.

    A crowd is accepted before what it brought begins, so it is told as well how many came to ACTIVE meanwhile, and how
    many a second from the first request until the last server was ACTIVE.
    """
    latencies, rates, booted, finished, syncs = run_clients(cloud, create, WRITERS, length)
    promised("post_servers_accepted_64_clients", median(rates))
    report("post_servers_64_clients_boots_meanwhile", median(booted), "1/s", None)
    report("post_servers_64_clients_all_active", median(finished), "1/s", None)
    for percent in (50, 99, 99.9):
        report(f"post_servers_64_clients_p{percent:g}", latencies.ms(percent), "ms", None)
    promised("post_servers_64_clients_p50_in_syncs", latencies.ms(50) / median(syncs))
    promised("post_servers_64_clients_p99_to_p50", latencies.ms(99) / latencies.ms(50))
    half = job(cloud, create, "create", median(rates) / 2, length.seconds)
    at_half = open_loop.run(msgspec.structs.replace(half, arrivals=POISSON))
    cloud.wait_idle()
    report_run("post_servers_half_load", at_half)
    if not at_half.saturated:
        report("post_servers_half_load_p50_in_syncs", at_half.percentiles().ms(50) / median(syncs), "syncs", None)


def measure_bulk(cloud: Cloud, create: dict[str, Any], count: int) -> None:
    """One call for many servers: until it is accepted, and until all of them run."""
    accepted, booted = [], []
    for _ in range(1 if count < 10_000 else 3):
        begin = time.perf_counter()
        cloud.create(create, count)
        accepted.append(count / (time.perf_counter() - begin))
        cloud.wait_idle()
        booted.append(count / (time.perf_counter() - begin))
    if count == 10_000:
        promised("bulk_create_accepted_10000", median(accepted))
    else:
        report(f"bulk_create_accepted_{count}", median(accepted), "servers/s", None)
    report(f"bulk_boots_{count}", median(booted), "1/s", None)
