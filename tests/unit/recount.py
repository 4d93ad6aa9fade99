"""Counting again: what is recorded as taken must be what the servers and ports that are there take.

``assert_nothing_leaks`` is for any moment between two transactions, ``assert_nothing_left`` for a cloud in which every
server has been deleted.
"""

from __future__ import annotations

from collections import Counter

from nova_fast.model.hosts import claim_of
from nova_fast.model.states import VmState
from nova_fast.model.workflows import Direction
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def assert_nothing_leaks(reader: Reader) -> None:
    """Usage, claims, ports, addresses, user data, actions, workflows and tasks agree with the servers."""
    servers = {server.id: server for server in reader.scan(tables.SERVERS)}
    ports = list(reader.scan(tables.PORTS))

    counted: Counter[tuple[str, str]] = Counter()
    for server in servers.values():
        counted[server.project_id, "instances"] += 1
        counted[server.project_id, "cores"] += server.flavor.vcpus
        counted[server.project_id, "ram"] += server.flavor.ram_mib
    for port in ports:
        counted[port.project_id, "ports"] += 1
    for row in reader.scan(tables.USAGES):
        for name in ("instances", "cores", "ram", "ports"):
            recorded = getattr(quotas.usage(reader, row.project_id), name)
            assert recorded == counted[row.project_id, name], f"{row.project_id} is counted {recorded} {name}"

    taken: Counter[tuple[str, str]] = Counter()
    for server in servers.values():
        if server.host:
            claim = claim_of(server.flavor)
            for name, amount in zip(
                ("vcpus", "ram_mib", "disk_gib"), (claim.vcpus, claim.ram_mib, claim.disk_gib), strict=True
            ):
                taken[server.host, name] += amount
            taken[server.host, "servers"] += 1
    for usage in reader.scan(tables.HOST_USAGE):
        for name in ("vcpus", "ram_mib", "disk_gib", "servers"):
            assert getattr(usage, name) == taken[usage.host, name], f"{usage.host} {name}"

    for port in ports:
        if port.device_id:
            assert port.device_id in servers, f"port {port.id} is of a server that is gone"
            assert port.host in ("", servers[port.device_id].host), f"port {port.id} is bound elsewhere"
        else:
            assert (port.host, port.device_owner, port.status) == ("", "", "DOWN"), f"port {port.id} is not free"
    addresses = sorted((p.network_id, ip.ip_address) for p in ports for ip in p.fixed_ips)
    assert len(addresses) == len(set(addresses))

    assert {row.server_id for row in reader.scan(tables.USER_DATA)} == {
        s.id for s in servers.values() if s.has_user_data
    }
    assert {row.server_id for row in reader.scan(tables.SERVER_ACTIONS)} <= servers.keys()

    workflows = {row.server_id: row for row in reader.scan(tables.WORKFLOWS)}
    assert workflows.keys() <= servers.keys()
    for workflow in workflows.values():
        assert workflow.task_id, f"the workflow of {workflow.server_id} waits for nothing"
        assert workflow.direction is Direction.FORWARD or workflow.failure is not None
    tasks = {row.id: row for row in reader.scan(tables.TASKS)}
    assert {workflow.task_id for workflow in workflows.values()} == tasks.keys()
    for server in servers.values():
        idle = server.id not in workflows
        assert idle == (server.task_state is None), f"{server.id} shows {server.task_state}"
        if idle:
            assert server.vm_state not in (VmState.BUILDING, VmState.DELETED)
            actions = list(reader.scan(tables.SERVER_ACTIONS, server.id))
            open_events = [e for a in actions for e in a.events if not e.finish_at_us]
            assert open_events == [], f"{server.id} has actions that never end"


def assert_nothing_left(reader: Reader) -> None:
    """Nothing of any server is there any more."""
    assert_nothing_leaks(reader)
    for table in (tables.SERVERS, tables.USER_DATA, tables.SERVER_ACTIONS, tables.WORKFLOWS, tables.TASKS):
        assert reader.size(table) == 0, table.name
    assert [port for port in reader.scan(tables.PORTS) if port.created_by_server] == []
