"""One peer as the hub sees it: everything that outlives its connections and its processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from nova_fast.hub.conduct import Conduct
from nova_fast.hub.contracts import MessageDecoder
from nova_fast.hub.incoming import Handlers, IncomingCalls, Settings
from nova_fast.hub.outgoing import OutgoingCalls
from nova_fast.hub.sockets import Outbox, Sent

_REPLACED_MAX = 16  # sessions of a name that are told to stay away


class PeerState(msgspec.Struct, frozen=True, kw_only=True):
    """What can be said of a peer now."""

    name: str
    up: bool
    silent_s: float  # since it was last heard
    calls_in_flight: int  # from the hub to the peer
    calls_waiting: int
    calls_running: int  # from the peer, here


class Link:
    """A peer: its route now, its session, and the calls in both directions."""

    __slots__ = (
        "conduct",
        "decoder",
        "descriptor",
        "heard_s",
        "incoming",
        "name",
        "outbox",
        "outgoing",
        "public",
        "replaced",
        "route",
        "session",
        "up",
    )

    def __init__(
        self,
        name: str,
        decoder: MessageDecoder,
        handlers: Handlers,
        send: Callable[[Link, bytes], Sent],
        settings: Settings,
    ) -> None:
        self.name = name
        self.route: bytes | None = None
        self.session = b""
        self.descriptor = -1  # of the connection behind the route
        self.conduct = Conduct(settings.limits)
        self.public = b""  # the key behind the route; empty over ipc
        self.decoder = decoder
        self.replaced: tuple[bytes, ...] = ()  # sessions, newest last
        self.up = False
        self.heard_s = 0.0  # of the loop's clock
        self.outbox = Outbox(partial(send, self), settings.limits, settings.counters, settings.departures)
        self.outgoing = OutgoingCalls(name, self.outbox.put, settings.limits, settings.counters)
        self.incoming = IncomingCalls(name, self.decoder, handlers, self.outbox.put, settings)

    def replace_session(self) -> None:
        """A newer process takes the name: the one that had it is told to stay away."""
        self.replaced = (*self.replaced, self.session)[-_REPLACED_MAX:]

    @property
    def idle(self) -> bool:
        """Nothing is under way in either direction."""
        return not (self.outgoing.in_flight or self.outgoing.waiting or self.incoming.running)

    def state(self, now_s: float) -> PeerState:
        """A picture of this peer; ``now_s`` is of the loop's clock."""
        return PeerState(
            name=self.name,
            up=self.up,
            silent_s=max(0.0, now_s - self.heard_s),
            calls_in_flight=self.outgoing.in_flight,
            calls_waiting=self.outgoing.waiting,
            calls_running=self.incoming.running,
        )
