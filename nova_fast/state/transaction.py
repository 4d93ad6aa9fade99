"""What the one writer may do: put and delete records, number things, and say what happened.

A transaction keeps a journal of what each write replaced, so that one command of a batch can be taken back alone
while the others go on: LMDB's own nested transactions cost a copy of the dirty list each, and another engine may not
have them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import lmdb
import msgspec

from nova_fast.model.base import Record
from nova_fast.model.events import Event
from nova_fast.state import schema, shown
from nova_fast.state.carry import carry_over
from nova_fast.state.reader import GENERATION, IDENTITY_GENERATION, NUMBER, STEADY_US, Reader
from nova_fast.state.table import Index, Key, Table, encode_key

R = TypeVar("R", bound=Record)

Entropy = Callable[[int], bytes]

_encode = msgspec.msgpack.Encoder().encode
_COUNTER_BYTES = 8
_KNOWN_MAX = 4_096  # of each table

_TIME_MASK = (1 << 48) - 1
_RUN_MIN = 16  # records; fewer are written one by one, and remembered

#: A record, its bytes, and whether it is known that they hold nothing else.
_Known = tuple[Any, bytes, bool]


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
        self._counters: dict[bytes, int] = {}
        self._stored_counters: dict[bytes, int] = {}  # as they are in the engine
        self.now_us, steady_us = times_us
        self.time_us = max(steady_us, self.steady_us())
        self._entropy = entropy
        self._journal: list[tuple[Any, bytes, bytes | None]] = []  # database, key, what was there
        self._known: defaultdict[str, dict[bytes, _Known]] = defaultdict(dict)  # of each table
        self._changes = shown.Changes()
        self.events: list[tuple[int, Event]] = []
        self.notes: dict[str, Any] = {}  # what commands have found out so far; gone when anything is taken back
        self.writes = 0  # that the engine was given, those that were taken back among them
        self.written_bytes = 0

    # ------------------------------------------------------------------ ids and numbers
    def new_uuid(self) -> str:
        """A random UUID, with dashes."""
        return self.new_uuids(1)[0]

    def new_uuids(self, count: int) -> list[str]:
        """So many random UUIDs, in order: what is written together then lies together."""
        digits = self._entropy(16 * count).hex()
        return sorted([_uuid(digits[at : at + 32]) for at in range(0, 32 * count, 32)])

    def new_timed_uuids(self, count: int) -> list[str]:
        """So many UUIDs of version 7 (RFC 9562), in order: the time and 62 random bits.

        PERF: in a table that grows by the million, a random key changes a page of its own, and leaves pages a third
        empty; these go where the last went. Not for what is named by the first digits of its id.
        """
        milliseconds, rest_us = divmod(self.now_us, 1000)
        time = f"{milliseconds & _TIME_MASK:012x}"
        begin = f"{time[:8]}-{time[8:]}-7{rest_us * 4096 // 1000:03x}-"
        digits = self._entropy(16 * count).hex()
        ends = [digits[at : at + 16] for at in range(16, 32 * count, 32)]
        return sorted([f"{begin}{_variant(end[0])}{end[1:4]}-{end[4:]}" for end in ends])

    def new_hex(self) -> str:
        """32 random hexadecimal characters, as identity and task ids are written."""
        return self._entropy(16).hex()

    def random_bytes(self, count: int) -> bytes:
        """Random bytes from the transaction's source."""
        return self._entropy(count)

    def next_number(self, name: str) -> int:
        """1, 2, 3, … for each name, without gaps among what is committed."""
        return self._bump(NUMBER + name.encode())

    def next_numbers(self, name: str, count: int) -> range:
        """The next ``count`` of them."""
        last = self._bump(NUMBER + name.encode(), count)
        return range(last - count + 1, last + 1)

    # ------------------------------------------------------------------ reads
    def get(self, table: Table[R], key: str | Key) -> R | None:
        """The record with this key, or None.

        PERF: what this transaction has read or written is not decoded again.
        """
        try:
            primary = table.primary(key)
        except ValueError:
            return None
        known = self._known[table.name].get(primary) or self._look(table, primary)
        return None if known is None else known[0]

    def is_taken(self, index: Index[Any], *parts: str | int) -> bool:
        """Whether a key of a unique index leads to a record."""
        assert index.unique, index.name
        return self._txn.get(encode_key(parts), db=self._databases[index.name]) is not None

    def counters(self) -> dict[str, int]:
        """Every number that only grows, those among them that have grown in this transaction."""
        grown = {name.decode(): value for name, value in self._counters.items() if value and name != STEADY_US}
        return super().counters() | grown

    # ------------------------------------------------------------------ writes
    def put(self, table: Table[R], record: R) -> None:
        """Insert or replace a record and its index entries. Raises DuplicateKey."""
        primary = encode_key(table.key(record))
        known = self._known[table.name].get(primary) or self._look(table, primary)
        if known is None:
            self._add(table, primary, record)
        else:
            self._replace(table, primary, known, record)

    def insert(self, table: Table[R], record: R) -> None:
        """Put a record that must not be there yet. Raises DuplicateKey.

        PERF: nothing is read; the engine says whether the key was there.
        """
        self._add(table, encode_key(table.key(record)), record)

    def insert_all(self, table: Table[R], records: Sequence[R]) -> None:
        """Put records that must not be there yet. Raises DuplicateKey.

        PERF: each index is written in its own order, so that the engine finds its page where the last entry went.
        """
        if len(records) < _RUN_MIN:
            for record in records:
                self.insert(table, record)
            return
        assert not table.identity, f"{table.name} is written one by one"
        rows = [(encode_key(table.key(record)), record) for record in records]
        added = self._write_run(table.name, [(primary, _encode(record)) for primary, record in rows])
        assert added, f"{table.name} has one of these keys already"
        for index in table.indexes:
            if not self._write_run(index.name, index.pairs(rows)):
                raise DuplicateKey(f"{index.name} has one of these entries already")
        if table.shown is not None:
            for primary, record in rows:
                self._changed(table, primary, None, record)

    def delete(self, table: Table[R], key: str | Key) -> None:
        """Remove a record, which must be there, and its index entries."""
        primary = table.primary(key)
        known = self._known[table.name].get(primary) or self._look(table, primary)
        assert known is not None, f"{table.name} has no {key!r} to delete"
        record, raw, _ = known
        for index in table.indexes:
            for entry in index.entries(record, primary):
                self._write(index.name, entry, None, primary)
        self._write(table.name, primary, None, raw)
        del self._known[table.name][primary]
        self._changed(table, primary, record, None)

    def emit(self, event: Event) -> None:
        """Append an event to the log; watchers see it after the commit."""
        generation = self._bump(GENERATION)
        row = schema.EventRow(generation=generation, body=_encode(event))
        self._write(schema.EVENTS.name, encode_key((generation,)), _encode(row), None)
        self.events.append((generation, event))

    def emit_all(self, events: Sequence[Event]) -> None:
        """Append events to the log, in this order."""
        last = self._bump(GENERATION, len(events))
        numbered = list(enumerate(events, last - len(events) + 1))
        rows = [
            (encode_key((generation,)), _encode(schema.EventRow(generation=generation, body=_encode(event))))
            for generation, event in numbered
        ]
        added = self._write_run(schema.EVENTS.name, rows)
        assert added, "the log has an event of the future"
        self.events += numbered

    def finish(self) -> None:
        """Keep what looks different, the counters and the steady time: the last writes of every transaction."""
        self._keep_shown()
        for name, value in self._counters.items():
            if value != self._stored_counters[name]:
                self._store(self._meta, name, value.to_bytes(_COUNTER_BYTES, "big"))
        self._store(self._meta, STEADY_US, self.time_us.to_bytes(_COUNTER_BYTES, "big"))

    # ------------------------------------------------------------------ savepoints
    def savepoint(self) -> tuple[int, int, int]:
        """A mark to which the transaction can be taken back."""
        return len(self._journal), len(self.events), len(self._changes.noted)

    def rollback(self, mark: tuple[int, int, int]) -> None:
        """Undo everything written since the mark."""
        writes, events, noted = mark
        del self._changes.noted[noted:]
        for database, key, value in reversed(self._journal[writes:]):
            if database is self._meta:
                self._counters[key] = int.from_bytes(value, "big")
            else:
                self._store(database, key, value)
        del self._journal[writes:]
        del self.events[events:]
        self._known.clear()
        self.notes.clear()

    # ------------------------------------------------------------------ inside
    def _keep_shown(self) -> None:
        """Say which servers look different now; once, behind all that commands have written."""
        row = self._changes.row()
        before, behind = self.shown_number()
        if behind:  # commits of a release without this log came between
            before, row = before + shown.ROWS, b""
        number = before if row is None else before + 1
        if row is not None:
            self._store(self._databases[shown.DATABASE], shown.place(number), shown.pack(number, row))
        time_us = self.time_us.to_bytes(_COUNTER_BYTES, "big")
        self._store(self._meta, shown.NUMBER_AND_TIME, shown.pack(number, time_us))

    def _look(self, table: Table[R], primary: bytes) -> _Known | None:
        """What the store has under a key."""
        raw = self._txn.get(primary, db=self._databases[table.name])
        return None if raw is None else self._remember(table.name, primary, (table.decode(raw), bytes(raw), False))

    def _remember(self, name: str, primary: bytes, known: _Known) -> _Known:
        rows = self._known[name]
        if len(rows) >= _KNOWN_MAX:
            rows.clear()
        rows[primary] = known
        return known

    def _add(self, table: Table[R], primary: bytes, record: R) -> None:
        assert type(record) is table.type, f"a {type(record).__name__} in table {table.name}"
        encoded = _encode(record)
        there = not self._write_new(table.name, primary, encoded)
        assert not there, f"{table.name} has this key already"
        for index in table.indexes:
            entries = index.encoded(index.keys(record), primary)
            for entry in entries if len(entries) < 2 else dict.fromkeys(entries):
                if not self._write_new(index.name, entry, primary):
                    raise DuplicateKey(f"{index.name} has {entry!r} already")
        self._remember(table.name, primary, (record, encoded, True))
        self._changed(table, primary, None, record)

    def _replace(self, table: Table[R], primary: bytes, known: _Known, record: R) -> None:
        assert type(record) is table.type, f"a {type(record).__name__} in table {table.name}"
        old, raw, plain = known
        for index in table.indexes:
            before, after = index.keys(old), index.keys(record)
            if before != after:
                self._reindex(index, primary, set(index.encoded(before, primary)), set(index.encoded(after, primary)))
        plain = plain or _encode(old) == raw  # of this release, so nothing unknown is behind it
        encoded = _encode(record) if plain else carry_over(record, old, raw)
        if encoded != raw:
            self._write(table.name, primary, encoded, raw)
        self._remember(table.name, primary, (record, encoded, plain))
        self._changed(table, primary, old, record)

    def _changed(self, table: Table[R], primary: bytes, old: R | None, new: R | None) -> None:
        if table.identity:
            self._bump(IDENTITY_GENERATION)
        if table.shown is not None:
            self._look_different(table, primary, old, new)

    def _look_different(self, table: Table[R], primary: bytes, old: R | None, new: R | None) -> None:
        assert table.shown is not None
        if old is None and table is schema.SERVERS:
            self._changes.born(primary)
        else:
            self._changes.note(self, table.shown, old, new)

    def _reindex(self, index: Index[R], primary: bytes, before: set[bytes], after: set[bytes]) -> None:
        for entry in before - after:
            self._write(index.name, entry, None, primary)
        for entry in after - before:
            if not self._write_new(index.name, entry, primary):
                raise DuplicateKey(f"{index.name} has {entry!r} already")

    def _write(self, name: str, key: bytes, value: bytes | None, replaced: bytes | None) -> None:
        database = self._databases[name]
        self._journal.append((database, key, replaced))
        self._store(database, key, value)

    def _write_new(self, name: str, key: bytes, value: bytes) -> bool:
        """Write what must not be there; whether it was not."""
        database = self._databases[name]
        if not self._store(database, key, value, False):
            return False
        self._journal.append((database, key, None))
        return True

    def _write_run(self, name: str, rows: list[tuple[bytes, bytes]]) -> bool:
        """Write what must not be there, sorted; whether none of it was. What was written before is in the journal."""
        database, written = self._databases[name], 0
        rows.sort()
        try:
            with self._txn.cursor(db=database) as cursor:
                put = cursor.put
                for key, value in rows:
                    if not put(key, value, True, False):
                        return False
                    written += 1
        except lmdb.Error as error:
            raise WriteFailed(str(error), getattr(error, "code", 0)) from error
        finally:
            self._journal += [(database, key, None) for key, _ in rows[:written]]
            self.writes += written
            self.written_bytes += sum([len(key) + len(value) for key, value in rows])
        return True

    def _store(self, database: Any, key: bytes, value: bytes | None, overwrite: bool = True) -> bool:
        self.writes += 1
        self.written_bytes += len(key) + len(value or b"")
        try:
            if value is None:
                return bool(self._txn.delete(key, db=database))
            return bool(self._txn.put(key, value, db=database, overwrite=overwrite))
        except lmdb.Error as error:
            raise WriteFailed(str(error), getattr(error, "code", 0)) from error

    def _counter(self, name: bytes) -> int:
        value = self._counters.get(name)
        if value is None:
            value = self._counters[name] = self._stored_counters[name] = super()._counter(name)
        return value

    def _bump(self, name: bytes, by: int = 1) -> int:
        """PERF: kept in memory until the end, because every event and every server has a number."""
        value = self._counter(name)
        self._journal.append((self._meta, name, value.to_bytes(_COUNTER_BYTES, "big")))
        self._counters[name] = value + by
        return value + by


def _uuid(digits: str) -> str:
    """32 random hexadecimal digits as a UUID of version 4."""
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_variant(digits[16])}{digits[17:20]}-{digits[20:]}"


def _variant(digit: str) -> str:
    return "89ab"[int(digit, 16) & 3]
