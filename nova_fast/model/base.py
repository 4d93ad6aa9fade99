"""The kinds of Struct everything else is made of.

PERF: none of them is the collector's business (``gc=False``): each is made of data that was there before it and never
changes, so none can be part of a cycle. A conductor under a crowd stood still, every 10,000 servers or so, while the
collector looked at the records of its batches.
"""

import msgspec


class Record(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """What the store keeps.

    Encoded as a msgpack array, so the order of the fields is the format: append new fields with a default at the
    end, never insert, reorder or remove (``tests/unit/test_record_layout.py`` holds this).
    """


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True, gc=False):
    """What travels through the hub: a msgpack map with the name of its class under ``type``.

    A map and not an array, because a field may be absent (``UNSET``: leave it as it is), and because daemons of two
    releases may meet: a field one of them does not know is passed over, one it misses has its default.
    """


class Value(msgspec.Struct, frozen=True, array_like=True, kw_only=True, gc=False):
    """A part of a record or a message that is never stored or sent alone."""
