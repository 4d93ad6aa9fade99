"""ComputeCapabilitiesFilter: what a flavor's ``capabilities:…`` asks of a host's attributes.

An extra spec without a scope counts too when a host has an attribute of its name, as ever in Nova. Two classes of one
name: attributes that a profile shares are judged once for each profile, so that asking for a processor's feature costs
nothing; attributes that change (free RAM, servers, …) or differ by host need a look at each host.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostFacts, HostState
from nova_fast.scheduler.filters.attributes import CHANGING, STATIC, STATISTICS, UNKNOWN, attribute, follow
from nova_fast.scheduler.filters.extra_specs import matches
from nova_fast.scheduler.filters.kinds import FactsFilter, FactsJudge, Judge, StateFilter

_SCOPE = "capabilities"
_ADDRESS_BITS = "hw:maxphysaddr_bits"

_Asked = tuple[tuple[str, ...], str]  # the path to a value, and what it must match


def _asked(request: PlacementRequest) -> Iterator[_Asked]:
    for key, wanted in request.extra_specs.items():
        path = key.split(":")
        if key == _ADDRESS_BITS:
            yield ("cpu_info", "maxphysaddr", "bits"), f">= {wanted}"
        elif len(path) == 1:
            if key in STATIC or key in CHANGING or key in STATISTICS or key in UNKNOWN:
                yield (key,), wanted
        elif path[0] == _SCOPE:
            yield tuple(path[1:]), wanted


def _changes(asked: _Asked) -> bool:
    return asked[0][0] in CHANGING or asked[0][0] in STATISTICS


class StaticCapabilities(FactsFilter):
    """Of attributes that all hosts of a profile share; what no host has is found here, too."""

    name = "ComputeCapabilitiesFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        return tuple(sorted(asked for asked in _asked(request) if not _changes(asked))) or None

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        return self.judge(request)(facts)

    def judge(self, request: PlacementRequest) -> FactsJudge:
        asked = [entry for entry in _asked(request) if not _changes(entry)]
        return lambda facts: all(_told(facts, path, wanted) for path, wanted in asked)


def _told(facts: HostFacts, path: tuple[str, ...], wanted: str) -> bool:
    value = follow(STATIC[path[0]](facts), path[1:]) if path[0] in STATIC else None
    return value is not None and matches(str(value), wanted)


class ChangingCapabilities(StateFilter):
    """Of attributes that change, or that each host has for itself."""

    name = "ComputeCapabilitiesFilter"

    def applies(self, request: PlacementRequest) -> bool:
        return any(map(_changes, _asked(request)))

    def judge(self, request: PlacementRequest) -> Judge:
        asked = [entry for entry in _asked(request) if _changes(entry)]
        return lambda state: all(_has(state, path, wanted) for path, wanted in asked)

    def passes(self, state: HostState, request: PlacementRequest) -> bool:
        return self.judge(request)(state)


def _has(state: HostState, path: tuple[str, ...], wanted: str) -> bool:
    value = follow(attribute(state, path[0]), path[1:])
    return value is not None and matches(str(value), wanted)
