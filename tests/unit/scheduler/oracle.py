"""The kernel's twin: the same decisions in plain Python, the way Nova writes them.

Filters run one after the other over host objects; weighers follow ``nova/weights.py``: clamp at the weigher's minimum,
normalise with that minimum and the largest value, multiply, add. Nothing here shares code with the compiled table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

ANY = -1


@dataclass
class OracleHost:
    row: int
    ram_mib: int
    vcpus: int
    disk_gib: int
    io_ops: int
    vcpus_used: int
    zone: int
    architecture: int
    up: bool = True
    enabled: bool = True
    excluded: bool = False


@dataclass
class OracleRequest:
    ram_mib: int
    vcpus: int
    disk_gib: int
    zone: int = ANY
    architecture: int = ANY
    host: int = ANY


FILTERS: list[Callable[[OracleHost, OracleRequest], bool]] = [
    lambda host, request: host.up and host.enabled,
    lambda host, request: request.zone == ANY or host.zone == request.zone,
    lambda host, request: request.architecture == ANY or host.architecture == request.architecture,
    lambda host, request: host.ram_mib >= request.ram_mib,
    lambda host, request: host.vcpus >= request.vcpus,
    lambda host, request: host.disk_gib >= request.disk_gib,
    lambda host, request: not host.excluded,
    lambda host, request: request.host == ANY or host.row == request.host,
]

RAW_WEIGHTS: list[Callable[[OracleHost], int]] = [
    lambda host: host.ram_mib,
    lambda host: host.vcpus,
    lambda host: host.disk_gib,
    lambda host: host.io_ops,
]


def filter_hosts(hosts: list[OracleHost], request: OracleRequest) -> tuple[list[OracleHost], list[int]]:
    """The hosts that pass, and how many there were before and after each filter."""
    counts = [len(hosts)]
    for passes in FILTERS:
        hosts = [host for host in hosts if passes(host, request)]
        counts.append(len(hosts))
    return hosts, counts


def normalize(weights: list[int], minval: int) -> list[float]:
    low, high = float(minval), float(max(weights))
    if low == high:
        return [0.0] * len(weights)
    return [(weight - low) / (high - low) for weight in weights]


def weigh(hosts: list[OracleHost], multipliers: tuple[float, float, float, float]) -> list[tuple[int, float]]:
    """(row, weight), best first; the lower row first among equals. A single host is not weighed."""
    total = dict.fromkeys((host.row for host in hosts), 0.0)
    if len(hosts) > 1:
        for raw, multiplier in zip(RAW_WEIGHTS, multipliers, strict=True):
            values = normalize([max(raw(host), 0) for host in hosts], minval=0)
            for host, value in zip(hosts, values, strict=True):
                total[host.row] += multiplier * value
    return sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))


def least_used(hosts: list[OracleHost]) -> list[tuple[int, float]]:
    return sorted(((host.row, 0.0 - host.vcpus_used) for host in hosts), key=lambda pair: (-pair[1], pair[0]))
