"""Whether tables and indexes agree with each other, for any table: nothing here knows what a record means.

A table is right when every value is a record, lies under its own key, and is found under exactly its entries in each
index. Those who look further read through :func:`readable` and :func:`find`, which pass over what cannot be read, so
that one broken record is told once and hides nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from nova_fast.model.base import Record
from nova_fast.state.reader import Reader
from nova_fast.state.table import Index, Key, Table

R = TypeVar("R", bound=Record)


class Disagreement(msgspec.Struct, frozen=True):
    """One thing that is wrong in a table or one of its indexes."""

    key: str
    sentence: str


def readable(reader: Reader, table: Table[R], *prefix: str | int) -> Iterator[R]:
    """The records that can be read, in the order of their keys."""
    begin = table.primary(prefix) if prefix else b""
    for _key, raw in reader.raw(table.name, begin):
        record = _decode(table, raw)
        if record is not None:
            yield record


def find(reader: Reader, table: Table[R], key: str | Key) -> R | None:
    """The record with this key, if it is there and can be read."""
    raw = _raw(reader, table, key)
    return None if raw is None else _decode(table, raw)


def is_there(reader: Reader, table: Table[Any], key: str | Key) -> bool:
    """Whether something lies under this key, readable or not."""
    return _raw(reader, table, key) is not None


def disagreements(reader: Reader, table: Table[Any]) -> Iterator[Disagreement]:
    """What is wrong in a table and its indexes, one after the other; memory does not grow with the table."""
    expected: Counter[str] = Counter()
    for key, raw in reader.raw(table.name):
        record = _decode(table, raw)
        if record is None:
            yield Disagreement(shown(key), f"the record {shown(key)} of {table.name} cannot be read")
            continue
        if table.primary(table.key(record)) != key:
            yield Disagreement(shown(key), f"the record {shown(key)} of {table.name} lies under a key that is not its")
        for index in table.indexes:
            entries = index.entries(record, key)
            expected[index.name] += len(entries)
            for entry in entries:
                there = reader.raw_get(index.name, entry)
                if there != key:
                    what = "is missing" if there is None else f"leads to {shown(there)}"
                    yield Disagreement(
                        shown(key), f"the entry of {shown(key)} in the index {index.name} of {table.name} {what}"
                    )
    for index in table.indexes:
        # PERF: when every entry that should be there is there and the count is right, there is no other.
        if reader.raw_size(index.name) != expected[index.name]:
            yield from _strays(reader, index)


def shown(key: bytes) -> str:
    """A key for a person."""
    parts = key.rstrip(b"\0").split(b"\0")
    try:
        return "/".join(part.decode() for part in parts if part)
    except UnicodeDecodeError:
        return key.hex()


def _strays(reader: Reader, index: Index[Any]) -> Iterator[Disagreement]:
    table = index.table
    for entry, primary in reader.raw(index.name):
        raw = reader.raw_get(table.name, primary)
        record = None if raw is None else _decode(table, raw)
        if raw is None:
            yield Disagreement(
                shown(primary), f"the index {index.name} has an entry of {shown(primary)}, which {table.name} lacks"
            )
        elif record is not None and entry not in index.entries(record, primary):
            yield Disagreement(
                shown(primary), f"the index {index.name} has an entry of {shown(primary)} that is not its (any more)"
            )


def _raw(reader: Reader, table: Table[Any], key: str | Key) -> bytes | None:
    try:
        return reader.raw_get(table.name, table.primary(key))
    except ValueError:  # no key can be so
        return None


def _decode(table: Table[R], raw: bytes) -> R | None:
    try:
        return table.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
