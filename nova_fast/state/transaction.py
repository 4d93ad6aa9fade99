"""What the one writer may do: put and delete records, number things, and say what happened.

A transaction keeps a journal of what each write replaced, so that one command of a batch can be taken back alone
while the others go on: LMDB's own nested transactions cost a copy of the dirty list each, and another engine may not
have them. Rows are held back until the end where that can be (``held.py``), and so are events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any, TypeVar

import lmdb
import msgspec

from nova_fast.model.base import Record
from nova_fast.state import ids, schema, shown
from nova_fast.state.carry import carry_over
from nova_fast.state.held import UNKNOWN, WRITTEN, Known, Memory, Rows, RowsByTable
from nova_fast.state.journal import Entropy, WriteFailed
from nova_fast.state.reader import IDENTITY_GENERATION, NUMBER, STEADY_US
from nova_fast.state.table import Index, Key, Table, encode_key, encode_keys
from nova_fast.state.tail import APPENDED, EventTail

R = TypeVar("R", bound=Record)

__all__ = ["DuplicateKey", "Entropy", "Transaction", "WriteFailed"]

_encode = msgspec.msgpack.Encoder().encode
_COUNTER_BYTES = 8
_RUN_KNOWN_MAX = 256  # records; more are not looked at again soon
_RUN_MIN = 16  # records; fewer are written one by one, and remembered


class DuplicateKey(Exception):
    """A unique index would hold two records; a command must have checked this before."""


class Transaction(EventTail):
    """Reads and writes of the one writer.

    The times and the ids come from outside, so that it is the same when replayed. ``now_us`` is the wall clock, for
    people; ``time_us`` is steady time, which only grows: for deadlines and for what came first.
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
        self._memory = Memory()
        self._rows = RowsByTable(self._memory)
        self._changes = shown.Changes()
        self.commit_s = 0.0  # how long the disk took for it, when it is durable
        self.notes: dict[str, Any] = {}  # what commands have found out so far; gone when anything is taken back

    # ------------------------------------------------------------------ ids and numbers
    def new_uuid(self) -> str:
        """A random UUID, with dashes."""
        return self.new_uuids(1)[0]

    def new_uuids(self, count: int) -> list[str]:
        """So many random UUIDs, in order: what is written together then lies together."""
        return ids.uuids(self._entropy(16 * count).hex())

    def new_timed_uuids(self, count: int) -> list[str]:
        """So many UUIDs that begin with the time, in order. Not for what is named by the first digits of its id."""
        return ids.timed_uuids(self.now_us, self._entropy(16 * count).hex())

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
            known = self._known(self._rows[table], (key,) if isinstance(key, str) else key)
        except ValueError:
            return None
        return None if known is None else known[0]

    def is_taken(self, index: Index[Any], *parts: str | int) -> bool:
        """Whether a key of a unique index leads to a record."""
        assert index.unique, index.name
        return self._txn.get(encode_key(parts), db=self._databases[index.name]) is not None

    def walk_index(self, index: Index[R]) -> Iterator[R]:
        """The records of an index, in its order, as ``scan_index`` gives them; but what is held back stays so.

        PERF: for who walks what this transaction has just put, and changes all of it.
        """
        rows = self._rows[index.table]
        table, changed, entries = index.table, rows.changed, self._databases[index.name]
        held = [
            (entry, now[0])
            for now in map(rows.known.get, changed)
            if now is not None
            for entry in set(index.encoded(index.keys(now[0]), now[3]))
        ]
        found = ((entry, self._record(table, key)) for entry, key in self._walk(entries, b"", None, None, False))
        unchanged = ((entry, record) for entry, record in found if table.key(record) not in changed)
        for _, record in merge(sorted(held, key=itemgetter(0)), unchanged, key=itemgetter(0)):
            yield record

    def counters(self) -> dict[str, int]:
        """Every number that only grows, those among them that have grown in this transaction."""
        grown = {name.decode(): value for name, value in self._counters.items() if value and name != STEADY_US}
        return super().counters() | grown

    # ------------------------------------------------------------------ writes
    def put(self, table: Table[R], record: R) -> None:
        """Insert or replace a record and its index entries. Raises DuplicateKey."""
        key = table.key(record)
        rows = self._rows[table]
        known = self._known(rows, key)
        if known is None:
            self._add(rows, key, record)
        else:
            self._replace(rows, key, known, record)

    def insert(self, table: Table[R], record: R) -> None:
        """Put a record that must not be there yet. Raises DuplicateKey.

        PERF: nothing is read; the engine says whether the key was there.
        """
        rows = self._rows[table]
        key = table.key(record)
        assert rows.known.get(key) is None, f"{table.name} has {key!r} already"
        self._add(rows, key, record)

    def insert_all(self, table: Table[R], records: Sequence[R]) -> None:
        """Put records that must not be there yet. Raises DuplicateKey.

        PERF: each index is written in its own order, so that the engine finds its page where the last entry went.
        """
        if len(records) < _RUN_MIN:
            for record in records:
                self.insert(table, record)
            return
        self._settle(table)
        assert not table.identity, f"{table.name} is written one by one"
        keys = [table.key(record) for record in records]
        rows = list(zip(encode_keys(keys), records, strict=True))
        encoded = [_encode(record) for record in records]
        added = self._write_run(table.name, [(row[0], raw) for row, raw in zip(rows, encoded, strict=True)])
        assert added, f"{table.name} has one of these keys already"
        for index in table.indexes:
            if not self._write_run(index.name, index.pairs(rows)):
                raise DuplicateKey(f"{index.name} has one of these entries already")
        if len(records) <= _RUN_KNOWN_MAX:
            known = self._rows[table]
            for key, (primary, record), raw in zip(keys, rows, encoded, strict=True):
                known.remember(key, (record, raw, True, primary))
        if table.shown is not None:
            for primary, record in rows:
                self._changed(table, primary, None, record)

    def delete(self, table: Table[R], key: str | Key) -> None:
        """Remove a record, which must be there, and its index entries."""
        parts = (key,) if isinstance(key, str) else key
        rows = self._rows[table]
        known = self._known(rows, parts)
        assert known is not None, f"{table.name} has no {key!r} to delete"
        if rows.held:
            self._hold(rows, parts, known, None)
        else:
            record, raw, _, primary = known
            for index in table.indexes:
                for entry in index.entries(record, primary):
                    self._write(index.name, entry, None, primary)
            self._write(table.name, primary, None, raw)
            del rows.known[parts]
        self._changed(table, known[3], known[0], None)

    def delete_until(self, table: Table[Any], key: Key, limit: int) -> int:
        """Remove the first records of a table up to a key, at most ``limit``; returns how many.

        PERF: of a log that nobody looks into any more: nothing is decoded, a tenth of the time of ``delete``.
        """
        assert not table.indexes and not table.identity and table.shown is None, f"{table.name} is more than a log"
        self._settle(table)
        self._rows[table].known.clear()
        return self._delete_first(table.name, encode_key(key), limit)

    def settle(self) -> None:
        """Write all that is held back."""
        for table in list(self._rows):
            self._settle(table)
        self._append_events()

    def begin(self, memory: Memory) -> None:
        """Know what transactions before this one knew."""
        self._memory = memory
        self._rows = RowsByTable(memory)

    def committed(self, commit_s: float) -> None:
        """It is durable, after so long: let the next transactions know what this one knows."""
        self.commit_s = commit_s
        self._memory.keep(self._rows.values())

    def finish(self) -> None:
        """Keep what looks different, the counters and the steady time: the last writes of every transaction."""
        for rows in self._rows.values():
            for writes in rows.take()[1] if rows.changed else ():
                self._write_all(writes, last=True)
        self._append_events()
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
        for place, key, value in reversed(self._journal[writes:]):
            if place is self._meta:
                self._counters[key] = int.from_bytes(value, "big")
            elif place is APPENDED:
                self._appended = key
            elif type(place) is not Rows:
                self._store(place, key, value)
            elif key is WRITTEN:
                place.changed, known = value
                place.known.update(known)
            else:
                place.take_back(key, *value)
        del self._journal[writes:]
        self._forget_events(events)
        for rows in self._rows.values():
            rows.forget()
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

    def _known(self, rows: Rows[R], key: Key) -> Known | None:
        """What is under a key, by what was read or written here before, else by the store. Raises ValueError."""
        known = rows.known.get(key, UNKNOWN)
        return self._look(rows, key) if known is UNKNOWN else known

    def _look(self, rows: Rows[R], key: Key) -> Known | None:
        """What the store has under a key. Raises ValueError for what cannot be one."""
        table, kept = rows.table, rows.kept.get(key)
        primary = encode_key(key) if kept is None else kept[3]
        raw = self._txn.get(primary, db=self._databases[table.name])
        if raw is None:
            return None
        if kept is not None and kept[1] == raw:
            return rows.remember(key, kept)
        self._memory.read(rows)
        return rows.remember(key, (table.decode(raw), bytes(raw), False, primary))

    def _add(self, rows: Rows[R], key: Key, record: R) -> None:
        table = rows.table
        assert type(record) is table.type, f"a {type(record).__name__} in table {table.name}"
        encoded, primary = _encode(record), encode_key(key)
        new = (record, encoded, True, primary)
        if rows.held:
            self._hold(rows, key, None, new)
        else:
            there = not self._write_new(table.name, primary, encoded)
            assert not there, f"{table.name} has this key already"
            for index in table.indexes:
                entries = index.encoded(index.keys(record), primary)
                for entry in entries if len(entries) < 2 else dict.fromkeys(entries):
                    if not self._write_new(index.name, entry, primary):
                        raise DuplicateKey(f"{index.name} has {entry!r} already")
            rows.remember(key, new)
        self._changed(table, primary, None, record)

    def _replace(self, rows: Rows[R], key: Key, known: Known, record: R) -> None:
        table = rows.table
        assert type(record) is table.type, f"a {type(record).__name__} in table {table.name}"
        old, raw, plain, primary = known
        plain = plain or _encode(old) == raw  # of this release, so nothing unknown is behind it
        encoded = _encode(record) if plain else carry_over(record, old, raw)
        new = (record, encoded, plain, primary)
        if rows.held:
            self._hold(rows, key, known, new)
        else:
            for index in table.indexes:
                before, after = index.keys(old), index.keys(record)
                if before != after:
                    was, is_ = set(index.encoded(before, primary)), set(index.encoded(after, primary))
                    self._reindex(index, primary, was, is_)
            if encoded != raw:
                self._write(table.name, primary, encoded, raw)
            rows.remember(key, new)
        self._changed(table, primary, old, record)

    def _hold(self, rows: Rows[R], key: Key, before: Known | None, now: Known | None) -> None:
        """Note a change, to be written when the transaction ends or somebody walks the table."""
        first = key not in rows.changed
        if first:
            rows.changed[key] = before
        self._journal.append((rows, key, (before, first)))
        rows.known[key] = now

    def _settled(self, name: str) -> Any:
        table = schema.TABLE_OF.get(name)
        if table is not None:
            self._settle(table)
        return self._databases[name]

    def _settle(self, table: Table[Any]) -> None:
        """Write what is held back of a table."""
        if table is schema.EVENTS:
            self._append_events()
        rows = self._rows.get(table)
        if rows is None or not rows.changed:
            return
        known = {key: rows.known[key] for key in rows.changed}
        changed, writes = rows.take()
        self._journal.append((rows, WRITTEN, (changed, known)))
        for one in writes:
            self._write_all(one)

    def _changed(self, table: Table[R], primary: bytes, old: R | None, new: R | None) -> None:
        if table.identity:
            self._bump(IDENTITY_GENERATION)
        if table.shown is not None:
            self._look_different(table, primary, old, new)

    def _look_different(self, table: Table[R], primary: bytes, old: R | None, new: R | None) -> None:
        assert table.shown is not None
        if table is schema.SERVERS:  # PERF: it shows itself, all of it
            if old is None:
                self._changes.born(primary)
            elif old != new:
                self._changes.noted.append((primary, False))
        else:
            self._changes.note(self, table.shown, old, new)

    def _reindex(self, index: Index[R], primary: bytes, before: set[bytes], after: set[bytes]) -> None:
        for entry in before - after:
            self._write(index.name, entry, None, primary)
        for entry in after - before:
            if not self._write_new(index.name, entry, primary):
                raise DuplicateKey(f"{index.name} has {entry!r} already")

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
