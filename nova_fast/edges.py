"""What a daemon takes from outside its process besides files: the clocks, random bytes, and the wire.

Everything that waits goes through the event loop. So whoever gives a daemon another loop and other edges has all of it
in his hands, and can play it again: that is what ``tests/simulation`` does with the production code of every daemon.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import msgspec
import zmq

#: How a ZeroMQ context is typed here: its sockets carry plain frames.
Context = zmq.Context[zmq.Socket[bytes]]

_SOCKETS_SPARE = 64  # one that is made anew is there before the old one has gone


def wall_clock_us() -> int:
    """This machine's wall clock, Unix microseconds."""
    return time.time_ns() // 1000


def end_context(context: Context) -> None:
    """Wait until what was sent has left, as long as its sockets linger, and end."""
    context.term()


class Edges(msgspec.Struct, frozen=True, kw_only=True):
    """The outside of one process."""

    now_us: Callable[[], int] = wall_clock_us  # may be set by anybody at any time
    monotonic_s: Callable[[], float] = time.monotonic  # the event loop's clock
    entropy: Callable[[int], bytes] = os.urandom  # so many random bytes
    new_context: Callable[[], Context] = zmq.Context
    end_context: Callable[[Context], None] = end_context


#: The real outside.
REAL = Edges()


@contextlib.contextmanager
def shared_wire(peers: int) -> Iterator[Edges]:
    """The outside of a process with many peers: one context for all of them.

    PERF: each context has two threads.
    """
    context: Context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, peers + _SOCKETS_SPARE)
    try:
        yield msgspec.structs.replace(REAL, new_context=lambda: context, end_context=lambda _context: None)
    finally:
        context.term()
