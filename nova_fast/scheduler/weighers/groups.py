"""Weighers of server groups whose rule is a wish: members near each other, or apart."""

from __future__ import annotations

from collections.abc import Mapping

from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import Fleet
from nova_fast.scheduler.weighers.kinds import SparseWeigher


class SoftAffinity(SparseWeigher):
    """Members of the server's soft-affinity group."""

    name = "ServerGroupSoftAffinityWeigher"
    option = "soft_affinity_weight_multiplier"

    def applies(self, request: PlacementRequest) -> bool:
        return request.group is not None and request.group.policy == "soft-affinity"

    def values(self, fleet: Fleet, request: PlacementRequest) -> Mapping[str, float]:
        assert request.group is not None
        return fleet.members(request.group.id)


class SoftAntiAffinity(SparseWeigher):
    """Members of the server's soft-anti-affinity group, against them."""

    name = "ServerGroupSoftAntiAffinityWeigher"
    option = "soft_anti_affinity_weight_multiplier"

    def applies(self, request: PlacementRequest) -> bool:
        return request.group is not None and request.group.policy == "soft-anti-affinity"

    def values(self, fleet: Fleet, request: PlacementRequest) -> Mapping[str, float]:
        assert request.group is not None
        return {name: -count for name, count in fleet.members(request.group.id).items()}
