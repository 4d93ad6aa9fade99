"""The conductor's end of the hub.

One ROUTER socket. Every peer that has said HELLO has a :class:`~nova_fast.hub.link.Link`: its route (which ZeroMQ
link leads to it now), its session (which process it is), the calls in both directions, and the frames it has not
read. Routes come and go with connections; a Link stays, so calls under way outlive a broken connection and a
restarted process.

SAFETY: routes are the random ones ZeroMQ makes, never names a client chose, and no client can take over the route of
a living one (no ROUTER_HANDOVER at that level). Which route a name leads to is decided here, at HELLO, after the key
behind the route was compared with the allow-list: so the newest process of a name wins, but only among those that may
have it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar, cast

import msgspec
import zmq

from nova_fast.config import ConfigError, HubConfig
from nova_fast.edges import REAL, Context, Edges
from nova_fast.hub import pace, wire
from nova_fast.hub.callbacks import tell
from nova_fast.hub.conduct import (
    ASIDE_BYTES_MAX,
    FRAME_BYTES_SHIFT,
    GREETING_PAUSE_S,
    STRANGER_FRAMES_MAX,
    TURN_FRAMES,
    Strangers,
)
from nova_fast.hub.contracts import DAEMONS, ENCODER, Contracts
from nova_fast.hub.events import EventFeed, EventSource
from nova_fast.hub.incoming import Handlers, Incoming, RunBatch, Settings, read_answer
from nova_fast.hub.keys import Authenticator, ServerKeys, public_of
from nova_fast.hub.limits import Counters, Limits
from nova_fast.hub.link import Link, PeerState
from nova_fast.hub.outgoing import Ended
from nova_fast.hub.sockets import FdSocket, Sent, part_sender, send_routed
from nova_fast.hub.transport import (
    allow_many_connections,
    bind_hub,
    check_address,
    cut_connection,
    descriptor_of,
    hub_socket,
    pipe_frames_max,
)
from nova_fast.model.base import Message
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NovaFastError, TooLarge, Unavailable

__all__ = ["HubServer", "Incoming", "PeerState"]

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)

_DONTWAIT = int(zmq.DONTWAIT)
_RCVMORE = int(zmq.RCVMORE)
_PING = wire.pack(wire.PING)
_REFUSALS_LOGGED_MAX = 1000
_NAME_LOGGED_MAX = 256
#: Links that are looked at in one go at a tick, and the part of the time until the next one that all of them take.
#: PERF: ZeroMQ's thread sends what it is given before it reads again: 5,000 pings in one go hold everybody for 150 ms.
_TICK_LINKS = 16
_TICK_SHARE = 0.5


class HubServer:
    """Binds the hub's address, answers calls of peers, calls them, and feeds them events.

    Handlers and callbacks run on the loop that called :meth:`start`; nothing here may be used from another thread.
    """

    def __init__(
        self,
        address: str,
        *,
        config: HubConfig,
        keys: ServerKeys | None = None,
        events: EventSource | None = None,
        limits: Limits | None = None,
        edges: Edges = REAL,
        contracts: Contracts = DAEMONS,
    ) -> None:
        """``address`` is ``ipc://…`` or ``tcp://…``; tcp needs keys. Raises ConfigError."""
        check_address(address, has_keys=keys is not None)
        self.address = address
        self.counters = Counters()
        self.on_peer_up: Callable[[str, bool], None] | None = None
        self.on_peer_down: Callable[[str], None] | None = None
        self._config = config
        self._edges = edges
        self._keys = keys
        self._contracts = contracts
        self._source = events
        self._limits = limits or Limits()
        self._settings = Settings(self._limits, self.counters)
        self._handlers = Handlers()
        self._session = edges.entropy(wire.ID_BYTES)
        self._call_ids = wire.CallIds(edges.entropy)
        self._refusals: set[tuple[str, str]] = set()
        self._links: dict[str, Link] = {}
        self._routes: dict[bytes, Link] = {}
        self._strangers = Strangers()
        self._turn = 0
        self._aside: deque[Link] = deque()  # who has frames set aside
        self._aside_max = pipe_frames_max(config, self._limits)
        self._cut_told = 0
        self._feed: EventFeed | None = None
        self._context: Context | None = None
        self._authenticator: Authenticator | None = None
        self._fd: FdSocket | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_s = min(config.heartbeat_s, config.down_after_s / 4)
        self._tick_due_s = 0.0
        self._ping_many = _PING  # for those who wait to return
        self._closed = False

    def handle(
        self,
        message_type: type[M],
        handler: Callable[[str, M, bytes], Message | Awaitable[Message]],
        *,
        repeatable: bool = False,
    ) -> None:
        """Answer this message with ``handler(peer name, message, call id)``.

        A plain function is the fast path. A NovaFastError travels to the caller; any other exception is logged with the
        call id and becomes an InternalError. Of what is ``repeatable``, as heartbeats are, no answers are kept: a
        repetition runs again.
        """
        if repeatable:
            self._handlers.repeatable.add(message_type)
        self._handlers.add(message_type, lambda call: handler(call.peer, cast(M, call.message), call.call_id))

    def handle_batch(self, message_types: tuple[type[Message], ...], handler: RunBatch) -> None:
        """Give ``handler`` all calls of these types that arrived together; it answers each with ``call.reply``."""
        self._handlers.add_batch(message_types, handler)

    async def start(self) -> None:
        """Bind and serve. Raises ConfigError when the address cannot be bound."""
        assert self._context is None and not self._closed, "start once"
        self._loop = asyncio.get_running_loop()
        allow_many_connections()
        self._context = self._edges.new_context()
        try:
            if self._keys is not None and self.address.startswith("tcp://"):
                self._authenticator = Authenticator(self._context, self._keys.allowed, self.counters)
            self._socket = hub_socket(self._context, self._config, self._limits)
            self.address = bind_hub(self._socket, self.address, self._keys)
        except (zmq.ZMQError, OSError, ConfigError) as error:
            if self._authenticator is not None:
                self._authenticator.close()
            self._context.destroy(0)
            raise ConfigError(f"the hub cannot listen on {self.address}: {error}") from error
        if self._source is not None:
            self._feed = EventFeed(self._source, self._limits)
        self._recv = self._socket.recv
        self._send_part = part_sender(self._socket)
        self._get = self._socket.get
        self._fd = FdSocket(self._socket, self._drain, self._handlers.hand_over, self._settings.departures)
        self._schedule_tick()

    async def close(self) -> None:
        """Say BYE, fail pending calls with Unavailable, and release the address."""
        if self._closed:
            return
        self._closed = True
        if self._fd is None or self._context is None:
            return
        await self._handlers.close()
        if self._tick_timer is not None:
            self._tick_timer.cancel()
        if self._feed is not None:
            self._feed.close()
        goodbye = wire.pack(wire.BYE)
        for link in self._links.values():
            link.outgoing.close()
            if link.route is not None:
                link.outbox.offer(goodbye)
            link.outbox.clear()
        self._fd.close(self._limits.linger_ms)
        if self._authenticator is not None:
            self._authenticator.close()
        await asyncio.to_thread(self._edges.end_context, self._context)  # waits for at most linger_ms

    async def call(self, peer: str, message: Message, *, timeout_s: float, call_id: bytes | None = None) -> Message:
        """Ask a peer; the answer, or what it raised.

        Waits while the peer is away and asks again when it is back. Raises Unavailable after ``timeout_s`` or when too
        many calls to this peer wait, TooLarge for a message over the bound.
        """
        call_id = call_id or self._call_ids.next()
        frame, deadline_s = self._call_frame(peer, message, timeout_s, call_id)
        return await self._link(peer).outgoing.call(call_id, frame, deadline_s)

    def ask(self, peer: str, message: Message, *, timeout_s: float, call_id: bytes, ended: Ended) -> None:
        """The same without a coroutine: ``ended`` is told the answer, or the error that :meth:`call` would raise.

        PERF: a call costs half of one that is awaited by a task of its own. An error may be told at once.
        """
        try:
            frame, deadline_s = self._call_frame(peer, message, timeout_s, call_id)
            self._link(peer).outgoing.begin(call_id, frame, deadline_s, ended)
        except NovaFastError as error:
            ended(error)

    def _call_frame(self, peer: str, message: Message, timeout_s: float, call_id: bytes) -> tuple[bytes, float]:
        """The frame of a call and its deadline on the loop's clock. Raises Unavailable, TooLarge."""
        assert peer in self._links or wire.valid_name(peer), f"{peer!r} is no name of a peer"
        if self._closed or self._fd is None:
            raise Unavailable("the hub is closed", code="hub_closed")
        deadline_s = self._loop.time() + timeout_s
        frame = wire.pack(wire.CALL, call_id, max(1, int(deadline_s * 1e6)), ENCODER.encode(message))
        if len(frame) > self._limits.message_bytes_max:
            raise TooLarge(f"the message has {len(frame)} bytes", code="message_too_large")
        return frame, deadline_s

    def peers(self) -> dict[str, PeerState]:
        """Every peer that has said HELLO or is being waited for."""
        now_s = asyncio.get_running_loop().time()
        return {name: link.state(now_s) for name, link in self._links.items()}

    def is_stuck(self, peer: str) -> bool:
        """Whether a peer does not read what it is sent."""
        link = self._links.get(peer)
        return link is not None and link.outbox.stuck

    def forget(self, peer: str) -> None:
        """Keep nothing of a peer that has left, unless something of it is under way."""
        link = self._links.get(peer)
        if link is not None and link.route is None and link.idle:
            del self._links[peer]

    def key_of(self, peer: str) -> bytes:
        """The public key behind a peer's connection; empty over ipc, and for one that is not there."""
        link = self._links.get(peer)
        return link.public if link is not None and link.route is not None else b""

    def notify_events(self, generation: int) -> None:
        """Events up to this generation can be read from the EventSource."""
        assert generation >= 0
        if self._feed is not None:
            self._feed.notify()

    # ------------------------------------------------------------------------------------------ receiving

    def _drain(self, budget: int) -> bool:
        recv, get, routes = self._recv, self._get, self._routes
        now_s = self._loop.time()
        turn = self._turn = self._turn + 1
        self._serve_aside()
        try:
            while budget > 0:
                budget -= 1
                route = recv(_DONTWAIT)
                link = routes.get(route)
                if link is None:
                    self._on_stranger(route)
                    continue
                frame = recv(_DONTWAIT)
                budget -= len(frame) >> FRAME_BYTES_SHIFT
                if get(_RCVMORE):
                    self._skip_parts()
                    self._fault(link, len(frame))
                    continue
                link.heard_s = now_s
                if wire.is_joined(frame):
                    budget -= self._on_joined(link, frame)
                elif link.conduct.has_turn(turn, len(frame)):
                    self._on_frame(link, frame)
                else:
                    self._set_aside(link, frame)
        except zmq.Again:
            return bool(self._aside)
        return True

    def _on_joined(self, link: Link, joined: bytes) -> int:
        """Several frames have come as one: each counts for itself. How many there were."""
        frames = wire.split(joined)
        if frames is None:
            self.counters.malformed += 1
            self._fault(link, len(joined))
            return 0
        conduct, turn = link.conduct, self._turn
        for frame in frames:
            if link.route is None:
                break  # it has left, or was cut
            if conduct.has_turn(turn, len(frame)):
                self._on_frame(link, frame)
            else:
                self._set_aside(link, frame)
        return len(frames)

    def _set_aside(self, link: Link, frame: bytes) -> None:
        """A peer has had its share of this turn: the others come first."""
        conduct = link.conduct
        if not conduct.aside:
            self._aside.append(link)
        conduct.set_aside(frame)
        if len(conduct.aside) > self._aside_max:
            self._cut(link, "it sends more than its credits allow")
        elif conduct.aside_bytes > ASIDE_BYTES_MAX:
            self._on_frame(link, conduct.take_aside())

    def _serve_aside(self) -> None:
        """Work off what was set aside: a frame of each peer in turn."""
        waiting = self._aside
        for _ in range(min(len(waiting), TURN_FRAMES) and TURN_FRAMES):
            if not waiting:
                return
            link = waiting.popleft()
            conduct = link.conduct
            if not conduct.aside:
                continue  # its link is gone
            frame = conduct.take_aside()
            if conduct.aside:
                waiting.append(link)
            self._on_frame(link, frame)

    def _fault(self, link: Link, frame_bytes: int, frames: int = 1) -> None:
        """A linked peer broke the rules."""
        if link.conduct.fault(frame_bytes, frames) and link.route is not None:
            self._cut(link, "it sends what no peer may send")

    def _cut(self, link: Link, why: str) -> None:
        """End the connection of a peer that breaks the rules, and bar its name for a while."""
        assert link.route is not None
        barred_s = link.conduct.bar(self._loop.time())
        _log.warning("%s was cut and is barred for %g s: %s", link.name, barred_s, why)
        self._cut_route(link.route, link.descriptor)
        self._unlink(link)

    def _cut_route(self, route: bytes, descriptor: int) -> None:
        self.counters.cut += 1
        self._strangers.cut(route)
        cut_connection(descriptor, self.address)

    def _skip_parts(self) -> None:
        """A message of several frames is not ours: read to its end, so that the next one starts right."""
        self.counters.malformed += 1
        while self._get(_RCVMORE):
            self._recv(_DONTWAIT)

    def _on_frame(self, link: Link, frame: bytes) -> None:
        parsed = wire.parse(frame)
        if parsed is None:
            self.counters.malformed += 1
            self._fault(link, len(frame))
            return
        kind, call_id, deadline_us, body = parsed
        if kind == wire.CALL:
            if not link.incoming.receive(call_id, deadline_us, body):
                self._fault(link, len(body), 0)  # it may come from a newer release
        elif kind == wire.REPLY:
            link.outgoing.answered(call_id, read_answer(link.decoder, body))
        elif kind != wire.PING:
            self._on_control(link, kind, call_id, body)

    def _on_control(self, link: Link, kind: int, call_id: bytes, body: memoryview) -> None:
        feed = self._feed
        if kind != wire.EVENTS_ACK:
            self._fault(link, len(body))  # what an honest peer says now and then
            if link.route is None:
                return
        if kind == wire.HELLO:
            hello = wire.read_hello(body)
            if hello is None or hello.name != link.name or hello.session != link.session:
                self.counters.malformed += 1  # one link is one process under one name
            elif self._loop.time() - link.conduct.greeted_s > GREETING_PAUSE_S:
                self._welcome(link)
        elif kind == wire.BYE:
            self._unlink(link)
            self._down(link)
        elif kind == wire.SUBSCRIBE and feed is not None:
            if not self._contracts.shows_events(link.name):
                self.counters.refused += 1
                _log.warning("%s may not read the event stream", link.name)
                return
            try:
                position = wire.POSITION_DECODER.decode(body)
            except msgspec.MsgspecError:
                self.counters.malformed += 1
                return
            feed.subscribe(link.name, wire.unpack_numbers(call_id)[0], position.generation, link.outbox)
        elif kind == wire.EVENTS_ACK and feed is not None:
            feed.acknowledge(link.name, *wire.unpack_numbers(call_id))
        else:
            self.counters.malformed += 1

    # ------------------------------------------------------------------------------------------ who is who

    def _on_stranger(self, route: bytes) -> None:
        """A message from a route without a Link: a HELLO, or else the question who that is."""
        if self._strangers.is_cut(route):
            self._recv(_DONTWAIT)
            while self._get(_RCVMORE):
                self._recv(_DONTWAIT)
            return
        # PERF: only here the frame is taken with its metadata; the key behind a route cannot change while it lives.
        part = self._recv(_DONTWAIT, False)
        if part.more:
            self._skip_parts()
        heard = self._strangers.heard(route)
        if heard > STRANGER_FRAMES_MAX:
            self._cut_route(route, descriptor_of(part))
            return
        if part.more:
            return
        frame = part.bytes
        if not frame:  # ZeroMQ's probe: a connection is there
            self._send_route(route, wire.pack(wire.WHO))
            return
        parsed = wire.parse(frame)
        if parsed is None:
            self.counters.malformed += 1
            return
        kind, _, _, body = parsed
        if kind == wire.BYE:
            return
        hello = wire.read_hello(body) if kind == wire.HELLO else None
        if hello is None:
            self.counters.malformed += kind == wire.HELLO
            if heard.bit_count() == 1:  # asked again after 1, 2, 4, 8, … frames
                self._send_route(route, wire.pack(wire.WHO))
            return
        refusal = self._objection(hello, part)
        if refusal is None:
            self._admit(route, hello, part)
            return
        self.counters.refused += 1
        known_by = (hello.name[:_NAME_LOGGED_MAX], refusal.code)
        if known_by not in self._refusals and len(self._refusals) < _REFUSALS_LOGGED_MAX:
            self._refusals.add(known_by)
            _log.warning("refused a peer: %s", refusal.message)
        self._send_route(route, wire.pack(wire.REFUSED, body=ENCODER.encode(wire.Refused(failure=refusal.failure()))))
        if refusal.code == "barred":
            self._cut_route(route, descriptor_of(part))

    def _objection(self, hello: wire.Hello, part: zmq.Frame) -> NovaFastError | None:
        """Why this HELLO is refused, or None."""
        if hello.protocol != wire.PROTOCOL:
            return Conflict(
                f"the peer speaks protocol {hello.protocol}, this hub {wire.PROTOCOL}",
                code="protocol_mismatch",
                hint="run the same version of nova-fast everywhere",
            )
        if not wire.valid_name(hello.name) or len(hello.session) != wire.ID_BYTES:
            return BadRequest("the HELLO has no valid name or session", code="bad_hello")
        if not self._contracts.admits(hello.name):
            return Forbidden(f"no peer of this hub is called {hello.name!r}", code="name_not_allowed")
        if self._authenticator is not None:
            assert self._keys is not None
            public = public_of(part)
            if not self._keys.allowed.permits(public, hello.name):
                return Forbidden(
                    f"the key {public.decode()} may not use the name {hello.name!r}",
                    code="name_not_allowed",
                    hint="join this node with a token made for it",
                )
        known = self._links.get(hello.name)
        if known is not None and known.conduct.is_barred(self._loop.time()):
            return Unavailable(f"{hello.name} broke the rules of the hub and is barred for a while", code="barred")
        if known is None and len(self._links) >= self._limits.peers_max:
            return Unavailable("the hub has as many peers as it can hold", code="too_many_peers")
        return None

    def _admit(self, route: bytes, hello: wire.Hello, part: zmq.Frame) -> None:
        link = self._link(hello.name)
        if hello.session in link.replaced:
            self._send_route(route, wire.pack(wire.REPLACED))
            return
        new_session = link.session != hello.session
        if new_session and link.session:
            link.replace_session()
            if link.route is not None:
                self.counters.replaced += 1
                _log.info("a newer process took the name %s", link.name)
                self._send_route(link.route, wire.pack(wire.REPLACED))
        self._unlink(link)
        link.session = hello.session
        link.route = route
        link.descriptor = descriptor_of(part)
        link.public = public_of(part)
        link.outbox.joins = hello.joined
        link.up = True
        link.heard_s = self._loop.time()
        self._routes[route] = link
        self._welcome(link)
        tell(self.on_peer_up, link.name, new_session)

    def _welcome(self, link: Link) -> None:
        welcome = wire.Welcome(
            session=self._session,
            credits=self._config.credits,
            heartbeat_s=self._config.heartbeat_s,
            down_after_s=self._config.down_after_s,
            clock_us=int(self._loop.time() * 1e6),
            joined=True,
        )
        link.conduct.greeted_s = self._loop.time()
        link.outbox.put(wire.pack(wire.WELCOME, body=ENCODER.encode(welcome)))
        link.outgoing.link_up(self._config.credits, welcome.clock_us)

    def _link(self, name: str) -> Link:
        link = self._links.get(name)
        if link is None:
            reads = self._contracts.hub_reads(name)
            link = self._links[name] = Link(name, reads, self._handlers, self._send_to, self._settings)
            link.heard_s = self._loop.time()
        return link

    def _unlink(self, link: Link) -> None:
        """The way to a peer is gone; what it asked and was asked stays."""
        if link.route is None:
            return
        self._routes.pop(link.route, None)
        link.route = None
        link.conduct.drop_aside()
        link.outbox.clear()
        link.outgoing.link_down()
        if self._feed is not None:
            self._feed.unsubscribe(link.name)

    def _down(self, link: Link) -> None:
        if link.up:
            link.up = False
            tell(self.on_peer_down, link.name)

    # ------------------------------------------------------------------------------------------ sending

    def _send_to(self, link: Link, frame: bytes) -> Sent:
        if link.route is None:
            return Sent.GONE
        assert self._fd is not None
        sent = send_routed(self._send_part, link.route, frame)
        self._fd.sent()
        if sent is Sent.GONE:
            self._unlink(link)
        return sent

    def _send_route(self, route: bytes, frame: bytes) -> Sent:
        assert self._fd is not None
        sent = send_routed(self._send_part, route, frame)
        self._fd.sent()
        return sent

    # ------------------------------------------------------------------------------------------ heartbeats

    def _schedule_tick(self) -> None:
        self._tick_due_s = self._loop.time() + self._tick_s
        self._tick_timer = self._loop.call_later(self._tick_s, self._tick)

    def _tick(self) -> None:
        """Ping who is linked, declare down who is silent, forget who is long gone."""
        now_s = self._loop.time()
        was_stalled = now_s - self._tick_due_s > self._config.heartbeat_s
        self._schedule_tick()
        self._strangers.forget()
        if self._authenticator is not None:
            self._authenticator.look()
        if self.counters.cut > self._cut_told:
            _log.warning("%d connections were cut since the last tick", self.counters.cut - self._cut_told)
            self._cut_told = self.counters.cut
        links = list(self._links.values())
        self._ping_many = pace.ping(len(links), self._limits.returns_per_s, self._config.down_after_s)
        if was_stalled:
            for link in links:
                link.heard_s = now_s  # it was this process that did not listen
        self._tick_some(iter(links), _TICK_SHARE * self._tick_s * _TICK_LINKS / max(1, len(links)))

    def _tick_some(self, links: Iterator[Link], pause_s: float) -> None:
        """A tick's work for some links, and for the others some at a time until the next tick."""
        if self._closed:
            return
        now_s = self._loop.time()
        link = None
        for link in itertools.islice(links, _TICK_LINKS):
            if self._links.get(link.name) is link:  # not forgotten since
                self._tick_link(link, now_s)
        if link is not None:
            self._loop.call_later(pause_s, self._tick_some, links, pause_s)

    def _tick_link(self, link: Link, now_s: float) -> None:
        link.conduct.forgive()
        link.incoming.forget_old()
        silent_s = now_s - link.heard_s
        if (link.up and silent_s > self._config.down_after_s) or not self._may_stay(link):
            if link.route is not None:
                cut_connection(link.descriptor, self.address)
            self._unlink(link)
            self._down(link)
        elif link.route is not None:
            link.outbox.offer(self._ping_many if self._contracts.waits_to_return(link.name) else _PING)
        elif silent_s > self._limits.forget_after_s and link.idle:
            self._links.pop(link.name, None)

    def _may_stay(self, link: Link) -> bool:
        """Whether the key behind a link is still on the list."""
        if self._authenticator is None or link.route is None:
            return True
        assert self._keys is not None
        return self._keys.allowed.permits(link.public, link.name)
