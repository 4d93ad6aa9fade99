"""How a frame looks.

One ZeroMQ frame carries one message: a header of 26 bytes (version, kind, id, deadline; big-endian), then a msgpack
body::

    0        1      2            18             26
    +--------+------+------------+--------------+---------
    | version| kind | id (16 B)  | deadline µs  | body …
    +--------+------+------------+--------------+---------

The id names the call in CALL and REPLY. In the event frames it holds two numbers, the subscription and the batch.
The deadline is of the hub's monotonic clock in microseconds (0 = none); a peer learns the difference to its own from
the WELCOME. So machines agree on how long a call may take, however their wall clocks disagree or are set meanwhile.

The conversation: the peer says HELLO (who I am), the hub answers WELCOME, REFUSED or REPLACED. To anything else from a
link it does not know the hub answers WHO, and the peer says HELLO again: that is how both find each other after either
was restarted. PING says only "alive"; BYE says "I am leaving".

Frames that leave for one peer in the same turn of the loop travel as one, JOINED, whose body is a list of them: sending
and receiving, the wake-up of ZeroMQ's thread and the encryption are done once for all. Only to a peer that says in its
HELLO or WELCOME that it reads them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from nova_fast.model.base import Value
from nova_fast.model.errors import Failure

VERSION: Final = 1  # of the header
PROTOCOL: Final = 2  # of the conversation and its messages

HELLO: Final = 1
WELCOME: Final = 2
WHO: Final = 3
REFUSED: Final = 4
REPLACED: Final = 5
PING: Final = 6
BYE: Final = 7
CALL: Final = 10
REPLY: Final = 11
JOINED: Final = 12
SUBSCRIBE: Final = 20
EVENTS: Final = 21
EVENTS_ACK: Final = 22
GAP: Final = 23

KINDS: Final = frozenset(
    (HELLO, WELCOME, WHO, REFUSED, REPLACED, PING, BYE, CALL, REPLY, JOINED, SUBSCRIBE, EVENTS, EVENTS_ACK, GAP)
)

HEADER: Final = struct.Struct(">BB16sQ")
HEADER_BYTES: Final = HEADER.size
ID_BYTES: Final = 16
NO_ID: Final = bytes(ID_BYTES)
#: Of a JOINED frame; a larger frame travels alone.
JOINED_BYTES_MAX: Final = 1 << 16
JOINED_MAX: Final = 32
_NUMBERS: Final = struct.Struct(">QQ")
_DEADLINE_US_MAX: Final = 2**64 - 1

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}([.@][A-Za-z0-9][A-Za-z0-9._-]{0,190})?")

Parsed = tuple[int, bytes, int, memoryview]  # kind, id, deadline_us, body


class Hello(Value, frozen=True):
    """peer → hub: who I am."""

    name: str
    session: bytes  # 16 random bytes, new at every process start
    protocol: int
    joined: bool = False  # JOINED frames can be read


class Welcome(Value, frozen=True):
    """hub → peer: you are in."""

    session: bytes  # of the hub
    credits: int  # calls either side may have under way
    heartbeat_s: float
    down_after_s: float
    clock_us: int  # the hub's monotonic clock
    joined: bool = False  # JOINED frames can be read


class Refused(Value, frozen=True):
    """hub → peer: you are not let in, and why."""

    failure: Failure


class Position(Value, frozen=True):
    """A place in the event stream: everything up to and with this generation is known."""

    generation: int


class Pace(Value, frozen=True):
    """hub → peer, in a PING: over how long those who lose the hub are to spread when they come back."""

    spread_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0


PACE_DECODER = msgspec.msgpack.Decoder(Pace)
HELLO_DECODER = msgspec.msgpack.Decoder(Hello)
WELCOME_DECODER = msgspec.msgpack.Decoder(Welcome)
REFUSED_DECODER = msgspec.msgpack.Decoder(Refused)
POSITION_DECODER = msgspec.msgpack.Decoder(Position)
EVENTS_DECODER = msgspec.msgpack.Decoder(list[tuple[int, bytes]])
_JOINED_DECODER: msgspec.msgpack.Decoder[list[bytes]] = msgspec.msgpack.Decoder(
    Annotated[list[bytes], msgspec.Meta(max_length=JOINED_MAX)]
)
_JOINED_ENCODER = msgspec.msgpack.Encoder()
_JOINED_HEADER: Final = HEADER.pack(VERSION, JOINED, NO_ID, 0)


def pack(kind: int, call_id: bytes = NO_ID, deadline_us: int = 0, body: bytes = b"") -> bytes:
    """A frame. ``deadline_us`` is of the hub's monotonic clock, 0 = none."""
    assert len(call_id) == ID_BYTES, "an id has 16 bytes"
    assert deadline_us >= 0
    return HEADER.pack(VERSION, kind, call_id, min(deadline_us, _DEADLINE_US_MAX)) + body


def restamp(frame: bytes, deadline_us: int) -> bytes:
    """The same frame with another deadline."""
    version, kind, call_id, _ = HEADER.unpack_from(frame)
    return HEADER.pack(version, kind, call_id, min(max(1, deadline_us), _DEADLINE_US_MAX)) + frame[HEADER_BYTES:]


def parse(frame: bytes) -> Parsed | None:
    """Kind, id, deadline and body of a frame; ``None`` for one that cannot be read."""
    if len(frame) < HEADER_BYTES:
        return None
    version, kind, call_id, deadline_us = HEADER.unpack_from(frame)
    if version != VERSION or kind not in KINDS:
        return None
    return kind, call_id, deadline_us, memoryview(frame)[HEADER_BYTES:]


def join(frames: list[bytes]) -> bytes:
    """Several frames as one; not more than JOINED_MAX, of not more than JOINED_BYTES_MAX in all."""
    return _JOINED_HEADER + _JOINED_ENCODER.encode(frames)


def is_joined(frame: bytes) -> bool:
    """Whether :func:`split` is to be asked."""
    return frame.startswith(_JOINED_HEADER)


def split(frame: bytes) -> list[bytes] | None:
    """The frames of a JOINED one; ``None`` when it cannot be read.

    SAFETY: its size is bounded, or a small frame would become millions of objects.
    """
    if len(frame) > 2 * JOINED_BYTES_MAX:
        return None
    try:
        return _JOINED_DECODER.decode(memoryview(frame)[HEADER_BYTES:])
    except msgspec.MsgspecError:
        return None


def read_hello(body: memoryview) -> Hello | None:
    """The HELLO in a body; ``None`` when there is none."""
    try:
        return HELLO_DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def pack_numbers(subscription: int, batch: int) -> bytes:
    """The id of an event frame."""
    return _NUMBERS.pack(subscription, batch)


def unpack_numbers(call_id: bytes) -> tuple[int, int]:
    """Subscription and batch of an event frame."""
    subscription, batch = _NUMBERS.unpack(call_id)
    return subscription, batch


def valid_name(name: str) -> bool:
    """Whether a peer may be called so: ``scheduler``, ``api.0``, ``compute@host1``."""
    return _NAME.fullmatch(name) is not None


class CallIds:
    """Ids that no other process makes: 8 random bytes and a counter."""

    __slots__ = ("_count", "_prefix")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._prefix = entropy(8)
        self._count = 0

    def next(self) -> bytes:
        """A new id of 16 bytes."""
        self._count += 1
        return self._prefix + self._count.to_bytes(8, "big")
