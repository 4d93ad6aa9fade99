"""ZeroMQ sockets on the event loop, without a thread or a future between.

A ZeroMQ socket has one file descriptor that becomes readable when *something* changed. It is edge-triggered: whoever
wakes must receive until nothing is left, and must look again after every send, because sending may have consumed the
edge. :class:`FdSocket` keeps that rule; what it receives goes to one plain function.

:class:`Outbox` is the way out. A send never blocks: what the peer's pipe does not take is kept, up to a bound, and
offered again; what is over the bound is dropped and counted, and the call it belonged to is resent later. What is put
in during one turn of the loop leaves at its end (:class:`Departures`), joined to one frame.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

import zmq

from nova_fast.hub import wire
from nova_fast.hub.limits import Counters, Limits
from nova_fast.hub.queues import EMPTY, with_room

_log = logging.getLogger(__name__)

_DONTWAIT = int(zmq.DONTWAIT)
_DONTWAIT_MORE = int(zmq.DONTWAIT | zmq.SNDMORE)
_EVENTS = int(zmq.EVENTS)
_POLLIN = int(zmq.POLLIN)
_POLLOUT = int(zmq.POLLOUT)

DRAIN_BUDGET = 128  # messages received before the loop gets its turn
_FLUSH_DELAY_S_MIN = 0.002
_FLUSH_DELAY_S_MAX = 0.1


class FdSocket:
    """A socket whose ``drain`` function is called whenever there may be something to receive.

    ``drain(budget)`` receives until :class:`zmq.Again` (returns False) or until the budget is used up (returns True);
    a drain that has kept something back for its next turn returns True as well;
    ``after()`` follows each drain, and then what is in ``departures`` leaves. Whoever sends says so with :meth:`sent`.
    """

    __slots__ = (
        "_after",
        "_busy",
        "_closed",
        "_departures",
        "_drain",
        "_fd",
        "_kicked",
        "_loop",
        "_more",
        "_sent",
        "socket",
    )

    def __init__(
        self,
        socket: zmq.Socket[bytes],
        drain: Callable[[int], bool],
        after: Callable[[], None] | None = None,
        departures: Departures | None = None,
    ) -> None:
        self.socket = socket
        self._drain = drain
        self._after = after
        self._departures = departures or Departures()
        self._departures.wake = self._owed
        self._busy = False  # whoever sends now need not say so: it is looked at afterwards
        self._sent = False  # meanwhile
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
        """Something was sent, which may have consumed the edge."""
        self._sent = True
        if not self._busy:
            self.kick()

    def _owed(self) -> None:
        if not self._busy:
            self.kick()

    def _on_kick(self) -> None:
        self._kicked = False
        if self._closed:
            return
        self._busy = True
        try:
            self._departures.leave()
        finally:
            self._busy = False
        if self._more or self._has_more():
            self._on_readable()

    def _has_more(self) -> bool:
        # PERF: asking for EVENTS costs half of a receive that finds nothing (2.2 against 4.8 µs).
        return not self._closed and bool(int(self.socket.get(_EVENTS)) & _POLLIN)

    def takes_more(self) -> bool:
        """Whether a frame could be sent now: a DEALER is connected, and what was sent before has left or can wait."""
        events = int(self.socket.get(_EVENTS))
        self._more |= bool(events & _POLLIN)  # asking uses up the edge
        return bool(events & _POLLOUT)

    def _on_readable(self) -> None:
        if self._closed:
            return
        self._more = True
        self._busy = True
        try:
            self._more = self._drain(DRAIN_BUDGET)
        except Exception:  # noqa: BLE001 - logged or answered, never fatal to others
            _log.exception("a received message could not be handled")
        try:
            self._sent = False  # the drain has looked after what it sent
            if self._after is not None:
                self._after()
            self._departures.leave()
        finally:
            self._busy = False
        if self._more or (self._sent and self._has_more()):
            self._more = True
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


class Departures:
    """Outboxes in which frames were put in this turn of the loop: all leave when it ends.

    PERF: a call of 64 under way costs both ends together half of what it costs with a ZeroMQ message of its own.
    """

    __slots__ = ("_frames", "_outboxes", "wake")

    def __init__(self) -> None:
        self.wake: Callable[[], None] | None = None  # called once a turn: something is to leave
        self._outboxes: list[Outbox] = []
        self._frames = 0

    def owe(self, outbox: Outbox) -> None:
        """An outbox has its first frame of this turn."""
        if not self._outboxes and self.wake is not None:
            self.wake()
        self._outboxes.append(outbox)

    def count(self) -> None:
        """One more frame. None waits for the work behind more than some others."""
        self._frames += 1
        if self._frames >= wire.JOINED_MAX:
            self.leave()

    def leave(self) -> None:
        """Send everything."""
        outboxes, self._outboxes = self._outboxes, []
        self._frames = 0
        for outbox in outboxes:
            outbox.leave()


class Outbox:
    """Frames on their way to one peer, in order."""

    __slots__ = (
        "_bytes",
        "_counters",
        "_delay_s",
        "_departures",
        "_frames",
        "_frames_max",
        "_gathered",
        "_send",
        "_timer",
        "joins",
    )

    def __init__(
        self, send: Callable[[bytes], Sent], limits: Limits, counters: Counters, departures: Departures
    ) -> None:
        self._send = send
        self.joins = False  # the peer reads JOINED frames
        self._departures = departures
        self._gathered: list[bytes] | None = None  # since the turn of the loop began
        self._bytes = 0  # of them
        self._frames: deque[bytes] = EMPTY
        self._frames_max = limits.outbox_frames_max
        self._counters = counters
        self._timer: asyncio.TimerHandle | None = None
        self._delay_s = _FLUSH_DELAY_S_MIN

    @property
    def stuck(self) -> bool:
        """Whether the peer has not taken all frames."""
        return bool(self._frames)

    def put(self, frame: bytes) -> None:
        """Send at the end of this turn if the pipe takes it then, else keep it; never blocks, never raises."""
        if not self.joins:
            self._put(frame)
            return
        gathered = self._gathered
        if gathered is not None:
            self._bytes += len(frame)
            if self._bytes <= wire.JOINED_BYTES_MAX:
                gathered.append(frame)
                self._departures.count()
                return
            self.leave()
        self._gathered = [frame]
        self._bytes = len(frame)
        self._departures.owe(self)
        self._departures.count()

    def leave(self) -> None:
        """Send what was put in since the turn of the loop began."""
        gathered, self._gathered = self._gathered, None
        if gathered is not None:
            self._put(gathered[0] if len(gathered) == 1 else wire.join(gathered))

    def _put(self, frame: bytes) -> None:
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
        self.leave()
        return not self._frames and self._send(frame) is Sent.OK

    def clear(self) -> None:
        """Forget what has not left: the link is gone, and calls are resent on the next one."""
        self._gathered = None
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
