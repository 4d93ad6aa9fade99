"""What projects used between two times.

Source: Compute API v2.1, "Usage reports (os-simple-tenant-usage)".
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from nova_fast.api.compute.face import face
from nova_fast.api.compute.shapes import micros
from nova_fast.api.framework.paging import clamp_limit, page
from nova_fast.api.framework.request import Request
from nova_fast.model.errors import BadRequest, Forbidden
from nova_fast.queries import usage
from nova_fast.queries.usage import Period, ProjectUsage, ServerUsage

_FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d")


class PeriodQuery(msgspec.Struct):
    start: str | None = None
    end: str | None = None
    detailed: str = "0"


class PagedQuery(PeriodQuery):
    limit: int | None = None
    marker: str | None = None


class StrictPagedQuery(PagedQuery, forbid_unknown_fields=True):
    pass


_QUERY = {"2.1": PeriodQuery, "2.40": PagedQuery, "2.75": StrictPagedQuery}


@face.route("GET", "/os-simple-tenant-usage", errors=(400,), policy="admin", query=_QUERY)
async def list_usages(request: Request) -> dict[str, Any]:
    """Every project that had servers."""
    found, period, links = _read(request, None, "tenant_usages")
    detailed = request.query.detailed.lower() in ("1", "true")
    return {"tenant_usages": [_project(project, period, detailed=detailed) for project in found], **links}


@face.route("GET", "/os-simple-tenant-usage/{project_id}", errors=(400,), policy="reader", query=_QUERY)
async def show_usage(request: Request, project_id: str) -> dict[str, Any]:
    """One project; zeros when it had no servers, because the CLI cannot show nothing."""
    if not request.caller.may_see(project_id):
        raise Forbidden("Only an admin may see the usage of another project.", code="policy")
    found, period, links = _read(request, project_id, "tenant_usage")
    project = found[0] if found else ProjectUsage(project_id=project_id, servers=())
    return {"tenant_usage": _project(project, period, detailed=True), **links}


def _read(request: Request, project_id: str | None, name: str) -> tuple[list[ProjectUsage], Period, dict[str, Any]]:
    now_us = time.time_ns() // 1000
    period = _period(request.query, now_us)
    if not request.at_least("2.40"):
        with request.snapshot() as snapshot:
            return usage.of_projects(snapshot, period, project_id), period, {}
    limit = clamp_limit(request, request.query.limit)
    with request.snapshot() as snapshot:
        found = usage.of_projects(snapshot, period, project_id, request.query.marker, limit)
    rows = sorted((row.server.id for project in found for row in project.servers), key=str)
    return found, period, page(request, rows, limit, name, lambda server_id: server_id)


def _project(project: ProjectUsage, period: Period, *, detailed: bool) -> dict[str, Any]:
    body: dict[str, Any] = {
        "tenant_id": project.project_id,
        "start": micros(period.start_us),
        "stop": micros(period.stop_us),
        "total_hours": project.hours,
        "total_vcpus_usage": project.vcpu_hours,
        "total_memory_mb_usage": project.ram_mib_hours,
        "total_local_gb_usage": project.disk_gib_hours,
    }
    if detailed:
        body["server_usages"] = [_server(row, period) for row in project.servers]
    return body


def _server(row: ServerUsage, period: Period) -> dict[str, Any]:
    server = row.server
    ended_us = server.terminated_at_us
    return {
        "instance_id": server.id,
        "name": server.name,
        "tenant_id": server.project_id,
        "flavor": server.flavor.name,
        "vcpus": server.flavor.vcpus,
        "memory_mb": server.flavor.ram_mib,
        "local_gb": usage.disk_gib(server),
        "hours": row.hours,
        "started_at": micros(server.launched_at_us),
        "ended_at": micros(ended_us) if ended_us else None,
        "state": "terminated" if ended_us else server.vm_state.value,
        "uptime": ((ended_us or period.now_us) - server.launched_at_us) // 1_000_000,
    }


def _period(query: PeriodQuery, now_us: int) -> Period:
    start_us = _time(query.start, "start", now_us)
    stop_us = _time(query.end, "end", now_us)
    if start_us > stop_us:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.", field="start")
    return Period(start_us=start_us, stop_us=stop_us, now_us=now_us)


def _time(text: str | None, field: str, now_us: int) -> int:
    if not text:
        return now_us
    for form in _FORMATS:
        try:
            return int(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * 1_000_000)
        except ValueError:
            continue
    raise BadRequest(f"Datetime is in invalid format: {text[:80]}", field=field)
