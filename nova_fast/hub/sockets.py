"""ZeroMQ sockets on the event loop, without a thread or a future between.

A ZeroMQ socket has one file descriptor that becomes readable when *something* changed. It is edge-triggered: whoever
wakes must receive until nothing is left, and must look again after every send, because sending may have consumed the
edge. :class:`FdSocket` keeps that rule; what it receives goes to one plain function.

:class:`Outbox` is the way out. A send never blocks: what the peer's pipe does not take is kept, up to a bound, and
offered again; what is over the bound is dropped and counted, and the call it belonged to is resent later.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

import zmq

from nova_fast.hub.limits import Counters
from nova_fast.hub.queues import EMPTY, with_room

_log = logging.getLogger(__name__)

_DONTWAIT = int(zmq.DONTWAIT)
_DONTWAIT_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)

DRAIN_BUDGET = 128  # messages received before the loop gets its turn
_FLUSH_DELAY_S_MIN = 0.002
_FLUSH_DELAY_S_MAX = 0.1


class FdSocket:
    """A socket whose ``drain`` function is called whenever there may be something to receive.

    ``drain(budget)`` receives until :class:`zmq.Again` (returns False) or until the budget is used up (returns True);
    a drain that has kept something back for its next turn returns True as well;
    ``after()`` follows each drain. Whoever sends says so with :meth:`sent`.
    """

    __slots__ = ("_after", "_closed", "_drain", "_draining", "_fd", "_kicked", "_loop", "_more", "socket")

    def __init__(
        self, socket: zmq.Socket[bytes], drain: Callable[[int], bool], after: Callable[[], None] | None = None
    ) -> None:
        self.socket = socket
        self._drain = drain
        self._after = after
        self._draining = False
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.get(zmq.FD))
        self._kicked = False
        self._more = False  # the last drain left something, maybe in its owner's hands
        self._closed = False
        self._loop.add_reader(self._fd, self._on_readable)
        self.kick()

    def kick(self) -> None:
        """Look at the socket again in the next turn of the loop."""
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._on_kick)

    def sent(self) -> None:
        """Something was sent, which may have consumed the edge; a drain that is under way will see what is left."""
        if not self._draining:
            self.kick()

    def _on_kick(self) -> None:
        self._kicked = False
        # PERF: asking for EVENTS costs half of a receive that finds nothing (2.2 against 4.8 µs).
        if not self._closed and (self._more or int(self.socket.get(_EVENTS)) & _POLLIN):
            self._on_readable()

    def _on_readable(self) -> None:
        if self._closed:
            return
        self._more = True
        self._draining = True
        try:
            self._more = self._drain(DRAIN_BUDGET)
        except Exception:  # noqa: BLE001 - logged or answered, never fatal to others
            _log.exception("a received message could not be handled")
        finally:
            self._draining = False
        if self._after is not None:
            self._after()
        if self._more and not self._closed:
            self.kick()

    def close(self, linger_ms: int) -> None:
        """Leave the loop and close the socket; what was sent may still leave within ``linger_ms``."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self.socket.close(linger_ms)


class Sent(enum.Enum):
    """What became of one attempt to send."""

    OK = 0
    FULL = 1  # the pipe takes no more now
    GONE = 2  # there is no link


class Outbox:
    """Frames on their way to one peer, in order."""

    __slots__ = ("_counters", "_delay_s", "_frames", "_frames_max", "_send", "_timer")

    def __init__(self, send: Callable[[bytes], Sent], frames_max: int, counters: Counters) -> None:
        self._send = send
        self._frames: deque[bytes] = EMPTY
        self._frames_max = frames_max
        self._counters = counters
        self._timer: asyncio.TimerHandle | None = None
        self._delay_s = _FLUSH_DELAY_S_MIN

    @property
    def stuck(self) -> bool:
        """Whether the peer has not taken all frames."""
        return bool(self._frames)

    def put(self, frame: bytes) -> None:
        """Send now if the pipe takes it, else keep it; never blocks, never raises."""
        if not self._frames:
            sent = self._send(frame)
            if sent is Sent.OK:
                return
            if sent is Sent.GONE:
                self._counters.unreachable += 1
                return
        if len(self._frames) >= self._frames_max:
            self._counters.dropped += 1
            return
        self._frames = with_room(self._frames)
        self._frames.append(frame)
        self._arm()

    def offer(self, frame: bytes) -> bool:
        """Send now or not at all; whether it left."""
        return not self._frames and self._send(frame) is Sent.OK

    def clear(self) -> None:
        """Forget what has not left: the link is gone, and calls are resent on the next one."""
        self._frames.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self._flush)

    def _flush(self) -> None:
        self._timer = None
        progress = False
        while self._frames:
            sent = self._send(self._frames[0])
            if sent is Sent.FULL:
                break
            if sent is Sent.GONE:
                self._counters.unreachable += len(self._frames)
                self._frames.clear()
                return
            self._frames.popleft()
            progress = True
        self._delay_s = _FLUSH_DELAY_S_MIN if progress else min(self._delay_s * 2, _FLUSH_DELAY_S_MAX)
        if self._frames:
            self._arm()


#: How a socket sends one part, without waiting when told so.
SendPart = Callable[[bytes, int], object]


def part_sender(socket: zmq.Socket[bytes]) -> SendPart:
    """How to send on this socket.

    PERF: past pyzmq's wrapper, which looks for options that no frame of ours has: 1.3 µs for two parts, not 2.6.
    """
    real: object = socket  # the simulator's is none
    return cast(SendPart, super(zmq.Socket, socket).send if isinstance(real, zmq.Socket) else socket.send)


def send_frame(send: SendPart, frame: bytes) -> Sent:
    """Send on a DEALER, without waiting."""
    try:
        send(frame, _DONTWAIT)
    except zmq.Again:
        return Sent.FULL
    return Sent.OK


def send_routed(send: SendPart, route: bytes, frame: bytes) -> Sent:
    """Send on a ROUTER (which must have ROUTER_MANDATORY), without waiting."""
    try:
        send(route, _DONTWAIT_MORE)
        send(frame, _DONTWAIT)
    except zmq.Again:
        return Sent.FULL
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
        return Sent.GONE
    return Sent.OK
