"""Lists of servers: by project or all, filtered, sorted and paged.

The usual order, newest first, is that of an index, so a page costs what is in it. Any other order reads and sorts all
servers that match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from nova_fast.model.commands.security_groups import SecurityGroupRow
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.hosts import Host
from nova_fast.model.identity import Caller
from nova_fast.model.networks import Port
from nova_fast.model.servers import Server, ServerAction
from nova_fast.model.states import api_status
from nova_fast.queries.patterns import searcher
from nova_fast.queries.ports import server_ports
from nova_fast.queries.security_groups import group_row
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

Test = Callable[[Server], bool]

#: API sort key → what it sorts by.
SORT_KEYS: dict[str, Callable[[Server], Any]] = {
    "created_at": lambda s: s.created_at_us,
    "updated_at": lambda s: s.updated_at_us,
    "launched_at": lambda s: s.launched_at_us,
    "terminated_at": lambda s: s.terminated_at_us,
    "display_name": lambda s: s.name,
    "display_description": lambda s: s.description or "",
    "uuid": lambda s: s.id,
    "host": lambda s: s.host,
    "node": lambda s: s.host,
    "hostname": lambda s: s.hostname,
    "image_ref": lambda s: s.image_id,
    "instance_type_id": lambda s: s.flavor.id,
    "key_name": lambda s: s.key.name if s.key else "",
    "vm_state": lambda s: s.vm_state,
    "task_state": lambda s: s.task_state or "",
    "power_state": lambda s: s.power_state,
    "project_id": lambda s: s.project_id,
    "user_id": lambda s: s.user_id,
    "availability_zone": lambda s: s.zone,
    "config_drive": lambda s: s.config_drive,
    "access_ip_v4": lambda s: s.access_ip_v4,
    "access_ip_v6": lambda s: s.access_ip_v6,
    "auto_disk_config": lambda s: s.disk_config,
    "launch_index": lambda s: s.launch_index,
    "root_device_name": lambda s: "/dev/vda",
    "kernel_id": lambda s: "",
    "ramdisk_id": lambda s: "",
    "progress": lambda s: 0,
    "locked": lambda s: s.locked,
    "locked_by": lambda s: "admin" if s.admin_locked else "owner" if s.locked else "",
}
DEFAULT_ORDER = (("created_at", "desc"),)


class ServerFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which servers are wanted; None or empty = any."""

    project_id: str | None = None
    name: str | None = None  # regular expression
    hostname: str | None = None
    ids: frozenset[str] = frozenset()
    statuses: frozenset[str] = frozenset()
    vm_states: frozenset[str] = frozenset()
    task_states: frozenset[str] = frozenset()
    power_states: frozenset[int] = frozenset()
    host: str | None = None
    flavor_id: str | None = None
    image_id: str | None = None
    key_name: str | None = None
    user_id: str | None = None
    zone: str | None = None
    reservation_id: str | None = None
    description: str | None = None  # regular expression
    ip: str | None = None  # regular expression
    ip6: str | None = None
    config_drive: bool | None = None
    locked: bool | None = None
    changed_since_us: int | None = None
    changed_before_us: int | None = None
    tags: frozenset[str] = frozenset()  # all of them
    tags_any: frozenset[str] = frozenset()
    not_tags: frozenset[str] = frozenset()  # not all of them
    not_tags_any: frozenset[str] = frozenset()


def list_servers(
    reader: Reader,
    where: ServerFilter,
    order: tuple[tuple[str, str], ...] = DEFAULT_ORDER,
    limit: int = 1000,
    marker: Server | None = None,
) -> list[Server]:
    """A page of servers behind the marker. Raises BadRequest for a sort key there is not, or a bad pattern."""
    tests = _tests(reader, where)
    if order == DEFAULT_ORDER:
        return _take((s for s in _newest_first(reader, where, marker) if all(test(s) for test in tests)), limit)
    found = [s for s in _newest_first(reader, where, None) if all(test(s) for test in tests)]
    if marker is not None and all(server.id != marker.id for server in found):
        found.append(marker)  # it no longer matches, but says where the page begins
    for key, direction in reversed(order):
        if key not in SORT_KEYS:
            raise BadRequest(f"Invalid sort key {key}", field="sort_key")
        found.sort(key=SORT_KEYS[key], reverse=direction == "desc")
    if marker is not None:
        found = found[[server.id for server in found].index(marker.id) + 1 :]
    return found[:limit]


def server_keys(
    reader: Reader,
    where: ServerFilter,
    order: tuple[tuple[str, str], ...] = DEFAULT_ORDER,
    limit: int = 1000,
    marker: Server | None = None,
) -> list[bytes]:
    """The keys of a page of servers, as :func:`list_servers` gives it. Raises BadRequest.

    PERF: without a filter, in the usual order, no record is read.
    """
    project_id = where.project_id
    if order != DEFAULT_ORDER or where != ServerFilter(project_id=project_id):
        primary = tables.SERVERS.primary
        return [primary(server.id) for server in list_servers(reader, where, order, limit, marker)]
    if project_id is None:
        return reader.index_keys(tables.SERVERS_BY_CREATED, after=marker, limit=limit)
    return reader.index_keys(tables.SERVERS_BY_PROJECT, project_id, after=marker, limit=limit)


def servers_of(reader: Reader, keys: Sequence[bytes]) -> list[Server]:
    """The servers with these keys, which are there."""
    return reader.of_keys(tables.SERVERS, keys)


def marked_server(reader: Reader, caller: Caller, marker: str, where: ServerFilter) -> Server:
    """The server a page begins behind. Raises BadRequest when it does not exist for the caller, or in this list."""
    server = reader.get(tables.SERVERS, marker)
    foreign = server is not None and where.project_id not in (None, server.project_id)
    if server is None or foreign or not caller.may_see(server.project_id):
        raise BadRequest(f"marker [{marker[:64]}] not found", field="marker", code="marker_not_found")
    return server


def visible_server(reader: Reader, caller: Caller, server_id: str) -> Server:
    """The server, if it exists for the caller. Raises NotFound."""
    server = reader.get(tables.SERVERS, server_id)
    if server is None or not caller.may_see(server.project_id):
        raise NotFound(f"Instance {server_id} could not be found.", code="instance_not_found")
    return server


def server_actions(reader: Reader, server_id: str) -> list[ServerAction]:
    """What was done to a server, newest first."""
    actions = reader.scan(tables.SERVER_ACTIONS, server_id)
    return sorted(actions, key=lambda action: (-action.start_at_us, action.request_id))


def server_action(reader: Reader, server_id: str, request_id: str) -> ServerAction:
    """One action of a server. Raises NotFound."""
    action = reader.get(tables.SERVER_ACTIONS, (server_id, request_id))
    if action is None:
        raise NotFound(f"Action for request_id {request_id} on instance {server_id} not found", code="action_not_found")
    return action


def server_port(reader: Reader, server_id: str, port_id: str) -> Port:
    """One port of a server. Raises NotFound."""
    port = reader.get(tables.PORTS, port_id)
    if port is None or port.device_id != server_id:
        raise NotFound(f"Port id {port_id} could not be found.", code="port_not_found")
    return port


def server_groups(reader: Reader, server_id: str) -> list[SecurityGroupRow]:
    """The security groups of a server's ports, each once, with their rules."""
    ids = dict.fromkeys(group for port in server_ports(reader, server_id) for group in port.security_groups)
    return [group_row(reader, reader.need(tables.SECURITY_GROUPS, group, "Security group")) for group in ids]


def group_name(reader: Reader, group_id: str) -> str:
    """The name of a security group that a port is in, so it must be there."""
    return reader.need(tables.SECURITY_GROUPS, group_id, "Security group").name


def host_of(reader: Reader, server: Server) -> Host | None:
    """The host a server is on."""
    return reader.get(tables.HOSTS, server.host) if server.host else None


def user_data_of(reader: Reader, server: Server) -> bytes | None:
    """What its owner handed to cloud-init."""
    row = reader.get(tables.USER_DATA, server.id) if server.has_user_data else None
    return row.data if row is not None else None


def _newest_first(reader: Reader, where: ServerFilter, marker: Server | None) -> Iterator[Server]:
    if where.project_id is not None:
        return reader.scan_index(tables.SERVERS_BY_PROJECT, where.project_id, after=marker)
    if where.host is not None and marker is None:
        on_host = list(reader.scan_index(tables.SERVERS_BY_HOST, where.host))
        return iter(sorted(on_host, key=lambda s: (-s.created_at_us, s.id)))
    return reader.scan_index(tables.SERVERS_BY_CREATED, after=marker)


def _take(found: Iterable[Server], limit: int) -> list[Server]:
    page: list[Server] = []
    for server in found:
        if len(page) >= limit:
            break
        page.append(server)
    return page


def _tests(reader: Reader, where: ServerFilter) -> list[Test]:
    """The filters that are set, as predicates; the cheap ones first."""
    return [*_equality_tests(where), *_set_tests(where), *_zone_tests(reader, where), *_pattern_tests(reader, where)]


def _equality_tests(where: ServerFilter) -> Iterator[Test]:
    for attribute, wanted in (
        ("host", where.host),
        ("image_id", where.image_id),
        ("user_id", where.user_id),
        ("reservation_id", where.reservation_id),
        ("hostname", where.hostname),
        ("config_drive", where.config_drive),
        ("locked", where.locked),
    ):
        if wanted is not None:
            yield lambda s, a=attribute, w=wanted: getattr(s, a) == w  # type: ignore[misc]
    if where.flavor_id is not None:
        yield lambda s: s.flavor.id == where.flavor_id
    if where.key_name is not None:
        yield lambda s: s.key is not None and s.key.name == where.key_name
    if where.changed_since_us is not None:
        since = where.changed_since_us
        yield lambda s: s.updated_at_us >= since
    if where.changed_before_us is not None:
        before = where.changed_before_us
        yield lambda s: s.updated_at_us <= before


def _set_tests(where: ServerFilter) -> Iterator[Test]:
    if where.ids:
        yield lambda s: s.id in where.ids
    if where.statuses:
        yield lambda s: api_status(s.vm_state, s.task_state) in where.statuses
    if where.vm_states:
        yield lambda s: s.vm_state in where.vm_states
    if where.task_states:
        yield lambda s: (s.task_state or "") in where.task_states
    if where.power_states:
        yield lambda s: s.power_state in where.power_states
    if where.tags:
        yield lambda s: where.tags <= set(s.tags)
    if where.tags_any:
        yield lambda s: bool(where.tags_any & set(s.tags))
    if where.not_tags:
        yield lambda s: not where.not_tags <= set(s.tags)
    if where.not_tags_any:
        yield lambda s: not where.not_tags_any & set(s.tags)


def _zone_tests(reader: Reader, where: ServerFilter) -> Iterator[Test]:
    """A server is in the zone of its host; without one, in the zone that was asked for, as its view shows it."""
    if where.zone is not None:
        inside = {host.name for host in reader.scan_index(tables.HOSTS_BY_ZONE, where.zone)}
        yield lambda s: s.host in inside if s.host else s.zone == where.zone


def _pattern_tests(reader: Reader, where: ServerFilter) -> Iterator[Test]:
    if where.name is not None:
        name = searcher(where.name, "name")
        yield lambda s: name(s.name)
    if where.description is not None:
        description = searcher(where.description, "description")
        yield lambda s: description(s.description or "")
    for field, version, text in (("ip", 4, where.ip), ("ip6", 6, where.ip6)):
        if text is not None:
            yield _address_test(reader, searcher(text, field), version)


def _address_test(reader: Reader, matches: Callable[[str], bool], version: int) -> Test:
    def test(server: Server) -> bool:
        return any(
            matches(ip.ip_address)
            for port in server_ports(reader, server.id)
            for ip in port.fixed_ips
            if (":" in ip.ip_address) == (version == 6)
        )

    return test
