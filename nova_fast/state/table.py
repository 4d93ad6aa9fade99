"""What a table and an index are, and how keys become ordered bytes.

A key is a tuple of strings and integers. Strings end in a zero byte and integers are eight big-endian bytes, so the
order of the bytes is the order of the tuples, and a shorter tuple is a prefix of the longer ones it begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from nova_fast.model.base import Record
from nova_fast.state.shown import Shown

R = TypeVar("R", bound=Record)

#: A key, or the first parts of one.
Key = tuple[str | int, ...]

_INT_BYTES = 8
_BIAS = 1 << 63
KEY_BYTES_MAX = 511  # LMDB's limit
_SHORT = KEY_BYTES_MAX // 4 - 1  # characters that are a key, whatever they are
_LARGE = "a number of more than 64 bits in a key"
_NUL = "a NUL character in a key"  # it would end the part too early: ("a\0b",) must not be ("a", "b")


def encode_key(parts: Key) -> bytes:
    """Ordered bytes of a key. Raises ValueError for a key that LMDB could not hold, or that could mean another."""
    try:
        last = parts[-1]
        if type(last) is str and len(parts) == 1 and "\0" not in last:
            out = last.encode() + b"\0"
            if len(out) > KEY_BYTES_MAX:
                raise ValueError(f"a key of {len(out)} bytes")
            return out
        if type(last) is int:
            end, texts = (last + _BIAS).to_bytes(_INT_BYTES, "big"), parts[:-1]
            if not texts:
                return end
        else:
            end, texts = b"", parts
        # PERF: nearly all keys are text, perhaps with a number behind it: 0.2 to 0.6 us, part by part 0.6 to 1.5
        out = ("\0".join(texts) + "\0").encode()  # type: ignore[arg-type]
    except (TypeError, IndexError):
        return _encode_parts(parts)
    except OverflowError:
        raise ValueError(_LARGE) from None
    if out.count(0) != len(texts):
        raise ValueError(_NUL)
    if len(out) + len(end) > KEY_BYTES_MAX:
        raise ValueError(f"a key of {len(out) + len(end)} bytes")
    return out + end


def _encode_parts(parts: Key) -> bytes:
    out = b"".join([_encode_text(part) if isinstance(part, str) else _encode_number(part) for part in parts])
    if not 0 < len(out) <= KEY_BYTES_MAX:
        raise ValueError(f"a key of {len(out)} bytes")
    return out


def _encode_text(part: str) -> bytes:
    if "\0" in part:
        raise ValueError(_NUL)
    return part.encode() + b"\0"


def _encode_number(part: int) -> bytes:
    if not -_BIAS <= part < _BIAS:
        raise ValueError(_LARGE)
    return (part + _BIAS).to_bytes(_INT_BYTES, "big")


def encode_keys(keys: Sequence[Key]) -> list[bytes]:
    """Ordered bytes of several keys. Raises ValueError as :func:`encode_key` does.

    PERF: keys of text are checked together and not one by one, others are looked at once if they are the same: a
    fifth of a request for many servers.
    """
    try:
        texts = ["\0".join(key) for key in keys]  # type: ignore[arg-type]
    except TypeError:  # numbers among them
        known: dict[Key, bytes] = {}
        for key in keys:
            if key not in known:
                known[key] = encode_key(key)
        return [known[key] for key in keys]
    nulls = sum(map(len, keys)) - len(keys)
    if "\1".join(texts).count("\0") != nulls or max(map(len, texts), default=0) > _SHORT:
        return [encode_key(key) for key in keys]
    return [(text + "\0").encode() for text in texts]


def text_parts(key: bytes) -> list[str]:
    """The parts of a key all of whose parts are text."""
    return key.decode().split("\0")[:-1]


def descending(at_us: int) -> int:
    """A number that sorts the other way round: newest first."""
    return -at_us


class Index(Generic[R]):
    """Other ways to find the records of a table.

    ``keys`` gives the keys under which a record is found (none, one or several). In a unique index each key leads to
    one record; in any other the record's own key is appended to tell equal keys apart.
    """

    __slots__ = ("keys", "name", "table", "unique")

    def __init__(self, table: Table[R], name: str, keys: Callable[[R], Sequence[Key]], *, unique: bool = False) -> None:
        self.table = table
        self.name = name
        self.keys = keys
        self.unique = unique
        table.indexes.append(self)

    def entries(self, record: R, primary: bytes) -> set[bytes]:
        """The encoded index keys of a record."""
        return set(self.encoded(self.keys(record), primary))

    def encoded(self, keys: Iterable[Key], primary: bytes) -> list[bytes]:
        """The encoded index keys for keys of a record; what is there twice is there twice."""
        return [encode_key(key) if self.unique else encode_key(key) + primary for key in keys]

    def pairs(self, rows: Sequence[tuple[bytes, R]]) -> list[tuple[bytes, bytes]]:
        """The encoded index keys of many records, each with the record's own, by which they are given."""
        keys, found, owners = self.keys, list[Key](), list[bytes]()
        for primary, record in rows:
            own = keys(record)
            for key in own if len(own) < 2 else dict.fromkeys(own):
                found.append(key)
                owners.append(primary)
        encoded = encode_keys(found)
        if self.unique:
            return list(zip(encoded, owners, strict=True))
        return [(key + primary, primary) for key, primary in zip(encoded, owners, strict=True)]


class Table(Generic[R]):
    """Records of one type by their key."""

    __slots__ = ("decode", "identity", "indexes", "key", "name", "shown", "type")

    def __init__(
        self,
        name: str,
        type_: type[R],
        key: Callable[[R], Key],
        *,
        identity: bool = False,
        shown: Shown[R] | None = None,
    ) -> None:
        self.name = name
        self.type = type_
        self.key = key
        self.identity = identity  # a change bumps the identity generation, which empties the token caches
        self.shown = shown  # what servers show of it
        self.indexes: list[Index[R]] = []
        self.decode: Callable[[Any], R] = msgspec.msgpack.Decoder(type_).decode

    def primary(self, key: str | Key) -> bytes:
        """The encoded key of a record, from the key's parts."""
        return encode_key((key,) if isinstance(key, str) else key)
