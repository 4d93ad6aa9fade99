"""Select: from requests to hosts, choosing and claiming in one step.

The :class:`Scheduler` is what the daemon drives: it is told of the hosts (``load``), of what was committed since
(``apply``), of the time (``tick``), and is asked (``select``). Requests of one message are decided in order, each on
the fleet as the ones before it left it. Asking twice for one server is asking once.

A request may stand for many servers with the same wishes. Where the index can answer, the table places them all in one
call; else each is decided alone. A placement says what was decided: how many hosts passed, and what the best of
them weighed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from nova_fast._ext.rows import Ranking
from nova_fast.config import SchedulerConfig
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.events import (
    AggregateChanged,
    AggregateRemoved,
    Claimed,
    Event,
    HostChanged,
    HostRemoved,
    Released,
    ServerChanged,
)
from nova_fast.model.hosts import Claim, Host, HostUsage
from nova_fast.model.tasks import (
    Capacity,
    HostWeight,
    Placement,
    PlacementRequest,
    ReleaseClaims,
    SelectHosts,
    Selection,
)
from nova_fast.queries.claims import Membership
from nova_fast.scheduler.claims import Claims
from nova_fast.scheduler.explain import Explainer
from nova_fast.scheduler.fleet import KnownFleet, Residence, nowhere
from nova_fast.scheduler.hosts import Hosts
from nova_fast.scheduler.lowering import Pipeline
from nova_fast.scheduler.policies import POLICIES, Draw
from nova_fast.scheduler.search import Search, Searches
from nova_fast.scheduler.weighers.states import ImageProperties
from nova_fast.scheduler.whatif import WhatIf

TOP = 10  # hosts whose weights a decision tells
ALTERNATES = 2  # behind the winner: with the conductor's three attempts, one host for each
TENDED_CHANGES = 256  # that a class of requests hears of in one idle moment
PENDING_TIMEOUT_S = 60.0  # a commit takes milliseconds; whoever has not committed by then is gone


#: Asked last if the configuration does not name them: a server gets its cells and devices whatever it says.
CLAIMING = ("NUMATopologyFilter", "PciPassthroughFilter")


def _with_claims(config: SchedulerConfig) -> SchedulerConfig:
    missing = tuple(name for name in CLAIMING if name not in config.enabled_filters)
    return msgspec.structs.replace(config, enabled_filters=(*config.enabled_filters, *missing))


class Scheduler:
    """All hosts, all claims, and the policy that chooses."""

    def __init__(
        self,
        config: SchedulerConfig,
        rng: random.Random,
        *,
        residence: Residence = nowhere,
        pending_timeout_s: float = PENDING_TIMEOUT_S,
    ) -> None:
        """Raises BadRequest, with the option named, for a policy, a filter or a multiplier that cannot be used."""
        if config.policy not in POLICIES:
            raise BadRequest(
                f"There is no scheduler policy {config.policy!r}.",
                field="scheduler.policy",
                hint=f"one of {', '.join(POLICIES)}",
            )
        config = _with_claims(config)
        self.policy_name = config.policy
        self._policy = POLICIES[config.policy]
        self._in_one_call = config.policy == "filter" and config.host_subset_size == 1
        self._in_one_call &= not config.shuffle_best_same_weighed_hosts
        pipeline = Pipeline(config)
        weighs_images = any(isinstance(one, ImageProperties) and one.configured != 0.0 for one in pipeline.weighers)
        self.hosts = Hosts(frozenset(config.isolated_hosts), count_images=weighs_images)
        self.claims = Claims(self.hosts, pending_timeout_s)
        self.fleet = KnownFleet(self.hosts, self.claims, residence)
        self.searches = Searches(pipeline, self.hosts, self.fleet)
        # PERF: three events come with each server, and one look is less than a row of questions.
        self._followers: dict[type[Event], Callable[[Any], None]] = {
            ServerChanged: self.claims.follow,
            Claimed: self.claims.confirm,
            Released: self.claims.give_back,
            HostChanged: lambda event: self.hosts.put(event.host),
            HostRemoved: lambda event: self.claims.forget_host(event.host),
            AggregateChanged: lambda event: self.hosts.put_aggregate(event.aggregate),
            AggregateRemoved: lambda event: self.hosts.remove_aggregate(event.aggregate_id),
        }
        self._draw = Draw(
            random=rng,
            alternates=ALTERNATES,
            shown=TOP,
            subset_size=config.host_subset_size,
            shuffle=config.shuffle_best_same_weighed_hosts,
            profiles=self.hosts.profiles,
        )

    def load(
        self,
        hosts: Iterable[tuple[Host, HostUsage]],
        committed: Iterable[Claimed] = (),
        aggregates: Iterable[Aggregate] = (),
        busy: Iterable[str] = (),
        members: Iterable[Membership] = (),
    ) -> None:
        """Start from a snapshot: hosts with all that is taken of them, and what ``Claims.load`` wants to remember."""
        self.claims.load(hosts, committed, aggregates, busy, members)

    def apply(self, event: Event) -> None:
        """Follow what was committed, in the order of the stream.

        Raises InternalError (``scheduler_out_of_step``) for an event that does not follow from what is known; then load
        a new snapshot.
        """
        follow = self._followers.get(type(event))
        if follow is not None:
            follow(event)

    def release(self, message: ReleaseClaims) -> None:
        """Give back choices that were not committed; servers without one are passed over."""
        for server_id in message.server_ids:
            self.claims.release(server_id)

    def tick(self, now_s: float) -> tuple[str, ...]:
        """Tell the time (a monotonic clock, seconds); returns the servers whose choice was given back as too old."""
        return self.claims.tick(now_s)

    def tend(self) -> bool:
        """Spend an idle moment on what later decisions would have to do; whether there may be more of it.

        No decision depends on it. PERF: at most some tens of microseconds.
        """
        return self.hosts.table.tend(1, TENDED_CHANGES) > 0

    def select(self, message: SelectHosts) -> Selection:
        """Choose and claim a host for each server, or say why there is none.

        Raises BadRequest for a negative amount, before anything is claimed. A wish that a filter cannot make sense of
        refuses its own servers only.
        """
        for request in message.requests:
            claim = request.claim
            if claim.vcpus < 0 or claim.ram_mib < 0 or claim.disk_gib < 0 or _any_negative(claim.resources):
                raise BadRequest(f"Server {request.server_id} asks for less than nothing.", field="claim")
        placements: list[Placement] = []
        for request in message.requests:
            placements += self._place(request)
        return Selection(placements=tuple(placements))

    def capacity(self, request: PlacementRequest) -> Capacity:
        """How many more servers with these wishes fit, and where; nothing is taken. Raises BadRequest."""
        return WhatIf(self.hosts, self.fleet, self.searches.pipeline, request).capacity()

    def _place(self, request: PlacementRequest) -> list[Placement]:
        """Place all servers of a request."""
        placements, waiting = [], []
        for server_id in (request.server_id, *request.alike):
            held = self.claims.held(server_id, request)
            if held:
                placements.append(Placement(server_id=server_id, host=held, claim=self._held(server_id, held)))
            else:
                waiting.append(server_id)
        try:
            placed = self._choose(request, waiting) if waiting else []
        except (BadRequest, Conflict) as error:
            chosen = self.claims.pending
            placed = [Placement(server_id=one, host=chosen.get(one, ""), hint=error.message) for one in waiting]
        if request.all_or_none and placed and not all(placement.host for placement in placed):
            placed = self._take_back(placed)
        return placements + placed

    def _held(self, server_id: str, host: str) -> Claim | None:
        """What a server holds of a host, where that is not just what it asks for."""
        claim = self.claims.of(server_id, host)
        return None if claim is None or claim.topology is None else claim

    def _take_back(self, placed: list[Placement]) -> list[Placement]:
        refusal = next(placement for placement in placed if not placement.host)
        for placement in placed:
            if placement.host:
                self.claims.release(placement.server_id)
        return [
            Placement(server_id=placement.server_id, filters=refusal.filters, hint=refusal.hint) for placement in placed
        ]

    def _choose(self, request: PlacementRequest, server_ids: list[str]) -> list[Placement]:
        if request.requested_host and request.requested_host not in self.hosts:
            hint = f"there is no compute host named {request.requested_host}"
            return [Placement(server_id=server_id, hint=hint) for server_id in server_ids]
        search = self.searches.make(request)
        placed: list[Placement] = []
        # What is plain only as the fleet is now (a group without members) is not so for the next server.
        if len(server_ids) > 1 and self._in_one_call and search.lowered.is_plain:
            placed = self._place_many(server_ids, search)
            return placed + self._refused(server_ids[len(placed) :], search)
        for position, server_id in enumerate(server_ids):
            if position:
                search = self.searches.make(request)
            ranking = self._policy(search, self._draw)
            if not ranking:
                return placed + self._refused(server_ids[position:], search)
            placement = self._take(server_id, search, ranking)
            if placement is None:
                return placed + self._refused(server_ids[position:], search)
            placed.append(placement)
        return placed

    def _place_many(self, server_ids: list[str], search: Search) -> list[Placement]:
        """As many of these as there is room for, in one call of the table."""
        take, weighed, request = self.claims.take_row, self.hosts.weighed, search.lowered.request
        placements = []
        chosen = search.hosts.place_among(len(server_ids), search.taken, TOP)
        for server_id, (candidates, ranking) in zip(server_ids, chosen, strict=False):
            top = weighed(ranking)
            take(server_id, request, ranking[0][0])
            placements.append(
                Placement(
                    server_id=server_id,
                    host=top[0].host,
                    weight=top[0].weight,
                    alternates=tuple([one.host for one in top[1 : 1 + ALTERNATES]]),
                    candidates=candidates,
                    top=tuple(top),
                    policy=self.policy_name,
                )
            )
        return placements

    def _refused(self, server_ids: list[str], search: Search) -> list[Placement]:
        """One explanation for all."""
        if not server_ids:
            return []
        refusal = Explainer(self.hosts, self.fleet, self.searches.pipeline, search.lowered).refusal()
        return [Placement(server_id=one, filters=refusal.filters, hint=refusal.hint) for one in server_ids]

    def _take(self, server_id: str, search: Search, ranking: Ranking) -> Placement | None:
        """Give a server the first host of a ranking; None when it fits none of them, whatever the filters say."""
        top = self.hosts.weighed(ranking)
        claim, position = None, 0
        if search.lowered.needs is not None:
            found = self._assigned(top, search)
            if found is None:
                return None
            position, claim = found
        winner, candidates = top[position], search.candidates()
        alternates = tuple([one.host for one in top[position + 1 : position + 1 + ALTERNATES]])
        if len(top) > 1 and top[1].weight > top[0].weight:  # the winner was drawn among several
            top.sort(key=lambda one: -one.weight)
        self.claims.take(server_id, search.lowered.request, winner.host, claim)
        return Placement(
            server_id=server_id,
            host=winner.host,
            weight=winner.weight,
            alternates=alternates,
            candidates=candidates,
            top=tuple(top),
            policy=self.policy_name,
            claim=claim,
        )

    def _assigned(self, ranked: list[HostWeight], search: Search) -> tuple[int, Claim] | None:
        """The first of these hosts whose cells and devices do, and what the server takes of it."""
        lowered = search.lowered
        assert lowered.needs is not None
        for position, one in enumerate(ranked):
            claim = self.searches.pipeline.assigner.claim(self.hosts[one.host], lowered.request, lowered.needs)
            if claim is not None:
                return position, claim
        return None


def _any_negative(amounts: dict[str, int]) -> bool:
    return bool(amounts) and min(amounts.values()) < 0
