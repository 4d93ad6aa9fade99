"""What a transaction knows of a table's rows, and which of them it holds back until it ends.

Most commands change rows that others of the same batch change as well (a project's usage, a host's), or change a row
twice (a workflow begins and asks). So a change is only noted: the row is written once, where it stands when the
transaction ends, and all rows of a table and of each index in the engine's own order. Whoever walks a table or an
index meanwhile has its rows written first. What is taken back is taken back here, and reaches the engine never.

A table with a unique index is written at once: whether a key is taken must be known at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from nova_fast.model.base import Record
from nova_fast.state.table import Index, Key, Table

R = TypeVar("R", bound=Record)

#: A record, its bytes, whether it is known that they hold nothing else, and its key as the engine has it.
Known = tuple[Any, bytes, bool, bytes]
_KNOWN_MAX = 4_096  # of each table
_REMEMBERED_BYTES_MAX = 8_192  # of a row that is remembered: user data and kept answers have up to 100 times as many
_NOTHING: Final[dict[Key, Any]] = {}

#: Nobody has looked.
UNKNOWN: Final[Any] = object()
#: In a journal: the rows of a table were written here.
WRITTEN: Final[Any] = object()


class Memory:
    """What rows of the last transactions mean, so that a row which lies as it did is not decoded again.

    SAFETY: a row is used only when the engine has the same bytes under its key, so nothing here can be out of date.

    PERF: what a batch writes is what the next reads: of 13 records that a boot reads 2 are decoded.
    """

    __slots__ = ("tables",)

    def __init__(self) -> None:
        self.tables: dict[Table[Any], dict[Key, Known]] = {}

    def of(self, table: Table[Any]) -> dict[Key, Known]:
        """What is remembered of a table."""
        return self.tables.get(table, _NOTHING)

    def read(self, rows: Rows[Any]) -> None:
        """A row of a table was read: it pays to remember some. What is only ever written is not."""
        if rows.kept is _NOTHING:
            rows.kept = self.tables.setdefault(rows.table, {})

    def keep(self, rows: Iterable[Rows[Any]]) -> None:
        """Remember what a transaction knew at its end."""
        for one in rows:
            kept = self.tables.get(one.table)
            if kept is None:
                continue
            if len(kept) > _KNOWN_MAX:
                kept.clear()
            kept.update(
                {
                    key: known
                    for key, known in one.known.items()
                    if known is not None and len(known[1]) <= _REMEMBERED_BYTES_MAX
                }
            )


class Rows(Generic[R]):
    """The rows of one table in one transaction."""

    __slots__ = ("changed", "held", "kept", "known", "known_max", "table")

    def __init__(self, table: Table[R], memory: Memory) -> None:
        self.table = table
        self.kept = memory.of(table)
        self.held = not any(index.unique for index in table.indexes)
        self.known: dict[Key, Known | None] = {}  # None: it is not there
        self.changed: dict[Key, Known | None] = {}  # those that are held back, as the engine has them
        self.known_max = _KNOWN_MAX

    def remember(self, key: Key, known: Known) -> Known:
        """Keep a row that has been read or written; not too many, but every one that is held back."""
        if len(self.known) >= self.known_max:
            self.known = {key: self.known[key] for key in self.changed}
            self.known_max = _KNOWN_MAX + 2 * len(self.known)
        self.known[key] = known
        return known

    def take_back(self, key: Key, before: Known | None, first: bool) -> None:
        """A change is undone; ``first``: it was the first since the engine was given this row."""
        if first:
            del self.changed[key]
            self.known.pop(key, None)
        else:
            self.known[key] = before

    def forget(self) -> None:
        """Know nothing any more but what is held back."""
        self.known = {key: self.known[key] for key in self.changed}

    def take(self) -> tuple[dict[Key, Known | None], list[Writes]]:
        """What was held back, and the writes that give it to the engine: the table's own, then each index's."""
        changed, self.changed = self.changed, {}
        own = Writes(self.table.name)
        rows: list[tuple[Known | None, Known | None]] = []
        known = self.known
        for key, before in changed.items():
            now = known[key]
            if now is before:
                continue
            rows.append((before, now))
            if before is None:
                assert now is not None
                own.new.append((now[3], now[1]))
            elif now is None:
                own.gone.append((before[3], before[1]))
            elif now[1] != before[1]:
                own.other.append((now[3], now[1], before[1]))
        found = [own, *(_index_writes(index, rows) for index in self.table.indexes)]
        return changed, [writes for writes in found if writes.new or writes.other or writes.gone]


class RowsByTable(dict[Table[Any], Rows[Any]]):
    """The rows of each table, which begin when they are asked for."""

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory

    def __missing__(self, table: Table[Any]) -> Rows[Any]:
        rows = self[table] = Rows(table, self._memory)
        return rows


class Writes:
    """What one database of the engine is given."""

    __slots__ = ("gone", "name", "new", "other")

    def __init__(self, name: str) -> None:
        self.name = name
        self.new: list[tuple[bytes, bytes]] = []
        self.other: list[tuple[bytes, bytes, bytes]] = []  # key, value, the value before
        self.gone: list[tuple[bytes, bytes]] = []  # key, the value before


def _index_writes(index: Index[Any], rows: Sequence[tuple[Known | None, Known | None]]) -> Writes:
    out = Writes(index.name)
    keys, encoded = index.keys, index.encoded
    for before, now in rows:
        old = () if before is None else keys(before[0])
        new = () if now is None else keys(now[0])
        if old == new:
            continue
        primary = (now or before)[3]  # type: ignore[index]
        if not old:
            out.new += [(entry, primary) for entry in dict.fromkeys(encoded(new, primary))]
        elif not new:
            out.gone += [(entry, primary) for entry in dict.fromkeys(encoded(old, primary))]
        else:
            was, is_ = set(encoded(old, primary)), set(encoded(new, primary))
            out.gone += [(entry, primary) for entry in was - is_]
            out.new += [(entry, primary) for entry in is_ - was]
    return out
