"""Counting again: what ``nova-fast check`` counts must be right at any moment between two transactions.

``assert_nothing_leaks`` is for any such moment, ``assert_nothing_left`` for a cloud in which every server has been
deleted.

PERF: the drill asks after each of a hundred thousand commits, and most of them leave a store that has been seen before,
or change few of its tables. What was right is so again where every byte is the same, and only there.
"""

from __future__ import annotations

import hashlib
from typing import Any

from nova_fast.queries.check import recount as check
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.table import Table
from nova_fast.state.verify import disagreements

_right: set[bytes] = set()  # digests of stores, and of tables with their indexes, in which nothing was found


def assert_nothing_leaks(reader: Reader) -> None:
    """The check finds nothing, and no port is of a device that is no server: tests make none."""
    parts = {name: _digest(reader, name) for name in reader._databases}
    store = hashlib.sha256(b"".join(parts.values())).digest()
    if store in _right:
        return
    new = {table: _of_table(parts, table) for table in tables.TABLES}
    new = {table: digest for table, digest in new.items() if digest not in _right}
    found = [wrong.sentence for table in new for wrong in disagreements(reader, table)]
    others = [subject for subject in check.SUBJECTS if subject is not check.storage]
    found += [finding.sentence for subject in others for finding in subject(reader)]
    assert not found, "\n".join(found)
    _every_port_is_somebodys(reader)
    _right.update(new.values(), [store])


def _digest(reader: Reader, name: str) -> bytes:
    """Of every key and value of a table or an index, as they lie there."""
    with reader._txn.cursor(db=reader._settled(name)) as cursor:
        rows: list[Any] = [part for row in cursor.iternext() for part in row]
    lengths = ",".join([str(len(part)) for part in rows])
    return hashlib.sha256(b"".join([name.encode(), lengths.encode(), b":", *rows])).digest()


def _of_table(parts: dict[str, bytes], table: Table[Any]) -> bytes:
    return hashlib.sha256(b"".join([parts[table.name], *(parts[index.name] for index in table.indexes)])).digest()


def _every_port_is_somebodys(reader: Reader) -> None:
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
