"""Limits and usage of a project."""

from __future__ import annotations

from nova_fast.model.quotas import COMPUTE_DEFAULTS, NETWORK_DEFAULTS, UNLIMITED, Usage
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

#: field of :class:`Usage` → the quota it counts against.
QUOTA_OF_USAGE = {
    "instances": "instances",
    "cores": "cores",
    "ram": "ram",
    "server_groups": "server_groups",
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "security_groups": "security_group",
    "security_group_rules": "security_group_rule",
}


def usage(reader: Reader, project_id: str) -> Usage:
    """What the project has now."""
    return reader.get(tables.USAGES, project_id) or Usage(project_id=project_id)


def limits(reader: Reader, project_id: str) -> dict[str, int]:
    """Every limit of the project, compute and network, defaults filled in; -1 = unlimited."""
    own = reader.get(tables.QUOTAS, project_id)
    return {**COMPUTE_DEFAULTS, **NETWORK_DEFAULTS, **(own.limits if own else {})}


def exceeded(limit: int, used: int, more: int) -> bool:
    """Whether taking more would pass the limit."""
    return limit != UNLIMITED and more > 0 and used + more > limit
