"""Lowering: a request as what the table can do with it.

A :class:`Pipeline` is the configured filters and weighers, made once from the options. ``lower`` turns a request into a
:class:`Lowered`: which filters and weighers concern it, by kind. What depends on a host's facts alone is asked once for
each profile (``RequestClass.verdict``, ``Pipeline.multipliers``), so the table sees limits and multipliers by profile;
what names hosts becomes rows (``Lowered.selected``); what must look at each host is left as functions, usually none.

    request ──► lower ──► kind      amounts, and a verdict for each profile     ──► a class of the table, an index
                     ├──► rows      only these hosts, without those             ┐
                     ├──► states    hosts that a function passes                ├─► a full pass with rows hidden
                     └──► weighers  values of some or all hosts beside columns  ┘
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import msgspec

from nova_fast.config import SchedulerConfig
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler import filters, weighers
from nova_fast.scheduler.assign import Assigner, Needs
from nova_fast.scheduler.facts import UNLIMITED, Fleet, HostFacts
from nova_fast.scheduler.filters.kinds import (
    FactsFilter,
    FactsJudge,
    Filter,
    Judge,
    LimitFilter,
    Only,
    Rows,
    RowsFilter,
    StateFilter,
)
from nova_fast.scheduler.filters.service import Compute
from nova_fast.scheduler.weighers.kinds import ColumnWeigher, SparseWeigher, StateWeigher, Weigher

NOTHING = -UNLIMITED  # less than the table keeps of any host
REMEMBERED_MAX = 20_000  # wishes whose class is remembered; beyond it all are forgotten and looked up again


class Verdict(NamedTuple):
    """What facts alone decide of hosts that pass at all: the columns must be below these."""

    io_ops: int
    servers: int


class Amounts(NamedTuple):
    """What must be free; NOTHING for what is not asked for, so that every host has it."""

    ram_mib: int
    vcpus: int
    disk_gib: int


class RequestClass(msgspec.Struct, frozen=True, eq=False):
    """What requests with the same wishes share: all that facts and columns decide. One object for each key."""

    key: Hashable
    amounts: Amounts
    facts: tuple[FactsFilter, ...]  # that can refuse it
    judges: tuple[FactsJudge, ...]  # the same, prepared
    limits: tuple[LimitFilter, ...]

    def verdict(self, facts: HostFacts) -> Verdict | None:
        """Within which limits hosts with these facts pass; None: they do not."""
        for passes in self.judges:
            if not passes(facts):
                return None
        io_ops = servers = UNLIMITED
        for check in self.limits:
            if check.column == "io_ops":
                io_ops = min(io_ops, check.limit(facts))
            else:
                servers = min(servers, check.limit(facts))
        return Verdict(io_ops, servers)


class _Known(NamedTuple):
    """What requests of one wish have in common: the class, and what is no column and does not hang on the server."""

    kind: RequestClass
    rows: tuple[RowsFilter, ...]
    states: tuple[StateFilter, ...]
    weighers: tuple[StateWeigher, ...]
    needs: Needs | None


class Lowered(msgspec.Struct, frozen=True, eq=False):
    """One request, ready for the table."""

    request: PlacementRequest
    kind: RequestClass
    rows: tuple[RowsFilter, ...]  # that may name hosts for it
    states: tuple[StateFilter, ...]  # that must look at each host
    weighers: tuple[SparseWeigher | StateWeigher, ...]  # that concern it and are no column, in the order of the sum
    needs: Needs | None = None  # cells and devices; None = amounts alone

    @property
    def is_plain(self) -> bool:
        """Whether the class alone decides, through the index."""
        return not self.rows and not self.states and not self.weighers and self.needs is None

    def selected(self, fleet: Fleet) -> tuple[frozenset[str] | None, frozenset[str]]:
        """Which hosts alone pass (None: any), and which do not. Raises BadRequest when a hint makes no sense."""
        found = (check.rows(fleet, self.request) for check in self.rows)
        return combine([rows for rows in found if rows is not None])

    def judges(self) -> tuple[Judge, ...]:
        """The filters that look at each host, for this request. Raises BadRequest when a hint makes no sense."""
        return tuple([check.judge(self.request) for check in self.states])


def combine(rows: list[Rows]) -> tuple[frozenset[str] | None, frozenset[str]]:
    """Several row sets as one."""
    only: frozenset[str] | None = None
    without: frozenset[str] = frozenset()
    for entry in rows:
        if isinstance(entry, Only):
            only = frozenset(entry.names) if only is None else only & entry.names
        else:
            without |= entry.names
    return (None if only is None else only - without), without


class Pipeline:
    """The filters and weighers of a configuration, in order."""

    def __init__(self, options: SchedulerConfig) -> None:
        """Raises BadRequest, with the option named, for a filter, a weigher or a setting that cannot be used."""
        self.options = options
        self.assigner = Assigner(options)
        self.filters: tuple[Filter, ...] = filters.chosen(options)
        self.weighers: tuple[Weigher, ...] = weighers.chosen(options)
        #: Whether a host must be up; it must be enabled anyhow.
        self.checks_up = any(isinstance(check, Compute) for check in self.filters)
        self.columns = tuple(weigher for weigher in self.weighers if isinstance(weigher, ColumnWeigher))
        self._facts = tuple(check for check in self.filters if isinstance(check, FactsFilter))
        self._limits = tuple(check for check in self.filters if isinstance(check, LimitFilter))
        self._rows = tuple(check for check in self.filters if isinstance(check, RowsFilter))
        self._states = tuple(check for check in self.filters if isinstance(check, StateFilter))
        self._others = tuple(w for w in self.weighers if isinstance(w, SparseWeigher | StateWeigher))
        self._classes: dict[Hashable, RequestClass] = {}
        self._remembered: dict[Hashable, _Known] = {}

    def lower(self, request: PlacementRequest) -> Lowered:
        """What a request is to the table. Raises BadRequest for one that contradicts itself."""
        known = self._known(request)
        rows = known.rows
        others: tuple[SparseWeigher | StateWeigher, ...] = known.weighers
        if request.group is not None or request.requested_host or request.excluded_hosts:
            rows += tuple([check for check in self._rows if check.of_the_server and check.applies(request)])
            others = tuple([weigher for weigher in self._others if weigher.applies(request)])
        return Lowered(request, known.kind, rows, known.states, others, known.needs)

    def multipliers(self, facts: HostFacts) -> tuple[float, ...]:
        """What each column weigher counts on hosts with these facts, in the order of ``columns``."""
        return tuple([weigher.multiplier(facts) for weigher in self.columns])

    def stages(self, lowered: Lowered) -> tuple[Filter, ...]:
        """The filters that concern a request, in the order in which a refusal counts them."""
        return tuple([check for check in self.filters if _concerns(check, lowered)])

    def _known(self, request: PlacementRequest) -> _Known:
        # PERF: asking all filters takes tens of microseconds; what they look at, as a key, takes two.
        wish = wish_of(request)
        known = self._remembered.get(wish)
        if known is None:
            if len(self._remembered) >= REMEMBERED_MAX:
                self._remembered.clear()
                self._classes.clear()
            known = self._remembered[wish] = _Known(
                self._make_class(request),
                tuple([check for check in self._rows if not check.of_the_server and check.applies(request)]),
                tuple([check for check in self._states if check.applies(request)]),
                tuple([w for w in self._others if isinstance(w, StateWeigher) and w.applies(request)]),
                self.assigner.needs(request),
            )
        return known

    def _make_class(self, request: PlacementRequest) -> RequestClass:
        claim = request.claim
        keys = [(number, check.key(request)) for number, check in enumerate(self._facts)]
        asked = tuple([(number, key) for number, key in keys if key is not None])
        key = (claim.vcpus, claim.ram_mib, claim.disk_gib, asked)
        kind = self._classes.get(key)
        if kind is None:
            facts = tuple([self._facts[number] for number, _key in asked])
            kind = self._classes[key] = RequestClass(
                key, _amounts(claim), facts, tuple([check.judge(request) for check in facts]), self._limits
            )
        return kind


def _amounts(claim: Claim) -> Amounts:
    asked = (claim.ram_mib, claim.vcpus, claim.disk_gib)
    return Amounts(*(min(amount, UNLIMITED) if amount else NOTHING for amount in asked))


def wish_of(request: PlacementRequest) -> Hashable:
    """All of a request that is not the server's alone: its id and group, the host it asks for and those it excludes."""
    claim, hints, specs, properties = request.claim, request.hints, request.extra_specs, request.image_properties
    return (
        (claim.vcpus, claim.ram_mib, claim.disk_gib, request.vcpus, request.ram_mib, *claim.resources.items()),
        (request.zone, request.architecture, request.project_id, request.flavor_name, request.image_id),
        frozenset(specs.items()) if specs else None,
        frozenset(properties.items()) if properties else None,
        tuple([(k, v if isinstance(v, str) else tuple(v)) for k, v in hints.items()]) if hints else None,
    )


def _concerns(check: Filter, lowered: Lowered) -> bool:
    if isinstance(check, FactsFilter):
        return check in lowered.kind.facts
    if isinstance(check, RowsFilter):
        return check in lowered.rows
    return check in lowered.states if isinstance(check, StateFilter) else True
