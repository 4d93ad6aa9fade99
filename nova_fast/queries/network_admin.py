"""What operators see of the network service: its daemons and the limits of projects."""

from __future__ import annotations

from nova_fast.model.hosts import Service
from nova_fast.model.quotas import NETWORK_DEFAULTS
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

#: Peer names of network daemons begin so: network@<host>.
_PEER = "network@"


def network_daemons(reader: Reader) -> list[Service]:
    """The network daemons that have reported, by name."""
    return [service for service in reader.scan(tables.SERVICES) if service.name.startswith(_PEER)]


def network_limits(reader: Reader, project_id: str) -> dict[str, int]:
    """Every limit of a project in the network API; -1 = unlimited."""
    limits = quotas.limits(reader, project_id)
    return {name: limits[name] for name in NETWORK_DEFAULTS}


def network_used(reader: Reader, project_id: str) -> dict[str, int]:
    """How much a project has of each thing that has a limit in the network API."""
    usage = quotas.usage(reader, project_id)
    used = {quota: getattr(usage, field) for field, quota in quotas.QUOTA_OF_USAGE.items()}
    used["router"] = sum(1 for router in reader.scan(tables.ROUTERS) if router.project_id == project_id)
    used["floatingip"] = sum(1 for ip in reader.scan(tables.FLOATING_IPS) if ip.project_id == project_id)
    return {name: used.get(name, 0) for name in NETWORK_DEFAULTS}


def projects_with_network_limits(reader: Reader) -> list[str]:
    """The projects whose limits in the network API differ from the defaults."""
    return [row.project_id for row in reader.scan(tables.QUOTAS) if row.limits.keys() & NETWORK_DEFAULTS.keys()]
