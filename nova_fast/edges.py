"""What a daemon takes from outside its process besides files: the clocks, random bytes, and the wire.

Everything that waits goes through the event loop. So whoever gives a daemon another loop and other edges has all of it
in his hands, and can play it again: that is what ``tests/simulation`` does with the production code of every daemon.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import msgspec
import zmq

#: How a ZeroMQ context is typed here: its sockets carry plain frames.
Context = zmq.Context[zmq.Socket[bytes]]


def wall_clock_us() -> int:
    """This machine's wall clock, Unix microseconds."""
    return time.time_ns() // 1000


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """The outside of one process."""

    now_us: Callable[[], int] = wall_clock_us  # may be set by anybody at any time
    monotonic_s: Callable[[], float] = time.monotonic  # the event loop's clock
    entropy: Callable[[int], bytes] = os.urandom  # so many random bytes
    new_context: Callable[[], Context] = zmq.Context


#: The real outside.
REAL = Edges()
