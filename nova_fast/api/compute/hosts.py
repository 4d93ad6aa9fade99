"""Compute services, and hosts (up to 2.42).

Source: Compute API v2.1, "Compute services", "Hosts".
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.compute import shapes
from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.hosts import HostResult, RemoveHost, UpdateComputeService
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.servers import Server
from nova_fast.queries import hosts
from nova_fast.queries.hosts import COMPUTE_BINARY, ServiceRow

Reason = Annotated[str, Meta(min_length=1, max_length=255)]
_SWITCH = Literal["enable", "disable", "Enable", "Disable", "ENABLE", "DISABLE"]


class ServiceQuery(msgspec.Struct):
    host: str | None = None
    binary: str | None = None


class StrictServiceQuery(ServiceQuery, forbid_unknown_fields=True):
    pass


class NamedService(msgspec.Struct, forbid_unknown_fields=True):
    """Before microversion 2.11."""

    host: str
    binary: str
    disabled_reason: Reason | None = None


class ForcedService(NamedService, forbid_unknown_fields=True):
    forced_down: bool | str | UnsetType = UNSET


class ServiceUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """Since microversion 2.53 the URL names the service."""

    status: Literal["enabled", "disabled"] | UnsetType = UNSET
    disabled_reason: Reason | UnsetType = UNSET
    forced_down: bool | str | UnsetType = UNSET


class HostUpdate(msgspec.Struct, forbid_unknown_fields=True):
    status: _SWITCH | UnsetType = UNSET
    maintenance_mode: _SWITCH | UnsetType = UNSET


def _service(request: Request, row: ServiceRow) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": row.uuid if request.at_least("2.53") else row.number,
        "binary": row.binary,
        "host": row.host,
        "zone": row.zone,
        "status": "enabled" if row.enabled else "disabled",
        "state": "up" if row.up else "down",
        "updated_at": shapes.micros(row.reported_at_us),
        "disabled_reason": row.disabled_reason,
    }
    if request.at_least("2.11"):
        body["forced_down"] = row.forced_down
    return body


@face.route("GET", "/os-services", policy="admin", query={"2.1": ServiceQuery, "2.75": StrictServiceQuery})
async def list_services(request: Request) -> dict[str, Any]:
    """Every daemon of the cloud, those on a host, or those of a kind."""
    with request.snapshot() as snapshot:
        rows = hosts.services(snapshot, request.query.host, request.query.binary)
    return {"services": [_service(request, row) for row in rows]}


@face.route("PUT", "/os-services/{service_id}", errors=(400, 404), policy="admin", body=ServiceUpdate, since="2.53")
async def update_service(request: Request, service_id: str) -> dict[str, Any]:
    """Open, close or force down the compute service with this UUID."""
    asked: ServiceUpdate = request.body
    row = _need_compute(request, service_id)
    if asked.status is UNSET and asked.forced_down is UNSET:
        raise BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    if asked.disabled_reason is not UNSET and asked.status != "disabled":
        raise BadRequest("Specifying disabled_reason when status is enabled is invalid.", code="reason_without_disable")
    result: HostResult = await request.command(
        UpdateComputeService(
            caller=request.caller,
            host=row.host,
            enabled=UNSET if asked.status is UNSET else asked.status == "enabled",
            disabled_reason=asked.disabled_reason,
            forced_down=UNSET if asked.forced_down is UNSET else shapes.truth(asked.forced_down, "forced_down"),
        )
    )
    return {"service": _service(request, hosts.compute_row(result.host))}


@face.route(
    "PUT",
    "/os-services/{service_id}",
    errors=(400, 404),
    policy="admin",
    body={"2.1": NamedService, "2.11": ForcedService},
    until="2.52",
)
async def update_named_service(request: Request, service_id: str) -> dict[str, Any]:
    """The older form: ``enable``, ``disable``, ``disable-log-reason``, ``force-down``; the body names the service."""
    asked: NamedService = request.body
    _need_named(request, asked)
    update, shown = _older_update(request, service_id, asked)
    await request.command(update)
    return {"service": {"host": asked.host, "binary": asked.binary, **shown}}


def _older_update(request: Request, verb: str, asked: NamedService) -> tuple[UpdateComputeService, dict[str, Any]]:
    if verb == "enable":
        update = UpdateComputeService(caller=request.caller, host=asked.host, enabled=True)
        return update, {"status": "enabled"}
    if verb == "disable":
        update = UpdateComputeService(caller=request.caller, host=asked.host, enabled=False)
        return update, {"status": "disabled"}
    if verb == "disable-log-reason":
        if asked.disabled_reason is None:
            raise BadRequest("Missing disabled reason field.", field="disabled_reason")
        reason = asked.disabled_reason
        update = UpdateComputeService(caller=request.caller, host=asked.host, enabled=False, disabled_reason=reason)
        return update, {"status": "disabled", "disabled_reason": reason}
    if verb == "force-down" and isinstance(asked, ForcedService):
        if isinstance(asked.forced_down, UnsetType):
            raise BadRequest("Missing forced_down field.", field="forced_down")
        forced_down = shapes.truth(asked.forced_down, "forced_down")
        update = UpdateComputeService(caller=request.caller, host=asked.host, forced_down=forced_down)
        return update, {"forced_down": forced_down}
    raise NotFound("Unknown action.", code="unknown_action")


@face.route("DELETE", "/os-services/{service_id}", ok=204, errors=(400, 404, 409), policy="admin")
async def delete_service(request: Request, service_id: str) -> None:
    """Forget a host that has no servers."""
    if request.at_least("2.53"):
        host = _need_compute(request, service_id).host
    else:
        if not (service_id.isascii() and service_id.isdecimal() and len(service_id) < 19):
            raise BadRequest(f"Invalid service id {service_id[:80]}.", field="service_id")
        with request.snapshot() as snapshot:
            found = hosts.by_number(snapshot, int(service_id))
        if found is None:
            raise NotFound(f"Service {service_id} not found.", code="service_not_found")
        host = found.name
    await request.command(RemoveHost(caller=request.caller, host=host))


class ZoneQuery(msgspec.Struct):
    zone: str | None = None


@face.route("GET", "/os-hosts", policy="admin", query=ZoneQuery, until="2.42")
async def list_hosts(request: Request) -> dict[str, Any]:
    """Hosts with the short names of their services."""
    with request.snapshot() as snapshot:
        rows = hosts.services(snapshot)
    shown = [row for row in rows if request.query.zone in (None, row.zone)]
    return {
        "hosts": [
            {"host_name": row.host, "service": row.binary.removeprefix("nova-"), "zone": row.zone} for row in shown
        ]
    }


@face.route("GET", "/os-hosts/{host_name}", errors=(404,), policy="admin", until="2.42")
async def show_host(request: Request, host_name: str) -> dict[str, Any]:
    """What a host has, what is taken, and by which projects."""
    with request.snapshot() as snapshot:
        host = hosts.get(snapshot, host_name)
        used = hosts.usage(snapshot, host_name)
        servers = hosts.servers_on(snapshot, host_name)
    resources = host.resources
    by_project: dict[str, list[Server]] = {}
    for server in servers:
        by_project.setdefault(server.project_id, []).append(server)
    rows = [
        ("(total)", resources.vcpus, resources.ram_mib, resources.disk_gib),
        ("(used_now)", used.vcpus, used.ram_mib + host.reserved_ram_mib, used.disk_gib + host.reserved_disk_gib),
        ("(used_max)", used.vcpus, used.ram_mib, used.disk_gib),
    ]
    for project, owned in by_project.items():
        claims = [server.claim for server in owned]
        sums = (sum(c.vcpus for c in claims), sum(c.ram_mib for c in claims), sum(c.disk_gib for c in claims))
        rows.append((project, *sums))
    return {
        "host": [
            {"resource": {"host": host_name, "project": name, "cpu": cpu, "memory_mb": ram, "disk_gb": disk}}
            for name, cpu, ram, disk in rows
        ]
    }


@face.route("PUT", "/os-hosts/{host_name}", errors=(400, 404, 501), policy="admin", body=HostUpdate, until="2.42")
async def update_host(request: Request, host_name: str) -> dict[str, Any]:
    """Open or close a host."""
    asked: HostUpdate = request.body
    if asked.status is UNSET:
        raise BadRequest("Nothing was asked for that this host can do: give status.", field="status")
    if asked.maintenance_mode is not UNSET:
        raise BadRequest("Maintenance mode is not supported; use status.", field="maintenance_mode")
    enabled = asked.status.lower() == "enable"
    await request.command(UpdateComputeService(caller=request.caller, host=host_name, enabled=enabled))
    return {"host": host_name, "status": "enabled" if enabled else "disabled"}


def _need_compute(request: Request, uuid: str) -> ServiceRow:
    with request.snapshot() as snapshot:
        row = hosts.service_by_uuid(snapshot, uuid)
    if row is None:
        raise NotFound(f"Service {uuid} could not be found.", code="service_not_found")
    if row.binary != COMPUTE_BINARY:
        raise BadRequest(
            f"Updating a {row.binary} service is not supported. Only nova-compute services can be updated.",
            code="not_a_compute",
        )
    return row


def _need_named(request: Request, asked: NamedService) -> None:
    with request.snapshot() as snapshot:
        found = hosts.services(snapshot, asked.host, asked.binary)
    if not found:
        raise NotFound(f"Could not find binary {asked.binary} on host {asked.host}.", code="service_not_found")
    if asked.binary != COMPUTE_BINARY:
        raise BadRequest(
            f"Updating a {asked.binary} service is not supported. Only nova-compute services can be updated.",
            code="not_a_compute",
        )
