"""A fleet's table and its plain twin, changed together and asked together."""

from __future__ import annotations

import random
import struct

from nova_fast._ext.fleet import HOST_ENABLED, HOST_UP, HostClass, HostTable
from nova_fast._ext.rows import NEVER, NO_LIMIT, HostRow, Multipliers, Ranking, RequestClass, Taken

from .fleet_oracle import OracleClass, OracleFleet

UP = HOST_UP | HOST_ENABLED
# Nova's defaults, then whole sums of odd fractions (they hide no fused multiply-add), negatives, sizes far apart.
MULTIPLIERS: tuple[Multipliers, ...] = (
    (1.0, 1.0, 1.0, -1.0, 1.0, -1e6, 1.0, 0.0),
    (0.3, 0.7, 1 / 3, -1.9, 0.0, -0.1, 0.7, -0.3),
    (-1.1, 0.1, 0.0, 3.3, -1.0, 2.0, -1 / 3, 1.0),
    (1.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0),
    (1e6, -0.3, 0.7, 1 / 3, 1e-3, 0.0, 0.0, 0.1),
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)
PLAIN = HostRow(1000, 10, 100, 1000, 10.0, 100, 0, 0, 0, 0, 100, 0, UP)


def with_bits(ranking: Ranking) -> list[tuple[int, bytes]]:
    return [(row, struct.pack("<d", score)) for row, score in ranking]


def random_row(rng: random.Random, scale: int, profiles: int) -> HostRow:
    return HostRow(
        ram_free=rng.randint(-scale, 40 * scale),
        vcpus_free=rng.randint(-2, 4 * scale),
        disk_free=rng.randint(-1, 10 * scale),
        ram_weight=rng.randint(-scale, 30 * scale),
        cpu_total=rng.randint(0, 4 * scale) * rng.choice([1.0, 1.1, 16.0, 0.3]),
        disk_weight=rng.randint(-1, 10 * scale),
        io_ops=rng.choice([0, 0, 0, 1, 2, 5]),
        servers=rng.randrange(1 + min(scale, 30)),
        vcpus_used=rng.randrange(1 + scale),
        failed_builds=rng.choice([0] * 9 + [1]),
        pci_weight=rng.choice([100] * 9 + [97]),
        profile=rng.randrange(profiles),
        flags=rng.choice([UP] * 9 + [HOST_UP]),
    )


class World:
    """A table and its twin; small scales make ties, a pattern makes nothing but ties."""

    def __init__(self, rng: random.Random, hosts: int, *, table: HostTable | None = None) -> None:
        self.rng = rng
        self.table = HostTable(spread_rows=rng.choice([0, 16384])) if table is None else table
        self.twin = OracleFleet()
        self.classes: list[tuple[HostClass, OracleClass]] = []
        self.scale = rng.choice([1, 2, 10, 1000, 1_000_000])
        self.profiles = rng.choice([1, 2, 5])
        self.pattern = random_row(rng, self.scale, 1) if rng.random() < 0.3 else None
        for _ in range(hosts):
            self.put(self.table.add())

    def put(self, row: int, values: HostRow | None = None) -> None:
        if values is None:
            alike = self.pattern if self.rng.random() < 0.95 else None
            values = alike or random_row(self.rng, self.scale, self.profiles)
        self.table.put(row, values)
        self.twin.hosts[row] = values

    def take(self, row: int, taken: Taken) -> None:
        self.table.change(row, *taken)
        self.twin.change(row, taken)

    def remove(self, row: int) -> None:
        self.table.remove(row)
        del self.twin.hosts[row]

    def define(self) -> None:
        rng = self.rng
        request = RequestClass(
            key=len(self.classes),
            ram=rng.choice([0, 1, self.scale]),
            vcpus=rng.choice([0, 1, self.scale]),
            disk=rng.choice([0, 1]),
            multipliers=rng.choice(MULTIPLIERS),
        )
        self.classes.append((self.table.define(request), OracleClass(request)))

    def judge(self, asked: HostClass, twin: OracleClass) -> None:
        """Give a class its verdicts over the profiles that came since."""
        rng = self.rng
        while asked.evaluated < max(self.table.profiles, self.profiles):
            io_limit = rng.choice([NO_LIMIT, NO_LIMIT, NO_LIMIT, NEVER, 3])
            server_limit = rng.choice([NO_LIMIT, NO_LIMIT, NO_LIMIT, 20])
            asked.extend([io_limit], [server_limit])
            twin.io_limits.append(io_limit)
            twin.server_limits.append(server_limit)
            twin.multipliers.append(twin.request.multipliers)

    def change(self) -> None:
        """Something happens to a host, or a host comes or goes."""
        rng, rows = self.rng, list(self.twin.hosts)
        kind = rng.random()
        if kind < 0.1 or not rows:
            self.put(self.table.add())
        elif kind < 0.2:
            self.remove(rng.choice(rows))
        elif kind < 0.5:
            self.put(rng.choice(rows))
        else:
            amount = rng.randint(-self.scale, self.scale)
            self.take(rng.choice(rows), Taken(amount, 0, rng.randint(-1, 1), rng.choice([0, 1]), rng.choice([0, 1])))
        if rng.random() < 0.02:
            profile, version = rng.randrange(self.profiles), rng.choice([0, 8000, 8001])
            self.table.set_version(profile, version)
            self.twin.versions[profile] = version
        if rng.random() < 0.02 and self.profiles < 9:
            self.profiles += 1
