"""Servers name groups that are there, and each group's rule holds wherever its members are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import is_there, readable


def server_groups(reader: Reader) -> Iterator[Finding]:
    """Every server that names a group, then every group."""
    hosts: dict[str, Counter[str]] = {}  # group → host → members
    for server in readable(reader, tables.SERVERS):
        if server.group_id and not is_there(reader, tables.SERVER_GROUPS, server.group_id):
            yield Finding(
                "server_groups", server.id, f"server {server.id} is in group {server.group_id}, which is gone"
            )
        elif server.group_id and server.host:
            hosts.setdefault(server.group_id, Counter())[server.host] += 1
    for group in readable(reader, tables.SERVER_GROUPS):
        members = hosts.get(group.id, Counter())
        if group.policy == "affinity" and len(members) > 1:
            wrong = f"is to be on one host, and is on {', '.join(sorted(members))}"
        elif group.policy == "anti-affinity" and max(members.values(), default=0) > group.max_servers_per_host:
            host, count = members.most_common(1)[0]
            wrong = f"may have {group.max_servers_per_host} servers on a host, and has {count} on {host}"
        else:
            continue
        yield Finding("server_groups", group.id, f"group {group.name} {wrong}")
