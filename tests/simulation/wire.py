"""ZeroMQ's ROUTER and DEALER as the hub uses them, over a network that misbehaves.

A connection is a pipe with two ends. Frames on it arrive late, in order, unless the weather says otherwise: they may
be lost, come twice, or overtake each other. ZeroMQ over TCP promises more than that while a connection holds; the hub
must not need it. Where two machines are parted nothing arrives, and after a while each end finds out, or not.

What the hub does rely on, and what is therefore played to the letter: a pipe that is full refuses (``zmq.Again``), a
route that is gone refuses (EHOSTUNREACH), a DEALER announces itself with an empty frame on every new connection, and
the file descriptor tells of a change once: whoever touches the socket has been told.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from typing import Any

import msgspec
import zmq

from .loop import Process, SimLoop

# PERF: pyzmq's constants are enums and its errors ask for their text when they are made, and every frame needs both.
_FD, _EVENTS, _RCVMORE = int(zmq.FD), int(zmq.EVENTS), int(zmq.RCVMORE)
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)
_SNDMORE, _SNDHWM, _ROUTER, _DEALER = int(zmq.SNDMORE), int(zmq.SNDHWM), int(zmq.ROUTER), int(zmq.DEALER)
_AGAIN = zmq.Again()
_RECONNECT_S = (0.05, 1.0)
_POLL_S = 0.0005  # how late a loop may look at its file descriptors


class Weather(msgspec.Struct):
    """How the network is now."""

    delay_s: float = 0.0005
    lost: float = 0.0  # probabilities, of each frame
    doubled: float = 0.0
    reordered: float = 0.0


class Network:
    """All links, and who may bind which address."""

    def __init__(self, loop: SimLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.weather = Weather()
        self.parted: set[str] = set()  # machines that nothing reaches
        self.listening: dict[str, Socket] = {}
        self.pipes: list[Pipe] = []
        self.fds = itertools.count(1000)
        self.routes = itertools.count(1)

    def new_context(self, machine: str) -> Context:
        """What a process of a machine uses in place of ``zmq.Context()``."""
        return Context(self, machine)

    def part(self, machine: str, notice_s: float) -> None:
        """Nothing goes to or from a machine; both ends of its connections find out within ``notice_s``, apart."""
        self.parted.add(machine)
        for pipe in [pipe for pipe in self.pipes if pipe.far and machine in (pipe.dealer.machine, pipe.router.machine)]:
            self.later(self.rng.random() * notice_s, pipe.lose_dealer)
            self.later(self.rng.random() * notice_s, pipe.lose_router)

    def heal(self, machine: str) -> None:
        """The machine is reachable again."""
        self.parted.discard(machine)

    def reachable(self, one: str, other: str) -> bool:
        """Whether frames pass between two machines; on one machine they always do."""
        return one == other or (one not in self.parted and other not in self.parted)

    def later(self, delay_s: float, function: Any, *arguments: Any) -> asyncio.TimerHandle:
        """Do something outside all processes."""
        return self.loop.later(delay_s, function, *arguments)


class Frame:
    """What ``recv(copy=False)`` gives."""

    def __init__(self, data: bytes, more: bool) -> None:
        self.bytes = data
        self.more = more

    def get(self, _property: str) -> str:
        """No key is behind it: links here are not CURVE."""
        raise zmq.ZMQError(zmq.EINVAL)


class Context:
    """A process's ZeroMQ."""

    def __init__(self, network: Network, machine: str) -> None:
        self._network = network
        self._machine = machine

    def socket(self, kind: int) -> Socket:
        made = Socket(self._network, self._machine, kind, SimLoop.current())
        made.process.on_death.append(made.vanish)
        return made

    def term(self) -> None:
        """Nothing lingers here."""

    def destroy(self, linger: int) -> None:
        """Nothing lingers here."""


class Pipe:
    """One connection. Each end is open until it finds out that the other is gone."""

    def __init__(self, network: Network, dealer: Socket, router: Socket) -> None:
        self._network = network
        self.dealer = dealer
        self.router = router
        self.route = b"\0" + next(network.routes).to_bytes(4, "big")
        self.dealer_open = True
        self.router_open = True
        self._arrival_s = {True: 0.0, False: 0.0}  # of the last frame, up and down
        self.under_way = {True: 0, False: 0}  # sent and not received, up and down
        network.pipes.append(self)

    @property
    def far(self) -> bool:
        return self.dealer.machine != self.router.machine

    def send(self, frame: bytes, up: bool) -> None:
        """Put a frame on its way, which it may not survive."""
        network, rng, weather = self._network, self._network.rng, self._network.weather
        copies = 1
        if frame:  # the empty one is part of making the connection
            draw = rng.random()
            if draw < weather.lost:
                return
            copies += draw > 1 - weather.doubled
        for _ in range(copies):
            at_s = network.loop.time() + weather.delay_s * (0.2 + 1.6 * rng.random()) * (1 if self.far else 0.2)
            if rng.random() >= weather.reordered:
                at_s = self._arrival_s[up] = max(at_s, self._arrival_s[up] + 1e-9)
            self.under_way[up] += 1
            network.later(at_s - network.loop.time(), self._arrive, frame, up)

    def _arrive(self, frame: bytes, up: bool) -> None:
        receiver, open_ = (self.router, self.router_open) if up else (self.dealer, self.dealer_open)
        if not open_ or not self._network.reachable(self.dealer.machine, self.router.machine):
            self.under_way[up] -= 1
            return
        receiver.take(self, frame)

    def lose_dealer(self) -> None:
        """The dealer's end finds out that the connection is gone, and connects again."""
        if self.dealer_open:
            self.dealer_open = False
            self._forget()
            self.dealer.lost(self)

    def lose_router(self) -> None:
        """The router's end finds out."""
        if self.router_open:
            self.router_open = False
            self._forget()
            self.router.routes.pop(self.route, None)

    def _forget(self) -> None:
        if not self.dealer_open and not self.router_open:
            self._network.pipes.remove(self)


class Socket:
    """A ROUTER or a DEALER."""

    def __init__(self, network: Network, machine: str, kind: int, process: Process) -> None:
        self._network = network
        self._kind = kind
        self.machine = machine
        self.process = process
        self.routes: dict[bytes, Pipe] = {}
        self.address = ""
        self._fd = next(network.fds)
        self._pipe: Pipe | None = None  # of a DEALER
        self._inbox: deque[tuple[Pipe, bytes]] = deque()
        self._part: bytes | None = None  # of a ROUTER: the frame whose route has been received
        self._route: Pipe | None = None  # of a ROUTER: where the next part goes
        self._more = 0
        self._mark = 1000
        self._told = False  # the file descriptor is readable
        self._polling = False
        self._closed = False

    # ------------------------------------------------------------------ what the hub calls
    def setsockopt(self, option: int, value: Any) -> None:
        if option == _SNDHWM:
            self._mark = int(value)

    def get(self, option: int) -> int:
        if option == _FD:
            return self._fd
        if option == _RCVMORE:
            return self._more
        assert option == _EVENTS, option
        self._told = False
        takes_more = self._pipe is not None and self._pipe.under_way[True] < self._mark
        return (_POLLIN if self._inbox or self._part is not None else 0) | (_POLLOUT if takes_more else 0)

    def bind(self, address: str) -> None:
        other = self._network.listening.get(address)
        if other is not None and not other._closed:
            raise zmq.ZMQError(zmq.EADDRINUSE)
        self._network.listening[address] = self
        self.address = address

    def connect(self, address: str) -> None:
        self.address = address
        self._network.later(0.001, self._try)

    def send(self, frame: bytes, flags: int = 0) -> None:
        self._told = False
        if self._kind == _DEALER:
            if self._pipe is None or self._pipe.under_way[True] >= self._mark:
                raise _AGAIN.with_traceback(None)
            self._pipe.send(frame, True)
        elif flags & _SNDMORE:
            self._route = self.routes.get(frame)
            if self._route is None:
                raise zmq.ZMQError(zmq.EHOSTUNREACH)
            if self._route.under_way[False] >= self._mark:
                self._route = None
                raise _AGAIN.with_traceback(None)
        else:
            assert self._route is not None, "a frame without a route"
            self._route.send(frame, False)
            self._route = None

    def recv(self, flags: int = 0, copy: bool = True) -> Any:
        data = self._recv()
        return data if copy else Frame(data, bool(self._more))

    def _recv(self) -> bytes:
        self._told = False
        if self._part is not None:
            data, self._part, self._more = self._part, None, 0
            return data
        if not self._inbox:
            raise _AGAIN.with_traceback(None)
        pipe, frame = self._inbox.popleft()
        pipe.under_way[self._kind == _ROUTER] -= 1
        if self._kind == _DEALER:
            return frame
        self._part, self._more = frame, 1
        return pipe.route

    def close(self, linger: int = 0) -> None:
        """Leave; what was sent is still on its way."""
        if self._closed:
            return
        self._closed = True
        if self._network.listening.get(self.address) is self:
            del self._network.listening[self.address]
        for pipe in [pipe for pipe in self._network.pipes if self in (pipe.dealer, pipe.router)]:
            self._network.later(0.001 + self._network.rng.random() * 0.01, self._hang_up, pipe)

    def vanish(self) -> None:
        """Its process is gone: the kernel closes the connection, and what was not read is lost."""
        self._inbox.clear()
        self.close()

    # ------------------------------------------------------------------ what the network calls
    def take(self, pipe: Pipe, frame: bytes) -> None:
        """A frame has arrived."""
        if self._closed:
            pipe.under_way[self._kind == _ROUTER] -= 1
            return
        self._inbox.append((pipe, frame))
        self.tell()

    def tell(self) -> None:
        """Something changed; the file descriptor says so until somebody touches the socket."""
        self._told = True
        self._poll()

    def lost(self, pipe: Pipe) -> None:
        """A DEALER's connection is gone: make another."""
        if self._pipe is pipe:
            self._pipe = None
            if not self._closed:
                self.tell()
                self._network.later(self._network.rng.uniform(*_RECONNECT_S), self._try)

    def _hang_up(self, pipe: Pipe) -> None:
        """The other end hears of the end of the connection, unless nothing reaches it."""
        mine, others = (
            (pipe.lose_router, pipe.lose_dealer) if self is pipe.router else (pipe.lose_dealer, pipe.lose_router)
        )
        mine()
        if self._network.reachable(pipe.dealer.machine, pipe.router.machine):
            others()
        else:
            self._network.later(5 + 10 * self._network.rng.random(), others)

    def _poll(self) -> None:
        if self._told and not self._polling and not self._closed:
            self._polling = True
            self._network.later(self._network.rng.random() * _POLL_S, self._polled)

    def _polled(self) -> None:
        self._polling = False
        if self._told and not self._closed:
            self._network.loop.readable(self._fd)
            stays = 0.1 if self.process.stopped else _POLL_S  # readable, until somebody touches it
            self._network.later(stays, self._poll)

    def _try(self) -> None:
        if self._closed or self._pipe is not None:
            return
        router = self._network.listening.get(self.address)
        if router is None or not self._network.reachable(self.machine, router.machine):
            self._network.later(self._network.rng.uniform(*_RECONNECT_S), self._try)
            return
        self._pipe = Pipe(self._network, self, router)
        router.routes[self._pipe.route] = self._pipe
        self._pipe.send(b"", True)
        self.tell()
