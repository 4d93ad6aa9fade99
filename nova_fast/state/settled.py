"""Reading where writes may be held back: whoever walks a table, or looks into an index, sees what was written before.

One record by its key is answered by the transaction itself, from what it holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from nova_fast.model.base import Record
from nova_fast.state import schema
from nova_fast.state.reader import Reader
from nova_fast.state.table import Index, Key, Table

R = TypeVar("R", bound=Record)


class SettledReader(Reader):
    """A reader that has the rows of a table written before it walks them."""

    def _settle(self, table: Table[Any]) -> None:
        """Write what is held back of a table."""
        raise NotImplementedError

    def find(self, index: Index[R], *parts: str | int) -> R | None:
        self._settle(index.table)
        return super().find(index, *parts)

    def scan(
        self,
        table: Table[R],
        *prefix: str | int,
        after: str | Key | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[R]:
        self._settle(table)
        return super().scan(table, *prefix, after=after, limit=limit, reverse=reverse)

    def scan_index(
        self,
        index: Index[R],
        *prefix: str | int,
        after: R | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[R]:
        self._settle(index.table)
        return super().scan_index(index, *prefix, after=after, limit=limit, reverse=reverse)

    def select(self, index: Index[R], *prefix: str | int) -> list[R]:
        self._settle(index.table)
        return super().select(index, *prefix)

    def index_keys(self, index: Index[R], *prefix: str | int, after: R | None = None, limit: int = 1000) -> list[bytes]:
        self._settle(index.table)
        return super().index_keys(index, *prefix, after=after, limit=limit)

    def of_keys(self, table: Table[R], keys: Sequence[bytes]) -> list[R]:
        self._settle(table)
        return super().of_keys(table, keys)

    def count(self, index: Index[R], *prefix: str | int) -> int:
        self._settle(index.table)
        return super().count(index, *prefix)

    def size(self, table: Table[R]) -> int:
        self._settle(table)
        return super().size(table)

    def raw(self, name: str, begin: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        self._settle_named(name)
        return super().raw(name, begin)

    def raw_get(self, name: str, key: bytes) -> bytes | None:
        self._settle_named(name)
        return super().raw_get(name, key)

    def raw_size(self, name: str) -> int:
        self._settle_named(name)
        return super().raw_size(name)

    def _settle_named(self, name: str) -> None:
        table = _tables().get(name)
        if table is not None:
            self._settle(table)


@cache
def _tables() -> dict[str, Table[Any]]:
    """The table of each database."""
    own = {table.name: table for table in schema.TABLES}
    return own | {index.name: table for table in schema.TABLES for index in table.indexes}
