"""What a transaction gives to the engine, and the journal of what was there before."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, cast

import lmdb

from nova_fast.state.held import Writes
from nova_fast.state.reader import Reader

Entropy = Callable[[int], bytes]


class WriteFailed(Exception):
    """A write was not taken (disk full, map full): the whole transaction is lost and must be given up."""

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number  # errno, or LMDB's own


class JournaledWrites(Reader):
    """Writes that can be taken back one by one."""

    def __init__(self, txn: lmdb.Transaction, databases: dict[str, Any]) -> None:
        super().__init__(txn, databases)
        #: What to do, the last first, to be where one was: database, key and what was there; or of a table's rows.
        self._journal: list[tuple[Any, Any, Any]] = []
        self.writes = 0  # that the engine was given, those that were taken back among them
        self.written_bytes = 0

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

    def _write_all(self, writes: Writes, *, last: bool = False) -> None:
        """Write what was held back of one database; ``last``: nothing is taken back any more."""
        database = self._databases[writes.name]
        new, other, gone = sorted(writes.new), sorted(writes.other), sorted(writes.gone)
        if not last:
            self._journal += [(database, key, None) for key, _ in new]
            self._journal += [(database, key, before) for key, _, before in other]
            self._journal += [(database, key, before) for key, before in gone]
        self.writes += len(new) + len(other) + len(gone)
        put = [*new, *((key, value) for key, value, _ in other)] if other else new
        self.written_bytes += _bytes_of(put)
        try:
            for key, _ in gone:
                self._txn.delete(key, db=database)
            with self._txn.cursor(db=database) as cursor:
                added = cursor.putmulti(new, True, False)[1] if new else 0
                if other:
                    cursor.putmulti([(key, value) for key, value, _ in other])
        except lmdb.Error as error:
            raise WriteFailed(str(error), getattr(error, "code", 0)) from error
        assert added == len(new), f"{writes.name} had one of these keys already"

    def _write_run(self, name: str, rows: list[tuple[bytes, bytes]]) -> bool:
        """Write what must not be there, sorted; whether none of it was. What was written before is in the journal."""
        database, written = self._databases[name], 0
        rows.sort()
        try:
            with self._txn.cursor(db=database) as cursor:
                if _is_run(rows) and not cursor.set_range(rows[0][0]):  # PERF: all of them are behind what is there
                    _, written = cursor.putmulti(rows, True, False, True)
                    assert written == len(rows), f"{name} did not take all of {len(rows)} rows"
                    return True
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
            self.written_bytes += _bytes_of(rows)
        return True

    def _delete_first(self, name: str, until: bytes, limit: int) -> int:
        """Delete from the first key up to one, at most ``limit``; returns how many."""
        database, journal, count = self._databases[name], self._journal, 0
        try:
            with self._txn.cursor(db=database) as cursor:
                more = cursor.first()
                while more and count < limit:
                    key, value = cast(tuple[bytes, bytes], cursor.item())
                    if key > until:
                        break
                    journal.append((database, key, value))
                    count += 1
                    more = cursor.delete() and bool(cursor.key())
        except lmdb.Error as error:
            raise WriteFailed(str(error), getattr(error, "code", 0)) from error
        self.writes += count
        return count

    def _store(self, database: Any, key: bytes, value: bytes | None, overwrite: bool = True) -> bool:
        self.writes += 1
        self.written_bytes += len(key) + len(value or b"")
        try:
            if value is None:
                return bool(self._txn.delete(key, db=database))
            return bool(self._txn.put(key, value, db=database, overwrite=overwrite))
        except lmdb.Error as error:
            raise WriteFailed(str(error), getattr(error, "code", 0)) from error


def _is_run(rows: list[tuple[bytes, bytes]]) -> bool:
    """Whether sorted rows are all of different keys."""
    return bool(rows) and len(dict(rows)) == len(rows)


def _bytes_of(rows: list[tuple[bytes, bytes]]) -> int:
    return sum(map(len, chain.from_iterable(rows)))
