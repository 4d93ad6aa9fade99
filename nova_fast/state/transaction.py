"""What the one writer may do: put and delete records, number things, and say what happened.

A transaction keeps a journal of what each write replaced, so that one command of a batch can be taken back alone
while the others go on: LMDB's own nested transactions cost a copy of the dirty list each, and another engine may not
have them.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import lmdb
import msgspec

from nova_fast.model.base import Record
from nova_fast.model.events import Event
from nova_fast.state import schema
from nova_fast.state.carry import encode_over
from nova_fast.state.reader import GENERATION, IDENTITY_GENERATION, NUMBER, STEADY_US, Reader
from nova_fast.state.table import Index, Key, Table

R = TypeVar("R", bound=Record)

Entropy = Callable[[int], bytes]

_encode = msgspec.msgpack.Encoder().encode
_COUNTER_BYTES = 8


class DuplicateKey(Exception):
    """A unique index would hold two records; a command must have checked this before."""


class WriteFailed(Exception):
    """A write was not taken (disk full, map full): the whole transaction is lost and must be given up."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number  # errno, or LMDB's own


class Transaction(Reader):
    """Reads and writes of the one writer.

    The times and the ids come from outside, so that it is the same when replayed. ``now_us`` is the wall clock, for
    people; ``time_us`` is steady time, which only grows: for deadlines and
    for what came first.
    """

    def __init__(
        self, txn: lmdb.Transaction, databases: dict[str, Any], times_us: tuple[int, int], entropy: Entropy
    ) -> None:
        super().__init__(txn, databases)
        self.now_us, steady_us = times_us
        self.time_us = max(steady_us, self.steady_us())
        self._entropy = entropy
        self._journal: list[tuple[Any, bytes, bytes | None]] = []
        self.events: list[tuple[int, Event]] = []
        self.writes = 0  # that the engine was given, those that were taken back among them
        self.written_bytes = 0

    # ------------------------------------------------------------------ ids and numbers
    def new_uuid(self) -> str:
        """A random UUID, with dashes."""
        return str(uuid.UUID(bytes=self._entropy(16), version=4))

    def new_hex(self) -> str:
        """32 random hexadecimal characters, as identity and task ids are written."""
        return self._entropy(16).hex()

    def random_bytes(self, count: int) -> bytes:
        """Random bytes from the transaction's source."""
        return self._entropy(count)

    def next_number(self, name: str) -> int:
        """1, 2, 3, … for each name, without gaps among what is committed."""
        return self._bump(NUMBER + name.encode())

    # ------------------------------------------------------------------ writes
    def put(self, table: Table[R], record: R) -> None:
        """Insert or replace a record and its index entries. Raises DuplicateKey."""
        assert type(record) is table.type, f"a {type(record).__name__} in table {table.name}"
        primary = table.primary(table.key(record))
        raw = self._txn.get(primary, db=self._databases[table.name])
        old = None if raw is None else table.decode(raw)
        for index in table.indexes:
            self._reindex(index, primary, old, record)
        encoded = _encode(record) if old is None or raw is None else encode_over(record, old, bytes(raw))
        self._write(table.name, primary, encoded, raw)
        if table.identity:
            self._bump(IDENTITY_GENERATION)

    def insert(self, table: Table[R], record: R) -> None:
        """Put a record that must not be there yet."""
        assert self.get(table, table.key(record)) is None, f"{table.name} has this key already"
        self.put(table, record)

    def delete(self, table: Table[R], key: str | Key) -> None:
        """Remove a record, which must be there, and its index entries."""
        primary = table.primary(key)
        raw = self._txn.get(primary, db=self._databases[table.name])
        assert raw is not None, f"{table.name} has no {key!r} to delete"
        for index in table.indexes:
            for entry in index.entries(table.decode(raw), primary):
                self._write(index.name, entry, None, primary)
        self._write(table.name, primary, None, raw)
        if table.identity:
            self._bump(IDENTITY_GENERATION)

    def emit(self, event: Event) -> None:
        """Append an event to the log; watchers see it after the commit."""
        generation = self._bump(GENERATION)
        self.put(schema.EVENTS, schema.EventRow(generation=generation, body=_encode(event)))
        self.events.append((generation, event))

    def keep_time(self) -> None:
        """Keep the steady time: the last write of every transaction."""
        self._store(self._meta, STEADY_US, self.time_us.to_bytes(_COUNTER_BYTES, "big"))

    # ------------------------------------------------------------------ savepoints
    def savepoint(self) -> tuple[int, int]:
        """A mark to which the transaction can be taken back."""
        return len(self._journal), len(self.events)

    def rollback(self, mark: tuple[int, int]) -> None:
        """Undo everything written since the mark."""
        writes, events = mark
        for database, key, value in reversed(self._journal[writes:]):
            self._store(database, key, value)
        del self._journal[writes:]
        del self.events[events:]

    # ------------------------------------------------------------------ inside
    def _reindex(self, index: Index[R], primary: bytes, old: R | None, new: R) -> None:
        before = index.entries(old, primary) if old is not None else set()
        after = index.entries(new, primary)
        for entry in before - after:
            self._write(index.name, entry, None, primary)
        for entry in after - before:
            if index.unique and self._txn.get(entry, db=self._databases[index.name]) is not None:
                raise DuplicateKey(f"{index.name} has {entry!r} already")
            self._write(index.name, entry, primary, None)

    def _write(self, name: str, key: bytes, value: bytes | None, replaced: Any) -> None:
        database = self._databases[name]
        self._journal.append((database, key, replaced))
        self._store(database, key, value)

    def _store(self, database: Any, key: bytes, value: bytes | None) -> None:
        self.writes += 1
        self.written_bytes += len(key) + len(value or b"")
        try:
            if value is None:
                self._txn.delete(key, db=database)
            else:
                self._txn.put(key, value, db=database)
        except lmdb.Error as error:
            raise WriteFailed(str(error), getattr(error, "code", 0)) from error

    def _bump(self, name: bytes) -> int:
        raw = self._txn.get(name, db=self._meta)
        value = 1 if raw is None else int.from_bytes(raw, "big") + 1
        self._write("meta", name, value.to_bytes(_COUNTER_BYTES, "big"), raw)
        return value
