"""Filters that need no more than a host's own columns: its service, and how much it is doing."""

from __future__ import annotations

from collections.abc import Hashable

from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostFacts, HostState
from nova_fast.scheduler.filters.kinds import ColumnFilter, FactsFilter, LimitFilter, smallest_count


class AllHosts(FactsFilter):
    """Lets every host pass."""

    name = "AllHostsFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        return None


class Compute(ColumnFilter):
    """The host's service is enabled and up."""

    name = "ComputeFilter"

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return state.enabled and state.up


class IoOps(LimitFilter):
    """Fewer servers being built than ``max_io_ops_per_host``."""

    name = "IoOpsFilter"
    column = "io_ops"

    def limit(self, facts: HostFacts) -> int:
        return self.options.max_io_ops_per_host


class AggregateIoOps(IoOps):
    """The same, with ``max_io_ops_per_host`` of the host's aggregates where they have it: the smallest counts."""

    name = "AggregateIoOpsFilter"

    def limit(self, facts: HostFacts) -> int:
        return smallest_count(facts.values("max_io_ops_per_host"), self.options.max_io_ops_per_host)


class NumInstances(LimitFilter):
    """Fewer servers than ``max_instances_per_host``."""

    name = "NumInstancesFilter"
    column = "servers"

    def limit(self, facts: HostFacts) -> int:
        return self.options.max_instances_per_host


class AggregateNumInstances(NumInstances):
    """The same, with ``max_instances_per_host`` of the host's aggregates where they have it: the smallest counts."""

    name = "AggregateNumInstancesFilter"

    def limit(self, facts: HostFacts) -> int:
        return smallest_count(facts.values("max_instances_per_host"), self.options.max_instances_per_host)
