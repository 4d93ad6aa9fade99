"""Hypervisors: the hosts with their resources and what is taken of them.

Source: Compute API v2.1, "Hypervisors". A hypervisor is named by a number up to 2.52 and by a UUID since 2.53; since
2.88 it shows its uptime, and no capacity or usage: those are the Placement API's.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from nova_fast.api.compute import shapes
from nova_fast.api.compute.face import face
from nova_fast.api.framework.paging import clamp_limit, page
from nova_fast.api.framework.request import Request
from nova_fast.model.base import Value
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.hosts import Host, HostResources, HostUsage
from nova_fast.model.servers import Server
from nova_fast.queries import hosts


class NoQuery(msgspec.Struct):
    pass


class PagedQuery(msgspec.Struct):
    limit: int | None = None
    marker: str | None = None


class ListQuery(PagedQuery):
    hypervisor_hostname_pattern: str = ""
    with_servers: str = "false"


class StrictListQuery(ListQuery, forbid_unknown_fields=True):
    pass


class ShowQuery(msgspec.Struct):
    with_servers: str = "false"


class StrictShowQuery(ShowQuery, forbid_unknown_fields=True):
    pass


_LIST_QUERY = {"2.1": NoQuery, "2.33": PagedQuery, "2.53": ListQuery, "2.75": StrictListQuery}
_SHOW_QUERY = {"2.1": NoQuery, "2.53": ShowQuery, "2.75": StrictShowQuery}


_TOPOLOGY = ("sockets", "cores", "threads")


class Row(Value, frozen=True):
    """A host, what is taken of it, and (when asked for) who is on it."""

    host: Host
    usage: HostUsage
    servers: tuple[Server, ...] | None = None


def _brief(request: Request, row: Row) -> dict[str, Any]:
    host = row.host
    body: dict[str, Any] = {
        "id": host.uuid if request.at_least("2.53") else host.number,
        "hypervisor_hostname": host.name,
        "state": "up" if hosts.is_up(host) else "down",
        "status": "enabled" if host.enabled else "disabled",
    }
    if row.servers is not None and (row.servers or request.at_least("2.75")):
        body["servers"] = [{"uuid": server.id, "name": server.name} for server in row.servers]
    return body


def _full(request: Request, row: Row) -> dict[str, Any]:
    host = row.host
    body = _brief(request, row) | {
        "hypervisor_type": host.resources.hypervisor_type,
        "hypervisor_version": host.resources.hypervisor_version,
        "host_ip": host.resources.host_ip or None,
        "service": {
            "id": host.service_uuid if request.at_least("2.53") else host.number,
            "host": host.name,
            "disabled_reason": host.disabled_reason,
        },
    }
    if request.at_least("2.88"):
        return body | {"uptime": host.resources.uptime or None}
    cpu_info = _cpu_info(host.resources)
    return body | _capacity(row) | {"cpu_info": cpu_info if request.at_least("2.28") else json.dumps(cpu_info)}


def _cpu_info(resources: HostResources) -> dict[str, Any]:
    """The processor as Nova shows it: its topology and features in parts of their own."""
    info: dict[str, Any] = {key: value for key, value in resources.cpu_info.items() if key not in _TOPOLOGY}
    topology = {key: int(resources.cpu_info[key]) for key in _TOPOLOGY if key in resources.cpu_info}
    if topology:
        info["topology"] = topology
    if resources.features:
        info["features"] = list(resources.features)
    return info


def _capacity(row: Row) -> dict[str, Any]:
    resources, used = row.host.resources, row.usage
    ram_used_mib = used.ram_mib + row.host.reserved_ram_mib
    disk_used_gib = used.disk_gib + row.host.reserved_disk_gib
    return {
        "vcpus": resources.vcpus,
        "vcpus_used": used.vcpus,
        "memory_mb": resources.ram_mib,
        "memory_mb_used": ram_used_mib,
        "free_ram_mb": resources.ram_mib - ram_used_mib,
        "local_gb": resources.disk_gib,
        "local_gb_used": disk_used_gib,
        "free_disk_gb": resources.disk_gib - disk_used_gib,
        "disk_available_least": resources.disk_gib - disk_used_gib,
        "running_vms": used.servers,
        "current_workload": 0,
    }


@face.route("GET", "/os-hypervisors", errors=(400, 404), policy="admin", query=_LIST_QUERY)
async def list_hypervisors(request: Request) -> dict[str, Any]:
    """Names and states."""
    rows, links = _rows(request)
    return {"hypervisors": [_brief(request, row) for row in rows], **links}


@face.route("GET", "/os-hypervisors/detail", errors=(400, 404), policy="admin", query=_LIST_QUERY)
async def list_hypervisors_in_detail(request: Request) -> dict[str, Any]:
    """Everything about each."""
    rows, links = _rows(request)
    return {"hypervisors": [_full(request, row) for row in rows], **links}


@face.route("GET", "/os-hypervisors/statistics", policy="admin", until="2.87")
async def show_statistics(request: Request) -> dict[str, Any]:
    """All open hosts together."""
    with request.snapshot() as snapshot:
        rows = [Row(host=host, usage=hosts.usage(snapshot, host.name)) for host in hosts.listing(snapshot)]
    capacities = [_capacity(row) for row in rows if row.host.enabled]
    names = ("vcpus", "vcpus_used", "memory_mb", "memory_mb_used", "free_ram_mb", "local_gb", "local_gb_used",
             "free_disk_gb", "disk_available_least", "running_vms", "current_workload")  # fmt: skip
    sums = {name: sum(capacity[name] for capacity in capacities) for name in names}
    return {"hypervisor_statistics": {"count": len(capacities), **sums}}


@face.route("GET", "/os-hypervisors/{hypervisor_id}", errors=(400, 404), policy="admin", query=_SHOW_QUERY)
async def show_hypervisor(request: Request, hypervisor_id: str) -> dict[str, Any]:
    """One hypervisor."""
    return {"hypervisor": _full(request, _row(request, hypervisor_id))}


@face.route("GET", "/os-hypervisors/{hypervisor_id}/uptime", errors=(400, 404, 501), policy="admin", until="2.87")
async def show_uptime(request: Request, hypervisor_id: str) -> dict[str, Any]:
    """How long its machine has been up."""
    row = _row(request, hypervisor_id)
    return {"hypervisor": {**_brief(request, row), "uptime": row.host.resources.uptime or None}}


@face.route("GET", "/os-hypervisors/{pattern}/search", errors=(404,), policy="admin", until="2.52")
async def search_hypervisors(request: Request, pattern: str) -> dict[str, Any]:
    """Those whose name contains the pattern."""
    return {"hypervisors": [_brief(request, row) for row in _matching(request, pattern, with_servers=False)]}


@face.route("GET", "/os-hypervisors/{pattern}/servers", errors=(404,), policy="admin", until="2.52")
async def list_servers_of_hypervisors(request: Request, pattern: str) -> dict[str, Any]:
    """The same, with the servers on them."""
    return {"hypervisors": [_brief(request, row) for row in _matching(request, pattern, with_servers=True)]}


def _matching(request: Request, pattern: str, *, with_servers: bool) -> list[Row]:
    with request.snapshot() as snapshot:
        found = hosts.listing(snapshot, pattern)
        if not found:
            raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
        return [
            Row(
                host=host,
                usage=hosts.usage(snapshot, host.name),
                servers=tuple(hosts.servers_on(snapshot, host.name)) if with_servers else None,
            )
            for host in found
        ]


def _rows(request: Request) -> tuple[list[Row], dict[str, Any]]:
    query = request.query
    paged = request.at_least("2.33")
    pattern = getattr(query, "hypervisor_hostname_pattern", "")
    if pattern and (query.limit is not None or query.marker is not None):
        raise BadRequest("Paging over hypervisors with a hypervisor_hostname_pattern is not supported.")
    with_servers = request.at_least("2.53") and shapes.truth(query.with_servers, "with_servers")
    if pattern:
        return _matching(request, pattern, with_servers=with_servers), {}
    limit = clamp_limit(request, query.limit) if paged else None
    with request.snapshot() as snapshot:
        rows = [
            Row(
                host=host,
                usage=hosts.usage(snapshot, host.name),
                servers=tuple(hosts.servers_on(snapshot, host.name)) if with_servers else None,
            )
            for host in hosts.listing(snapshot, marker=query.marker if paged else None, limit=limit)
        ]
    if limit is None:
        return rows, {}
    marker = (lambda row: row.host.uuid) if request.at_least("2.53") else (lambda row: str(row.host.number))
    return rows, page(request, rows, limit, "hypervisors", marker)


def _row(request: Request, hypervisor_id: str) -> Row:
    with request.snapshot() as snapshot:
        if request.at_least("2.53"):
            host = hosts.by_uuid(snapshot, hypervisor_id)
        else:
            host = hosts.by_number(snapshot, int(hypervisor_id)) if _is_number(hypervisor_id) else None
        if host is None:
            raise NotFound(f"Hypervisor with ID '{hypervisor_id}' could not be found.", code="hypervisor_not_found")
        with_servers = request.at_least("2.53") and shapes.truth(
            getattr(request.query, "with_servers", "false"), "with_servers"
        )
        servers = tuple(hosts.servers_on(snapshot, host.name)) if with_servers else None
        return Row(host=host, usage=hosts.usage(snapshot, host.name), servers=servers)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19
