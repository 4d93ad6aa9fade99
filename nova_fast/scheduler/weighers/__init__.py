"""Weighers: which of the hosts that pass is best. One class for each of Nova's, by where values come from (``kinds``).

The order of the sum is the order of ``CLASSES``, then a site's own by name, because the sum of doubles depends on it.
"""

from __future__ import annotations

from nova_fast.config import SchedulerConfig
from nova_fast.scheduler.plugins import WEIGHERS_GROUP, load
from nova_fast.scheduler.weighers import columns, groups, states
from nova_fast.scheduler.weighers.kinds import Weigher

CLASSES: tuple[type[Weigher], ...] = (
    columns.Ram,
    columns.Cpu,
    columns.Disk,
    columns.IoOps,
    columns.Pci,
    states.Metrics,
    groups.SoftAffinity,
    groups.SoftAntiAffinity,
    columns.BuildFailure,
    states.CrossCell,
    columns.HypervisorVersion,
    columns.NumInstances,
    states.ImageProperties,
)
_ALL = "all_weighers"


def chosen(options: SchedulerConfig) -> tuple[Weigher, ...]:
    """The weighers of a configuration in the order of the sum.

    ``weight_classes`` names them as Nova does, with or without the module before the last dot. Raises BadRequest for a
    name that is neither ours nor an installed entry point.
    """
    names = {name.rpartition(".")[2] for name in options.weight_classes}
    ours = [cls for cls in CLASSES if _ALL in names or cls.name in names]
    foreign = sorted(names - {_ALL} - {cls.name for cls in CLASSES})
    return tuple(
        cls(options)
        for cls in (*ours, *(load(WEIGHERS_GROUP, name, Weigher, "scheduler.weight_classes") for name in foreign))
    )
