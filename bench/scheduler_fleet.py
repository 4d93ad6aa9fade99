"""Fleets and streams of decisions for the scheduler's benchmarks: seeded, the same for every way of deciding."""

from __future__ import annotations

import random
import time
from collections import deque
from typing import NamedTuple

from nova_fast._ext.fleet import HOST_ENABLED, HOST_UP, HostClass, HostTable
from nova_fast._ext.rows import NEVER, NO_LIMIT, HostRow, Multipliers, RequestClass, Taken

# vCPUs, MiB, GiB
MODELS = ((32, 131072, 1200), (64, 262144, 2000), (96, 524288, 3200), (128, 786432, 4000), (256, 1572864, 8000))
FLAVORS = tuple(
    (v, v * mib, gib) for v in (1, 2, 4, 8, 16) for mib, gib in ((2048, 20), (4096, 40), (8192, 80), (4096, 160))
)
ZONES = 4
IO_OPS_MAX = 8  # Nova's max_io_ops_per_host
NOVA: Multipliers = (1.0, 1.0, 1.0, -1.0, 1.0, -1e6, 1.0, 0.0)  # Nova's default multipliers
IN_FLIGHT = 8  # claims whose commit has not been seen yet


def make_row(rng: random.Random) -> HostRow:
    """One host of a half-full fleet of five models in four zones; one in fifty is out of service."""
    vcpus, ram, disk = rng.choice(MODELS)
    full = rng.random()
    used, ram_left, disk_left = int(vcpus * 4 * full), ram - 512 - int((ram - 512) * full), disk - int(disk * full)
    return HostRow(
        ram_free=ram_left,
        vcpus_free=vcpus * 4 - used,
        disk_free=disk_left,
        ram_weight=ram_left,
        cpu_total=vcpus * 4.0,
        disk_weight=disk_left,
        io_ops=0,
        servers=int(vcpus * full),
        vcpus_used=used,
        failed_builds=0,
        pci_weight=100,
        profile=rng.randrange(ZONES),
        flags=HOST_UP | HOST_ENABLED if rng.random() < 0.98 else HOST_UP,
    )


def make_table(hosts: int) -> HostTable:
    rng, table = random.Random(hosts), HostTable()
    for zone in range(ZONES):
        table.set_version(zone, 8002000)
    for _ in range(hosts):
        table.put(table.add(), make_row(rng))
    return table


class Asked(NamedTuple):
    """A class of requests, and what each takes."""

    asked: HostClass
    taken: Taken
    zone: int | None


def make_classes(table: HostTable, generation: int = 0) -> list[Asked]:
    """Twenty: one for each flavor; every third wants a zone."""
    classes = []
    for number, (vcpus, ram, disk) in enumerate(FLAVORS):
        zone = number % ZONES if number % 3 == 0 else None
        asked = table.define(RequestClass((generation, number), ram, vcpus, disk, NOVA))
        limits = [IO_OPS_MAX if zone in (None, profile) else NEVER for profile in range(ZONES)]
        asked.extend(limits, [NO_LIMIT] * ZONES)
        classes.append(Asked(asked, Taken(ram, vcpus, disk, 1, 1), zone))
    return classes


class Times(NamedTuple):
    """Seconds of each decision: by the clock on the wall, and by the thread's own."""

    wall_s: list[float]
    thread_s: list[float]


def run_stream(
    table: HostTable, classes: list[Asked], decisions: int, *, scan: bool = False, tended: bool = False
) -> Times:
    """Decide, claim, commit an earlier claim, release every other: 2.5 changes for each decision, all of it timed.

    ``tended``: there is an idle moment between two decisions, and the table may use it. The fleet is left as it was.
    """
    rng = random.Random(7)
    times = Times([], [])
    pending: deque[tuple[int, Taken]] = deque()
    living: list[tuple[int, Taken]] = []
    for asked, taken, _ in draw(rng, classes, decisions):
        decide = asked.scan if scan else asked.best
        freed = living.pop(rng.randrange(len(living))) if living and rng.random() < 0.5 else None
        thread, wall = time.thread_time(), time.perf_counter()
        found = decide(1)
        if found:
            table.change(found[0][0], taken.ram, taken.vcpus, taken.disk, 1, 1)
        if len(pending) == IN_FLIGHT:
            table.change(pending[0][0], 0, 0, 0, -1, 0)
        if freed:
            row, given = freed
            table.change(row, -given.ram, -given.vcpus, -given.disk, 0, -1)
        wall_s = time.perf_counter() - wall
        times.thread_s.append(time.thread_time() - thread)
        times.wall_s.append(wall_s)
        if tended:
            table.tend(2)
        if len(pending) == IN_FLIGHT:
            living.append(pending.popleft())
        if found:
            pending.append((found[0][0], taken))
    for row, given in living:
        table.change(row, -given.ram, -given.vcpus, -given.disk, 0, -1)
    for row, given in pending:
        table.change(row, -given.ram, -given.vcpus, -given.disk, -1, -1)
    return times


def draw(rng: random.Random, classes: list[Asked], count: int) -> list[Asked]:
    """Some classes are asked often and most seldom (Zipf, 1.4)."""
    return rng.choices(classes, [1 / (1 + number) ** 1.4 for number in range(len(classes))], k=count)


class State:
    """A host as Nova's scheduler has it: an object."""

    __slots__ = ("cpu", "disk", "free", "io_ops", "profile", "ram", "row", "servers", "up")

    def __init__(self, row: int, host: HostRow) -> None:
        self.row, self.profile, self.up = row, host.profile, host.flags == HOST_UP | HOST_ENABLED
        self.free = (host.ram_free, host.vcpus_free, host.disk_free)
        self.ram, self.disk = host.ram_weight, host.disk_weight
        self.cpu = host.cpu_total - host.vcpus_used
        self.io_ops, self.servers = host.io_ops, host.servers


def plain_states(table: HostTable) -> list[State]:
    return [State(row, HostRow(*table.get(row))) for row in range(table.rows)]


def plain_select(states: list[State], wanted: Asked) -> tuple[int, float]:
    """Filter and weigh the way Nova does: a list of hosts through each filter, then each weigher over all left."""
    ram, vcpus, disk, _, _ = wanted.taken
    filters = (
        lambda host: host.up,
        lambda host: wanted.zone is None or host.profile == wanted.zone,
        lambda host: host.free[0] >= ram,
        lambda host: host.free[1] >= vcpus,
        lambda host: host.free[2] >= disk,
        lambda host: host.io_ops < IO_OPS_MAX,
    )
    for passes in filters:
        states = [host for host in states if passes(host)]
    weights = [0.0] * len(states)
    for multiplier, name in ((1.0, "ram"), (1.0, "cpu"), (1.0, "disk"), (-1.0, "io_ops")):
        values = [max(getattr(host, name), 0) for host in states]
        high = float(max(values))
        if high:
            weights = [weight + multiplier * (value / high) for weight, value in zip(weights, values, strict=True)]
    best = max(range(len(states)), key=weights.__getitem__)
    return states[best].row, weights[best]
