"""One host, one request, one filter."""

from __future__ import annotations

from typing import Any

from nova_fast.config import SchedulerConfig
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import HostFacts, HostState
from nova_fast.scheduler.filters import chosen
from tests.unit.scheduler.reference import ReferenceFleet, passes

ROOM = Claim(vcpus=8, ram_mib=8192, disk_gib=100)
CLAIM = Claim(vcpus=1, ram_mib=512, disk_gib=1)


def facts(*aggregates: dict[str, str], **changes: Any) -> HostFacts:
    metadata = tuple(sorted({tuple(sorted(aggregate.items())) for aggregate in aggregates}))
    return HostFacts(aggregates=metadata, **changes)


def host(of: HostFacts | None = None, name: str = "host", **changes: Any) -> HostState:
    return HostState(**({"name": name, "facts": of or HostFacts(), "room": ROOM} | changes))


def request(**wishes: Any) -> PlacementRequest:
    return PlacementRequest(**({"server_id": "server", "claim": CLAIM} | wishes))


def lets_pass(
    name: str,
    state: HostState,
    asked: PlacementRequest,
    fleet: ReferenceFleet | None = None,
    options: SchedulerConfig | None = None,
) -> bool:
    """Whether all filters of a name let the host pass, configured or always there."""
    options = options or SchedulerConfig(enabled_filters=(name,) if not is_always(name) else ())
    checks = [check for check in chosen(options) if check.name == name]
    assert checks, f"there is no {name}"
    return all(passes(check, state, fleet or ReferenceFleet([state]), asked) for check in checks)


def is_always(name: str) -> bool:
    return name in {check.name for check in chosen(SchedulerConfig(enabled_filters=()))}
