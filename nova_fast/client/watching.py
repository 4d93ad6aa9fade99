"""What a watch hands out: events, and the gap between those that are kept and those that are not."""

from __future__ import annotations

import msgspec

from nova_fast.model.sdk import HostEvent, HostGone, PublicEvent, Seen, ServerEvent

#: How long one question waits for an answer at the door.
WAIT_S = 20.0


class Gap(msgspec.Struct, frozen=True):
    """Events up to this generation were missed, because the cloud keeps them no more: read anew what you derived."""

    generation: int


WatchEvent = ServerEvent | HostEvent | HostGone | Gap

_decode = msgspec.msgpack.Decoder(PublicEvent).decode


def decode_event(raw: msgspec.Raw) -> PublicEvent | None:
    """An event; None for one of a kind that only a newer release knows."""
    try:
        event: PublicEvent = _decode(raw)
    except msgspec.ValidationError:
        return None
    return event


def events_of(seen: Seen) -> list[WatchEvent]:
    """What one answer holds, in order."""
    found: list[WatchEvent] = [Gap(seen.position)] if seen.gap else []
    return found + [event for raw in seen.events if (event := decode_event(raw)) is not None]
