"""The whole cloud as a user loads it: real daemons, real store, real HTTP; the fake driver plays the hypervisors.

Starts a cloud of its own in a temporary folder on this disk, measures, and takes it down:

* from ``nova-fast up`` to the first answer of the API, and the idle memory (PSS) of all its processes;
* POST /servers: latency of one client at a time, and how many a second 64 clients get accepted (durable each time);
* boots to ACTIVE a second; GET /servers/{id} and /servers/detail with 1,000 servers;
* and, to compare with, how long this disk takes to sync one page.

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
from typing import Any

from bench import load
from bench.results import percentile, report

ROOT = Path(__file__).resolve().parent.parent
FACES = ("identity", "compute", "image", "network", "placement")
FAKE_HOSTS = 20


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

    def ask(
        self, face: str, method: str, path: str, body: Any = None, version: str = "2.96"
    ) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[face], timeout=60)
        headers = {"X-Auth-Token": self.token} if self.token else {}
        if face == "compute":
            headers["OpenStack-API-Version"] = f"compute {version}"
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


def main() -> None:
    quick = bool(os.environ.get("NOVA_FAST_BENCH_QUICK"))
    seconds, servers = (2.0, 300) if quick else (6.0, 1000)
    with running_cloud() as (cloud, start_s):
        report("up_to_first_answer", start_s, "s", 2.0, less_is_better=True)
        time.sleep(3)
        report("idle_pss", cloud.pss_mib(), "MiB", 250, less_is_better=True)
        report("disk_sync_p50", sync_ms(cloud.folder), "ms", None)
        cloud.log_in()
        create = cloud.prepare()
        headers = {"X-Auth-Token": cloud.token, "OpenStack-API-Version": "compute 2.96"}
        post = load.request_bytes("POST", "/v2.1/servers", headers, json.dumps(create).encode())
        port = cloud.ports["compute"]

        one = load.run(port, 1, seconds, [post])
        assert one["errors"] == 0
        report("post_servers_p50", percentile(one["latencies_ms"], 0.5), "ms", 10, less_is_better=True)
        report("post_servers_p99", percentile(one["latencies_ms"], 0.99), "ms", None)
        _wait_idle(cloud)

        begin = time.perf_counter()
        many = load.run(port, 64, seconds, [post])
        assert many["errors"] == 0
        report("post_servers_accepted_64_clients", many["count"] / many["seconds"], "1/s", None)
        _wait_idle(cloud)
        report("boots_to_active_fake", many["count"] / (time.perf_counter() - begin), "1/s", 200)

        batch = {"server": {**create["server"], "min_count": servers, "max_count": servers}}
        begin = time.perf_counter()
        cloud.ask("compute", "POST", "/v2.1/servers", batch)
        report("bulk_create_accepted", servers / (time.perf_counter() - begin), "servers/s", None)
        _wait_idle(cloud)

        _, listed, _ = cloud.ask("compute", "GET", "/v2.1/servers?limit=200")
        gets = [load.request_bytes("GET", f"/v2.1/servers/{s['id']}", headers) for s in listed["servers"]]
        shown = load.run(port, 32, seconds, gets)
        assert shown["errors"] == 0
        report("get_server_per_worker", shown["count"] / shown["seconds"], "1/s", 8000)
        report("get_server_p99", percentile(shown["latencies_ms"], 0.99), "ms", None)
        detail = load.run(port, 4, seconds, [load.request_bytes("GET", "/v2.1/servers/detail?limit=1000", headers)])
        assert detail["errors"] == 0
        report("get_servers_detail_1000", detail["count"] / detail["seconds"], "1/s", None)


def _wait_idle(cloud: Cloud) -> None:
    """Wait until no server is being built; all must be ACTIVE."""
    end = time.monotonic() + 180
    while (counts := cloud.statuses()).get("BUILD"):
        assert time.monotonic() < end, counts
        time.sleep(0.2)
    assert set(counts) <= {"ACTIVE"}, counts


if __name__ == "__main__":
    main()
