"""What one can ask of the store: the same questions of a snapshot and of an open transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

import lmdb

from nova_fast.model.base import Record
from nova_fast.model.errors import NotFound
from nova_fast.state import shown
from nova_fast.state.table import Index, Key, Table, encode_key

R = TypeVar("R", bound=Record)

#: Counters of the meta database.
GENERATION = b"generation"
IDENTITY_GENERATION = b"identity_generation"
STEADY_US = b"steady_us"
NUMBER = b"number:"
_FEW = 32  # entries of an index that are looked at one by one


class Reader:
    """Reads of one consistent state. Iterators are lazy: do not write to a table while walking it."""

    __slots__ = ("_cursors", "_databases", "_meta", "_txn")

    def __init__(self, txn: lmdb.Transaction, databases: dict[str, Any]) -> None:
        self._txn = txn
        self._databases = databases
        self._meta = databases["meta"]
        self._cursors: dict[str, lmdb.Cursor] = {}  # of select(); they end with the transaction

    def get(self, table: Table[R], key: str | Key) -> R | None:
        """The record with this key, or None."""
        try:
            primary = table.primary(key)
        except ValueError:  # longer than any key can be, so it cannot exist
            return None
        raw = self._txn.get(primary, db=self._databases[table.name])
        return None if raw is None else table.decode(raw)

    def need(self, table: Table[R], key: str | Key, noun: str) -> R:
        """The record with this key. Raises NotFound that names the noun and the key."""
        record = self.get(table, key)
        if record is None:
            name = key if isinstance(key, str) else "/".join(map(str, key))
            raise NotFound(f"{noun} {name} could not be found.", code=f"{noun.lower().replace(' ', '_')}_not_found")
        return record

    def find(self, index: Index[R], *parts: str | int) -> R | None:
        """The record under a key of a unique index, or None."""
        assert index.unique, index.name
        try:
            key = encode_key(parts)
        except ValueError:
            return None
        primary = self._txn.get(key, db=self._settled(index.name))
        return None if primary is None else self._record(index.table, bytes(primary))

    def scan(
        self,
        table: Table[R],
        *prefix: str | int,
        after: str | Key | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[R]:
        """Records in the order of their keys, those that begin with ``prefix``, behind ``after`` (exclusive)."""
        begin = _prefix(prefix)
        if begin is None:
            return
        position = None if after is None else table.primary(after)
        for _key, value in self._walk(self._settled(table.name), begin, position, limit, reverse):
            yield table.decode(value)

    def scan_index(
        self,
        index: Index[R],
        *prefix: str | int,
        after: R | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[R]:
        """Records in the order of an index, behind the record ``after`` (exclusive)."""
        begin = _prefix(prefix)
        if begin is None:
            return
        position = None if after is None else _entry(index, after, begin, min if reverse else max)
        table, entries = index.table, self._settled(index.name)
        get, database, decode = self._txn.get, self._databases[table.name], table.decode
        for _key, primary in self._walk(entries, begin, position, limit, reverse):
            raw = get(primary, db=database)
            assert raw is not None, f"an index entry of {table.name} leads nowhere"
            yield decode(raw)

    def select(self, index: Index[R], *prefix: str | int) -> list[R]:
        """The records under the first parts of an index's key, in its order, read at once: for small sets.

        PERF: a third of the time of ``scan_index`` for one record, because the cursor is kept and nothing is lazy.
        """
        begin = _prefix(prefix)
        if begin is None:
            return []
        cursor = self._cursor(index)
        get, database, decode = self._txn.get, self._databases[index.table.name], index.table.decode
        found: list[R] = []
        more = cursor.set_range(begin)
        while more:
            key, primary = cast(tuple[bytes, bytes], cursor.item())
            if not key.startswith(begin):
                break
            raw = get(primary, db=database)
            assert raw is not None, f"an index entry of {index.table.name} leads nowhere"
            found.append(decode(raw))
            more = cursor.next()
        return found

    def is_any(self, index: Index[Any], *prefix: str | int) -> bool:
        """Whether there are records under the first parts of an index's key."""
        begin = _prefix(prefix)
        if begin is None:
            return False
        cursor = self._cursor(index)
        return bool(cursor.set_range(begin)) and cast(bytes, cursor.key()).startswith(begin)

    def index_keys(self, index: Index[R], *prefix: str | int, after: R | None = None, limit: int = 1000) -> list[bytes]:
        """The keys of the records under the first parts of an index's key, in its order, behind ``after`` (exclusive).

        PERF: behind the first few at the engine's own pace, without a step of Python for an entry: 0.1 µs each.
        """
        begin = _prefix(prefix)
        if begin is None:
            return []
        position = None if after is None else _entry(index, after, begin, max)
        entries = self._settled(index.name)
        with self._txn.cursor(db=entries) as cursor:
            if limit < 1 or not _first(cursor, begin, position):
                return []
            few = list(islice(cast(Iterator[tuple[bytes, bytes]], cursor.iternext()), min(limit, _FEW)))
            keys = [primary for entry, primary in few if entry.startswith(begin)]
            if len(keys) == limit or len(keys) < _FEW:
                return keys
            rest = list(islice(cast(Iterator[bytes], cursor.iternext(keys=False)), 1, limit - _FEW + 1))
            if cast(bytes, cursor.key()).startswith(begin):  # the cursor stands on the last that was taken
                return keys + rest
        return [primary for _, primary in self._walk(entries, begin, position, limit, False)]

    def of_keys(self, table: Table[R], keys: Sequence[bytes]) -> list[R]:
        """The records with these keys, as :meth:`index_keys` gives them, in their order."""
        get, database, decode = self._txn.get, self._settled(table.name), table.decode
        return [decode(get(key, db=database)) for key in keys]

    def count(self, index: Index[R], *prefix: str | int) -> int:
        """How many entries of an index begin so. Walks them: for small sets."""
        begin = _prefix(prefix)
        return 0 if begin is None else sum(1 for _ in self._walk(self._settled(index.name), begin, None, None, False))

    def size(self, table: Table[R]) -> int:
        """How many records a table has."""
        return int(self._txn.stat(self._settled(table.name))["entries"])

    def generation(self) -> int:
        """The number of the last event: it grows with each."""
        return self._counter(GENERATION)

    def number(self, name: str) -> int:
        """The last number that was given for a name; 0 when there was none."""
        return self._counter(NUMBER + name.encode())

    def commit(self) -> int:
        """The number of the commit that this shows: two snapshots of one store with the same number are equal."""
        return int(self._txn.id())

    def identity_generation(self) -> int:
        """Grows whenever a user, project, role, assignment, credential or revocation changes."""
        return self._counter(IDENTITY_GENERATION)

    def steady_us(self) -> int:
        """The steady time of the last commit; 0 before the first. See ``nova_fast.conductor.clock``."""
        return self._counter(STEADY_US)

    def shown_number(self) -> tuple[int, bool]:
        """How often what servers show has changed; and whether it may have changed without being counted."""
        raw = self._txn.get(shown.NUMBER_AND_TIME, db=self._meta)
        number, time_us = shown.unpack(b"" if raw is None else bytes(raw))
        return number, int.from_bytes(time_us, "big") != self.steady_us()

    def shown_changes(self, since: int) -> list[bytes] | None:
        """The keys of the servers that look different now than at a number; None = any may. See ``state.shown``."""
        number, behind = self.shown_number()
        if behind or not 0 <= number - since < shown.ROWS:
            return None
        keys: list[bytes] = []
        for row in range(since + 1, number + 1):
            raw = self._txn.get(shown.place(row), db=self._databases[shown.DATABASE])
            there, listed = shown.unpack(b"" if raw is None else bytes(raw))
            if there != row or not listed:
                return None
            keys += (key + b"\0" for key in listed.split(b"\0")[:-1])
        return keys

    def counters(self) -> dict[str, int]:
        """Every number that only grows, by name; those of ``next_number`` begin with ``number:``."""
        with self._txn.cursor(db=self._meta) as cursor:
            counted = (GENERATION, IDENTITY_GENERATION)
            rows = [(bytes(key), bytes(value)) for key, value in cursor]
            found = {key: value for key, value in rows if key in counted or key.startswith(NUMBER)}
        return {name.decode(): int.from_bytes(value, "big") for name, value in found.items()}

    # ------------------------------------------------------------------ as it lies there
    def raw(self, name: str, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a table or index whose keys begin so, undecoded."""
        return self._walk(self._settled(name), begin, None, None, False)

    def raw_get(self, name: str, key: bytes) -> bytes | None:
        """One value of a table or index, undecoded."""
        value = self._txn.get(key, db=self._settled(name))
        return None if value is None else bytes(value)

    def raw_size(self, name: str) -> int:
        """How many entries a table or index has."""
        return int(self._txn.stat(self._settled(name))["entries"])

    def _settled(self, name: str) -> Any:
        """The engine's handle of a table or index that is to be walked, with all in it that was written before."""
        return self._databases[name]

    def _cursor(self, index: Index[Any]) -> lmdb.Cursor:
        """A cursor of an index that is kept."""
        entries = self._settled(index.name)
        cursor = self._cursors.get(index.name)
        if cursor is None:
            cursor = self._cursors[index.name] = self._txn.cursor(db=entries)
        return cursor

    def _counter(self, name: bytes) -> int:
        raw = self._txn.get(name, db=self._meta)
        return 0 if raw is None else int.from_bytes(raw, "big")

    def _record(self, table: Table[R], primary: bytes) -> R:
        raw = self._txn.get(primary, db=self._databases[table.name])
        assert raw is not None, f"an index entry of {table.name} leads nowhere"
        return table.decode(raw)

    def _walk(
        self, database: Any, prefix: bytes, position: bytes | None, limit: int | None, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        with self._txn.cursor(db=database) as cursor:
            found = _last(cursor, prefix, position) if reverse else _first(cursor, prefix, position)
            left = -1 if limit is None else limit
            while found and left != 0:
                key, value = cast(tuple[bytes, bytes], cursor.item())
                if not key.startswith(prefix):
                    return
                yield key, value
                left -= 1
                found = cursor.prev() if reverse else cursor.next()


def _prefix(parts: Key) -> bytes | None:
    """The bytes with which keys begin; None when no key can begin so (it would be too long, or holds a NUL)."""
    try:
        return encode_key(parts) if parts else b""
    except ValueError:
        return None


def _entry(index: Index[R], record: R, begin: bytes, last: Callable[..., bytes | None]) -> bytes:
    """The entry of a record in the part of an index that begins so."""
    entries = index.entries(record, index.table.primary(index.table.key(record)))
    position = last((entry for entry in entries if entry.startswith(begin)), default=None)
    assert position is not None, f"{index.name}: the record to go on behind is not in this part of the index"
    return position


def _first(cursor: lmdb.Cursor, prefix: bytes, position: bytes | None) -> bool:
    if position is None:
        return bool(cursor.set_range(prefix)) if prefix else bool(cursor.first())
    found = bool(cursor.set_range(position))
    return bool(cursor.next()) if found and cursor.key() == position else found


def _last(cursor: lmdb.Cursor, prefix: bytes, position: bytes | None) -> bool:
    if position is None:
        if not prefix:
            return bool(cursor.last())
        # SAFETY: no key part begins with 0xff bytes in UTF-8, and integers are 8 bytes, so this is behind the prefix.
        position = prefix + b"\xff" * 9
    return bool(cursor.prev()) if cursor.set_range(position) else bool(cursor.last())
