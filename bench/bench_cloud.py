"""The whole cloud as a user loads it: real daemons, real store, real HTTP; the fake driver plays the hypervisors.

Starts a cloud of its own in a temporary folder on this disk, measures, and takes it down:

* from ``nova-fast up`` to the first answer of the API, and the idle memory (PSS) of all its processes;
* POST /servers: latency of one client at a time, and how many a second 64 clients get accepted (durable each time);
* boots to ACTIVE a second, and servers a second of one bulk request for 1,000 with a port each;
* GET /servers/{id} and /servers/detail of those 1,000, with one API worker;
* and, to compare with: how long this disk takes to sync one page, and what a bare Falcon application on the same HTTP
  server reaches. The two are loaded in turns, several times, and the median of the shares counts.

    python -m bench cloud
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from bench import load
from bench.results import percentile, report

ROOT = Path(__file__).resolve().parent.parent
FACES = ("identity", "compute", "image", "network", "placement")
FAKE_HOSTS = 20
VERSION = "2.96"
WAIT_S = 180
ROUNDS = 5  # turns of the bare application and ours


class Cloud:
    """A cloud with fake hypervisors, and its admin."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "nova-fast.toml"
        self.ports = dict(zip(FACES, _free_ports(len(FACES)), strict=True))
        lines = [f'state_dir = "{folder / "var"}"', 'host = "bench"', "[api]", "workers = 1"]
        lines += [f"{face}_port = {port}" for face, port in self.ports.items()]
        lines += ["[compute]", 'driver = "fake"', f"fake_hosts = {FAKE_HOSTS}", "[network]", 'driver = "fake"']
        self.config.write_text("\n".join(lines) + "\n")
        self.token = ""
        self.project = ""

    def nova_fast(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "nova_fast.cli.main", *arguments, "--config", str(self.config)],
            check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip

    def ask(self, face: str, method: str, path: str, body: Any = None) -> tuple[int, Any, dict[str, str]]:
        """One request; its status (2xx, or this fails), its body, its headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[face], timeout=60)
        headers = {"X-Auth-Token": self.token} if self.token else {}
        if face == "compute":
            headers["OpenStack-API-Version"] = f"compute {VERSION}"
        data = None
        if isinstance(body, bytes):
            data, headers["Content-Type"] = body, "application/octet-stream"
        elif body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection.request(method, path, body=data, headers=headers)
        answer = connection.getresponse()
        raw = answer.read()
        assert answer.status < 300, f"{method} {path}: {answer.status} {raw[:500]!r}"
        return answer.status, json.loads(raw) if raw else None, dict(answer.getheaders())

    def log_in(self) -> None:
        password = (self.folder / "var" / "admin-password").read_text().strip()
        user = {"name": "admin", "domain": {"id": "default"}, "password": password}
        scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        _, body, headers = self.ask("identity", "POST", "/v3/auth/tokens", {"auth": auth})
        self.token = headers.get("x-subject-token") or headers["X-Subject-Token"]
        self.project = body["token"]["project"]["id"]

    def prepare(self) -> dict[str, Any]:
        """An image, a flavor and room for everything; returns the body of a create request."""
        image = {"name": "bench", "disk_format": "raw", "container_format": "bare"}
        _, body, _ = self.ask("image", "POST", "/v2/images", image)
        self.ask("image", "PUT", f"/v2/images/{body['id']}/file", bytes(1 << 20))
        quota = {"instances": -1, "cores": -1, "ram": -1}
        self.ask("compute", "PUT", f"/v2.1/os-quota-sets/{self.project}", {"quota_set": quota})
        server = {"name": "bench", "imageRef": body["id"], "flavorRef": "42", "networks": "none"}
        return {"server": server}

    def network(self) -> str:
        """A network with room for all; its id."""
        quota = {"port": -1}
        self.ask("network", "PUT", f"/v2.0/quotas/{self.project}", {"quota": quota})
        _, body, _ = self.ask("network", "POST", "/v2.0/networks", {"network": {"name": "bench"}})
        network_id: str = body["network"]["id"]
        subnet = {"network_id": network_id, "ip_version": 4, "cidr": "10.64.0.0/16"}
        self.ask("network", "POST", "/v2.0/subnets", {"subnet": subnet})
        return network_id

    def statuses(self) -> dict[str, int]:
        """How many servers are in which status."""
        counts: dict[str, int] = {}
        path = "/v2.1/servers/detail?limit=1000"
        while path:
            _, body, _ = self.ask("compute", "GET", path)
            for server in body["servers"]:
                counts[server["status"]] = counts.get(server["status"], 0) + 1
            links = body.get("servers_links", [])
            path = links[0]["href"].split(str(self.ports["compute"]), 1)[1] if links else ""
        return counts

    def pss_mib(self) -> float:
        """Proportional set size of all processes of this cloud, in MiB."""
        total_kib = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.config).encode() in (process / "cmdline").read_bytes():
                    rollup = (process / "smaps_rollup").read_text()
                    total_kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        return total_kib / 1024


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


@contextlib.contextmanager
def running_cloud() -> Iterator[tuple[Cloud, float]]:
    """A cloud that has just started, and how many seconds that took."""
    folder = Path(tempfile.mkdtemp(prefix="nf-bench-", dir="/var/tmp"))
    cloud = Cloud(folder)
    try:
        started = time.perf_counter()
        cloud.nova_fast("up")
        cloud.ask("identity", "GET", "/v3")
        yield cloud, time.perf_counter() - started
    finally:
        subprocess.run(
            [sys.executable, "-m", "nova_fast.cli.main", "down", "--config", str(cloud.config)],
            check=False, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip
        shutil.rmtree(folder, ignore_errors=True)


def sync_ms(folder: Path, times: int = 50) -> float:
    """The median time of writing and syncing one page on the disk of this folder."""
    found = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(times):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
            found.append((time.perf_counter() - begin) * 1000)
    return percentile(found, 0.5)


@contextlib.contextmanager
def bare_falcon(record: Any) -> Iterator[int]:
    """The peer to compare with; its port."""
    [port] = _free_ports(1)
    command = [sys.executable, "-m", "bench.bare_falcon", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(record).encode())
        process.stdin.close()
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert time.monotonic() < end and process.poll() is None, "the bare application did not start"
            time.sleep(0.05)
        yield port
    finally:
        process.kill()
        process.wait()


def main(*, quick: bool = False) -> None:
    seconds, servers = (1.5, 300) if quick else (6.0, 1000)
    with running_cloud() as (cloud, start_s):
        report("up_to_first_answer", start_s, "s", 2.0, less_is_better=True)
        time.sleep(3)
        report("idle_pss", cloud.pss_mib(), "MiB", 250, less_is_better=True)
        report("disk_sync_p50", sync_ms(cloud.folder), "ms", None)
        cloud.log_in()
        create = cloud.prepare()
        _measure_creation(cloud, create, seconds)
        _measure_bulk(cloud, {**create["server"], "networks": [{"uuid": cloud.network()}]}, servers)
        _measure_reading(cloud, seconds, servers)


def _measure_creation(cloud: Cloud, create: dict[str, Any], seconds: float) -> None:
    headers = {"X-Auth-Token": cloud.token, "OpenStack-API-Version": f"compute {VERSION}"}
    post = load.request_bytes("POST", "/v2.1/servers", headers, json.dumps(create).encode())
    port = cloud.ports["compute"]
    one = load.run(port, 1, seconds, [post])
    report("post_servers_p50", percentile(one["latencies_ms"], 0.5), "ms", 10, less_is_better=True)
    report("post_servers_p99", percentile(one["latencies_ms"], 0.99), "ms", None)
    _wait_idle(cloud)
    begin = time.perf_counter()
    many = load.run(port, 64, seconds, [post])
    report("post_servers_accepted_64_clients", many["count"] / many["seconds"], "1/s", None)
    _wait_idle(cloud)
    report("boots_to_active_fake", many["count"] / (time.perf_counter() - begin), "1/s", 200)


def _measure_bulk(cloud: Cloud, server: dict[str, Any], servers: int) -> None:
    """One request for many; each gets a port, so that what is read afterwards is whole."""
    batch = {"server": {**server, "min_count": servers, "max_count": servers}}
    begin = time.perf_counter()
    cloud.ask("compute", "POST", "/v2.1/servers", batch)
    report(f"bulk_create_accepted_{servers}", servers / (time.perf_counter() - begin), "servers/s", None)
    _wait_idle(cloud)
    report(f"bulk_boots_with_port_{servers}", servers / (time.perf_counter() - begin), "1/s", None)


def _measure_reading(cloud: Cloud, seconds: float, servers: int) -> None:
    headers = {"X-Auth-Token": cloud.token, "OpenStack-API-Version": f"compute {VERSION}"}
    port = cloud.ports["compute"]
    _, listed, _ = cloud.ask("compute", "GET", "/v2.1/servers?limit=200")
    ids = [server["id"] for server in listed["servers"]]
    _, record, _ = cloud.ask("compute", "GET", f"/v2.1/servers/{ids[0]}")
    assert record["server"]["addresses"], "the servers that are read have a port"
    gets = [load.request_bytes("GET", f"/v2.1/servers/{server_id}", headers) for server_id in ids]
    ours, shares, bare, latencies_ms = [], [], [], []
    with bare_falcon(record) as bare_port:
        for _ in range(ROUNDS):
            peer = load.run(bare_port, 32, seconds / ROUNDS, gets)
            shown = load.run(port, 32, seconds / ROUNDS, gets)
            bare.append(peer["count"] / peer["seconds"])
            ours.append(shown["count"] / shown["seconds"])
            shares.append(100 * ours[-1] / bare[-1])
            latencies_ms += shown["latencies_ms"]
    report("get_server_per_worker", median(ours), "1/s", 8000)
    report("get_server_p99", percentile(latencies_ms, 0.99), "ms", None)
    report("bare_falcon_json", median(bare), "1/s", None)
    report("get_server_share_of_bare_falcon", median(shares), "%", None)
    detail = load.run(port, 4, seconds, [load.request_bytes("GET", f"/v2.1/servers/detail?limit={servers}", headers)])
    report(f"get_servers_detail_{servers}", detail["count"] / detail["seconds"], "1/s", None)
    report(f"get_servers_detail_{servers}_p50", percentile(detail["latencies_ms"], 0.5), "ms", None)


def _wait_idle(cloud: Cloud) -> None:
    """Wait until no server is being built; all must be ACTIVE."""
    end = time.monotonic() + WAIT_S
    while (counts := cloud.statuses()).get("BUILD"):
        assert time.monotonic() < end, counts
        time.sleep(0.2)
    assert set(counts) <= {"ACTIVE"}, counts


if __name__ == "__main__":
    main()
