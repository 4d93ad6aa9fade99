"""What Nova asks placement before its own filters run: always there, whatever ``enabled_filters`` says.

The amounts are columns of the table, with allocation ratios and reserved amounts folded in; who asks for nothing of one
passes, though more than all may be taken (a ratio was lowered under running servers). A trait or a resource class
of a numbered group (``trait1:…``) counts like any other, because a host is one resource provider here.
"""

from __future__ import annotations

from collections.abc import Hashable, Set

from nova_fast.model.guest_cells import DEDICATED
from nova_fast.model.hosts import PCPU
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import UNLIMITED, ZONE_KEY, Fleet, HostFacts, HostState, Offer
from nova_fast.scheduler.filters.kinds import ColumnFilter, FactsFilter, FactsJudge, Only, Rows, RowsFilter, Without
from nova_fast.scheduler.filters.traits import forbidden_traits, required_traits

_TRAIT = "trait:"


class AvailabilityZone(FactsFilter):
    """The zone that was asked for."""

    name = "AvailabilityZoneFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        return request.zone or None

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        return facts.zone == request.zone or request.zone in facts.values(ZONE_KEY)


class Enabled(ColumnFilter):
    """The host is enabled: asked here only when ComputeFilter, which asks it too, is not configured."""

    name = "ComputeStatusFilter"

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return state.enabled


class Ram(ColumnFilter):
    """Free RAM."""

    name = "RamFilter"

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return not request.claim.ram_mib or state.room.ram_mib >= request.claim.ram_mib


class Core(ColumnFilter):
    """Free vCPUs."""

    name = "CoreFilter"

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return not request.claim.vcpus or state.room.vcpus >= request.claim.vcpus


class Disk(ColumnFilter):
    """Free disk."""

    name = "DiskFilter"

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return not request.claim.disk_gib or state.room.disk_gib >= request.claim.disk_gib


class Machine(FactsFilter):
    """No server is larger than the machine, however much the ratios give out (placement's max_unit)."""

    name = "MachineSizeFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        return (request.claim.vcpus, request.claim.ram_mib, request.claim.disk_gib)

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        claim = request.claim
        asked = (
            (claim.vcpus, facts.vcpus_max),
            (claim.ram_mib, facts.ram_mib_max),
            (claim.disk_gib, facts.disk_gib_max),
        )
        return all(amount <= most or most == UNLIMITED for amount, most in asked)


class Traits(FactsFilter):
    """Required and forbidden traits of the flavor and the image."""

    name = "TraitsFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        required, forbidden = required_traits(request, self.options), forbidden_traits(request)
        return (required, forbidden) if required or forbidden else None

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        return self.judge(request)(facts)

    def judge(self, request: PlacementRequest) -> FactsJudge:
        required, forbidden = required_traits(request, self.options), forbidden_traits(request)
        return lambda facts: required <= facts.traits and not forbidden & facts.traits


class IsolatedAggregates(FactsFilter):
    """Aggregates with ``trait:X=required`` take only servers that ask for that trait, if the option says so."""

    name = "IsolatedAggregatesFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        if not self.options.enable_isolated_aggregate_filtering:
            return None
        return required_traits(request, self.options)

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        asked = required_traits(request, self.options)
        return all(
            key.removeprefix(_TRAIT) in asked
            for metadata in facts.aggregates
            for key, value in metadata
            if key.startswith(_TRAIT) and value == "required"
        )


class CustomResources(RowsFilter):
    """Resource classes beyond RAM, vCPUs and disk: the flavor's ``resources:CUSTOM_…``."""

    name = "ResourcesFilter"

    def applies(self, request: PlacementRequest) -> bool:
        return bool(request.claim.resources)

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows:
        left: Set[str] | None = None
        for resource_class, amount in request.claim.resources.items():
            offers = fleet.offers(resource_class)
            names = {name for name, offer in offers.items() if _gives(offer, amount)}
            if resource_class == PCPU and self._may_share(request):
                names |= fleet.sharing(request.vcpus)
            left = names if left is None else left & names
        return Only(left or frozenset())

    def _may_share(self, request: PlacementRequest) -> bool:
        """Whether CPUs of its own may be vCPUs where a host keeps none for one server each: Nova's second query."""
        if self.options.disable_fallback_pcpu_query or not request.vcpus:
            return False
        flavor, image = request.extra_specs.get("hw:cpu_policy"), request.image_properties.get("hw_cpu_policy")
        return (flavor or image) == DEDICATED


def _gives(offer: Offer, amount: int) -> bool:
    return offer.smallest <= amount <= min(offer.largest, offer.free) and amount % offer.step == 0


class RequestedHost(RowsFilter):
    """The one host that an admin asked for, as ``--host`` or in ``zone:host:node``."""

    name = "RequestedHostFilter"
    of_the_server = True

    def applies(self, request: PlacementRequest) -> bool:
        return bool(request.requested_host)

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows:
        return Only(frozenset((request.requested_host,)))


class ExcludedHosts(RowsFilter):
    """Hosts that have been tried."""

    name = "RetryFilter"
    of_the_server = True

    def applies(self, request: PlacementRequest) -> bool:
        return bool(request.excluded_hosts)

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows:
        return Without(frozenset(request.excluded_hosts))


#: Before the configured filters, in this order.
ALWAYS = (
    AvailabilityZone,
    Ram,
    Core,
    Disk,
    Machine,
    CustomResources,
    Traits,
    IsolatedAggregates,
    RequestedHost,
    ExcludedHosts,
)
