"""A disk that forgets: what is left of the writes in a recorder's log when the power goes at some place in it.

What was synced is there. Of every other write each sector, page or whole write may have arrived or not, in any
combination, and so may the new sizes and names of files. Two kinds of disk:

- *honest*: fdatasync carries the size when the file has grown, as POSIX promises.
- *forgetful*: it does not (as ext4 did before Linux 3.6); only fsync does.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECTOR_BYTES = 512
PAGE_BYTES = 4096
_HEADER = struct.Struct("<B7xQQQ")


@dataclass(frozen=True)
class Record:
    """One line of the recorder's log."""

    kind: str
    file: int
    offset: int
    data: bytes


def read_log(path: Path) -> list[Record]:
    """All records, in the order in which they happened."""
    raw, at, found = path.read_bytes(), 0, []
    while at < len(raw):
        kind, file, offset, length = _HEADER.unpack_from(raw, at)
        at += _HEADER.size
        found.append(Record(chr(kind), file, offset, raw[at : at + length]))
        at += length
    return found


@dataclass
class _File:
    """What is certainly on the disk, and what may be."""

    durable: bytearray = field(default_factory=bytearray)
    size: int = 0  # that is certain
    sizes: list[int] = field(default_factory=list)  # that may have arrived, one after the other
    writes: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        self.writes.append((offset, data))
        if offset + len(data) > self.newest_size:
            self.sizes.append(offset + len(data))

    @property
    def newest_size(self) -> int:
        return self.sizes[-1] if self.sizes else self.size

    def keep(self, writes: list[tuple[int, bytes]]) -> None:
        for offset, data in writes:
            _put(self.durable, offset, data)

    def synced(self, *, with_size: bool) -> None:
        self.keep(self.writes)
        self.writes.clear()
        if with_size:
            self.size = self.newest_size
            self.sizes.clear()

    def left(self, chance: random.Random) -> bytes:
        """What a reader finds after the cut."""
        content = bytearray(self.durable)
        likely = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        unit = chance.choice((SECTOR_BYTES, PAGE_BYTES, 1 << 30))
        for offset, data in self.writes:
            for begin, end in _pieces(offset, len(data), unit):
                if chance.random() < likely:
                    _put(content, begin, data[begin - offset : end - offset])
        size = chance.choice((self.size, self.newest_size, *self.sizes[-3:]))
        return bytes(content[:size].ljust(size, b"\0"))


class Disk:
    """Plays a log up to a place, and can be asked at each what would be left if the power went there."""

    def __init__(self, *, forgetful: bool) -> None:
        self._forgetful = forgetful
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}  # that are certain
        self._renames: list[tuple[str, int]] = []  # that may have arrived
        self.marks: list[dict[str, Any]] = []

    def play(self, record: Record) -> None:
        """Take one record."""
        kind, file = record.kind, self._files.setdefault(record.file, _File())
        if kind == "W":
            file.write(record.offset, record.data)
        elif kind == "S":
            file.sizes.append(record.offset)
        elif kind == "D":
            self._synced(record.file, with_size=not self._forgetful)
        elif kind == "F":
            self._synced(record.file, with_size=True)
        elif kind == "O":  # the write before this, and no other, was synced by itself
            file.keep([file.writes.pop()])
        elif kind == "R":
            self._renames.append((record.data.decode(), record.file))
        elif kind == "P":
            self._named(None)
        elif kind == "M":
            self.marks.append(json.loads(record.data))

    def _synced(self, file: int, *, with_size: bool) -> None:
        self._files[file].synced(with_size=with_size)
        if with_size:  # ext4: the journal that carries a new file's size carries its name
            self._named(file)

    def _named(self, file: int | None) -> None:
        """The names of a file, or all, are certain now."""
        for name, inode in self._renames:
            if file in (None, inode):
                self._names = {known: other for known, other in self._names.items() if other != inode}
                self._names[name] = inode
        self._renames = [(name, inode) for name, inode in self._renames if file not in (None, inode)]

    def cut(self, chance: random.Random) -> dict[str, bytes]:
        """The files that are left, by name."""
        names = dict(self._names)
        for name, inode in self._renames[: chance.randint(0, len(self._renames))]:
            names = {known: other for known, other in names.items() if other != inode}
            names[name] = inode
        return {name: self._files[inode].left(chance) for name, inode in names.items()}

    def whole(self) -> dict[str, bytes]:
        """The files as the writer sees them."""
        names = dict(self._names)
        for name, inode in self._renames:
            names = {known: other for known, other in names.items() if other != inode}
            names[name] = inode
        found = {}
        for name, inode in names.items():
            file = self._files[inode]
            content = bytearray(file.durable)
            for offset, data in file.writes:
                _put(content, offset, data)
            found[name] = bytes(content[: file.newest_size].ljust(file.newest_size, b"\0"))
        return found


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _pieces(offset: int, length: int, unit: int) -> Iterator[tuple[int, int]]:
    """The parts of a write that arrive as one: they end where a unit ends."""
    at, end = offset, offset + length
    while at < end:
        until = min(end, (at // unit + 1) * unit)
        yield at, until
        at = until
