"""The two kinds of Struct everything else is made of."""

import msgspec


class Record(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the store keeps.

    Encoded as a msgpack array, so the order of the fields is the format: append new fields with a default at the
    end, never insert, reorder or remove (``tests/unit/test_record_layout.py`` holds this).
    """


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """What travels through the hub: a msgpack map with the name of its class under ``type``.

    A map and not an array, because a field may be absent (``UNSET``: leave it as it is), and because daemons of two
    releases may meet: a field one of them does not know is passed over, one it misses has its default.
    """


class Value(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A part of a record or a message that is never stored or sent alone."""
