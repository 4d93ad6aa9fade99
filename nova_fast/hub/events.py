"""The ordered event stream, both ends.

The hub keeps for every subscriber a cursor (the last generation it was sent) and a window (batches it has not yet
acknowledged). It reads from the :class:`EventSource` in chunks, only as fast as the subscriber acknowledges, so a
slow one holds nothing in memory: it just lags. A subscriber that lags behind what the source still keeps is told so
(GAP), re-reads what it needs, and the stream goes on from the oldest event there is.

A batch always holds whole generations, so the position after a batch is one number.

A frame that is lost stops nothing: with each heartbeat the subscriber says again how far it is, and the hub makes it
ask again when that has not changed for too long; a subscription whose first batch does not come (there always is one,
be it empty) is asked for again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER, EVENT_DECODER
from nova_fast.hub.limits import Counters, Limits
from nova_fast.hub.sockets import Outbox
from nova_fast.model.events import Event

_log = logging.getLogger(__name__)

_RETRY_S = 0.05  # after the pipe was full
_SOURCE_RETRY_S = 1.0  # after the source failed
_READ_LIMIT_MAX = 1 << 20
_ASK_AGAIN_BEATS_MAX = 16  # heartbeats between two tries to subscribe

Rows = list[tuple[int, bytes]]

_NOTHING = ENCODER.encode([])  # the first batch of a subscription when there is nothing to tell
#: The number of a batch that never comes next, however late the frame: it must not be taken for one that was sent.
_OUT_OF_ORDER = (1 << 64) - 1


class EventSource(Protocol):
    """Where the hub reads events: plain, fast reads of what is committed."""

    def read(self, after_generation: int, limit: int) -> Rows:
        """Up to ``limit`` encoded events of generations after the given one, in order."""

    def oldest(self) -> int:
        """The generation of the oldest event still kept; when none is kept, one more than the newest generation."""


class _Subscription:
    __slots__ = ("acknowledged", "cursor", "idle", "moved_s", "number", "outbox", "sent")

    def __init__(self, number: int, cursor: int, outbox: Outbox, now_s: float) -> None:
        self.number = number
        self.cursor = cursor
        self.outbox = outbox
        self.sent = 0  # batches
        self.acknowledged = 0
        self.moved_s = now_s  # when a batch was last acknowledged, or sent after all were
        self.idle = False  # the source had nothing more

    def sent_to(self, position: int, now_s: float) -> None:
        """A batch has left."""
        if self.sent == self.acknowledged:
            self.moved_s = now_s
        self.sent += 1
        self.cursor = position

    def heard(self, batch: int, now_s: float) -> None:
        """Batches up to this one have been handled."""
        self.acknowledged = batch
        self.moved_s = now_s

    def shake(self, now_s: float) -> None:
        """Something was lost: a batch that is out of order makes the subscriber ask again from where it is."""
        self.moved_s = now_s
        self.outbox.offer(wire.pack(wire.EVENTS, wire.pack_numbers(self.number, _OUT_OF_ORDER), 0, _NOTHING))


class EventFeed:
    """The hub's end: all subscribers by name."""

    def __init__(self, source: EventSource, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._subscriptions: dict[str, _Subscription] = {}
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._closed = False

    def subscribe(self, name: str, number: int, generation: int, outbox: Outbox) -> None:
        """A peer wants everything after this generation; replaces what it had asked before.

        A frame that comes twice or late changes nothing: batches of one subscription are numbered once, or the peer
        would take one that begins further on for the next.
        """
        current = self._subscriptions.get(name)
        if current is not None and number <= current.number:
            return
        self._subscriptions[name] = _Subscription(number, generation, outbox, self._loop.time())
        self._schedule()

    def unsubscribe(self, name: str) -> None:
        """The link is gone; the peer asks again when it is back."""
        self._subscriptions.pop(name, None)

    def acknowledge(self, name: str, number: int, batch: int) -> None:
        """A peer has handled all batches up to this one; it says so again and again."""
        subscription = self._subscriptions.get(name)
        if subscription is None or subscription.number != number or batch > subscription.sent:
            return
        now_s = self._loop.time()
        if batch > subscription.acknowledged:
            subscription.heard(batch, now_s)
        elif subscription.sent > batch and now_s - subscription.moved_s > self._limits.resend_after_s:
            subscription.shake(now_s)
        if not subscription.idle:
            self._schedule()

    def notify(self) -> None:
        """Something new can be read."""
        for subscription in self._subscriptions.values():
            subscription.idle = False
        self._schedule()

    def close(self) -> None:
        self._closed = True
        self._subscriptions.clear()
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()

    def _schedule(self) -> None:
        if self._soon is None and not self._closed:
            self._soon = self._loop.call_soon(self._pump)

    def _schedule_later(self, delay_s: float) -> None:
        if self._later is None and not self._closed:
            self._later = self._loop.call_later(delay_s, self._pump_later)

    def _pump_later(self) -> None:
        self._later = None
        self._schedule()

    def _pump(self) -> None:
        """One batch for each subscriber that can take one; again in the next turn while there is progress."""
        self._soon = None
        # PERF: subscribers at the same place share one read and one encoding.
        chunks: dict[int, tuple[bytes, int]] = {}
        progress = False
        try:
            oldest = self._source.oldest()
            for subscription in list(self._subscriptions.values()):  # a link that is gone leaves while we go
                if subscription.idle or subscription.sent - subscription.acknowledged >= self._limits.event_window:
                    continue
                progress |= self._advance(subscription, oldest, chunks)
        except Exception:  # noqa: BLE001 - logged or answered, never fatal to others
            _log.exception("events cannot be read; trying again in %s s", _SOURCE_RETRY_S)
            self._schedule_later(_SOURCE_RETRY_S)
            return
        if progress:
            self._schedule()

    def _advance(self, subscription: _Subscription, oldest: int, chunks: dict[int, tuple[bytes, int]]) -> bool:
        gap = subscription.cursor + 1 < oldest
        if gap:
            kind, position = wire.GAP, oldest - 1
            body = ENCODER.encode(wire.Position(generation=position))
        else:
            kind = wire.EVENTS
            chunk = chunks.get(subscription.cursor)
            if chunk is None:
                chunk = chunks[subscription.cursor] = self._chunk(subscription.cursor)
            body, position = chunk
            if not body and subscription.sent:
                subscription.idle = True
                return False
            body = body or _NOTHING
        frame = wire.pack(kind, wire.pack_numbers(subscription.number, subscription.sent + 1), 0, body)
        if not subscription.outbox.offer(frame):
            self._schedule_later(_RETRY_S)
            return False
        subscription.sent_to(position, self._loop.time())
        return True

    def _chunk(self, cursor: int) -> tuple[bytes, int]:
        rows = read_whole_generations(self._source, cursor, self._limits.event_batch)
        if not rows:
            return b"", cursor
        assert rows[0][0] > cursor, "the source gave an event that was not asked for"
        rows = _cut_to_bytes(rows, self._limits.event_batch_bytes)
        return ENCODER.encode(rows), rows[-1][0]


def read_whole_generations(source: EventSource, after_generation: int, limit: int) -> Rows:
    """About ``limit`` events, never a part of a generation."""
    rows = source.read(after_generation, limit + 1)  # the one too many says whether the last generation is whole
    while len(rows) > limit:
        last = rows[-1][0]
        whole = [row for row in rows if row[0] != last]
        if whole:
            return whole
        limit *= 2
        assert limit <= _READ_LIMIT_MAX, "a generation with more events than a batch can hold"
        rows = source.read(after_generation, limit + 1)
    return rows


def _cut_to_bytes(rows: Rows, bytes_max: int) -> Rows:
    total = 0
    for index, (generation, event) in enumerate(rows):
        total += len(event)
        if total > bytes_max and generation != rows[0][0]:
            return [row for row in rows[:index] if row[0] != generation]
    return rows


class EventReader:
    """The peer's end: hands events to one handler, in order, and knows where it stopped."""

    def __init__(self, send: Callable[[bytes], None], counters: Counters) -> None:
        self._send = send
        self._counters = counters
        self._number = 0
        self._batch = 0
        self._position = 0
        self._patience_beats = 1  # before it is asked again
        self._beats = 0
        self._handler: Callable[[int, Event], None] | None = None
        self._on_gap: Callable[[], None] | None = None

    @property
    def position(self) -> int:
        """The last generation that was handled."""
        return self._position

    def subscribe(self, generation: int, handler: Callable[[int, Event], None], on_gap: Callable[[], None]) -> None:
        """Everything after ``generation`` goes to the handler from now on."""
        assert generation >= 0
        self._position = generation
        self._handler = handler
        self._on_gap = on_gap
        self.ask()

    def ask(self) -> None:
        """Ask for everything after the last position; after subscribing and on every new link."""
        self._patience_beats = 1
        self._ask()

    def beat(self) -> None:
        """With each heartbeat: say again how far it is, or ask again when nothing has come."""
        if self._handler is None:
            return
        if self._batch:
            self._acknowledge()
            return
        self._beats += 1
        if self._beats > self._patience_beats:
            self._patience_beats = min(2 * self._patience_beats, _ASK_AGAIN_BEATS_MAX)
            self._ask()

    def _ask(self) -> None:
        if self._handler is None:
            return
        self._beats = 0
        self._number += 1
        self._batch = 0
        body = ENCODER.encode(wire.Position(generation=self._position))
        self._send(wire.pack(wire.SUBSCRIBE, wire.pack_numbers(self._number, 0), 0, body))

    def receive(self, kind: int, numbers: bytes, body: memoryview) -> None:
        """An EVENTS or GAP frame has come."""
        number, batch = wire.unpack_numbers(numbers)
        if number != self._number or self._handler is None:
            return
        if batch <= self._batch:
            self._acknowledge()
            return
        if batch != self._batch + 1:
            _log.warning("event batch %d came after %d; asking again from %d", batch, self._batch, self._position)
            self.ask()
            return
        self._batch = batch
        if kind == wire.GAP:
            self._position = wire.POSITION_DECODER.decode(body).generation
            self._tell_gap()
        else:
            self._deliver(wire.EVENTS_DECODER.decode(body))
        self._acknowledge()

    def _acknowledge(self) -> None:
        self._send(wire.pack(wire.EVENTS_ACK, wire.pack_numbers(self._number, self._batch)))

    def _deliver(self, rows: Rows) -> None:
        number = self._number
        for generation, encoded in rows:
            if self._number != number:
                return  # the handler subscribed anew: the rest comes again
            assert generation >= self._position, "events out of order"
            handler = self._handler
            assert handler is not None
            try:
                event = EVENT_DECODER.decode(encoded)
            except msgspec.MsgspecError as error:
                self._counters.malformed += 1
                _log.warning("an event of generation %d cannot be read: %s", generation, error)
                continue
            try:
                handler(generation, event)
            except Exception:  # noqa: BLE001 - logged or answered, never fatal to others
                _log.exception("an event of generation %d was not handled; its reader must read anew", generation)
                self._tell_gap()
        if self._number == number and rows:
            self._position = rows[-1][0]

    def _tell_gap(self) -> None:
        on_gap = self._on_gap
        assert on_gap is not None
        try:
            on_gap()
        except Exception:  # noqa: BLE001 - logged or answered, never fatal to others
            _log.exception("the handler of an event gap failed")
