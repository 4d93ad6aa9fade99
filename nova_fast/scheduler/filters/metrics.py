"""MetricsFilter: hosts that MetricsWeigher could not weigh do not pass."""

from __future__ import annotations

from nova_fast.config import SchedulerConfig
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostState
from nova_fast.scheduler.filters.kinds import StateFilter
from nova_fast.scheduler.settings import ratios


class Metrics(StateFilter):
    """A host must tell every metric of ``metrics_weight_setting``."""

    name = "MetricsFilter"

    def __init__(self, options: SchedulerConfig) -> None:
        super().__init__(options)
        self._names = frozenset(name for name, _ratio in ratios(options.metrics_weight_setting))

    def applies(self, request: PlacementRequest) -> bool:
        return bool(self._names)

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return self._names <= state.metrics.keys()
