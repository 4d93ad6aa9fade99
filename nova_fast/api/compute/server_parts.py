"""What belongs to a server: its actions, addresses, network cards and security groups."""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.api.compute.face import face
from nova_fast.api.compute.server_filters import instant
from nova_fast.api.compute.server_view import ServerView, host_id, microseconds
from nova_fast.api.framework.paging import clamp_limit, next_href
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.security_groups import SecurityGroupRow
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.networks import Port, SecurityGroup, SecurityGroupRule
from nova_fast.model.servers import ActionEvent, ServerAction
from nova_fast.queries.ports import server_ports
from nova_fast.queries.reading import Reader
from nova_fast.queries.servers import (
    group_name,
    server_action,
    server_actions,
    server_groups,
    server_port,
    visible_server,
)

ACTIONS = "/servers/{server_id}/os-instance-actions"
FOREVER_US = 1 << 62
INTERFACES = "/servers/{server_id}/os-interface"


class ActionsQuery(msgspec.Struct):
    """Parameters are ignored before they exist."""


class PagedActionsQuery(msgspec.Struct, rename={"since": "changes-since", "before": "changes-before"}):
    limit: int | None = None
    marker: str | None = None
    since: str | None = None
    before: str | None = None


# ------------------------------------------------------------------------------------------------ actions
@face.route("GET", ACTIONS, errors=(400, 404), policy="reader", query={"2.1": ActionsQuery, "2.58": PagedActionsQuery})
async def list_actions(request: Request, server_id: str) -> dict[str, Any]:
    """What was done to a server, newest first."""
    paged = request.at_least("2.58")
    with request.snapshot() as snapshot:
        visible_server(snapshot, request.caller, server_id)
        actions = server_actions(snapshot, server_id)
    if not paged:
        return {"instanceActions": [_action(request, action) for action in actions]}
    limit = clamp_limit(request, request.query.limit)
    since, before = _times(request)
    actions = [action for action in actions if since <= action.updated_at_us <= before]
    if request.query.marker:
        places = [index for index, action in enumerate(actions) if action.request_id == request.query.marker]
        if not places:
            raise BadRequest(f"marker [{request.query.marker[:64]}] not found", field="marker")
        actions = actions[places[0] + 1 :]
    answer: dict[str, Any] = {"instanceActions": [_action(request, action) for action in actions[:limit]]}
    if len(actions) > limit > 0:
        answer["links"] = [{"rel": "next", "href": next_href(request, actions[limit - 1].request_id)}]
    return answer


@face.route("GET", ACTIONS + "/{request_id}", errors=(404,), policy="reader")
async def show_action(request: Request, server_id: str, request_id: str) -> dict[str, Any]:
    """One action with its steps."""
    with request.snapshot() as snapshot:
        server = visible_server(snapshot, request.caller, server_id)
        action = server_action(snapshot, server_id, request_id)
    view = _action(request, action)
    if request.caller.is_admin or request.at_least("2.51"):
        view["events"] = [_event(request, event, server.project_id) for event in action.events]
    return {"instanceAction": view}


def _times(request: Request) -> tuple[int, int]:
    """From when to when an action was last changed, in microseconds."""
    asked: PagedActionsQuery = request.query
    since = 0 if asked.since is None else instant(asked.since, "changes-since")
    if asked.before is None or not request.at_least("2.66"):
        return since, FOREVER_US
    before = instant(asked.before, "changes-before")
    if since > before:
        raise BadRequest(
            "The value of changes-since must be less than or equal to changes-before.", field="changes-since"
        )
    return since, before


def _action(request: Request, action: ServerAction) -> dict[str, Any]:
    view = {
        "action": action.action,
        "instance_uuid": action.server_id,
        "request_id": action.request_id,
        "user_id": action.user_id,
        "project_id": action.project_id,
        "start_time": microseconds(action.start_at_us),
        "message": action.message,
    }
    if request.at_least("2.58"):
        view["updated_at"] = microseconds(action.updated_at_us)
    return view


def _event(request: Request, event: ActionEvent, project_id: str) -> dict[str, Any]:
    view: dict[str, Any] = {
        "event": event.event,
        "start_time": microseconds(event.start_at_us),
        "finish_time": microseconds(event.finish_at_us),
        "result": event.result,
    }
    if request.caller.is_admin:
        view["traceback"] = None
    if request.at_least("2.62"):
        view["hostId"] = host_id(project_id, event.host)
        if request.caller.is_admin:
            view["host"] = event.host
    if request.at_least("2.84"):
        view["details"] = event.details
    return view


# ------------------------------------------------------------------------------------------------ addresses
@face.route("GET", "/servers/{server_id}/ips", errors=(404,), policy="reader")
async def list_addresses(request: Request, server_id: str) -> dict[str, Any]:
    """Addresses by network."""
    return {"addresses": _addresses(request, server_id)}


@face.route("GET", "/servers/{server_id}/ips/{network}", errors=(404,), policy="reader")
async def show_addresses(request: Request, server_id: str, network: str) -> dict[str, Any]:
    """Addresses on one network."""
    addresses = _addresses(request, server_id)
    if network not in addresses:
        raise NotFound("Instance is not a member of specified network")
    return {network: addresses[network]}


def _addresses(request: Request, server_id: str) -> dict[str, list[dict[str, Any]]]:
    with request.snapshot() as snapshot:
        detail = ServerView(request, snapshot).detail(visible_server(snapshot, request.caller, server_id))
    return {
        name: [{"version": row["version"], "addr": row["addr"]} for row in rows]
        for name, rows in detail["addresses"].items()
    }


# ------------------------------------------------------------------------------------------------ network cards
@face.route("GET", INTERFACES, errors=(404,), policy="reader")
async def list_interfaces(request: Request, server_id: str) -> dict[str, Any]:
    """The ports of a server."""
    with request.snapshot() as snapshot:
        visible_server(snapshot, request.caller, server_id)
        ports = server_ports(snapshot, server_id)
    return {"interfaceAttachments": [_interface(request, port) for port in ports]}


@face.route("GET", INTERFACES + "/{port_id}", errors=(404,), policy="reader")
async def show_interface(request: Request, server_id: str, port_id: str) -> dict[str, Any]:
    """One port of a server."""
    with request.snapshot() as snapshot:
        visible_server(snapshot, request.caller, server_id)
        port = server_port(snapshot, server_id, port_id)
    return {"interfaceAttachment": _interface(request, port)}


def _interface(request: Request, port: Port) -> dict[str, Any]:
    view: dict[str, Any] = {
        "net_id": port.network_id,
        "port_id": port.id,
        "mac_addr": port.mac_address,
        "port_state": port.status,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in port.fixed_ips],
    }
    if request.at_least("2.70"):
        view["tag"] = port.device_tag or None
    return view


# ------------------------------------------------------------------------------------------------ security groups
@face.route("GET", "/servers/{server_id}/os-security-groups", errors=(404,), policy="reader")
async def list_security_groups(request: Request, server_id: str) -> dict[str, Any]:
    """The security groups of a server's ports, in the old form of the compute API."""
    with request.snapshot() as snapshot:
        visible_server(snapshot, request.caller, server_id)
        groups = [_group(snapshot, row) for row in server_groups(snapshot, server_id)]
    return {"security_groups": groups}


def _group(reader: Reader, row: SecurityGroupRow) -> dict[str, Any]:
    group = row.group
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "tenant_id": group.project_id,
        "rules": [_rule(reader, group, rule) for rule in row.rules if rule.direction == "ingress"],
    }


def _rule(reader: Reader, group: SecurityGroup, rule: SecurityGroupRule) -> dict[str, Any]:
    remote = group_name(reader, rule.remote_group_id) if rule.remote_group_id else None
    cidr = rule.remote_ip_prefix or ("0.0.0.0/0" if rule.ethertype == "IPv4" else "::/0")
    ports = (rule.port_range_min, rule.port_range_max)
    if rule.protocol is not None and ports == (None, None):
        ports = (-1, -1) if rule.protocol.startswith("icmp") else (1, 65535)
    return {
        "id": rule.id,
        "parent_group_id": rule.security_group_id,
        "ip_protocol": rule.protocol,
        "from_port": ports[0],
        "to_port": ports[1],
        "group": {"name": remote, "tenant_id": group.project_id} if remote else {},
        "ip_range": {} if remote else {"cidr": cidr},
    }
