"""Counting again: what ``nova-fast check`` counts must be right at any moment between two transactions.

``assert_nothing_leaks`` is for any such moment, ``assert_nothing_left`` for a cloud in which every server has been
deleted.
"""

from __future__ import annotations

from nova_fast.queries.check.recount import recount
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader


def assert_nothing_leaks(reader: Reader) -> None:
    """The check finds nothing, and no port is of a device that is no server: tests make none."""
    found = [finding.sentence for finding in recount(reader)]
    assert not found, "\n".join(found)
    for port in reader.scan(tables.PORTS):
        if port.device_id:
            assert reader.get(tables.SERVERS, port.device_id) is not None, f"port {port.id} is of nobody"
        else:
            assert (port.host, port.device_owner) == ("", ""), f"port {port.id} is not free"


def assert_nothing_left(reader: Reader) -> None:
    """Nothing of any server is there any more."""
    assert_nothing_leaks(reader)
    of_servers = (tables.USER_DATA, tables.SERVER_ACTIONS, tables.PLACEMENT_DECISIONS, tables.WORKFLOWS, tables.TASKS)
    for table in (tables.SERVERS, *of_servers):
        assert reader.size(table) == 0, table.name
    assert [port for port in reader.scan(tables.PORTS) if port.created_by_server] == []
