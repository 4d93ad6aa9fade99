"""Who is who at the hub: links by name and by route, how a newcomer gets one, and who has been silent for too long.

What linked peers say belongs to :class:`~nova_fast.hub.server.HubServer`, which is made from this.

SAFETY: routes are the random ones ZeroMQ makes, never names a client chose, and no client can take over the route of
a living one (no ROUTER_HANDOVER at that level). Which route a name leads to is decided here, at HELLO, after the key
behind the route was compared with the allow-list: so the newest process of a name wins, but only among those that may
have it.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator

import zmq

from nova_fast.config import HubConfig
from nova_fast.edges import Edges
from nova_fast.hub import pace, wire
from nova_fast.hub.callbacks import tell
from nova_fast.hub.conduct import STRANGER_FRAMES_MAX, Strangers
from nova_fast.hub.contracts import ENCODER, Contracts
from nova_fast.hub.events import EventFeed
from nova_fast.hub.incoming import Handlers, Settings
from nova_fast.hub.keys import ALLOWED_FILE, Authenticator, ServerKeys, public_of
from nova_fast.hub.limits import Counters, Limits
from nova_fast.hub.link import Link
from nova_fast.hub.sockets import FdSocket, Sent, part_sender, send_routed
from nova_fast.hub.transport import came_by, cut_connection, descriptor_of
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NovaFastError, Unavailable

_log = logging.getLogger(__name__)

DONTWAIT = int(zmq.DONTWAIT)
RCVMORE = int(zmq.RCVMORE)
_PING = wire.pack(wire.PING)
_REFUSALS_LOGGED_MAX = 1000
_NAME_LOGGED_MAX = 256
#: Links that are looked at in one go at a tick, and the part of the time until the next one that all of them take.
#: PERF: ZeroMQ's thread sends what it is given before it reads again: 5,000 pings in one go hold everybody for 150 ms.
_TICK_LINKS = 16
_TICK_SHARE = 0.5


class Membership:
    """The links of a hub, and the socket by which they are reached."""

    address: str
    local_address: str  # for the daemons of this machine, beside a tcp address; "" = there is one way in
    _loop: asyncio.AbstractEventLoop  # from the start on

    def __init__(
        self, config: HubConfig, keys: ServerKeys | None, limits: Limits, edges: Edges, contracts: Contracts
    ) -> None:
        self.counters = Counters()
        self.on_peer_up: Callable[[str, bool], None] | None = None
        self.on_peer_down: Callable[[str], None] | None = None
        self._config = config
        self._keys = keys
        self._contracts = contracts
        self._limits = limits
        self._settings = Settings(self._limits, self.counters)
        self._handlers = Handlers()
        self._session = edges.entropy(wire.ID_BYTES)
        self._refusals: set[tuple[str, str]] = set()
        self._links: dict[str, Link] = {}
        self._routes: dict[bytes, Link] = {}
        self._strangers = Strangers()
        self._cut_told = 0
        self._feed: EventFeed | None = None
        self._authenticator: Authenticator | None = None
        self._fd: FdSocket | None = None
        self._tick_timer: asyncio.TimerHandle | None = None
        self._tick_s = min(config.heartbeat_s, config.down_after_s / 4)
        self._tick_due_s = 0.0
        self._ping_many = _PING  # for those who wait to return
        self._closed = False

    def _serve_on(self, socket: zmq.Socket[bytes], drain: Callable[[int], bool]) -> None:
        """Begin: this is the socket, and ``drain`` is called when something has come."""
        self._recv = socket.recv
        self._send_part = part_sender(socket)
        self._get = socket.get
        self._fd = FdSocket(socket, drain, self._handlers.hand_over, self._settings.departures)
        self._schedule_tick()

    def _on_stranger(self, route: bytes) -> None:
        """A message from a route without a Link: a HELLO, or else the question who that is."""
        if self._strangers.is_cut(route):
            self._recv(DONTWAIT)
            while self._get(RCVMORE):
                self._recv(DONTWAIT)
            return
        # PERF: only here the frame is taken with its metadata; the key behind a route cannot change while it lives.
        part = self._recv(DONTWAIT, False)
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
            came_locally = not public and came_by(descriptor_of(part), self.local_address)
            if not came_locally and not self._keys.allowed.permits(public, hello.name):
                return Forbidden(
                    f"the key {public.decode()} may not use the name {hello.name!r}",
                    code="name_not_allowed",
                    hint=f"{ALLOWED_FILE} beside the hub's key says which names a key may use",
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

    def _cut_route(self, route: bytes, descriptor: int) -> None:
        self.counters.cut += 1
        self._strangers.cut(route)
        cut_connection(descriptor, (self.address, self.local_address))

    def _skip_parts(self) -> None:
        """A message of several frames is not ours: read to its end, so that the next one starts right."""
        self.counters.malformed += 1
        while self._get(RCVMORE):
            self._recv(DONTWAIT)

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
                cut_connection(link.descriptor, (self.address, self.local_address))
            self._unlink(link)
            self._down(link)
        elif link.route is not None:
            link.outbox.offer(self._ping_many if self._contracts.waits_to_return(link.name) else _PING)
        elif silent_s > self._limits.forget_after_s and link.idle:
            self._links.pop(link.name, None)

    def _may_stay(self, link: Link) -> bool:
        """Whether the key behind a link is still on the list; who came locally has none."""
        if self._authenticator is None or link.route is None or not link.public:
            return True
        assert self._keys is not None
        return self._keys.allowed.permits(link.public, link.name)
