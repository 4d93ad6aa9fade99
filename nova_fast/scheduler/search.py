"""Searches: one request, made ready for the table.

What a request asks for is lowered (``lowering``) to a class of requests that the table knows, whose verdicts on
profiles are kept current here, and to what columns cannot say: hosts that alone will do or will not, terms of the sum
that only some hosts have. A search without the latter is *plain* and goes through the index; any other is one pass over
all hosts.
"""

from __future__ import annotations

from typing import NamedTuple

from nova_fast._ext import rows as table_rows
from nova_fast._ext.fleet import HOST_ENABLED, HOST_UP, HostClass, Sieve
from nova_fast._ext.rows import NEVER, ExtraTerm, Multipliers, Ranking, Taken
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import Fleet, HostFacts, HostState
from nova_fast.scheduler.hosts import Hosts
from nova_fast.scheduler.lowering import REMEMBERED_MAX, Lowered, Pipeline, RequestClass
from nova_fast.scheduler.weighers.kinds import SparseWeigher, Weigher

_AFTER = {
    "MetricsWeigher": table_rows.AFTER_PCI,
    "ServerGroupSoftAffinityWeigher": table_rows.AFTER_PCI,
    "ServerGroupSoftAntiAffinityWeigher": table_rows.AFTER_PCI,
    "CrossCellWeigher": table_rows.AFTER_BUILD_FAILURE,
}


class Search(NamedTuple):
    """One request and the hosts it may have."""

    lowered: Lowered
    hosts: HostClass
    only: tuple[int, ...] | None  # rows; None = any
    without: tuple[int, ...]
    extra: tuple[ExtraTerm, ...]

    @property
    def is_plain(self) -> bool:
        """Whether the index can answer."""
        return self.only is None and not self.without and not self.extra

    @property
    def taken(self) -> Taken:
        """What each server takes."""
        claim = self.lowered.request.claim
        return Taken(ram=claim.ram_mib, vcpus=claim.vcpus, disk=claim.disk_gib, io_ops=1, servers=1)

    def candidates(self) -> int:
        """How many hosts pass, without a pass over those that the index knows."""
        if self.only is not None:
            return len(self.hosts.masked(self.only, self.without, (), len(self.only))) if self.only else 0
        passing = self.hosts.count()
        if self.without:
            passing -= len(self.hosts.masked(self.without, None, (), len(self.without)))
        return passing

    def best(self, wanted: int) -> Ranking:
        """The best hosts, the lower row first among equals."""
        if self.is_plain:
            return self.hosts.best(wanted)
        return self.hosts.masked(self.only, self.without, self.extra, wanted)

    def ties(self, wanted: int) -> tuple[Ranking, Sieve]:
        """The best hosts, and all that are as good as the best."""
        return self.hosts.ties(self.only, self.without, self.extra, wanted)

    def least_used(self, wanted: int) -> Ranking:
        """The hosts with the fewest vCPUs taken."""
        return self.hosts.least_used(self.only, self.without, wanted)

    def sieve(self) -> Sieve:
        """All hosts that will do."""
        return self.hosts.sieve(self.only, self.without)


class Searches:
    """Makes searches of requests."""

    def __init__(self, pipeline: Pipeline, hosts: Hosts, fleet: Fleet) -> None:
        self.pipeline = pipeline
        self._hosts = hosts
        self._fleet = fleet
        self.flags = HOST_UP | HOST_ENABLED if pipeline.checks_up else HOST_ENABLED
        self._classes: dict[RequestClass, HostClass] = {}
        self._multipliers = self._column_multipliers(HostFacts())

    def make(self, request: PlacementRequest) -> Search:
        """Raises BadRequest when the request makes no sense to a filter."""
        lowered = self.pipeline.lower(request)
        hosts = self._class(lowered.kind)
        if not lowered.rows and not lowered.states and not lowered.weighers:
            return Search(lowered, hosts, None, (), ())
        only_names, without_names = lowered.selected(self._fleet)
        only = None if only_names is None else tuple(self._hosts.rows(only_names))
        without = tuple(self._hosts.rows(without_names))
        if lowered.states:
            only = self._judged(lowered, hosts.sieve(only, without))
            without = ()
        return Search(lowered, hosts, only, without, self._terms(lowered, hosts, only, without))

    def _class(self, kind: RequestClass) -> HostClass:
        found = self._classes.get(kind)
        if found is None:
            if len(self._classes) >= REMEMBERED_MAX:
                self._classes.clear()
            amounts = kind.amounts
            found = self._classes[kind] = self._hosts.table.define(
                table_rows.RequestClass(
                    key=kind.key,
                    ram=amounts.ram_mib,
                    vcpus=amounts.vcpus,
                    disk=amounts.disk_gib,
                    multipliers=self._multipliers,
                    flags=self.flags,
                )
            )
        if found.evaluated < len(self._hosts.profiles):
            self._judge_profiles(found, kind)
        return found

    def _judge_profiles(self, found: HostClass, kind: RequestClass) -> None:
        """Give a class its verdicts on the profiles it has not seen."""
        new = [self._hosts.profiles[number] for number in range(found.evaluated, len(self._hosts.profiles))]
        verdicts = [kind.verdict(facts) for facts in new]
        found.extend(
            [NEVER if verdict is None else verdict.io_ops for verdict in verdicts],
            [NEVER if verdict is None else verdict.servers for verdict in verdicts],
            [self._multipliers_of(facts) for facts in new],
        )

    def _multipliers_of(self, facts: HostFacts) -> Multipliers:
        return self._column_multipliers(facts) if facts.aggregates else self._multipliers

    def _column_multipliers(self, facts: HostFacts) -> Multipliers:
        """In the order of the table; a weigher that is not configured counts nothing."""
        by_name = {weigher.name: weigher.multiplier(facts) for weigher in self.pipeline.columns}
        ram, cpu, disk, io_ops, pci, build, version, servers = (
            by_name.get(f"{name}Weigher", 0.0) for name in table_rows.WEIGHERS
        )
        return ram, cpu, disk, io_ops, pci, build, version, servers

    def _judged(self, lowered: Lowered, sieve: Sieve) -> tuple[int, ...]:
        """The rows that the filters which look at each host leave."""
        left = sieve.some(sieve.count)
        for judge in lowered.judges():
            left = [row for row in left if judge(self._hosts.state_in(row))]
        return tuple(left)

    def _terms(
        self, lowered: Lowered, hosts: HostClass, only: tuple[int, ...] | None, without: tuple[int, ...]
    ) -> tuple[ExtraTerm, ...]:
        terms = []
        states: list[tuple[int, HostState]] | None = None
        for weigher in lowered.weighers:
            if isinstance(weigher, SparseWeigher):
                named = weigher.values(self._fleet, lowered.request) or {}
                values = {known.row: value for name, value in named.items() if (known := self._hosts.get(name))}
            else:
                if states is None:
                    sieve = hosts.sieve(only, without)
                    states = [(row, self._hosts.state_in(row)) for row in sieve.some(sieve.count)]
                if len(states) == 1:  # one candidate is not weighed, whatever a weigher would say of it
                    continue
                values = {row: weigher.raw(state, lowered.request) for row, state in states}
            if values:
                terms.append(self._term(weigher, values))
        return tuple(terms)

    def _term(self, weigher: Weigher, by_row: dict[int, float]) -> ExtraTerm:
        multipliers = [weigher.multiplier(facts) for facts in self._hosts.profiles]
        return ExtraTerm(_AFTER.get(weigher.name, table_rows.AFTER_ALL), by_row, multipliers)
