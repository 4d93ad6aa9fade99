"""Weighers that must look at each host: metrics, and the images of the servers that are there."""

from __future__ import annotations

from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import Conflict
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostState
from nova_fast.scheduler.image_properties import property_texts
from nova_fast.scheduler.settings import ratios
from nova_fast.scheduler.weighers.kinds import RawWeight, StateWeigher

# The names that Nova knows (nova.objects.fields.MonitorMetricType); a site's own count as they are.
_PERCENTAGES = frozenset(
    ("cpu.percent", "cpu.user.percent", "cpu.kernel.percent", "cpu.idle.percent", "cpu.iowait.percent")
)
_METRICS = frozenset(
    (
        *("cpu.frequency", "cpu.user.time", "cpu.kernel.time", "cpu.idle.time", "cpu.iowait.time"),
        *("numa.membw.max", "numa.membw.current"),
    )
)


class Metrics(StateWeigher):
    """What monitors measure, each metric of ``metrics_weight_setting`` times its ratio."""

    name = "MetricsWeigher"
    option = "metrics_weight_multiplier"

    def __init__(self, options: SchedulerConfig) -> None:
        super().__init__(options)
        self._ratios = ratios(options.metrics_weight_setting)

    def applies(self, request: PlacementRequest) -> bool:
        return bool(self._ratios)

    def raw(self, state: HostState, request: PlacementRequest) -> float:
        """Raises Conflict for a metric that a host does not tell, if they are required."""
        weight = 0.0
        for name, ratio in self._ratios:
            value = state.metrics.get(name)
            if value is not None:
                weight += _as_counted(name, value) * ratio
            elif self.options.metrics_required:
                raise Conflict(
                    f"{state.name} tells no metric {name}.",
                    code="metric_not_found",
                    field="scheduler.metrics_required",
                    hint="enable MetricsFilter to keep such hosts out",
                )
            elif ratio * self.multiplier(state.facts) != 0:
                return self.options.metrics_weight_of_unavailable
        return weight


def _as_counted(name: str, value: float) -> float:
    """A metric as Nova's scheduler reads it: whole numbers, and what is reported as a part of 1 in percent."""
    if name in _PERCENTAGES:
        return int(value * 100)
    return int(value) if name in _METRICS else value


class ImageProperties(StateWeigher):
    """Servers on the host whose images have the same properties, each times its ratio."""

    name = "ImagePropertiesWeigher"
    option = "image_props_weight_multiplier"

    def __init__(self, options: SchedulerConfig) -> None:
        super().__init__(options)
        self._ratios = dict(ratios(options.image_props_weight_setting))

    def applies(self, request: PlacementRequest) -> bool:
        return self.configured != 0.0 and bool(request.image_properties)

    def prepare(self, request: PlacementRequest) -> RawWeight:
        wanted = sorted(property_texts(request.image_properties))
        weights = [((name, text), self._ratios.get(name, 0.0) if self._ratios else 1.0) for name, text in wanted]

        def raw(state: HostState) -> float:
            weight = 0.0
            for entry, ratio in weights:  # one after the other: sum() adds doubles in its own way from Python 3.12 on
                weight += ratio * state.image_properties.get(entry, 0)
            return weight

        return raw

    def raw(self, state: HostState, request: PlacementRequest) -> float:
        return self.prepare(request)(state)


class CrossCell(StateWeigher):
    """Prefers the cell that a server is in. There is one cell here, so all hosts have the same value."""

    name = "CrossCellWeigher"
    option = "cross_cell_move_weight_multiplier"

    def applies(self, request: PlacementRequest) -> bool:
        return False

    def raw(self, state: HostState, request: PlacementRequest) -> float:
        return 0.0
