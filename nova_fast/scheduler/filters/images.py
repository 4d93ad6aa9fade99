"""What an image asks of the host: instruction set, hypervisor, and where it may run at all."""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostFacts
from nova_fast.scheduler.filters.kinds import FactsFilter, FactsJudge
from nova_fast.scheduler.image_properties import (
    canonical_architecture,
    canonical_hypervisor,
    canonical_mode,
    image_properties,
)

_PREDICATE = re.compile(r"\s*(<=|>=|<|>|!=|==)\s*(\S+)\s*")
# As far as PEP 440 is used for hypervisors: 8.2, 10.0rc1, 7.0.0.post1.
_VERSION = re.compile(
    r"v?(\d+(?:\.\d+)*)[-_.]?(?:(dev|a|alpha|b|beta|c|rc|pre|preview|post|r|rev)[-_.]?(\d*))?", re.IGNORECASE
)
_STEPS = {"dev": -4, "a": -3, "alpha": -3, "b": -2, "beta": -2, "c": -1, "rc": -1, "pre": -1, "preview": -1}
_POST_STEP = 1
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "!=": operator.ne,
}


class _Wanted(NamedTuple):
    """What an image names; "" = nothing."""

    architecture: str
    hypervisor: str
    mode: str
    version: str  # a predicate: ">=2.6, !=3.0"
    address_bits: int


class ImageProperties(FactsFilter):
    """A host must support the image's architecture, hypervisor type, vm mode and hypervisor version."""

    name = "ImagePropertiesFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        wanted = self._wanted(request)
        return wanted if any(wanted[:3]) else None

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        return self.judge(request)(facts)

    def judge(self, request: PlacementRequest) -> FactsJudge:
        wanted = self._wanted(request)
        named = {name for name in wanted[:3] if name}
        return lambda facts: (
            any(named.issubset(supported) for supported in facts.supported_instances)
            and satisfies(facts.hypervisor_version, wanted.version)
            and _has_address_bits(facts, wanted.address_bits)
        )

    def _wanted(self, request: PlacementRequest) -> _Wanted:
        properties = image_properties(request)
        architecture = properties.get("hw_architecture") or request.architecture
        bits = properties.get("hw_maxphysaddr_bits", 0)
        return _Wanted(
            canonical_architecture(str(architecture or self.options.image_properties_default_architecture)),
            canonical_hypervisor(str(properties.get("img_hv_type", ""))),
            canonical_mode(str(properties.get("hw_vm_mode", ""))),
            str(properties.get("img_hv_requested_version", "")),
            bits if isinstance(bits, int) else 0,
        )


def satisfies(version: int, predicate: str) -> bool:
    """Whether a hypervisor version (three digits a part: 2008001 is 2.8.1) is what a predicate allows.

    A host that tells no version, or an image that asks for none, passes. A predicate nobody can read allows nothing.
    """
    if not version or not predicate:
        return True
    here = _Version(_parts(version), 0, 0)
    for term in predicate.split(","):
        found = _PREDICATE.fullmatch(term)
        wanted = _read(found[2]) if found else None
        if found is None or wanted is None or not _COMPARISONS[found[1]](here, wanted):
            return False
    return True


class _Version(NamedTuple):
    """A version that compares as PEP 440 says."""

    release: tuple[int, ...]  # without zeros at its end
    step: int  # before the release, the release, after it
    number: int  # of the step


def _read(text: str) -> _Version | None:
    found = _VERSION.fullmatch(text)
    if found is None:
        return None
    word = (found[2] or "").lower()
    step = _STEPS.get(word, _POST_STEP) if word else 0
    return _Version(_strip([int(part) for part in found[1].split(".")]), step, int(found[3] or 0))


def _parts(version: int) -> tuple[int, ...]:
    parts: list[int] = []
    while version:
        version, part = divmod(version, 1000)
        parts.insert(0, part)
    return _strip(parts)


def _strip(parts: list[int]) -> tuple[int, ...]:
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def _has_address_bits(facts: HostFacts, wanted: int) -> bool:
    """Whether the processor has enough physical address bits; one that does not say has."""
    if not wanted or not facts.cpu_info:
        return True
    bits = json.loads(facts.cpu_info).get("maxphysaddr", {}).get("bits", 0)
    return not bits or int(bits) >= wanted


class IsolatedHosts(FactsFilter):
    """Isolated images run on isolated hosts only, and (if so restricted) others do not run there."""

    name = "IsolatedHostsFilter"

    def key(self, request: PlacementRequest) -> Hashable:
        isolated = self._isolated(request)
        return isolated if isolated or self.options.restrict_isolated_hosts_to_isolated_images else None

    def passes(self, facts: HostFacts, request: PlacementRequest) -> bool:
        return facts.isolated == self._isolated(request)

    def _isolated(self, request: PlacementRequest) -> bool:
        return request.image_id in self.options.isolated_images
