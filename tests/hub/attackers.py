"""Peers that keep no rule, each in a process of its own: plain sockets that speak the wire as they like.

They come with a valid name (and over tcp a valid key), because others do not get far enough to do harm.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import zmq

from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER
from nova_fast.model.tasks import ServiceReport
from tests.hub.hub_host import Place

REPORT = ENCODER.encode(ServiceReport(name="flood", binary="b", host="h", zone="z"))
HUGE_BYTES = 4 << 20
BURST = 8192  # frames between two looks at the answers: more than any honest peer has under way


def hello(name: str, session: bytes) -> bytes:
    return wire.pack(wire.HELLO, body=ENCODER.encode(wire.Hello(name=name, session=session, protocol=wire.PROTOCOL)))


def subscribe(number: int, generation: int = 0) -> bytes:
    return wire.pack(
        wire.SUBSCRIBE, wire.pack_numbers(number, 0), 0, ENCODER.encode(wire.Position(generation=generation))
    )


class Attacker:
    """One connection at a time, under one name."""

    def __init__(self, place: Place) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._place = place
        self._name = ""
        self._session = b""
        self._socket: zmq.Socket[bytes] | None = None

    def _connect(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        keys = self._place.peer_keys()
        if keys is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server_public)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
            socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
        socket.connect(self._place.address)
        return socket

    def enter(self, name: str) -> bool:
        """Connect anew, say HELLO and wait for the WELCOME."""
        if self._socket is not None:
            self._socket.close(0)
        self._name = name
        self._session = os.urandom(wire.ID_BYTES)
        self._socket = self._connect()
        self._socket.send(hello(name, self._session))
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self._socket.poll(200) and self._socket.recv()[1] == wire.WELCOME:
                return True
        return False

    def flood(self, kind: str, seconds: float, reads: bool) -> int:
        """Send frames of this kind as fast as the socket takes them; how many it took."""
        assert self._socket is not None
        end = time.monotonic() + seconds
        frames = getattr(self, f"_{kind}")()
        sent = 0
        while time.monotonic() < end:
            for _ in range(BURST):
                if time.monotonic() > end or not self._socket.poll(100, zmq.POLLOUT):
                    break
                self._socket.send(next(frames), zmq.DONTWAIT)
                sent += 1
            if reads:
                self._read_all()
        return sent

    def _read_all(self) -> None:
        assert self._socket is not None
        try:
            while True:
                if self._socket.recv(zmq.DONTWAIT)[1] == wire.WHO:
                    self._socket.send(hello(self._name, self._session), zmq.DONTWAIT)
        except zmq.Again:
            return

    def _calls(self) -> Iterator[bytes]:
        ids = wire.CallIds(os.urandom)
        while True:
            yield wire.pack(wire.CALL, ids.next(), 0, REPORT)

    def _garbage(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 10
            yield wire.pack(wire.CALL, body=b"\xc1")
            yield wire.pack(wire.HELLO, body=b"\xc1")

    def _huge(self) -> Iterator[bytes]:
        frame = wire.pack(wire.CALL, body=b"x" * HUGE_BYTES)
        while True:
            yield frame

    def _hellos(self) -> Iterator[bytes]:
        frame = hello(self._name, self._session)
        while True:
            yield frame

    def _sessions(self) -> Iterator[bytes]:
        while True:
            yield hello(self._name, os.urandom(wire.ID_BYTES))

    def _subscriptions(self) -> Iterator[bytes]:
        number = 0
        while True:
            number += 1
            yield subscribe(number)

    def subscribe_and_ping(self, seconds: float) -> None:
        """Ask for events, then say "alive" and never read or acknowledge anything."""
        assert self._socket is not None
        self._socket.send(subscribe(1))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self._socket.poll(100, zmq.POLLOUT):
                self._socket.send(wire.pack(wire.PING), zmq.DONTWAIT)
            time.sleep(0.2)
