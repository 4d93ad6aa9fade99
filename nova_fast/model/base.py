"""The two kinds of Struct everything else is made of."""

import msgspec


class Record(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What the store keeps.

    Encoded as a msgpack array, so the order of the fields is the format: append new fields with a default at the
    end, never insert, reorder or remove (``tests/unit/test_record_layout.py`` holds this).
    """


class Message(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag=True):
    """What travels through the hub: a msgpack array that begins with the name of its class."""


class Value(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A part of a record or a message that is never stored or sent alone."""
