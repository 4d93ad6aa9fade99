"""Select: from requests to hosts, choosing and claiming in one step.

The :class:`Scheduler` is what the daemon drives: it is told of the hosts (``load``), of what was committed since
(``apply``), of the time (``tick``), and is asked (``select``). Requests of one message are decided in order, each on
the fleet as the ones before it left it. Asking twice for one server is asking once.

The filters, in Nova's names and in the order in which a refusal counts them: ComputeFilter (up, not forced down,
enabled), AvailabilityZoneFilter, ImagePropertiesFilter (architecture), RamFilter, CoreFilter, DiskFilter, RetryFilter
(hosts that the request excludes), RequestedHostFilter.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from nova_fast._ext import ANY, HostQuery
from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import BadRequest
from nova_fast.model.events import Claimed, Event, HostChanged, HostRemoved, Released
from nova_fast.model.hosts import Host, HostUsage
from nova_fast.model.tasks import Placement, PlacementRequest, ReleaseClaims, SelectHosts, Selection
from nova_fast.scheduler.claims import Claims
from nova_fast.scheduler.explain import Refusal, explain
from nova_fast.scheduler.hosts import REQUEST_MAX, Hosts, canonical_architecture
from nova_fast.scheduler.policies import POLICIES, Draw

ALTERNATES = 2  # behind the winner: with the conductor's three attempts, one host for each
PENDING_TIMEOUT_S = 60.0  # a commit takes milliseconds; whoever has not committed by then is gone

# One decision's key: requests that agree in it are refused for the same reason while no claim changes.
_Key = tuple[HostQuery, tuple[int, ...]]


class Scheduler:
    """All hosts, all claims, and the policy that chooses."""

    def __init__(
        self, config: SchedulerConfig, rng: random.Random, *, pending_timeout_s: float = PENDING_TIMEOUT_S
    ) -> None:
        """Raises BadRequest, with the option named, for a policy or a multiplier that cannot be used."""
        if config.policy not in POLICIES:
            raise BadRequest(
                f"There is no scheduler policy {config.policy!r}.",
                field="scheduler.policy",
                hint=f"one of {', '.join(POLICIES)}",
            )
        self._policy = POLICIES[config.policy]
        self._config = config
        self._random = rng
        self.hosts = Hosts()
        self.claims = Claims(self.hosts, pending_timeout_s)
        try:
            self.hosts.table.set_multipliers(
                config.ram_weight_multiplier,
                config.cpu_weight_multiplier,
                config.disk_weight_multiplier,
                config.io_ops_weight_multiplier,
            )
        except ValueError as e:
            raise BadRequest(str(e), field="scheduler") from e

    def load(self, hosts: Iterable[tuple[Host, HostUsage]], committed: Iterable[Claimed] = ()) -> None:
        """Start from a snapshot; ``committed`` names the claims that its usage includes, as far as they are known."""
        self.claims.load(hosts, committed)

    def apply(self, event: Event) -> None:
        """Follow what was committed, in the order of the stream.

        Raises InternalError (``scheduler_out_of_step``) for an event that does not follow from what is known; then load
        a new snapshot.
        """
        if isinstance(event, HostChanged):
            self.hosts.put(event.host)
        elif isinstance(event, HostRemoved):
            self.claims.forget_host(event.host)
        elif isinstance(event, Claimed):
            self.claims.confirm(event)
        elif isinstance(event, Released):
            self.claims.give_back(event)

    def release(self, message: ReleaseClaims) -> None:
        """Give back choices that were not committed; servers without one are passed over."""
        for server_id in message.server_ids:
            self.claims.release(server_id)

    def tick(self, now_s: float) -> tuple[str, ...]:
        """Tell the time (a monotonic clock, seconds); returns the servers whose choice was given back as too old."""
        return self.claims.tick(now_s)

    def select(self, message: SelectHosts) -> Selection:
        """Choose and claim a host for each request, or say why there is none.

        Raises BadRequest for a negative amount, before anything is claimed.
        """
        for request in message.requests:
            claim = request.claim
            if claim.vcpus < 0 or claim.ram_mib < 0 or claim.disk_gib < 0:
                raise BadRequest(f"Server {request.server_id} asks for less than nothing.", field="claim")
        draw = Draw(
            random=self._random,
            alternates=ALTERNATES,
            subset_size=self._config.host_subset_size,
            shuffle=self._config.shuffle_best_same_weighed_hosts,
            zone_count=len(self.hosts.zones),
        )
        refused: dict[_Key, Refusal] = {}
        return Selection(placements=tuple([self._place(request, draw, refused) for request in message.requests]))

    def _place(self, request: PlacementRequest, draw: Draw, refused: dict[_Key, Refusal]) -> Placement:
        held = self.claims.held(request)
        if held:
            return Placement(server_id=request.server_id, host=held)
        if request.requested_host and request.requested_host not in self.hosts:
            return Placement(
                server_id=request.server_id, hint=f"there is no compute host named {request.requested_host}"
            )
        hosts, table = self.hosts, self.hosts.table
        query = self._query(request)
        excluded = tuple(sorted({hosts[name].row for name in request.excluded_hosts if name in hosts}))
        refusal = refused.get((query, excluded))
        if refusal is None:
            if excluded:
                table.exclude(excluded, True)
            try:
                ranking = self._policy(table, query, draw)
                if not ranking:
                    refusal = refused[query, excluded] = explain(table, query, bool(excluded))
            finally:
                if excluded:
                    table.exclude(excluded, False)
        if refusal is not None:
            return Placement(server_id=request.server_id, filters=refusal.filters, hint=refusal.hint)
        refused.clear()
        row, weight = ranking[0]
        host = hosts.name(row)
        self.claims.take(request, host)
        alternates = tuple([hosts.name(other) for other, _ in ranking[1:]])
        return Placement(server_id=request.server_id, host=host, weight=weight, alternates=alternates)

    def _query(self, request: PlacementRequest) -> HostQuery:
        hosts, claim = self.hosts, request.claim
        architecture = canonical_architecture(request.architecture)
        return HostQuery(
            min(claim.ram_mib, REQUEST_MAX),
            min(claim.vcpus, REQUEST_MAX),
            min(claim.disk_gib, REQUEST_MAX),
            hosts.zones.find(request.zone) if request.zone else ANY,
            hosts.architectures.find(architecture) if architecture else ANY,
            hosts[request.requested_host].row if request.requested_host else ANY,
        )
