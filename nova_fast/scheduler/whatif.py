"""What if: how many more servers of a kind fit, and where the first and the last of them would go.

How many follows from what the hosts that pass have left, counted by the table. Where the last would go is found by
placing all of them in the table, as if they had been asked for, and giving everything back before anybody else looks:
exact, so only where few fit. Nothing stays changed, and whoever is placed next goes where he would have gone.

A group is a new one without members. With affinity what fits is the most that fit on one host. What filters that look
at each host say counts as it is now; but cells and devices are given to one server after the other, to so many that the
answer is not kept waiting: beyond those only amounts count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set

from nova_fast._ext.fleet import DISK_FREE, IO_OPS, RAM_FREE, SERVERS, VCPUS_FREE, Sieve
from nova_fast._ext.rows import NEVER, HostRow, Ranking
from nova_fast.model.hosts import PCPU, Claim
from nova_fast.model.tasks import Capacity, PlacementRequest
from nova_fast.model.topology import GuestTopology
from nova_fast.scheduler.explain import REQUEST_MAX, Explainer
from nova_fast.scheduler.facts import Network, Offer
from nova_fast.scheduler.fleet import KnownFleet
from nova_fast.scheduler.hosts import Hosts, KnownHost
from nova_fast.scheduler.lowering import Pipeline
from nova_fast.scheduler.search import Search, Searches

STEPS_MAX = 2000  # servers placed to find the last
GIFTS_MAX = 1000  # servers whose cells and devices are looked for
PASSES_MAX = 16  # over all hosts, to count those that have room for one, two, three, …
#: PERF: what a step costs, for a question to stay below 50 ms at 100,000 hosts; measured, and rounded up.
_BUDGET_NS = 30_000_000
_STEP_NS = 12_000
_STEP_APART_NS = 24_000  # with anti-affinity
_PASS_NS = 4  # for each host, where the index cannot answer
_OFFER_NS = 400  # for each host, for a class of resources that operators added
_STATE_NS = 10_000  # for each host, for filters and weighers that look at each

HostValues = tuple[int, int, int, int, float, int, int, int, int, int, int, int, int]  # of a HostRow


class SimulatedFleet:
    """The fleet as it is, with the members of one group that is only thought of."""

    def __init__(self, fleet: KnownFleet) -> None:
        self._fleet = fleet
        self.placed: Counter[str] = Counter()  # servers by host

    def hosts_of(self, server_ids: Iterable[str]) -> Set[str]:
        return self._fleet.hosts_of(server_ids)

    def members(self, _group_id: str) -> Mapping[str, int]:
        """Where the servers are that have been placed in thought: all are of the one group."""
        return self.placed

    def hosts_within(self, network: Network) -> Set[str]:
        return self._fleet.hosts_within(network)

    def offers(self, resource_class: str) -> Mapping[str, Offer]:
        return self._fleet.offers(resource_class)

    def sharing(self, vcpus: int) -> Set[str]:
        return self._fleet.sharing(vcpus)


class WhatIf:
    """One question."""

    def __init__(self, hosts: Hosts, fleet: KnownFleet, pipeline: Pipeline, request: PlacementRequest) -> None:
        self._hosts = hosts
        self._fleet = SimulatedFleet(fleet)
        self._searches = Searches(pipeline, hosts, self._fleet)
        self._pipeline = pipeline
        self._options = pipeline.options
        self._request = request
        self._policy = request.group.policy if request.group is not None else ""
        self._per_host = request.group.max_servers_per_host if request.group is not None else 1
        self._search = self._searches.make(request)
        self._gifts_left = GIFTS_MAX
        self._explainer = Explainer(hosts, fleet, pipeline, self._search.lowered)

    def capacity(self) -> Capacity:
        """The answer. Raises BadRequest when the request makes no sense."""
        first = self._choose(self._search)
        if not first:
            refusal = self._explainer.refusal()
            return Capacity(servers=0, hosts=0, filters=refusal.filters, hint=refusal.hint)
        servers, hosts = self._room()
        if self._draws:
            why = f"the policy {self._options.policy} draws among hosts, so nobody knows which comes first"
            return Capacity(servers=servers, hosts=hosts, hint=why)
        if self._policy == "affinity":
            return self._on_one_host(servers, first)
        name = self._hosts.name(first[0][0])
        steps_max = self._steps_max()
        if servers > steps_max:
            why = f"where the last would go is looked for among at most {steps_max}"
            return Capacity(servers=servers, hosts=hosts, first=name, hint=why)
        return Capacity(servers=servers, hosts=hosts, first=name, last=self._last(servers))

    @property
    def _draws(self) -> bool:
        options = self._options
        by_weight = options.policy == "filter" and options.host_subset_size == 1
        return options.policy != "simple" and (not by_weight or options.shuffle_best_same_weighed_hosts)

    def _choose(self, search: Search) -> Ranking:
        return search.least_used(1) if self._options.policy == "simple" else search.best(1)

    # ------------------------------------------------------------------ how many
    def _room(self) -> tuple[int, int]:
        """How many servers fit, and on how many hosts."""
        search, per_host = self._search, self._per_host
        if self._is_by_host:
            rooms = self._rooms_by_host()
            if self._policy == "affinity":
                return max(rooms), 1
            return sum(min(room, per_host) if self._policy == "anti-affinity" else room for room in rooms), len(rooms)
        if self._policy == "affinity":
            return self._most_on_one(), 1
        if self._policy == "anti-affinity" and per_host <= PASSES_MAX:
            left = [self._hosts_with_room(count) for count in range(1, per_host + 1)]
            return sum(left), left[0]
        servers = search.hosts.room(search.taken, search.only, search.without)
        if self._policy == "anti-affinity":
            wider = self._with_room(per_host + 1)
            rows = wider.some(wider.count) if wider is not None else []
            servers += per_host * len(rows) - (search.hosts.room(search.taken, rows) if rows else 0)
        return servers, search.candidates()

    def _most_on_one(self) -> int:
        """The most that fit on one host: doubled until they do not, and then halved in."""
        low = 1
        while self._hosts_with_room(2 * low):
            low *= 2
        high = 2 * low
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._hosts_with_room(middle) else (low, middle)
        return low

    def _hosts_with_room(self, servers: int) -> int:
        sieve = self._with_room(servers)
        return 0 if sieve is None else sieve.count

    def _with_room(self, servers: int) -> Sieve | None:
        """The hosts that have room for so many; None where the amount is beyond what any host could have."""
        search, claim = self._search, self._request.claim
        amounts = ((RAM_FREE, claim.ram_mib), (VCPUS_FREE, claim.vcpus), (DISK_FREE, claim.disk_gib))
        if servers * max(1, *(amount for _, amount in amounts)) > REQUEST_MAX:
            return None
        sieve = search.hosts.sieve(search.only, search.without)
        for column, amount in amounts:
            if amount:
                sieve.at_least(column, servers * amount)
        verdicts = [search.lowered.kind.verdict(facts) for facts in self._hosts.profiles]
        limits = [(-1, -1) if verdict is None else (verdict.io_ops, verdict.servers) for verdict in verdicts]
        sieve.below(IO_OPS, [max(NEVER, io_ops - servers + 1) for io_ops, _ in limits])
        sieve.below(SERVERS, [max(NEVER, most - servers + 1) for _, most in limits])
        return sieve

    @property
    def _is_by_host(self) -> bool:
        """Whether hosts are counted one by one: for classes that operators added, for cells and devices."""
        return bool(self._request.claim.resources) or self._search.lowered.needs is not None

    def _rooms_by_host(self) -> list[int]:
        """How many fit on each host that passes, counted host by host: few have what is asked for."""
        search, claim = self._search, self._request.claim
        assert search.only is not None, "who counts host by host names its hosts"
        passing = search.hosts.masked(search.only, search.without, (), len(search.only))
        rooms = []
        for name in [self._hosts.name(row) for row, _ in passing]:
            known = self._hosts[name]
            free = HostRow(*self._hosts.table.get(known.row))
            verdict = search.lowered.kind.verdict(self._hosts.facts(known))
            assert verdict is not None, f"{name} passes"
            spare = [(free.ram_free, claim.ram_mib), (free.vcpus_free, claim.vcpus), (free.disk_free, claim.disk_gib)]
            spare += [(verdict.io_ops - free.io_ops, 1), (verdict.servers - free.servers, 1)]
            for resource_class, amount in claim.resources.items():
                offer = known.offer(resource_class)
                if offer is None:
                    assert resource_class == PCPU, f"{name} has {resource_class}"
                    spare.append((free.vcpus_free, self._request.vcpus))
                else:
                    spare.append((offer.free, amount))
            rooms.append(self._celled_room(known, min(left // amount for left, amount in spare if amount)))
        return rooms

    def _celled_room(self, known: KnownHost, most: int) -> int:
        """How many of those that have room find cells and devices as well: found by giving them, and taken back."""
        needs, given = self._search.lowered.needs, list[GuestTopology]()
        if needs is None:
            return most
        try:
            while len(given) < most and self._gifts_left:
                claim = self._pipeline.assigner.claim(known, self._request, needs)
                if claim is None or claim.topology is None:
                    return len(given)
                known.take(claim.topology, 1)
                given.append(claim.topology)
                self._gifts_left -= 1
        finally:
            for topology in given:
                known.take(topology, -1)
        return most

    # ------------------------------------------------------------------ where
    def _on_one_host(self, servers: int, first: Ranking) -> Capacity:
        """The host that takes the most, and what becomes of a group that begins where the scheduler would begin."""
        begins, search = first[0][0], self._search
        if self._is_by_host:
            passing = search.hosts.masked(search.only, search.without, search.extra, len(search.only or ()))
            by_room = zip([row for row, _ in passing], self._rooms_by_host(), strict=True)
            rooms = dict(by_room)
            widest = next(row for row, room in rooms.items() if room == servers)
            there = rooms[begins]
        else:
            sieve = self._with_room(servers)
            assert sieve is not None
            rows = sieve.some(sieve.count)
            widest = search.hosts.masked(rows, None, search.extra, 1)[0][0]
            there = search.hosts.room(search.taken, [begins])
        name = self._hosts.name(begins)
        hint = "" if there == servers else f"the scheduler would begin at {name}, which has room for {there}"
        return Capacity(servers=servers, hosts=1, first=name, last=self._hosts.name(widest), hint=hint)

    def _steps_max(self) -> int:
        """How many servers may be placed to find the last."""
        hosts, lowered = len(self._hosts), self._search.lowered
        per_step = _STEP_APART_NS if self._policy == "anti-affinity" else _STEP_NS
        if not self._by_index:
            per_step += _PASS_NS * hosts
            per_step += _OFFER_NS * hosts if self._request.claim.resources else 0
            per_step += _STATE_NS * hosts if lowered.states or (lowered.weighers and not self._is_soft) else 0
        return min(STEPS_MAX, _BUDGET_NS // per_step)

    @property
    def _is_soft(self) -> bool:
        return self._policy.startswith("soft-")

    @property
    def _by_index(self) -> bool:
        """Whether the index answers at each step."""
        multipliers = {self._pipeline.multipliers(facts) for facts in self._hosts.profiles}
        plain = self._search.is_plain and not self._is_soft and not self._request.claim.resources
        return plain and len(multipliers) == 1 and self._options.policy == "filter"

    def _last(self, servers: int) -> str:
        """Where the last of so many goes, which all fit."""
        if not self._by_index:
            return self._last_by_decisions(servers)
        if self._policy == "anti-affinity":
            return self._last_apart(servers)
        search, taken = self._search, self._search.taken
        ranking = search.hosts.place(servers, taken)
        for row, count in Counter([row for row, _ in ranking]).items():
            self._hosts.table.change(row, *[-count * amount for amount in taken])
        assert len(ranking) == servers, f"{servers} were to fit, and {len(ranking)} did"
        return self._hosts.name(ranking[-1][0])

    def _last_apart(self, servers: int) -> str:
        """A host that has as many as it may is closed in the table meanwhile: to the index that is the same."""
        table, search = self._hosts.table, self._search
        before: dict[int, HostValues] = {}
        placed: defaultdict[int, int] = defaultdict(int)
        row = -1
        try:
            for _ in range(servers):
                row = search.hosts.best(1)[0][0]
                values = before.setdefault(row, table.get(row))
                placed[row] += 1
                if placed[row] == self._per_host:
                    table.put(row, HostRow(*values)._replace(flags=0))
                else:
                    table.change(row, *search.taken)
        finally:
            for touched, values in before.items():
                table.put(touched, HostRow(*values))
        return self._hosts.name(row)

    def _last_by_decisions(self, servers: int) -> str:
        """Decision by decision, as they would be taken."""
        hosts, needs, given = self._hosts, self._search.lowered.needs, list[tuple[str, Claim]]()
        name = ""
        try:
            for _ in range(servers):
                ranking = self._choose(self._searches.make(self._request))
                assert ranking, f"{servers} were to fit, and {len(given)} did"
                name, claim = hosts.name(ranking[0][0]), self._request.claim
                if needs is not None:
                    claim = self._pipeline.assigner.claim(hosts[name], self._request, needs) or claim
                hosts.charge(name, claim)
                hosts.busy(name, 1)
                self._fleet.placed[name] += 1
                given.append((name, claim))
        finally:
            for touched, claim in given:
                hosts.busy(touched, -1)
                hosts.refund(touched, claim)
        return name
