"""The reference scheduler: a full pass over host objects, every filter in order, then every weigher, as Nova does it.

It asks each filter about each host alone, in whatever way its kind allows, and knows nothing of profiles, classes or
row sets put together; so it shows that lowering changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from ipaddress import ip_address

from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostState, Network, Offer
from nova_fast.scheduler.filters.kinds import (
    ColumnFilter,
    FactsFilter,
    Filter,
    LimitFilter,
    Only,
    RowsFilter,
    StateFilter,
)
from nova_fast.scheduler.lowering import Pipeline
from nova_fast.scheduler.weighers.kinds import ColumnWeigher, SparseWeigher, StateWeigher, Weigher


@dataclass
class ReferenceFleet:
    """Hosts in row order, and who is where."""

    states: list[HostState]
    servers: dict[str, str] = field(default_factory=dict)  # server → host
    groups: dict[str, set[str]] = field(default_factory=dict)  # group → servers
    inventories: dict[str, dict[str, Offer]] = field(default_factory=dict)  # class → host → offer

    def hosts_of(self, server_ids: Iterable[str]) -> Set[str]:
        return {self.servers[server_id] for server_id in server_ids if server_id in self.servers}

    def members(self, group_id: str) -> Mapping[str, int]:
        hosts = [self.servers[server] for server in self.groups.get(group_id, ()) if server in self.servers]
        return {host: hosts.count(host) for host in hosts}

    def hosts_within(self, network: Network) -> Set[str]:
        return {state.name for state in self.states if state.host_ip and ip_address(state.host_ip) in network}

    def offers(self, resource_class: str) -> Mapping[str, Offer]:
        return self.inventories.get(resource_class, {})

    def sharing(self, vcpus: int) -> Set[str]:
        kept = self.inventories.get("PCPU", {})
        return {one.name for one in self.states if one.room.vcpus >= vcpus <= one.vcpus_total and one.name not in kept}


def passes(check: Filter, state: HostState, fleet: ReferenceFleet, request: PlacementRequest) -> bool:
    """Whether one host passes one filter."""
    match check:
        case FactsFilter():
            return check.key(request) is None or check.passes(state.facts, request)
        case LimitFilter():
            return getattr(state, check.column) < check.limit(state.facts)
        case RowsFilter():
            rows = check.rows(fleet, request) if check.applies(request) else None
            return rows is None or (state.name in rows.names) == isinstance(rows, Only)
        case StateFilter():
            return not check.applies(request) or check.passes(state, request)
        case ColumnFilter():
            return check.passes(state, request)
    raise AssertionError(check)


def filtered(pipeline: Pipeline, fleet: ReferenceFleet, request: PlacementRequest) -> list[int]:
    """The rows that pass every filter."""
    rows = list(range(len(fleet.states)))
    for check in pipeline.filters:
        rows = [row for row in rows if passes(check, fleet.states[row], fleet, request)]
    return rows


def normalised(values: Sequence[float], minimum: float | None) -> list[float]:
    """nova.weights.normalize, after the clamp."""
    if minimum is not None:
        values = [max(value, minimum) for value in values]
    low, high = float(min(values) if minimum is None else minimum), float(max(values))
    return [0.0] * len(values) if low == high else [(value - low) / (high - low) for value in values]


def raw_values(
    weigher: Weigher, states: list[HostState], fleet: ReferenceFleet, request: PlacementRequest
) -> list[float]:
    match weigher:
        case ColumnWeigher():
            return [weigher.raw(state) for state in states]
        case SparseWeigher():
            values = weigher.values(fleet, request) if weigher.applies(request) else {}
            return [values.get(state.name, 0) for state in states]
        case StateWeigher():
            return [weigher.raw(state, request) if weigher.applies(request) else 0.0 for state in states]
    raise AssertionError(weigher)


def weighed(
    pipeline: Pipeline, fleet: ReferenceFleet, request: PlacementRequest, rows: list[int]
) -> list[tuple[int, float]]:
    """(row, weight), best first, the lower row first among equals. A single host is not weighed."""
    states = [fleet.states[row] for row in rows]
    totals = [0.0] * len(rows)
    if len(rows) > 1:
        for weigher in pipeline.weighers:
            values = normalised(raw_values(weigher, states, fleet, request), weigher.minimum)
            for position, (state, value) in enumerate(zip(states, values, strict=True)):
                totals[position] += weigher.multiplier(state.facts) * value
    return sorted(zip(rows, totals, strict=True), key=lambda pair: (-pair[1], pair[0]))


def decide(pipeline: Pipeline, fleet: ReferenceFleet, request: PlacementRequest) -> list[tuple[int, float]]:
    """The whole decision."""
    return weighed(pipeline, fleet, request, filtered(pipeline, fleet, request))
