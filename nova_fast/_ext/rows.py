"""The shapes that go in and out of the fleet's table (``nova_fast._ext.fleet``): tuples of numbers, nothing else.

A *profile* is a small number that stands for everything about a host that seldom changes (its facts). What a request
thinks of a profile is told once for each class of requests (``HostClass.extend``), so the kernel never sees a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

# The column weighers, in the order of Nova's sum; a class's multipliers are in this order.
WEIGHERS = ("RAM", "CPU", "Disk", "IoOps", "PCI", "BuildFailure", "HypervisorVersion", "NumInstances")

# ExtraTerm.after for the weighers that are no columns: how many column weighers come before them in the sum.
AFTER_PCI = 5  # Metrics, ServerGroupSoftAffinity, ServerGroupSoftAntiAffinity
AFTER_BUILD_FAILURE = 6  # CrossCell
AFTER_ALL = 8  # ImageProperties, a site's own

NO_LIMIT = 2**31 - 1
NEVER = -1  # as a limit: hosts of this profile do not pass at all

Multipliers = tuple[float, float, float, float, float, float, float, float]
Ranking = list[tuple[int, float]]  # (row, score), best first, the lower row first among equals


class HostRow(NamedTuple):
    """One host: 32-bit whole numbers, but for ``cpu_total``.

    The first three are what may still be claimed (placement's sense) and may be negative: then nothing fits, not even a
    request for nothing. The weights are what the weighers see, unclamped: the table clamps at 0 where Nova does.
    """

    ram_free: int  # MiB
    vcpus_free: int
    disk_free: int  # GiB
    ram_weight: int  # MiB: total - reserved - used
    cpu_total: float  # vCPUs x allocation ratio, in double; the CPU weigher sees this - vcpus_used
    disk_weight: int  # GiB
    io_ops: int  # not negative, as are the next three
    servers: int
    vcpus_used: int
    failed_builds: int
    pci_weight: int  # 100 - min(free devices, 99)
    profile: int
    flags: int  # HOST_UP | HOST_ENABLED


class Taken(NamedTuple):
    """What one more server takes of its host; negative gives back."""

    ram: int  # off ram_free and ram_weight
    vcpus: int  # off vcpus_free, onto vcpus_used
    disk: int  # off disk_free and disk_weight
    io_ops: int = 0
    servers: int = 0


class RequestClass(NamedTuple):
    """What filters and weighs hosts, for all requests that agree in it.

    ``key`` stands for what the columns do not tell: the part of the request that the verdicts over profiles depend on.
    """

    key: object  # hashable
    ram: int  # what must be free, as are the next two; -(2**31 - 1): whatever is free
    vcpus: int
    disk: int
    multipliers: Multipliers
    flags: int = 6  # the HOST_UP | HOST_ENABLED that a host must have


class ExtraTerm(NamedTuple):
    """A further term of the sum, for one request; normalised between the least and the largest value of who passes."""

    after: int  # how many column weighers come before it; terms of one place follow in the order given
    values: (
        Mapping[int, float] | Sequence[float]
    )  # by row: those missing are 0; or one for each row (fastest: array('d'))
    multipliers: float | Sequence[float]  # one for all, or one for each profile
