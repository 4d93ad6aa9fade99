"""REST reads of one worker, beside a bare Falcon application and a bare protocol, and while the cloud changes."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import Any

import msgspec

from bench import closed_loop, open_loop, wrk
from bench.cloud import Cloud
from bench.histogram import Latencies
from bench.journeys import request_bytes
from bench.machine import cpu_s
from bench.mixes import job
from bench.peers import FALCON, FALCON_ON_UVICORN, PROTOCOL, Server, running
from bench.results import not_measured, report
from bench.targets import promised

PEERS = {"falcon": FALCON, "uvicorn": FALCON_ON_UVICORN, "protocol": PROTOCOL}
READERS, LISTERS = 32, 4
ROWS = 1000
CHANGES = 50.0  # a second, beside the reads


class Length(msgspec.Struct, frozen=True):
    """How long a measure takes, all its rounds together."""

    seconds: float
    rounds: int

    @property
    def round_s(self) -> float:
        return self.seconds / self.rounds


class Turns:
    """What one of those who take turns has shown."""

    def __init__(self) -> None:
        self.runs: list[closed_loop.Run] = []
        self.cpu_us: list[float] = []  # of the server's process, for each answer

    @property
    def rates(self) -> list[float]:
        return [run.rate for run in self.runs]

    @property
    def saturated(self) -> str:
        """Why these rates are the generator's and not the server's; "" when they are the server's."""
        share = median(run.cpu_share for run in self.runs)
        return f"the generator used {share:.0%} of its core" if share > open_loop.CPU_SHARE_MAX else ""

    def percentiles(self) -> Latencies:
        found = Latencies()
        for run in self.runs:
            found.merge(run.percentiles())
        return found


def in_turns(servers: dict[str, Server], connections: int, length: Length, requests: list[bytes]) -> dict[str, Turns]:
    """Load these servers one after the other, again and again; a first round warms up."""
    turns = {who: Turns() for who in servers}
    for number in range(length.rounds + 1):
        for who, server in servers.items():
            used_s = cpu_s(server.pid)
            found = closed_loop.run(server.port, connections, length.round_s / 2, requests)
            used_s = cpu_s(server.pid) - used_s
            if number:
                turns[who].runs.append(found)
                turns[who].cpu_us.append(1e6 * used_s / found.count)
    return turns


def our_server(cloud: Cloud) -> Server:
    """The one API worker."""
    return Server(cloud.ports["compute"], cloud.processes()["api-0"])


def measure_reads(cloud: Cloud, length: Length) -> None:
    """GET /servers/{id} of 200 servers with a port each, in turns with the peers."""
    _, listed, _ = cloud.ask("compute", "GET", "/v2.1/servers?limit=200")
    paths = [f"/v2.1/servers/{server['id']}" for server in listed["servers"]]
    _, record, _ = cloud.ask("compute", "GET", paths[0])
    assert record["server"]["addresses"], "the servers that are read have a port"
    gets = [request_bytes("GET", path, cloud.headers) for path in paths]
    body = json.dumps(record, separators=(",", ":")).encode()
    report("get_server_bytes", len(body), "B", None)
    with ExitStack() as stack:
        servers = {"ours": our_server(cloud)}
        servers |= {who: stack.enter_context(running(peer, body)) for who, peer in PEERS.items()}
        turns = in_turns(servers, READERS, length, gets)
        by_wrk = [] if wrk.missing() else _by_wrk(servers, length, cloud.headers, paths)
    ours = turns["ours"]
    report("get_server_per_worker", median(ours.rates), "1/s", None)
    for percent in (50, 99, 99.9):
        report(f"get_server_p{percent:g}", ours.percentiles().ms(percent), "ms", None)
    report("get_server_generator_cpu", 100 * median(run.cpu_share for run in ours.runs), "% of a core", None)
    report("get_server_api_cpu", median(ours.cpu_us), "us a request", None)
    report("bare_falcon_cpu", median(turns["falcon"].cpu_us), "us a request", None)
    costs = [100 * other / one for one, other in zip(ours.cpu_us, turns["falcon"].cpu_us, strict=True)]
    report("get_server_share_of_bare_falcon_by_cpu", median(costs), "%", None)
    _against("bare_falcon_json", "get_server_share_of_bare_falcon", turns["falcon"], ours)
    _against("bare_falcon_on_uvicorn", "get_server_share_of_bare_falcon_on_uvicorn", turns["uvicorn"], ours)
    _against("bare_protocol", "get_server_share_of_floor", turns["protocol"], ours)
    if not by_wrk:
        not_measured("get_server_wrk", wrk.missing())
        return
    report("get_server_wrk", median(turn["ours"].rate for turn in by_wrk), "1/s", None)
    report("get_server_wrk_p99", median(turn["ours"].p99_ms for turn in by_wrk), "ms", None)
    for who, name in (("falcon", "bare_falcon"), ("uvicorn", "bare_falcon_on_uvicorn"), ("protocol", "floor")):
        shares = [100 * turn["ours"].rate / turn[who].rate for turn in by_wrk]
        report(f"get_server_share_of_{name}_wrk", median(shares), "%", None)


def _against(peer_name: str, share_name: str, peer: Turns, ours: Turns) -> None:
    """The peer's rate and our share of it, unless the generator could do no more."""
    if peer.saturated or ours.saturated:
        not_measured(share_name, peer.saturated or ours.saturated)
        return
    report(peer_name, median(peer.rates), "1/s", None)
    share = median(100 * one / other for one, other in zip(ours.rates, peer.rates, strict=True))
    if share_name == "get_server_share_of_bare_falcon":
        promised("get_server_share_of_bare_falcon", share)
    else:
        report(share_name, share, "%", None)


def _by_wrk(
    servers: dict[str, Server], length: Length, headers: dict[str, str], paths: list[str]
) -> list[dict[str, wrk.Found]]:
    """The same in turns by another generator."""
    turns = []
    for _ in range(min(3, length.rounds)):
        turns.append({who: wrk.run(one.port, length.round_s, headers, paths) for who, one in servers.items()})
    return turns


def measure_lists(cloud: Cloud, length: Length) -> None:
    """GET /servers/detail with 1,000 rows, in turns with a bare send of the very same bytes."""
    path = f"/v2.1/servers/detail?limit={ROWS}"
    _, listed, _ = cloud.ask("compute", "GET", path)
    assert len(listed["servers"]) == ROWS
    body = json.dumps(listed, separators=(",", ":")).encode()
    get = [request_bytes("GET", path, cloud.headers)]
    with running(PROTOCOL, body) as protocol:
        turns = in_turns({"bare": protocol, "ours": our_server(cloud)}, LISTERS, length, get)
    ours, bare = turns["ours"], turns["bare"]
    report("get_servers_detail_1000_bytes", len(body), "B", None)
    promised("get_servers_detail_1000", median(ours.rates))
    report("get_servers_detail_1000_api_cpu", median(ours.cpu_us), "us a request", None)
    report("get_servers_detail_1000_bare_send_cpu", median(bare.cpu_us), "us a request", None)
    for percent in (50, 99):
        report(f"get_servers_detail_1000_p{percent}", ours.percentiles().ms(percent), "ms", None)
    ratios = [
        one.percentiles().ms(99) / other.percentiles().ms(99) for one, other in zip(ours.runs, bare.runs, strict=True)
    ]
    promised("get_servers_detail_1000_p99_to_bare_send", median(ratios))


def measure_changing(cloud: Cloud, create: dict[str, Any], length: Length) -> None:
    """Reads and lists at rest and while the cloud changes, in turns; and what each costs the API's process."""
    with cloud.books() as books:
        ids = books.server_ids(200)
    gets = [request_bytes("GET", f"/v2.1/servers/{server_id}", cloud.headers) for server_id in ids]
    lists = [request_bytes("GET", f"/v2.1/servers/detail?limit={ROWS}", cloud.headers)]
    seconds = length.round_s
    kinds = (("get_server", READERS, gets), ("get_servers_detail_1000", LISTERS, lists))
    for name, connections, requests in kinds:
        ratios, costs = [], []
        for _ in range(length.rounds):
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


def measure_all_changed(cloud: Cloud, length: Length) -> None:
    """The list when every server in it has been renamed since: nothing that was kept is of use."""
    _, listed, _ = cloud.ask("compute", "GET", f"/v2.1/servers?limit={ROWS}")
    get = [request_bytes("GET", f"/v2.1/servers/detail?limit={ROWS}", cloud.headers)]
    port, found_ms = cloud.ports["compute"], []
    for number in range(length.rounds):
        name = json.dumps({"server": {"name": f"renamed{number}"}}).encode()
        paths = [f"/v2.1/servers/{server['id']}" for server in listed["servers"]]
        renames = [request_bytes("PUT", path, cloud.headers, name) for path in paths]
        closed_loop.run(port, READERS, 120, renames, once=True)
        found_ms.append(closed_loop.run(port, 1, 60, get, once=True).percentiles().max_ms)
    report("get_servers_detail_1000_all_changed", median(found_ms), "ms", None)


def _costly(cloud: Cloud, connections: int, seconds: float, requests: list[bytes]) -> tuple[float, float]:
    """Answers a second, and the processor time of the API's process for each in µs."""
    before = cloud.cpu()["api-0"]
    found = closed_loop.run(cloud.ports["compute"], connections, seconds, requests)
    return found.rate, 1e6 * (cloud.cpu()["api-0"] - before) / found.count
