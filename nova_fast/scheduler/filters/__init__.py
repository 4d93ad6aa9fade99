"""Filters: which hosts may have a server. One class for each of Nova's, by what it must look at (``kinds``).

``placement`` has those that are always asked; the others are asked when ``enabled_filters`` names them, in its order. A
site's own filter is an entry point (``scheduler.plugins``).
"""

from __future__ import annotations

from nova_fast.config import SchedulerConfig
from nova_fast.scheduler.filters import (
    affinity,
    aggregates,
    capabilities,
    images,
    json_query,
    metrics,
    placement,
    service,
    topology,
)
from nova_fast.scheduler.filters.kinds import Filter
from nova_fast.scheduler.plugins import FILTERS_GROUP, load

CLASSES: tuple[type[Filter], ...] = (
    service.AllHosts,
    service.Compute,
    capabilities.StaticCapabilities,
    capabilities.ChangingCapabilities,
    images.ImageProperties,
    images.IsolatedHosts,
    aggregates.AggregateInstanceExtraSpecs,
    aggregates.AggregateImagePropertiesIsolation,
    aggregates.AggregateMultiTenancyIsolation,
    aggregates.AggregateTypeAffinity,
    service.IoOps,
    service.AggregateIoOps,
    service.NumInstances,
    service.AggregateNumInstances,
    affinity.DifferentHost,
    affinity.SameHost,
    affinity.SimpleCidrAffinity,
    affinity.ServerGroupAffinity,
    affinity.ServerGroupAntiAffinity,
    json_query.Json,
    metrics.Metrics,
    topology.NumaTopology,
    topology.PciPassthrough,
)


def by_name() -> dict[str, tuple[type[Filter], ...]]:
    """Our filters by Nova's names; one name may be two classes, for what it can tell at once and what it cannot."""
    found: dict[str, tuple[type[Filter], ...]] = {}
    for cls in CLASSES:
        found[cls.name] = (*found.get(cls.name, ()), cls)
    return found


def chosen(options: SchedulerConfig) -> tuple[Filter, ...]:
    """The filters of a configuration in the order in which they are asked.

    Raises BadRequest for a name that is neither ours nor an installed entry point.
    """
    known = by_name()
    classes: list[type[Filter]] = list(placement.ALWAYS)
    if service.Compute.name not in options.enabled_filters:
        classes.insert(0, placement.Enabled)
    for name in options.enabled_filters:
        classes += known.get(name) or (load(FILTERS_GROUP, name, Filter, "scheduler.enabled_filters"),)
    return tuple(cls(options) for cls in classes)
