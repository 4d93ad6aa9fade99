"""The oracle of ``Transaction``: each write as it is meant, with nothing remembered and nothing done at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from nova_fast.model.base import Record
from nova_fast.model.events import Event
from nova_fast.state import schema
from nova_fast.state.carry import carry_over
from nova_fast.state.reader import GENERATION, IDENTITY_GENERATION, Reader
from nova_fast.state.table import Index, Key, Table
from nova_fast.state.transaction import DuplicateKey, Transaction

R = TypeVar("R", bound=Record)

_encode = msgspec.msgpack.Encoder().encode
_COUNTER_BYTES = 8


class PlainTransaction(Transaction):
    """Reads what is there, compares sets of index entries, writes what differs."""

    def get(self, table: Table[R], key: str | Key) -> R | None:
        return Reader.get(self, table, key)

    def put(self, table: Table[R], record: R) -> None:
        primary = table.primary(table.key(record))
        raw = self.raw_get(table.name, primary)
        old = None if raw is None else table.decode(raw)
        for index in table.indexes:
            self._plain_index(index, primary, old, record)
        known = old is None or raw is None or _encode(old) == raw
        self._plain_write(table.name, primary, _encode(record) if known else carry_over(record, old, raw), raw)  # type: ignore[arg-type]
        self._plain_changed(table, primary, old, record)

    def insert(self, table: Table[R], record: R) -> None:
        assert self.get(table, table.key(record)) is None, "there already"
        self.put(table, record)

    def insert_all(self, table: Table[R], records: Sequence[R]) -> None:
        for record in records:
            self.insert(table, record)

    def delete(self, table: Table[R], key: str | Key) -> None:
        primary = table.primary(key)
        raw = self.raw_get(table.name, primary)
        assert raw is not None, "not there"
        old = table.decode(raw)
        for index in table.indexes:
            for entry in index.entries(old, primary):
                self._plain_write(index.name, entry, None, primary)
        self._plain_write(table.name, primary, None, raw)
        self._plain_changed(table, primary, old, None)

    def delete_until(self, table: Table[Any], key: Key, limit: int) -> int:
        last = table.primary(key)
        found = [bytes(key) for key, _ in self.raw(table.name) if key <= last][:limit]
        for key_ in found:
            self._plain_write(table.name, key_, None, self.raw_get(table.name, key_))
        return len(found)

    def walk_index(self, index: Index[R]) -> Iterator[R]:
        return self.scan_index(index)

    def emit(self, event: Event) -> None:
        generation = self._plain_bump(GENERATION)
        self.put(schema.EVENTS, schema.EventRow(generation=generation, body=_encode(event)))
        self.events.append((generation, event))

    def emit_all(self, events: Sequence[Event]) -> None:
        for event in events:
            self.emit(event)

    def next_number(self, name: str) -> int:
        return self._plain_bump(b"number:" + name.encode())

    def next_numbers(self, name: str, count: int) -> range:
        numbers = [self.next_number(name) for _ in range(count)]
        return range(numbers[0], numbers[-1] + 1)

    def rollback(self, mark: tuple[int, int, int]) -> None:
        writes, events, shown = mark
        del self._changes.noted[shown:]
        for database, key, value in reversed(self._journal[writes:]):
            if value is None:
                self._txn.delete(key, db=database)
            else:
                self._txn.put(key, value, db=database)
        del self._journal[writes:]
        del self.events[events:]

    def _counter(self, name: bytes) -> int:
        return Reader._counter(self, name)

    def _plain_changed(self, table: Table[R], primary: bytes, old: R | None, new: R | None) -> None:
        if table.identity:
            self._plain_bump(IDENTITY_GENERATION)
        if table.shown is not None:
            self._look_different(table, primary, old, new)

    def _plain_index(self, index: Index[R], primary: bytes, old: R | None, new: R) -> None:
        before = index.entries(old, primary) if old is not None else set()
        after = index.entries(new, primary)
        for entry in before - after:
            self._plain_write(index.name, entry, None, primary)
        for entry in after - before:
            if index.unique and self.raw_get(index.name, entry) is not None:
                raise DuplicateKey(f"{index.name} has {entry!r} already")
            self._plain_write(index.name, entry, primary, None)

    def _plain_write(self, name: str, key: bytes, value: bytes | None, replaced: bytes | None) -> None:
        database = self._databases[name]
        self._journal.append((database, key, replaced))
        self.writes += 1
        self.written_bytes += len(key) + len(value or b"")
        if value is None:
            assert self._txn.delete(key, db=database)
        else:
            self._txn.put(key, value, db=database)

    def _plain_bump(self, name: bytes) -> int:
        raw = self.raw_get("meta", name)
        value = 1 if raw is None else int.from_bytes(raw, "big") + 1
        self._plain_write("meta", name, value.to_bytes(_COUNTER_BYTES, "big"), raw)
        return value
