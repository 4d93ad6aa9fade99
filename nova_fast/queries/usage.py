"""What the servers of projects used between two times: server hours, and the resources multiplied by them.

Source: Compute API v2.1, ``os-simple-tenant-usage``. Only servers whose record is kept are counted.
"""

from __future__ import annotations

import math

from nova_fast.model.base import Value
from nova_fast.model.errors import BadRequest
from nova_fast.model.servers import Server
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

_US_PER_HOUR = 3_600_000_000


class Period(Value, frozen=True):
    """From (inclusive) to, and the present: a server that still runs has run until now."""

    start_us: int
    stop_us: int
    now_us: int


class ServerUsage(Value, frozen=True):
    """One server's part of a period."""

    server: Server
    hours: float


class ProjectUsage(Value, frozen=True):
    """What a project used."""

    project_id: str
    servers: tuple[ServerUsage, ...]

    @property
    def hours(self) -> float:
        return math.fsum(usage.hours for usage in self.servers)

    @property
    def vcpu_hours(self) -> float:
        return math.fsum(usage.hours * usage.server.flavor.vcpus for usage in self.servers)

    @property
    def ram_mib_hours(self) -> float:
        return math.fsum(usage.hours * usage.server.flavor.ram_mib for usage in self.servers)

    @property
    def disk_gib_hours(self) -> float:
        return math.fsum(usage.hours * disk_gib(usage.server) for usage in self.servers)


def disk_gib(server: Server) -> int:
    """Root and ephemeral disk of a server."""
    return server.flavor.disk_gib + server.flavor.ephemeral_gib


def hours(server: Server, period: Period) -> float:
    """How long a server ran within a period; 0 when it never did."""
    if not server.launched_at_us:
        return 0.0
    begin = max(server.launched_at_us, period.start_us)
    end = min(server.terminated_at_us or period.now_us, period.stop_us)
    return max(0, end - begin) / _US_PER_HOUR


def of_projects(
    reader: Reader, period: Period, project_id: str | None, marker: str | None = None, limit: int | None = None
) -> list[ProjectUsage]:
    """Usage of one project or of all, at most ``limit`` servers behind the server ``marker``, in the order of ids.

    Raises BadRequest when the marker is no server that counts.
    """
    source = (
        reader.scan(tables.SERVERS) if project_id is None else reader.scan_index(tables.SERVERS_BY_PROJECT, project_id)
    )
    counted = sorted((server for server in source if _counts(server, period)), key=lambda server: server.id)
    if marker is not None:
        if not any(server.id == marker for server in counted):
            raise BadRequest(f"Marker {marker} could not be found.", code="marker_not_found", field="marker")
        counted = [server for server in counted if server.id > marker]
    found: dict[str, list[ServerUsage]] = {}
    for server in counted if limit is None else counted[:limit]:
        found.setdefault(server.project_id, []).append(ServerUsage(server=server, hours=hours(server, period)))
    return [ProjectUsage(project_id=project, servers=tuple(rows)) for project, rows in found.items()]


def _counts(server: Server, period: Period) -> bool:
    begins_before = bool(server.launched_at_us) and server.launched_at_us < period.stop_us
    ends_after = not server.terminated_at_us or server.terminated_at_us >= period.start_us
    return begins_before and ends_after
