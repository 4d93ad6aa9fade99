"""A daemon's end of the hub.

One DEALER socket that finds the conductor again by itself, however often either is restarted. On every new connection
it shows itself, says HELLO, and after the WELCOME sends again every call that has no answer, with the same ids, and
asks for the events after the last one it handled. Between, it sends its heartbeat: a useful message if it has one,
else a PING.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import msgspec
import zmq

from nova_fast.config import HubConfig
from nova_fast.edges import REAL, Context, Edges
from nova_fast.hub import wire
from nova_fast.hub.callbacks import tell
from nova_fast.hub.contracts import DAEMONS, ENCODER, Contracts
from nova_fast.hub.events import EventReader
from nova_fast.hub.heartbeat import Heartbeat
from nova_fast.hub.incoming import Handlers, IncomingCalls, Settings, read_answer
from nova_fast.hub.keys import PeerKeys
from nova_fast.hub.limits import Counters, Limits
from nova_fast.hub.outgoing import OutgoingCalls
from nova_fast.hub.pace import Return
from nova_fast.hub.sockets import FdSocket, Outbox, Sent, part_sender, send_frame
from nova_fast.hub.transport import check_address, peer_socket
from nova_fast.model.base import Message
from nova_fast.model.errors import Conflict, NovaFastError, TooLarge, Unavailable, from_failure
from nova_fast.model.events import Event

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

_DONTWAIT = int(zmq.DONTWAIT)
_RCVMORE = int(zmq.RCVMORE)
_HELLO_PAUSE_S = 0.05  # between two HELLOs, whoever asks for them


class Peer:
    """A link to the conductor under one name (``scheduler``, ``api.0``, ``compute@host1``).

    Handlers and callbacks run on the loop that called :meth:`start`; nothing here may be used from another thread.
    """

    def __init__(
        self,
        name: str,
        address: str,
        *,
        config: HubConfig,
        keys: PeerKeys | None = None,
        limits: Limits | None = None,
        edges: Edges = REAL,
        contracts: Contracts = DAEMONS,
    ) -> None:
        """``address`` is ``ipc://…`` or ``tcp://host:port``; tcp needs keys. Raises ConfigError."""
        assert wire.valid_name(name), f"{name!r} is no name of a peer"
        check_address(address, has_keys=keys is not None)
        self.name = name
        self.address = address
        self.counters = Counters()
        self.heartbeat: Callable[[], Message] | None = None  #: Makes the heartbeat; None = an empty one.
        self.on_heard: Callable[[Message], None] | None = None  #: Called with the answer to such a heartbeat.
        #: Called on every WELCOME; True when the conductor is another process than last time.
        self.on_connected: Callable[[bool], None] | None = None
        #: Called when the conductor cannot be reached any more.
        self.on_disconnected: Callable[[], None] | None = None
        #: Called when a newer process took this name; this Peer is of no use then.
        self.on_replaced: Callable[[], None] | None = None
        self._config, self._keys = config, keys
        self._edges, self._contracts = edges, contracts
        self._limits = limits or Limits()
        self._settings = Settings(self._limits, self.counters)
        self._handlers = Handlers()
        self._session = edges.entropy(wire.ID_BYTES)
        self._hub_session = b""
        self._call_ids = wire.CallIds(edges.entropy)
        self._reader = EventReader(self._put, self.counters)
        self._return = Return(edges.entropy, waits=contracts.waits_to_return(name))
        self._context: Context | None = None
        self._fd: FdSocket | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_due_s = 0.0
        self._welcomed = False
        self._met = False  # this socket has been connected
        self._refusal: NovaFastError | None = None
        self._hello_s = -1.0  # of the loop's clock, when the last HELLO left
        self._heard_s = 0.0
        self._opened_s = 0.0
        # Not all at one moment, and ever more rarely: else thousands could undo for ever what a busy hub has begun.
        self._patience_s = self._reopen_after_s = self._limits.reopen_after_s * (1 + self._session[0] / 512)
        self._heartbeat_s, self._down_after_s = config.heartbeat_s, config.down_after_s
        self._closed = False

    def handle(self, message_type: type[M], handler: Callable[[M, bytes], Message | Awaitable[Message]]) -> None:
        """Answer this message of the conductor with ``handler(message, call id)``; the same rules as on the hub."""
        self._handlers.add(message_type, lambda call: handler(cast(M, call.message), call.call_id))

    def subscribe(
        self, from_generation: int, handler: Callable[[int, Event], None], on_gap: Callable[[], None]
    ) -> None:
        """Give ``handler(generation, event)`` every event after ``from_generation``, in order, across reconnects.

        ``on_gap`` is called when events were missed: the hub no longer keeps them, or ``handler`` raised. Whoever is
        called must read anew what it derived from events; it may subscribe again from the generation it has read,
        else the stream goes on with the oldest event that is kept.
        """
        self._reader.subscribe(from_generation, handler, on_gap)

    @property
    def is_connected(self) -> bool:
        return self._welcomed

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        assert self._context is None and not self._closed, "start once"
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(self._send, self._limits, self.counters, self._settings.departures)
        hub, reads = self._contracts.hub, self._contracts.peer_reads
        self._outgoing = OutgoingCalls(hub, self._put, self._limits, self.counters)
        self._incoming = IncomingCalls(hub, reads, self._handlers, self._put, self._settings)
        self._heartbeat = Heartbeat(self.name, self.call, self._outbox.offer)
        self._context = self._edges.new_context()
        self._open()
        self._schedule_tick(0.0)

    async def close(self) -> None:
        """Say BYE, fail pending calls with Unavailable, stop handlers, and close the socket."""
        if self._closed:
            return
        self._closed = True
        if self._context is None:
            return
        await self._heartbeat.close()
        await self._handlers.close()
        self._stop("the hub is closing")
        await asyncio.to_thread(self._edges.end_context, self._context)  # waits for at most linger_ms

    async def connected(self, timeout_s: float) -> None:
        """Wait for the WELCOME. Raises the refusal, Conflict when replaced, or Unavailable after ``timeout_s``."""
        assert self._context is not None, "start first"
        deadline_s = self._loop.time() + timeout_s
        while not self._welcomed:
            if self._refusal is not None:
                raise self._refusal
            waiter = self._loop.create_future()
            self._waiters.add(waiter)
            try:
                await asyncio.wait_for(waiter, deadline_s - self._loop.time())
            except TimeoutError:
                raise Unavailable(
                    f"{self._contracts.hub} does not answer at {self.address}",
                    code="not_connected",
                    hint="it is not running, or it does not know this node's key",
                ) from None
            finally:
                self._waiters.discard(waiter)

    async def call(self, message: Message, *, timeout_s: float, call_id: bytes | None = None) -> Message:
        """Ask the conductor; the answer, or what it raised.

        Waits while it is away and asks again when it is back. Raises Unavailable after ``timeout_s`` or when too many
        calls wait, TooLarge for a message over the bound.
        """
        if self._closed or self._context is None:
            raise Unavailable("the hub is closed", code="hub_closed")
        if call_id is None:
            call_id = self._call_ids.next()
        deadline_us = int((self._loop.time() + timeout_s) * 1e6) + self._settings.clock_ahead_us
        frame = wire.pack(wire.CALL, call_id, max(1, deadline_us), ENCODER.encode(message))
        if len(frame) > self._limits.message_bytes_max:
            raise TooLarge(f"the message has {len(frame)} bytes", code="message_too_large")
        return await self._outgoing.call(call_id, frame, self._loop.time() + timeout_s)

    # ------------------------------------------------------------------------------------------ the socket

    def _open(self) -> None:
        assert self._context is not None
        self._socket = peer_socket(self._context, self._config, self._limits, self._keys, self._return.reconnect_ms)
        self._recv = self._socket.recv
        self._send_part = part_sender(self._socket)
        self._get = self._socket.get
        self._socket.connect(self.address)
        self._fd = FdSocket(self._socket, self._drain, self._after_drain, self._settings.departures)
        self._opened_s, self._met = self._loop.time(), False

    def _put(self, frame: bytes) -> None:
        if self._welcomed:
            self._outbox.put(frame)

    def _send(self, frame: bytes) -> Sent:
        if self._fd is None:
            return Sent.GONE
        sent = send_frame(self._send_part, frame)
        self._fd.sent()
        if sent is Sent.FULL and self._return.spread_s:
            self._loop.call_soon(self._look)
        return sent

    def _drain(self, budget: int) -> bool:
        recv, get = self._recv, self._get
        try:
            for _ in range(budget):
                frame = recv(_DONTWAIT)
                if get(_RCVMORE):
                    self._skip_parts()
                    continue
                if wire.is_joined(frame):
                    self._on_joined(frame)
                else:
                    self._on_frame(frame)
                if self._fd is None:
                    return False
        except zmq.Again:
            return False
        return True

    def _after_drain(self) -> None:
        self._handlers.hand_over()
        if self._return.spread_s:
            self._look()
        if not self._welcomed and self._hello_s < self._opened_s:
            self._hello()  # the socket woke because it is connected now

    def _look(self) -> None:
        """When the connection is gone, with those of many others: wait for our turn to come back."""
        if self._fd is None or not self._met or self._fd.takes_more():
            return
        self._fd.close(0)
        self._fd = None
        self._lost()
        if not self._closed:
            self._schedule_tick(self._return.wait_s())

    def _skip_parts(self) -> None:
        self.counters.malformed += 1
        while self._get(_RCVMORE):
            self._recv(_DONTWAIT)

    def _on_joined(self, joined: bytes) -> None:
        """Several frames have come as one."""
        frames = wire.split(joined)
        if frames is None:
            self.counters.malformed += 1
            return
        for frame in frames:
            self._on_frame(frame)
            if self._fd is None:
                return

    def _on_frame(self, frame: bytes) -> None:
        parsed = wire.parse(frame)
        if parsed is None:
            self.counters.malformed += 1
            return
        kind, call_id, deadline_us, body = parsed
        self._heard_s = self._loop.time()
        if kind == wire.REPLY:
            self._outgoing.answered(call_id, read_answer(self._contracts.peer_reads, body))
        elif kind == wire.CALL:
            self._incoming.receive(call_id, deadline_us, body)
        elif kind != wire.PING or body:
            try:
                self._on_control(kind, call_id, body)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.counters.malformed += 1

    def _on_control(self, kind: int, call_id: bytes, body: memoryview) -> None:
        if kind in (wire.EVENTS, wire.GAP):
            self._reader.receive(kind, call_id, body)
        elif kind == wire.WELCOME:
            self._on_welcome(wire.WELCOME_DECODER.decode(body))
        elif kind == wire.WHO:
            self._lost()
            self._hello()
        elif kind == wire.BYE:
            self._lost()
        elif kind == wire.REFUSED:
            self._lost()
            self._on_refused(from_failure(wire.REFUSED_DECODER.decode(body).failure))
        elif kind == wire.REPLACED:
            self._on_replaced()
        elif kind == wire.PING:
            self._return.heard(body)
        else:
            self.counters.malformed += 1

    # ------------------------------------------------------------------------------------------ who is who

    def _hello(self) -> None:
        now_s = self._loop.time()
        if now_s - self._hello_s < _HELLO_PAUSE_S and self._hello_s >= self._opened_s:
            return
        hello = wire.Hello(name=self.name, session=self._session, protocol=wire.PROTOCOL, joined=True)
        if self._send(wire.pack(wire.HELLO, body=ENCODER.encode(hello))) is Sent.OK:
            self._hello_s, self._met = now_s, True

    def _on_welcome(self, welcome: wire.Welcome) -> None:
        now_s = self._loop.time()
        self._settings.clock_ahead_us = welcome.clock_us - int((now_s + self._hello_s) / 2 * 1e6)
        self._heartbeat_s = welcome.heartbeat_s
        self._down_after_s = welcome.down_after_s
        new_hub = welcome.session != self._hub_session
        self._hub_session = welcome.session
        self._refusal = None
        self._reopen_after_s = self._patience_s
        self._welcomed = True
        self._outbox.joins = welcome.joined
        self._heard_s = now_s
        self._outgoing.link_up(welcome.credits, welcome.clock_us)
        self._reader.ask()
        self._wake_waiters()
        self._schedule_tick(0.0)
        tell(self.on_connected, new_hub)

    def _lost(self) -> None:
        """The conductor does not know us (any more): calls stay, the next HELLO is due."""
        if not self._welcomed:
            return
        self._welcomed = False
        self._outgoing.link_down()
        self._outbox.clear()
        self._opened_s = self._loop.time()
        self._schedule_tick(self._limits.hello_retry_s)
        tell(self.on_disconnected)

    def _on_refused(self, refusal: NovaFastError) -> None:
        if self._refusal is None or self._refusal.code != refusal.code:
            _log.error("%s refuses %s: %s", self._contracts.hub, self.name, refusal.message)
        self._refusal = refusal
        self._wake_waiters()

    def _on_replaced(self) -> None:
        _log.error("a newer process uses the name %s; this one leaves the hub", self.name)
        self._refusal = Conflict(f"a newer process uses the name {self.name}", code="replaced")
        self._lost()
        self._stop(f"a newer process uses the name {self.name}")
        tell(self.on_replaced)

    def _stop(self, reason: str) -> None:
        if self._tick_timer is not None:
            self._tick_timer.cancel()
            self._tick_timer = None
        self._outgoing.close(reason)
        if self._fd is not None:
            if self._welcomed:
                self._outbox.offer(wire.pack(wire.BYE))
            self._outbox.clear()
            self._fd.close(self._limits.linger_ms)
            self._fd = None
        self._welcomed = False
        if self._refusal is None:
            self._refusal = Unavailable(reason, code="hub_closed")
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    # ------------------------------------------------------------------------------------------ heartbeats

    def _schedule_tick(self, delay_s: float) -> None:
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        self._tick_due_s = self._loop.time() + delay_s
        self._tick_timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        """Linked: heartbeat, and notice silence. Not linked: HELLO, and after a while a new socket."""
        now_s = self._loop.time()
        if self._welcomed:
            if now_s - self._tick_due_s > self._heartbeat_s:
                self._heard_s = now_s  # it was this process that did not listen
            if now_s - self._heard_s > self._down_after_s:
                _log.warning("%s has been silent for %.1f s", self._contracts.hub, now_s - self._heard_s)
                self._lost()
                return
            self._heartbeat.beat(self.heartbeat, self.on_heard, self._heartbeat_s)
            self._reader.beat()
            self._incoming.forget_old()
            self._schedule_tick(min(self._heartbeat_s, self._down_after_s / 4))
            return
        if self._fd is None:
            self._open()
        elif now_s - self._opened_s > self._reopen_after_s + self._return.spread_s:
            # A handshake that failed makes ZeroMQ give up for good; the key may have been let in since.
            self._reopen_after_s = min(2 * self._reopen_after_s, self._limits.reopen_after_s_max)
            self._fd.close(0)
            self._open()
        self._hello()
        self._schedule_tick(self._limits.hello_retry_s if self._refusal is None else self._limits.reopen_after_s)
