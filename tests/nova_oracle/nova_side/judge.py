"""What Nova's own filters and weighers say of a case, and what placement would have said before them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import nova.conf
from nova import exception, objects
from nova.scheduler import host_manager, request_filter, utils
from nova.scheduler.filters import HostFilterHandler
from nova.scheduler.host_manager import HostState

from .cells import chosen_cells, prepare_cells
from .world import Case, aggregates_of, apply_options, host_states, request_spec

CONF = nova.conf.CONF

# The order in which our scores are summed. Nova takes the order in which it finds its files.
WEIGHERS = (
    "ram.RAMWeigher",
    "cpu.CPUWeigher",
    "disk.DiskWeigher",
    "io_ops.IoOpsWeigher",
    "pci.PCIWeigher",
    "metrics.MetricsWeigher",
    "affinity.ServerGroupSoftAffinityWeigher",
    "affinity.ServerGroupSoftAntiAffinityWeigher",
    "compute.BuildFailureWeigher",
    "cross_cell.CrossCellWeigher",
    "hypervisor_version.HypervisorVersionWeigher",
    "num_instances.NumInstancesWeigher",
    "image_props.ImagePropertiesWeigher",
)

_filter_classes: dict[str, type] = {}


class Manager(host_manager.HostManager):
    """Nova's host manager without a database."""

    def __init__(self) -> None:
        CONF.set_override(
            "weight_classes", [f"nova.scheduler.weights.{name}" for name in WEIGHERS], group="filter_scheduler"
        )
        super().__init__()

    def refresh_cells_caches(self) -> None:
        pass

    def _init_aggregates(self) -> None:
        pass

    def _init_instance_info(self, computes_by_cell: Any = None) -> None:
        pass


def prepare_filters() -> None:
    """Find Nova's filter classes once; to look for them takes longer than a case."""
    classes = HostFilterHandler().get_all_classes()
    _filter_classes.update({cls.__name__: cls for cls in classes})
    prepare_cells()
    HostFilterHandler.get_matching_classes = lambda _self, _names: classes


def judge(case: Case) -> Case:
    """Everything Nova says: who passes each filter, who passes them all, and the weights, as hex floats."""
    apply_options(case)
    CONF.set_override("enabled_filters", case["filters"], group="filter_scheduler")
    manager = Manager()
    aggregates = aggregates_of(case)
    try:
        spec = request_spec(case)
        fitting = _offered(case, spec)
    except (exception.NovaException, ValueError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}
    states = host_states(case, aggregates)
    asked = case.get("asked") or list(_filter_classes)
    answer = {
        "placement": sorted(fitting),
        "filters": {name: _one_filter(manager, name, states, spec) for name in asked},
        "cells": chosen_cells(states, spec),
        **_chain(manager, states, spec),
    }
    chosen = [state for state in states if state.host in fitting and state.host in answer["chain"]]
    answer["chosen"] = [state.host for state in chosen]
    answer["weights"] = _weights(manager, chosen, spec)
    answer["weights_of_all"] = _weights(manager, states, spec)
    if case.get("raw"):
        answer["raw"] = _raw(manager, states, spec)
    return answer


def _refresh(states: Iterable[HostState]) -> None:
    """One allocation candidate each, as placement gives for a host without nested providers; filters take them away."""
    for state in states:
        state.allocation_candidates = [{"mappings": {}}]


def _one_filter(manager: Manager, name: str, states: list[HostState], spec: objects.RequestSpec) -> Case:
    """The hosts that pass one filter; ``raised`` holds those for which it ends the request with an error."""
    nova_filter = _filter_classes[name]()
    passed, raised = [], {}
    _refresh(states)
    for state in states:
        try:
            passed += manager.filter_handler.get_filtered_objects([nova_filter], [state], spec) or []
        except Exception as error:
            raised[state.host] = f"{type(error).__name__}: {error}"
    return {"passed": sorted(state.host for state in passed), "raised": raised}


def _chain(manager: Manager, states: list[HostState], spec: objects.RequestSpec) -> Case:
    _refresh(states)
    try:
        passed = manager.get_filtered_hosts(states, spec)
    except Exception as error:
        return {"chain": [], "chain_raised": f"{type(error).__name__}: {error}"}
    return {"chain": sorted(state.host for state in passed or ())}


def _weights(manager: Manager, states: list[HostState], spec: objects.RequestSpec) -> Case:
    try:
        weighed = manager.get_weighed_hosts(states, spec)
    except exception.ComputeHostMetricNotFound as error:
        return {"raised": str(error)}
    return {host.obj.host: float(host.weight).hex() for host in weighed}


def _raw(manager: Manager, states: list[HostState], spec: objects.RequestSpec) -> Case:
    """For a person who looks into a difference: what each weigher sees, and its multiplier."""
    wrapped = [manager.weight_handler.object_class(state, 0.0) for state in states]
    return {
        type(weigher).__name__: {
            state.host: [repr(value), repr(weigher.weight_multiplier(state))]
            for state, value in zip(states, weigher.weigh_objects(wrapped, spec), strict=True)
        }
        for weigher in manager.weighers
        if type(weigher).__name__ != "MetricsWeigher" or not CONF.metrics.required
    }


def _offered(case: Case, spec: objects.RequestSpec) -> set[str]:
    """What Nova asks placement for, by its own request filters and ``ResourceRequest``, and what placement answers.

    As with [workarounds]disable_fallback_pcpu_query: CPUs of their own are PCPU, no second query takes VCPU instead.
    """
    asked = objects.RequestSpec.obj_clone(spec)
    try:
        request_filter.process_reqspec(asked._context, asked)
    except exception.RequestFilterFailed:
        return set()
    return placement(case, asked, utils.ResourceRequest.from_request_spec(asked))


def placement(case: Case, spec: objects.RequestSpec, wanted: utils.ResourceRequest) -> set[str]:
    """The hosts that placement would offer: a plain statement of its rules for providers without children.

    An inventory has room while used + amount <= (total - reserved) * ratio, and an amount obeys min_unit, max_unit and
    step_size. A required trait must be there and a forbidden one must not; the same goes for aggregates.
    """
    groups = wanted._rg_by_id
    assert set(groups) <= {None}, "suffixed groups want nested providers"
    group = groups.get(None) or objects.RequestGroup()
    required = group.required_traits | wanted._root_required
    forbidden = group.forbidden_traits | wanted._root_forbidden
    fitting = set()
    for host in case["hosts"]:
        stock = inventories(host)
        has_room = all(rclass in stock and _fits(stock[rclass], amount) for rclass, amount in group.resources.items())
        traits = set(host["traits"]) | ({"COMPUTE_STATUS_DISABLED"} if not host["enabled"] else set())
        fit_traits = required <= traits and not forbidden & traits
        if has_room and fit_traits and _in_aggregates(case, host, spec):
            fitting.add(host["name"])
    return fitting


def inventories(host: Case) -> Case:
    """What a compute node reports to placement, and what operators added."""
    own = {
        "VCPU": ("vcpus", "reserved_vcpus", "cpu_ratio", "vcpus_used"),
        "MEMORY_MB": ("ram_mib", "reserved_ram_mib", "ram_ratio", "ram_used_mib"),
        "DISK_GB": ("disk_gib", "reserved_disk_gib", "disk_ratio", "disk_used_gib"),
    }
    stock = {
        rclass: {
            "total": host[total],
            "reserved": host[reserved],
            "allocation_ratio": host[ratio],
            "used": host[used],
            "min_unit": 1,
            "max_unit": host[total],
            "step_size": 1,
        }
        for rclass, (total, reserved, ratio, used) in own.items()
    }
    for inventory in host["inventories"]:
        stock[inventory["resource_class"]] = {"used": host["used"].get(inventory["resource_class"], 0), **inventory}
    return stock


def _fits(stock: Case, amount: int) -> bool:
    capacity = int((stock["total"] - stock["reserved"]) * stock["allocation_ratio"])
    return (
        stock["min_unit"] <= amount <= stock["max_unit"]
        and amount % stock["step_size"] == 0
        and stock["used"] + amount <= capacity
    )


def _in_aggregates(case: Case, host: Case, spec: objects.RequestSpec) -> bool:
    """Each entry of the destination's aggregates is a list of which one will do."""
    destination = spec.requested_destination
    if destination is None:
        return True
    own = {aggregate["uuid"] for aggregate in case["aggregates"] if host["name"] in aggregate["hosts"]}
    required = (destination.aggregates if "aggregates" in destination else None) or []
    forbidden = (destination.forbidden_aggregates if "forbidden_aggregates" in destination else None) or set()
    return all(own & set(entry.split(",")) for entry in required) and not own & set(forbidden)
