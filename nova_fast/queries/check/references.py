"""What a record names is there, wherever a command guarantees it.

Not guaranteed, so not looked for: a server's image (it may be deleted), its flavor and key (it has copies), the project
and user of anything but identity's own records (tokens outlive neither, but clouds may be told of foreign ones).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from nova_fast.model.identity import RoleAssignment
from nova_fast.model.networks import Port, SecurityGroupRule
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.table import Table
from nova_fast.state.verify import is_there, readable

#: A record's references: what each is called, where it must be, its key.
_Named = Iterator[tuple[str, Table[Any], str]]


def _port(port: Port) -> _Named:
    yield "network", tables.NETWORKS, port.network_id
    for group in port.security_groups:
        yield "security group", tables.SECURITY_GROUPS, group


def _rule(rule: SecurityGroupRule) -> _Named:
    yield "security group", tables.SECURITY_GROUPS, rule.security_group_id
    if rule.remote_group_id:
        yield "remote security group", tables.SECURITY_GROUPS, rule.remote_group_id


def _assignment(row: RoleAssignment) -> _Named:
    yield "user", tables.USERS, row.user_id
    yield "role", tables.ROLES, row.role_id
    if row.scope_type == "project":
        yield "project", tables.PROJECTS, row.scope_id
    elif row.scope_type == "domain":
        yield "domain", tables.DOMAINS, row.scope_id


_REFERENCES: tuple[tuple[str, Table[Any], Callable[[Any], _Named]], ...] = (
    ("port", tables.PORTS, _port),
    ("subnet", tables.SUBNETS, lambda r: iter([("network", tables.NETWORKS, r.network_id)])),
    ("address cursor", tables.ADDRESS_CURSORS, lambda r: iter([("subnet", tables.SUBNETS, r.subnet_id)])),
    ("security group rule", tables.SECURITY_GROUP_RULES, _rule),
    ("project", tables.PROJECTS, lambda r: iter([("domain", tables.DOMAINS, r.domain_id)])),
    ("user", tables.USERS, lambda r: iter([("domain", tables.DOMAINS, r.domain_id)])),
    ("assignment", tables.ASSIGNMENTS, _assignment),
    (
        "application credential",
        tables.APPLICATION_CREDENTIALS,
        lambda r: iter([("user", tables.USERS, r.user_id), ("project", tables.PROJECTS, r.project_id)]),
    ),
    ("endpoint", tables.CATALOG_ENDPOINTS, lambda r: iter([("service", tables.CATALOG_SERVICES, r.service_id)])),
)


def references(reader: Reader) -> Iterator[Finding]:
    """Every reference of every record of the tables above."""
    for noun, table, named in _REFERENCES:
        for record in readable(reader, table):
            key = "/".join(map(str, table.key(record)))
            for what, where, wanted in named(record):
                if not is_there(reader, where, wanted):
                    yield Finding(table.name, key, f"{noun} {key} names the {what} {wanted}, which is not there")
