"""The fleet table's twin in plain Python: Nova's filters and weights.py over tuples, one host after the other.

Nothing here shares code with the kernel, and nothing is remembered from one question to the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from nova_fast._ext.rows import NEVER, ExtraTerm, HostRow, RequestClass, Taken

FIXED_MINIMUM = (True, True, True, True, False, False, False, False)  # RAM, CPU, Disk, IoOps fix it at 0


@dataclass
class OracleClass:
    request: RequestClass
    io_limits: list[int] = field(default_factory=list)  # by profile
    server_limits: list[int] = field(default_factory=list)
    multipliers: list[tuple[float, ...]] = field(default_factory=list)


@dataclass
class OracleFleet:
    hosts: dict[int, HostRow] = field(default_factory=dict)  # by row
    versions: dict[int, int] = field(default_factory=dict)  # by profile

    def change(self, row: int, taken: Taken) -> None:
        host = self.hosts[row]
        self.hosts[row] = host._replace(
            ram_free=host.ram_free - taken.ram,
            ram_weight=host.ram_weight - taken.ram,
            vcpus_free=host.vcpus_free - taken.vcpus,
            vcpus_used=host.vcpus_used + taken.vcpus,
            disk_free=host.disk_free - taken.disk,
            disk_weight=host.disk_weight - taken.disk,
            io_ops=host.io_ops + taken.io_ops,
            servers=host.servers + taken.servers,
        )

    def passing(self, asked: OracleClass, only: Iterable[int] | None, without: Iterable[int]) -> list[int]:
        hidden = set(without)
        rows = sorted(self.hosts) if only is None else sorted(set(only))
        return [row for row in rows if row not in hidden and passes(self.hosts[row], asked)]

    def rank(
        self,
        asked: OracleClass,
        only: Iterable[int] | None = None,
        without: Iterable[int] = (),
        extra: Iterable[ExtraTerm] = (),
    ) -> list[tuple[int, float]]:
        """(row, score) of all that pass, best first, the lower row first among equals."""
        rows = self.passing(asked, only, without)
        total = dict.fromkeys(rows, 0.0)
        if len(rows) > 1:
            for values, multipliers, fixed in self.terms(asked, rows, list(extra)):
                for row, value in zip(rows, normalise(values, fixed), strict=True):
                    total[row] += multipliers[self.hosts[row].profile] * value
        return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))

    def terms(
        self, asked: OracleClass, rows: list[int], extra: list[ExtraTerm]
    ) -> Iterable[tuple[list[float], list[float], bool]]:
        columns = [self.raw(self.hosts[row]) for row in rows]
        for position in range(9):
            for term in extra:
                if term.after == position:
                    values = term.values
                    get = values.get if isinstance(values, dict) else lambda row, _, values=values: values[row]
                    one = isinstance(term.multipliers, int | float)
                    multipliers = [term.multipliers] * len(asked.multipliers) if one else list(term.multipliers)
                    yield [get(row, 0.0) for row in rows], multipliers, False
            if position < 8:
                multipliers = [by_term[position] for by_term in asked.multipliers]
                yield [column[position] for column in columns], multipliers, FIXED_MINIMUM[position]

    def raw(self, host: HostRow) -> tuple[float, ...]:
        return (
            host.ram_weight,
            host.cpu_total - host.vcpus_used,
            host.disk_weight,
            host.io_ops,
            host.pci_weight,
            host.failed_builds,
            self.versions.get(host.profile, 0),
            host.servers,
        )


def passes(host: HostRow, asked: OracleClass) -> bool:
    wanted = asked.request
    io_limit, server_limit = asked.io_limits[host.profile], asked.server_limits[host.profile]
    return (
        host.flags & wanted.flags == wanted.flags
        and NEVER not in (io_limit, server_limit)
        and host.ram_free >= wanted.ram
        and host.vcpus_free >= wanted.vcpus
        and host.disk_free >= wanted.disk
        and host.io_ops < io_limit
        and host.servers < server_limit
    )


def normalise(values: list[float], fixed: bool) -> list[float]:
    """nova.weights: clamp at a fixed minimum, then (x - min) / (max - min); all 0 when they are equal."""
    if fixed:
        values = [max(value, 0) for value in values]
    low, high = float(0 if fixed else min(values)), float(max(values))
    if low == high:
        return [0.0] * len(values)
    width = high - low
    return [(value - low) / width for value in values]
