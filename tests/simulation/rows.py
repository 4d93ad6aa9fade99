"""What the store holds, for whoever looks at all of it again and again.

A table is read anew each time, every row of it, as bytes: nothing that was written past the journal, or taken back only
in name, stays unseen. Only what a row means is remembered, by its bytes: most rows are the same as a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from nova_fast.model.base import Record
from nova_fast.state.reader import Reader
from nova_fast.state.table import Table

R = TypeVar("R", bound=Record)
T = TypeVar("T")


class Meaning(dict[bytes, T]):
    """Bytes → what they mean, found out once."""

    def __init__(self, make: Callable[[bytes], T]) -> None:
        self._make = make

    def __missing__(self, raw: bytes) -> T:
        made = self[raw] = self._make(raw)
        return made


class Rows(Generic[R, T]):
    """All rows of a table, each as what ``fact`` makes of its record."""

    def __init__(self, table: Table[R], fact: Callable[[R], T]) -> None:
        self._name = table.name
        decode = table.decode
        self._meaning: Meaning[T] = Meaning(lambda raw: fact(decode(raw)))

    def read(self, reader: Reader) -> list[T]:
        """All of them, in the order of their keys.

        PERF: at the engine's own pace, without a step of Python for a row that is known.
        """
        with reader._txn.cursor(db=reader._databases[self._name]) as cursor:
            return list(map(self._meaning.__getitem__, cursor.iternext(keys=False)))


def records(table: Table[R]) -> Rows[R, R]:
    """All records of a table."""
    return Rows(table, lambda record: record)
