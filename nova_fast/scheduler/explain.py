"""Explanations: why no host will do, and which one change would help most.

Only a refusal pays for this. The counts come from one pass with every filter apart; the hint from asking the same
kernel what-if questions, each with a single thing relaxed, so it can promise nothing that a real request would not
get.

Of RAM, CPU and disk less may be asked for: the amount named is the smallest step that lets in at least half of the
hosts which lack nothing else (with one such host: exactly what it is short of). A step never goes to nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from nova_fast._ext import ANY, HostQuery
from nova_fast._ext.host_table import HOST_ENABLED, HOST_EXCLUDED, HOST_UP, HostTable
from nova_fast.model.tasks import FilterCount

# Nova's names, in the order in which kernel_explain counts. The last two are left out when the request has no such
# wish.
FILTERS = (
    "ComputeFilter",
    "AvailabilityZoneFilter",
    "ImagePropertiesFilter",
    "RamFilter",
    "CoreFilter",
    "DiskFilter",
    "RetryFilter",
    "RequestedHostFilter",
)

SERVICE_FLAGS = HOST_UP | HOST_ENABLED


class Refusal(NamedTuple):
    """Why a request has no host."""

    filters: tuple[FilterCount, ...]
    hint: str


class Relaxation(NamedTuple):
    """One thing less asked for, and how many hosts would then fit."""

    condition: str
    hosts: int


def explain(table: HostTable, query: HostQuery, excluded: bool) -> Refusal:
    """Why ``query`` finds nothing in ``table``; ``excluded`` says that rows are hidden by the request's own wish."""
    counts = table.explain(query)
    assert len(counts) == len(FILTERS) + 1
    asked = {"RetryFilter": excluded, "RequestedHostFilter": query.host != ANY}
    filters = tuple(
        FilterCount(filter=name, before=counts[position], after=counts[position + 1])
        for position, name in enumerate(FILTERS)
        if asked.get(name, True)
    )
    return Refusal(filters, _hint(table, query, excluded, counts[0]))


def _hint(table: HostTable, query: HostQuery, excluded: bool, host_count: int) -> str:
    if host_count == 0:
        return "no compute host has reported yet"
    best = max(_relaxations(table, query, excluded), key=lambda relaxation: relaxation.hosts)  # the first among equals
    if best.hosts == 0:
        return "no single change would make it fit"
    return f"{best.condition}: {best.hosts} {'host' if best.hosts == 1 else 'hosts'} would fit"


def _relaxations(table: HostTable, query: HostQuery, excluded: bool) -> Iterator[Relaxation]:
    """Every single thing less that can be asked for, in the order of the filters."""

    def without(condition: str, relaxed: HostQuery) -> Relaxation:
        return Relaxation(condition, table.feasible(relaxed))

    yield without("with hosts that are down or disabled back in service", query._replace(ignored_flags=SERVICE_FLAGS))
    if query.zone != ANY:
        yield without("in any availability zone", query._replace(zone=ANY))
    if query.architecture != ANY:
        yield without("with an image for another architecture", query._replace(architecture=ANY))
    yield _less(table, query.ram_mib, "{} MiB less RAM", lambda amount: query._replace(ram_mib=amount))
    yield _less(table, query.vcpus, "{} vCPU less", lambda amount: query._replace(vcpus=amount))
    yield _less(table, query.disk_gib, "{} GiB less disk", lambda amount: query._replace(disk_gib=amount))
    if excluded:
        yield without("with the excluded hosts allowed", query._replace(ignored_flags=HOST_EXCLUDED))
    if query.host != ANY:
        yield without("on another host than the one asked for", query._replace(host=ANY))


def _less(table: HostTable, asked: int, text: str, change: Callable[[int], HostQuery]) -> Relaxation:
    """Ask for less of one resource: by the smallest step that lets in at least half of those that 1 of it would."""
    total = table.feasible(change(1)) if asked > 1 else 0
    if total == 0:
        return Relaxation("", 0)
    low, high = 1, asked  # low lets in enough hosts, high too few
    while high - low > 1:
        middle = (low + high) // 2
        if 2 * table.feasible(change(middle)) >= total:
            low = middle
        else:
            high = middle
    return Relaxation("with " + text.format(asked - low), table.feasible(change(low)))
