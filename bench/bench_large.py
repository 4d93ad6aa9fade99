"""A cloud as large as it may become, once: 100,000 hosts and 1,000,000 servers.

* Placed: production commands, engine, group commits and scheduler in one process, in the order in which the conductor
  uses them: servers are accepted ten thousand at a time, the scheduler chooses and claims a host for each, and the
  claims are recorded; every commit is synced. What is left out: HTTP, the wire between the daemons, and the guests.
* Kept: a store of 1,000,000 servers that run, on 10,000 hosts (``bench/fill.py``): its size, the start of the cloud on
  it, and a page of its list, which takes turns with a cloud that has 1,000.

    python -m bench large
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import closed_loop
from bench.bench_start import filled, start
from bench.cloud import Cloud, running_cloud
from bench.histogram import Latencies
from bench.journeys import request_bytes
from bench.machine import pss_mib
from bench.results import report
from bench.stand import Stand, now_us
from bench.targets import promised
from nova_fast.commands import registry
from nova_fast.conductor.dispatcher import PLACEMENTS_MAX, SCHEDULER, alike
from nova_fast.conductor.engine import Engine
from nova_fast.conductor.workflows.create_server import placement_request
from nova_fast.config import SchedulerConfig
from nova_fast.model.commands.quotas import SetComputeQuota
from nova_fast.model.commands.servers import CreateServers
from nova_fast.model.images import Image, ImageStatus, Visibility
from nova_fast.model.tasks import Placement, SelectHosts
from nova_fast.model.workflows import Task
from nova_fast.queries.claims import fleet
from nova_fast.scheduler.select import Scheduler
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

HOSTS, SERVERS, IN_ONE_CALL = 100_000, 1_000_000, 10_000
HOSTS_QUICK, SERVERS_QUICK, IN_ONE_CALL_QUICK = 1_000, 5_000, 1_000
KEPT_HOSTS = 10_000
IMAGE_ID = "12345678-0000-4000-8000-000000000000"
PAGE = 100
ROUNDS = 7


def main(*, quick: bool = False) -> None:
    if quick:
        place(HOSTS_QUICK, SERVERS_QUICK, IN_ONE_CALL_QUICK)
        keep(1_000, 20_000)
        return
    place(HOSTS, SERVERS, IN_ONE_CALL)
    keep(KEPT_HOSTS, SERVERS)


# ------------------------------------------------------------------------------------------------ placed
class Placing:
    """The conductor's and the scheduler's work on one store, without a wire between them."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._store = stand.store
        self._engine = Engine(86_400)
        self._waiting: list[Task] = []
        self.scheduler = Scheduler(SchedulerConfig(), random.Random(1))
        with self._store.transaction(now_us()) as tx:
            tx.put(tables.IMAGES, _image())
            quotas = {"instances": -1, "cores": -1, "ram": -1}
            registry.run(tx, SetComputeQuota(caller=stand.caller, project_id=stand.project_id, limits=quotas))
        with self._store.snapshot() as snapshot:
            self.scheduler.load(*fleet(snapshot))

    def accept(self, count: int) -> None:
        """One command for so many servers, durable; what is to be placed waits."""
        create = CreateServers(
            caller=self._stand.caller, name="large", flavor_id="42", image_id=IMAGE_ID, networks="none",
            min_count=count, max_count=count, multi_name=True,
        )  # fmt: skip
        with self._store.transaction(now_us()) as tx:
            registry.run(tx, create)
            self._advance(tx)

    def place_all(self) -> None:
        """A host for each that waits, in messages and commits of the sizes that the daemons use."""
        while self._waiting or self._engine.behind:
            tasks, self._waiting = self._waiting[:PLACEMENTS_MAX], self._waiting[PLACEMENTS_MAX:]
            chosen = self._choose(tasks) if tasks else {}
            with self._store.transaction(now_us()) as tx:
                for task in tasks:
                    placement = chosen[task.server_id]
                    assert placement.host, placement.hint
                    self._engine.take_answer(tx, task.id, placement)
                self._advance(tx)
                events = [event for _, event in tx.events]
            for event in events:
                self.scheduler.apply(event)

    def _advance(self, tx: Transaction) -> None:
        """As the writer ends each of its transactions; tasks for hosts go nowhere here."""
        self._waiting += [task for task in self._engine.advance_ready(tx) if task.peer == SCHEDULER]

    def _choose(self, tasks: list[Task]) -> dict[str, Placement]:
        with self._store.snapshot() as snapshot:
            requests = []
            for task in tasks:
                server = snapshot.need(tables.SERVERS, task.server_id, "Server")
                workflow = snapshot.need(tables.WORKFLOWS, task.server_id, "Workflow")
                requests.append(placement_request(snapshot, server, workflow))
        placements = self.scheduler.select(SelectHosts(requests=alike(requests))).placements
        return {placement.server_id: placement for placement in placements}


def place(hosts: int, servers: int, in_one_call: int) -> None:
    """Accept and place; then count in the store what was promised."""
    with _large_folder() as folder:
        begin = time.perf_counter()
        stand = Stand(folder, hosts, 0)
        try:
            report("large_hosts_recorded", time.perf_counter() - begin, "s", None)
            placing = Placing(stand)
            begin, cpu, accept_s = time.perf_counter(), time.process_time(), 0.0
            for done in range(0, servers, in_one_call):
                started = time.perf_counter()
                placing.accept(in_one_call)
                accept_s += time.perf_counter() - started
                placing.place_all()
                if done % (servers // 10) == 0:
                    print(f"{done + in_one_call:,} placed after {time.perf_counter() - begin:.0f} s", flush=True)
            took_s, used_s = time.perf_counter() - begin, time.process_time() - cpu
            _check(stand, hosts, servers)
            report(f"large_{servers}_placed_on_{hosts}_hosts", took_s, "s", None)
            report("large_placed", servers / took_s, "servers/s", None)
            report("large_accepted", servers / accept_s, "servers/s", None)
            report("large_cpu_a_server", 1000 * used_s / servers, "ms", None)
            report("large_memory", pss_mib(os.getpid()), "MiB", None)
            used = (stand.config.store_path / "data.mdb").stat().st_blocks * 512
            report("large_disk", used / (1 << 30), "GiB", None)
        finally:
            stand.close()


def _check(stand: Stand, hosts: int, servers: int) -> None:
    """Every server has a host, and the hosts' own counts agree."""
    with stand.store.snapshot() as snapshot:
        assert snapshot.size(tables.SERVERS) == servers
        placed = sum(bool(server.host) for server in snapshot.scan(tables.SERVERS))
        assert placed == servers, f"{servers - placed} servers have no host"
        counted = [usage.servers for usage in snapshot.scan(tables.HOST_USAGE)]
        assert (len(counted), sum(counted)) == (hosts, servers), "hosts and servers disagree"


def _image() -> Image:
    return Image(
        id=IMAGE_ID, name="large", project_id="", status=ImageStatus.ACTIVE, visibility=Visibility.PUBLIC, size=1,
        created_at_us=1, updated_at_us=1, virtual_size=1, disk_format="qcow2", container_format="bare",
    )  # fmt: skip


@contextlib.contextmanager
def _large_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nf-large-", dir="/var/tmp") as folder:
        yield Path(folder)


# ------------------------------------------------------------------------------------------------ kept
def keep(hosts: int, servers: int) -> None:
    """A store with so many servers that run, beside one with a thousand."""
    label = f"{servers // 1000}k"
    with running_cloud() as (large, _), running_cloud() as (small, _):
        begin = time.perf_counter()
        create = filled(large, hosts, servers)
        report(f"large_filled_{label}", time.perf_counter() - begin, "s", None)
        used = large.used_bytes() / servers
        create_small = filled(small, hosts, 1_000)
        start(small, create_small)
        started = start(large, create)
        if servers == SERVERS:
            promised("bytes_a_server_on_disk_1000k", used)
            promised("start_to_first_answer_1000k", started.first_answer_s)
        else:
            report(f"bytes_a_server_on_disk_{label}", used, "B", None)
            report(f"start_to_first_answer_{label}", started.first_answer_s, "s", None)
        report(f"start_to_first_placement_{label}", started.first_placement_s, "s", None)
        report(f"start_pss_{label}", large.pss_mib(), "MiB", None)
        measure_pages(large, small, servers)


def measure_pages(large: Cloud, small: Cloud, servers: int) -> None:
    """The newest hundred of all projects, and a hundred behind a server in the middle, in turns; p99 against p99."""
    ratios, worst = [], Latencies()
    asked = {cloud: _pages(cloud) for cloud in (large, small)}
    for turn in range(ROUNDS + 1):
        p99_ms = {}
        for cloud, requests in asked.items():
            found = closed_loop.run(cloud.ports["compute"], 1, 3.0 if servers == SERVERS else 0.5, requests)
            p99_ms[cloud] = found.percentiles().ms(99)
            if turn and cloud is large:
                worst.merge(found.percentiles())
        if turn:
            ratios.append(p99_ms[large] / p99_ms[small])
    report("list_page_p99_large", worst.ms(99), "ms", None)
    if servers == SERVERS:
        promised("list_page_p99_1m_to_1k", median(ratios))
    else:
        report(f"list_page_p99_{servers // 1000}k_to_1k", median(ratios), "times", None)


def _pages(cloud: Cloud) -> list[bytes]:
    with cloud.books() as books:
        markers = books.server_ids(400)[::4]
    path = f"/v2.1/servers/detail?all_tenants=1&limit={PAGE}"
    paths = [path, *(f"{path}&marker={marker}" for marker in markers)]
    return [request_bytes("GET", one, cloud.headers) for one in paths]


if __name__ == "__main__":
    main()
