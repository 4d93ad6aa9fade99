"""The databases of the file: one for each table and index, made and kept complete when the writer opens the store.

A release that has a new index fills it from the table, and one that comes back after an older release had the store
fills it anew: the store says which indexes its last writer kept. So neither an upgrade nor a downgrade has a step of
its own. An index whose keys change needs a new name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lmdb

from nova_fast.state import schema, shown
from nova_fast.state.table import Index

META = "meta"
_KEPT = b"indexes"
_SCHEMA = b"schema_version"


def database_names() -> list[str]:
    """Every table and index, and what belongs to none."""
    names = [META, shown.DATABASE]
    for table in schema.TABLES:
        names.append(table.name)
        names.extend(index.name for index in table.indexes)
    assert len(names) == len(set(names)), "two tables or indexes share a name"
    return names


def schema_of(environment: lmdb.Environment) -> int | None:
    """The schema version of the store; None when it is still to be made."""
    try:
        meta = environment.open_db(META.encode(), create=False)
    except lmdb.NotFoundError:
        return None
    with environment.begin() as txn:
        raw = txn.get(_SCHEMA, db=meta)
        return None if raw is None else int(raw)


def open_databases(environment: lmdb.Environment) -> dict[str, Any]:
    """Every database by name, for reading. Raises lmdb.NotFoundError when one is missing."""
    return {name: environment.open_db(name.encode(), create=False) for name in database_names()}


#: (pages in use, writes, bytes written): lets the file be as long as a commit needs, durably.
MakeRoom = Callable[[int, int, int], None]


def make_databases(environment: lmdb.Environment, make_room: MakeRoom = lambda *_: None) -> dict[str, Any]:
    """Every database by name, for writing: what is missing is made, and what the last writer did not keep is filled.

    Raises lmdb.Error, WriteFailed.

    PERF: one transaction, so a new store costs one sync and not one for each of them.
    """
    with environment.begin(write=True) as txn:
        there = set(txn.cursor().iternext(values=False))  # of the database that names the others
        for name in there & {retired.encode() for retired in schema.RETIRED}:
            txn.drop(environment.open_db(name, txn=txn))
        databases = {name: environment.open_db(name.encode(), txn=txn) for name in database_names()}
        meta = databases[META]
        if txn.get(_SCHEMA, db=meta) is None:
            txn.put(_SCHEMA, str(schema.SCHEMA_VERSION).encode(), db=meta)
        recorded = txn.get(_KEPT, db=meta)
        kept = there if recorded is None else there & set(recorded.split())
        indexes = [index for table in schema.TABLES for index in table.indexes]
        filled = [_fill(txn, databases, index) for index in indexes if index.name.encode() not in kept]
        names = b" ".join(sorted(index.name.encode() for index in indexes))
        if names != recorded:
            txn.put(_KEPT, names, db=meta)
        if filled:
            writes, size = sum(count for count, _ in filled) + len(filled), sum(size for _, size in filled)
            make_room(int(environment.info()["last_pgno"]) + 1, writes, size)
        return databases


def _fill(txn: lmdb.Transaction, databases: dict[str, Any], index: Index[Any]) -> tuple[int, int]:
    """How many entries it has now, and their bytes."""
    writes = size = 0
    database = databases[index.name]
    txn.drop(database, delete=False)
    with txn.cursor(db=databases[index.table.name]) as cursor:
        for primary, raw in cursor:
            for entry in index.entries(index.table.decode(raw), bytes(primary)):
                if not txn.put(entry, primary, db=database, overwrite=False):
                    raise lmdb.KeyExistsError(f"two records share {entry!r} in the new index {index.name}")
                writes, size = writes + 1, size + len(entry) + len(primary)
    return writes, size
