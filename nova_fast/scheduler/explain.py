"""Explanations: why no host will do, and which one change would help most.

Only a refusal pays for this. The counts come from narrowing all hosts filter by filter, in the configured order; the
hint from doing it again with a single thing relaxed, on the same table, so it can promise nothing that a real request
would not get.

Of RAM, CPU and disk less may be asked for: the amount named is the smallest step that lets in at least half of the
hosts which lack nothing else (with one such host: exactly what it is short of). A step never goes to nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from nova_fast._ext.fleet import DISK_FREE, HOST_ENABLED, HOST_UP, IO_OPS, RAM_FREE, SERVERS, VCPUS_FREE, Sieve
from nova_fast._ext.rows import NEVER
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import FilterCount
from nova_fast.scheduler.filters import placement, service
from nova_fast.scheduler.filters.kinds import (
    ColumnFilter,
    FactsFilter,
    Filter,
    LimitFilter,
    Only,
    RowsFilter,
    StateFilter,
)
from nova_fast.scheduler.fleet import KnownFleet
from nova_fast.scheduler.hosts import Hosts
from nova_fast.scheduler.lowering import Lowered, Pipeline

REQUEST_MAX = 2**31 - 1  # a request for more fits nowhere
_AMOUNTS: dict[
    type[Filter], tuple[int, Callable[[Claim], int], str]
] = {  # column, what is asked of it, how to say less
    placement.Ram: (RAM_FREE, lambda claim: claim.ram_mib, "{} MiB less RAM"),
    placement.Core: (VCPUS_FREE, lambda claim: claim.vcpus, "{} vCPU less"),
    placement.Disk: (DISK_FREE, lambda claim: claim.disk_gib, "{} GiB less disk"),
}
_RELAXED = {
    "ComputeFilter": "with hosts that are down or disabled back in service",
    "AvailabilityZoneFilter": "in any availability zone",
    "ImagePropertiesFilter": "with an image for another machine",
    "MachineSizeFilter": "with a flavor no larger than the machine",
    "RetryFilter": "with the excluded hosts allowed",
    "RequestedHostFilter": "on another host than the one asked for",
    "ServerGroupAntiAffinityFilter": "outside its server group",
    "ServerGroupAffinityFilter": "outside its server group",
    "DifferentHostFilter": "without the hint different_host",
    "SameHostFilter": "without the hint same_host",
}


class Refusal(NamedTuple):
    """Why a request has no host."""

    filters: tuple[FilterCount, ...]
    hint: str


class Relaxation(NamedTuple):
    """One thing less asked for, and how many hosts would then fit."""

    condition: str
    hosts: int


class Explainer:
    """Asks the table the questions of one refused request."""

    def __init__(self, hosts: Hosts, fleet: KnownFleet, pipeline: Pipeline, lowered: Lowered) -> None:
        self._hosts = hosts
        self._fleet = fleet
        self._request = lowered.request
        self._filters = pipeline.stages(lowered)
        self._profiles = list(hosts.profiles)

    def refusal(self) -> Refusal:
        """The hosts left by each filter in turn, and the one change that would admit the most."""
        sieve = self._hosts.table.sieve()
        counts: list[FilterCount] = []
        for check in self._filters:
            before = sieve.count
            self._narrow(sieve, check)
            if counts and counts[-1].filter == check.name:  # two parts of one filter
                before = counts.pop().before
            counts.append(FilterCount(filter=check.name, before=before, after=sieve.count))
        return Refusal(tuple(counts), self._hint())

    def _hint(self) -> str:
        if len(self._hosts) == 0:
            return "no compute host has reported yet"
        best = max(self._relaxations(), key=lambda relaxation: relaxation.hosts, default=Relaxation("", 0))  # the first
        if best.hosts == 0:
            return "no single change would make it fit"
        return f"{best.condition}: {best.hosts} {'host' if best.hosts == 1 else 'hosts'} would fit"

    def _relaxations(self) -> Iterator[Relaxation]:
        """Every single thing less that can be asked for, in the order of the filters."""
        for check in self._filters:
            sieve = self._hosts.table.sieve()
            for other in self._filters:
                if other.name != check.name and sieve.count:
                    self._narrow(sieve, other)
            if type(check) in _AMOUNTS:
                yield self._less(sieve, type(check))
            elif sieve.count:
                yield Relaxation(_RELAXED.get(check.name, f"without the {check.name}"), sieve.count)

    def _less(self, sieve: Sieve, kind: type[Filter]) -> Relaxation:
        """Ask for less of one amount: by the smallest step that lets in at least half of those that 1 of it would."""
        column, amount, text = _AMOUNTS[kind]
        asked = min(amount(self._request.claim), REQUEST_MAX)
        total = sieve.count_at_least(column, 1) if asked > 1 else 0
        if total == 0:
            return Relaxation("", 0)
        low, high = 1, asked  # low lets in enough hosts, high too few
        while high - low > 1:
            middle = (low + high) // 2
            if 2 * sieve.count_at_least(column, middle) >= total:
                low = middle
            else:
                high = middle
        return Relaxation("with " + text.format(amount(self._request.claim) - low), sieve.count_at_least(column, low))

    def _narrow(self, sieve: Sieve, check: Filter) -> None:
        if isinstance(check, ColumnFilter):
            self._narrow_by_column(sieve, check)
        elif isinstance(check, FactsFilter):
            sieve.profiles([check.passes(facts, self._request) for facts in self._profiles])
        elif isinstance(check, LimitFilter):
            column = IO_OPS if check.column == "io_ops" else SERVERS
            sieve.below(column, [max(check.limit(facts), NEVER) for facts in self._profiles])
        elif isinstance(check, RowsFilter):
            rows = check.rows(self._fleet, self._request)
            if isinstance(rows, Only):
                sieve.only(self._hosts.rows(rows.names))
            elif rows is not None:
                sieve.without(self._hosts.rows(rows.names))
        elif isinstance(check, StateFilter):
            judge = check.judge(self._request)
            sieve.only([row for row in sieve.some(sieve.count) if judge(self._hosts.state_in(row))])

    def _narrow_by_column(self, sieve: Sieve, check: ColumnFilter) -> None:
        amount = _AMOUNTS.get(type(check))
        if amount is not None:
            asked = amount[1](self._request.claim)
            if asked:
                sieve.at_least(amount[0], min(asked, REQUEST_MAX))
        elif isinstance(check, service.Compute):
            sieve.flags(HOST_UP | HOST_ENABLED)
        else:
            assert isinstance(check, placement.Enabled), f"{check.name} is a column nobody knows"
            sieve.flags(HOST_ENABLED)
