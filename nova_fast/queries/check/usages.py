"""What each project is counted to have is what it has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from nova_fast.model.quotas import Usage
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.table import Table
from nova_fast.state.verify import find, readable

#: Fields of Usage that are the number of rows of a table with the project's id.
_ROWS: dict[str, Table[Any]] = {
    "networks": tables.NETWORKS,
    "subnets": tables.SUBNETS,
    "ports": tables.PORTS,
    "security_groups": tables.SECURITY_GROUPS,
    "security_group_rules": tables.SECURITY_GROUP_RULES,
    "server_groups": tables.SERVER_GROUPS,
}


def usages(reader: Reader) -> Iterator[Finding]:
    """Every count of every project, those without a row among them."""
    counted: dict[str, Counter[str]] = {}
    for server in readable(reader, tables.SERVERS):
        own = counted.setdefault(server.project_id, Counter())
        own["instances"] += 1
        own["cores"] += server.flavor.vcpus
        own["ram"] += server.flavor.ram_mib
    for name, table in _ROWS.items():
        for row in readable(reader, table):
            counted.setdefault(row.project_id, Counter())[name] += 1
    for usage in readable(reader, tables.USAGES):
        counted.setdefault(usage.project_id, Counter())
    for project_id, own in counted.items():
        recorded = find(reader, tables.USAGES, project_id) or Usage(project_id=project_id)
        for name in recorded.__struct_fields__[1:]:
            said = getattr(recorded, name)
            if said != own[name]:
                yield Finding(
                    "usages", project_id, f"project {project_id} is counted to have {said} {name}, and has {own[name]}"
                )
