"""What a newer release wrote is kept by an older one: rewriting a record loses nothing that it does not know.

A record from the next release has fields behind the last that this release knows, in itself or in a record inside it
(a server's flavor). It reads as if they were not there; when it is written again they are put back:

* a field whose value has not changed is written again byte by byte, whatever is inside it;
* a record inside a record that has changed keeps the fields behind its last known one;
* what is lost is only the unknown part of the members of a tuple (a port's addresses) that was itself changed, because
  nothing says which old member a new one was.
"""

from __future__ import annotations

import msgspec

_encode = msgspec.msgpack.Encoder().encode
_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def carry_over(new: msgspec.Struct, old: msgspec.Struct, raw: bytes | msgspec.Raw) -> bytes:
    """The bytes of a record that replaces ``raw``, which was read as ``old`` and may hold more than it."""
    before, after = _parts(raw), _parts(_encode(new))
    names = new.__struct_fields__
    assert len(after) == len(names), f"{type(new).__name__} is not an array of its fields"
    for position, (name, part) in enumerate(zip(names, before, strict=False)):
        was, now = getattr(old, name), getattr(new, name)
        if was == now:
            after[position] = part
        elif type(was) is type(now) and isinstance(now, msgspec.Struct) and now.__struct_config__.array_like:
            after[position] = msgspec.Raw(carry_over(now, was, part))
    return _encode(after + before[len(names) :])
