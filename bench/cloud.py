"""A cloud to be measured: the real daemons, the real store, real HTTP, in a temporary folder on this disk.

Only the hypervisors and the network back end are fake. It is started with ``nova-fast up`` and taken down with
``nova-fast down``; whoever measures asks it what its processes cost.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from bench import machine, slow_disk
from bench.machine import ROOT
from bench.ports import free_ports
from nova_fast.model.states import VmState
from nova_fast.state import schema as tables
from nova_fast.state.store import Store

FACES = ("identity", "compute", "image", "network", "placement")
VERSION = "2.96"
WAIT_S = 180
#: Fake hosts that nothing fills: one takes a million servers.
ROOMY = (
    'driver = "fake"',
    "fake_vcpus = 100",
    "cpu_allocation_ratio = 10_000.0",
    "fake_ram_mib = 400_000_000",
    "fake_disk_gib = 1_000_000",
)
#: Whose processor time counts as the control plane's; the others play hypervisors and networks.
CONTROL_PLANE = ("conductor", "scheduler", "api")


class Options(msgspec.Struct, frozen=True):
    """What a cloud is made like."""

    hosts: int = 20  # that its own compute daemon plays
    hub: str = ""  # "" = a Unix socket
    heartbeat_s: float = 5.0
    extra: tuple[str, ...] = ()  # further sections of the configuration
    slow_disk_ms: float = 0.0  # that each sync takes longer


class Cloud:
    """A cloud with fake hypervisors, and its admin."""

    def __init__(self, folder: Path, options: Options = Options()) -> None:  # noqa: B008 - frozen
        self.folder = folder
        self.config = folder / "nova-fast.toml"
        self.ports = dict(zip(FACES, free_ports(len(FACES)), strict=True))
        lines = [f'state_dir = "{folder / "var"}"', 'host = "bench"', "[api]", "workers = 1"]
        lines += [f"{face}_port = {port}" for face, port in self.ports.items()]
        lines += ["[compute]", *ROOMY, f"fake_hosts = {options.hosts}", "[network]", 'driver = "fake"']
        lines += ["[hub]", f'address = "{options.hub}"', f"heartbeat_s = {options.heartbeat_s}", *options.extra]
        self.config.write_text("\n".join(lines) + "\n")
        #: What its daemons are started with; None = what this process has.
        self.environment = slow_disk.environment(folder, options.slow_disk_ms) if options.slow_disk_ms else None
        self.token = ""
        self.project = ""
        self._books: Books | None = None

    @property
    def store_path(self) -> Path:
        return self.folder / "var" / "store"

    @property
    def headers(self) -> dict[str, str]:
        """What every request to compute carries."""
        return {"X-Auth-Token": self.token, "OpenStack-API-Version": f"compute {VERSION}"}

    def nova_fast(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "nova_fast.cli.main", *arguments, "--config", str(self.config)],
            check=True, cwd=ROOT, stdout=subprocess.DEVNULL, timeout=900, env=self.environment,
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
        connection.close()
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
        subnet = {"network_id": network_id, "ip_version": 4, "cidr": "10.64.0.0/12"}
        self.ask("network", "POST", "/v2.0/subnets", {"subnet": subnet})
        return network_id

    def create(self, create: dict[str, Any], count: int) -> None:
        """So many servers in one call."""
        server = {**create["server"], "min_count": count, "max_count": count}
        self.ask("compute", "POST", "/v2.1/servers", {"server": server})

    def wait_idle(self, timeout_s: float = WAIT_S) -> None:
        """Wait until nothing is under way; then all servers must be ACTIVE."""
        with self.books() as books:
            end = time.monotonic() + timeout_s
            while (left := books.under_way()) > 0:
                assert time.monotonic() < end, f"{left} servers are still under way"
                time.sleep(0.02)
            counts = books.states()
        assert set(counts) <= {VmState.ACTIVE}, counts

    def processes(self) -> dict[str, int]:
        """The daemons of this cloud: name → pid, ``api-0`` for the first worker."""
        found = {}
        for pid, arguments in machine.processes_with(str(self.config)).items():
            name = next((a for a in arguments if a in (*CONTROL_PLANE, "network", "compute", "supervise")), "")
            if name == "api":
                name = f"api-{arguments[arguments.index('--worker') + 1]}"
            if name:
                found[name] = pid
        return found

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time that each daemon has used."""
        return {name: machine.cpu_s(pid) for name, pid in self.processes().items()}

    def used_bytes(self) -> int:
        """What the store takes of the disk; its file is longer, in part without blocks."""
        return (self.store_path / "data.mdb").stat().st_blocks * 512

    def pss_mib(self) -> float:
        """Proportional set size of all processes of this cloud, in MiB."""
        return sum(machine.pss_mib(pid) for pid in machine.processes_with(str(self.config)))

    @contextlib.contextmanager
    def books(self) -> Iterator[Books]:
        """A look into the store beside the daemons: what the API would need thousands of requests to say."""
        if self._books is not None:  # an environment is opened once in a process
            yield self._books
            return
        store = Store.open(self.store_path, readonly=True)
        self._books = Books(store)
        try:
            yield self._books
        finally:
            self._books = None
            store.close()


class Books:
    """Counts of one cloud's store; each costs microseconds."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def servers(self) -> int:
        with self._store.snapshot() as snapshot:
            return snapshot.size(tables.SERVERS)

    def under_way(self) -> int:
        """Servers that are being built or deleted: each has a workflow until it is done."""
        with self._store.snapshot() as snapshot:
            return snapshot.size(tables.WORKFLOWS)

    def settled(self) -> int:
        """Servers that have come to rest."""
        with self._store.snapshot() as snapshot:
            return snapshot.size(tables.SERVERS) - snapshot.size(tables.WORKFLOWS)

    def states(self) -> Counter[VmState]:
        """How many servers are in which state."""
        with self._store.snapshot() as snapshot:
            return Counter(server.vm_state for server in snapshot.scan(tables.SERVERS))

    def hosts_up(self, prefix: str = "") -> int:
        with self._store.snapshot() as snapshot:
            return sum(host.up and host.name.startswith(prefix) for host in snapshot.scan(tables.HOSTS))

    def server_ids(self, limit: int) -> list[str]:
        with self._store.snapshot() as snapshot:
            return [server.id for server in snapshot.scan(tables.SERVERS, limit=limit)]


@contextlib.contextmanager
def running_cloud(options: Options = Options()) -> Iterator[tuple[Cloud, float]]:  # noqa: B008 - frozen
    """A cloud that has just started, and how many seconds that took."""
    with prepared_cloud(options, lambda _cloud: None) as found:
        yield found


@contextlib.contextmanager
def prepared_cloud(options: Options, prepare: Callable[[Cloud], None]) -> Iterator[tuple[Cloud, float]]:
    """The same; ``prepare(cloud)`` is called before it starts."""
    folder = Path(tempfile.mkdtemp(prefix="nf-bench-", dir="/var/tmp"))
    cloud = Cloud(folder, options)
    try:
        prepare(cloud)
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
