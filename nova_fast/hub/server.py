"""The conductor's end of the hub.

One ROUTER socket. Every peer that has said HELLO has a :class:`~nova_fast.hub.link.Link`: its route (which ZeroMQ
link leads to it now), its session (which process it is), the calls in both directions, and the frames it has not
read. Routes come and go with connections; a Link stays, so calls under way outlive a broken connection and a
restarted process.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import msgspec
import zmq

from nova_fast.config import ConfigError, HubConfig
from nova_fast.edges import REAL, Context, Edges
from nova_fast.hub import wire
from nova_fast.hub.conduct import ASIDE_BYTES_MAX, FRAME_BYTES_SHIFT, GREETING_PAUSE_S, TURN_FRAMES
from nova_fast.hub.contracts import DAEMONS, ENCODER, Contracts
from nova_fast.hub.events import EventFeed, EventSource
from nova_fast.hub.incoming import Incoming, RunBatch, read_answer
from nova_fast.hub.keys import Authenticator, ServerKeys
from nova_fast.hub.limits import Limits
from nova_fast.hub.link import Link, PeerState
from nova_fast.hub.membership import DONTWAIT, RCVMORE, Membership
from nova_fast.hub.outgoing import Ended
from nova_fast.hub.transport import (
    allow_many_connections,
    bind_both,
    bind_hub,
    check_address,
    hub_socket,
    pipe_frames_max,
    two_ways,
)
from nova_fast.model.base import Message
from nova_fast.model.errors import NovaFastError, TooLarge, Unavailable

__all__ = ["HubServer", "Incoming", "PeerState"]

_log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)


class HubServer(Membership):
    """Binds the hub's address, answers calls of peers, calls them, and feeds them events.

    Handlers and callbacks run on the loop that called :meth:`start`; nothing here may be used from another thread.
    """

    def __init__(
        self,
        address: str,
        *,
        config: HubConfig,
        local_address: str = "",
        keys: ServerKeys | None = None,
        events: EventSource | None = None,
        limits: Limits | None = None,
        edges: Edges = REAL,
        contracts: Contracts = DAEMONS,
    ) -> None:
        """``address`` is ``ipc://…`` or ``tcp://…``; tcp needs keys. Raises ConfigError.

        ``local_address`` is a second way in, over ipc, for the daemons of this machine beside the tcp of the others.
        """
        check_address(address, has_keys=keys is not None)
        if local_address:
            check_address(local_address, has_keys=False)
        super().__init__(config, keys, limits or Limits(), edges, contracts)
        self.address = address
        self.local_address = local_address
        self._edges = edges
        self._source = events
        self._call_ids = wire.CallIds(edges.entropy)
        self._turn = 0
        self._aside: deque[Link] = deque()  # who has frames set aside
        self._aside_max = pipe_frames_max(config, self._limits)
        self._context: Context | None = None

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
            if self.local_address:
                two_ways(self._context)
            if self._keys is not None and self.address.startswith("tcp://"):
                self._authenticator = Authenticator(self._context, self._keys.allowed, self.counters)
            socket = hub_socket(self._context, self._config, self._limits)
            if self.local_address:
                self.address = bind_both(socket, self.local_address, self.address, self._keys)
            else:
                self.address = bind_hub(socket, self.address, self._keys)
        except (zmq.ZMQError, OSError, ConfigError) as error:
            if self._authenticator is not None:
                self._authenticator.close()
            self._context.destroy(0)
            raise ConfigError(f"the hub cannot listen on {self.address}: {error}") from error
        if self._source is not None:
            self._feed = EventFeed(self._source, self._limits)
        self._serve_on(socket, self._drain)

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
                route = recv(DONTWAIT)
                link = routes.get(route)
                if link is None:
                    self._on_stranger(route)
                    continue
                frame = recv(DONTWAIT)
                budget -= len(frame) >> FRAME_BYTES_SHIFT
                if get(RCVMORE):
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
