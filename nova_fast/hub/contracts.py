"""Which messages may travel, in which direction, and the encoders that carry them.

A message type that is in no tuple here cannot be sent or received. The decoder of each direction is made from the
tuples once; it accepts the calls of that direction and the replies to the calls of the other.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any, cast

import msgspec

from nova_fast.model import events, sdk, tasks
from nova_fast.model.base import Message
from nova_fast.model.commands import COMMANDS, RESULTS
from nova_fast.model.errors import Failure

#: Calls that a daemon of one node (its name has an ``@``) may make of the conductor. There are no commands among them:
#: a node that was taken over speaks of its own machines and cannot ask for anything in a user's name.
NODE_TO_HUB: tuple[type[Message], ...] = (
    tasks.HostReport,
    tasks.ServiceReport,
    tasks.GuestInventory,
    tasks.GuestChanged,
    tasks.MetadataRequest,
)
#: Calls that any other daemon may make of the conductor, and what may come back.
PEER_TO_HUB: tuple[type[Message], ...] = (
    *NODE_TO_HUB,
    tasks.ReadServerConsole,
    tasks.CacheAggregateImages,
    tasks.AskCapacity,
    *COMMANDS,
)
PEER_TO_HUB_REPLIES: tuple[type[Message], ...] = (
    tasks.Done,
    tasks.HostHeard,
    tasks.WantedGuests,
    tasks.MetadataAnswer,
    tasks.ConsoleOutput,
    tasks.Capacity,
    Failure,
    *RESULTS,
)

#: Calls the conductor makes of a daemon, and what may come back.
HUB_TO_PEER: tuple[type[Message], ...] = (
    tasks.SpawnGuest,
    tasks.DestroyGuest,
    tasks.PowerGuest,
    tasks.ReadConsole,
    tasks.CacheImages,
    tasks.ApplyNetworks,
    tasks.SelectHosts,
    tasks.ReleaseClaims,
    tasks.CountCapacity,
)
HUB_TO_PEER_REPLIES: tuple[type[Message], ...] = (
    tasks.GuestState,
    tasks.ConsoleOutput,
    tasks.NetworksApplied,
    tasks.Selection,
    tasks.Capacity,
    tasks.Done,
    Failure,
)

MessageDecoder = msgspec.msgpack.Decoder[Message]


def decoder_of(*groups: tuple[type[Message], ...]) -> MessageDecoder:
    """A decoder for the union of all types in the groups."""
    types = dict.fromkeys(kind for group in groups for kind in group)
    assert types, "a direction without messages"
    union: Any = functools.reduce(operator.or_, types)
    return cast(MessageDecoder, msgspec.msgpack.Decoder(union))


#: What the conductor reads: calls of the daemons, and their replies to its own calls.
HUB_DECODER: MessageDecoder = decoder_of(PEER_TO_HUB, HUB_TO_PEER_REPLIES)
#: What the conductor reads of a node's daemon.
NODE_DECODER: MessageDecoder = decoder_of(NODE_TO_HUB, HUB_TO_PEER_REPLIES)
#: What a daemon reads: calls of the conductor, and its replies to the daemon's calls.
PEER_DECODER: MessageDecoder = decoder_of(HUB_TO_PEER, PEER_TO_HUB_REPLIES)

ENCODER = msgspec.msgpack.Encoder()
EVENT_DECODER: msgspec.msgpack.Decoder[events.Event] = msgspec.msgpack.Decoder(events.Event)


def is_node_daemon(name: str) -> bool:
    """Whether this is a daemon of one node, which is trusted with no more than that node: ``compute@host1``."""
    return "@" in name


def hub_decoder(name: str) -> MessageDecoder:
    """What the conductor reads of the peer of this name."""
    return NODE_DECODER if is_node_daemon(name) else HUB_DECODER


class Contracts(msgspec.Struct, frozen=True, kw_only=True):
    """What one hub and its peers say to each other; both ends are given the same."""

    hub: str  # what a peer calls the hub when it speaks of it
    hub_reads: Callable[[str], MessageDecoder]  # of the peer of this name
    peer_reads: MessageDecoder
    admits: Callable[[str], bool]  # whether a peer may have this name, whatever its key
    shows_events: Callable[[str], bool]  # whether the peer of this name may read the event stream
    waits_to_return: Callable[[str], bool] = lambda _name: False  # one of many, who had better not come back at once


#: Those of the conductor and the daemons. SAFETY: events tell of every project, a node only knows its own machines.
DAEMONS = Contracts(
    hub="the conductor",
    hub_reads=hub_decoder,
    peer_reads=PEER_DECODER,
    admits=lambda _name: True,
    shows_events=lambda name: not is_node_daemon(name),
    waits_to_return=is_node_daemon,
)


_SDK_CALLS: MessageDecoder = decoder_of((sdk.Asks, sdk.Watch))
#: Those of an API worker and the clients of the SDK. SAFETY: no command is among them, so whatever a client sends goes
#: through a face, which knows who asks and what he may.
SDK = Contracts(
    hub="the cloud",
    hub_reads=lambda _name: _SDK_CALLS,
    peer_reads=decoder_of((sdk.Answers, sdk.Seen, Failure)),
    admits=lambda name: name.startswith("client."),
    shows_events=lambda _name: False,
)


def encode_event(event: events.Event) -> bytes:
    """An event as an EventSource hands it out."""
    return ENCODER.encode(event)
