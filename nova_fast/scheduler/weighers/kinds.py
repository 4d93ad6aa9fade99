"""The kinds of weigher, by where the raw values come from.

========  =============================================================  =============================================
kind      raw values                                                     cost
========  =============================================================  =============================================
column    a column of the table                                          nothing per host: the index knows it
sparse    ``values(fleet, request)``: some hosts; all others have 0      one full pass of the kernel
state     ``raw(state, request)`` for each host that passes all filters  microseconds for each host
========  =============================================================  =============================================

The sum is Nova's: over the hosts that pass, each weigher's values are clamped at its minimum if it has one, normalised
to (value - low) / (high - low) with that minimum as low, and multiplied; 0 when high is low.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import Fleet, HostFacts, HostState

RawWeight = Callable[[HostState], float]


MULTIPLIER_MAX = 1e100


class Weigher:
    """What all kinds have in common."""

    name: ClassVar[str]  # Nova's
    option: ClassVar[str] = ""  # of the multiplier, and the aggregates' metadata key that overrides it; "" = always 1
    sign: ClassVar[float] = 1.0  # -1: the multiplier is applied negative
    minimum: ClassVar[float | None] = None

    def __init__(self, options: SchedulerConfig) -> None:
        """Raises BadRequest for a multiplier that would drown all others."""
        self.options = options
        self.configured: float = getattr(options, self.option, 1.0) if self.option else 1.0
        if not math.isfinite(self.configured) or abs(self.configured) > MULTIPLIER_MAX:
            raise BadRequest(
                f"{self.configured} is no multiplier.",
                field=f"scheduler.{self.option}",
                hint="a finite number of at most 1e100",
            )

    def multiplier(self, facts: HostFacts) -> float:
        """What the normalised value counts on hosts with these facts.

        Aggregates override the option; of several values the smallest counts (``nova.scheduler.utils``:
        get_weight_multiplier). A value that is no finite number is passed over with all others of its host.
        """
        override = smallest_number(facts.values(self.option)) if self.option and facts.aggregates else None
        return self.sign * (self.configured if override is None else override)


class ColumnWeigher(Weigher):
    """Weighs a column of the table."""

    column: ClassVar[str]  # of HostRow, or "hypervisor_version", which comes from the profile

    def raw(self, state: HostState) -> float:
        """The column's value for one host, before it is clamped: what the table must hold."""
        raise NotImplementedError


class SparseWeigher(Weigher):
    """Weighs few hosts; all others have 0."""

    def applies(self, request: PlacementRequest) -> bool:
        """False when all hosts have 0; cheap."""
        return True

    def values(self, fleet: Fleet, request: PlacementRequest) -> Mapping[str, float]:
        """Host → raw value."""
        raise NotImplementedError


class StateWeigher(Weigher):
    """Looks at each host that passes: slow."""

    def applies(self, request: PlacementRequest) -> bool:
        """False when all hosts would have the same value.

        It must not look at what is the server's alone: its id and group, the host it asks for and those it excludes.
        """
        return True

    def raw(self, state: HostState, request: PlacementRequest) -> float:
        raise NotImplementedError

    def prepare(self, request: PlacementRequest) -> RawWeight:
        """``raw`` for one request; a weigher that has something to prepare does it here, once."""
        return lambda state: self.raw(state, request)


def smallest_number(texts: set[str]) -> float | None:
    """The smallest of some numbers; None when there is none, or one of them is none."""
    try:
        numbers = [float(text) for text in texts]
    except ValueError:
        return None
    return min(numbers) if numbers and all(map(math.isfinite, numbers)) else None
