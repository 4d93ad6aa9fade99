"""The conductor's event log as clients may see it: read from the worker's own map, made public once for all watchers.

PERF: nobody has to tell a worker that something happened: it looks at the number of the last commit (1 µs) a hundred
times a second while somebody watches, and more rarely the more do. So watching costs the conductor nothing, and goes on
while it is restarted.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from nova_fast.hub.contracts import ENCODER, EVENT_DECODER
from nova_fast.model.events import HostChanged, HostRemoved, ServerChanged
from nova_fast.model.identity import Caller
from nova_fast.model.sdk import EVENTS_MAX, HostEvent, HostGone, Seen, ServerEvent
from nova_fast.queries.events import Logged, events_after, span
from nova_fast.queries.reading import Reader, Snapshots

log = logging.getLogger(__name__)

LOOK_S = 0.01
#: For each who waits: to be woken costs 20 µs, so all together take 5 % of the worker, however many they are.
LOOK_EACH_S = 0.0004
LOOK_AGAIN_S = 1.0  # after the store could not be read
CHUNK_ROWS = 2000
CHUNKS_MAX = 8


class Row(msgspec.Struct, frozen=True):
    """One event in its public form."""

    generation: int
    project_id: str  # "" = for admins only
    public: msgspec.Raw | None  # None = for nobody
    full: msgspec.Raw | None  # for admins


class Journal:
    """Reads of the log, shared by all watchers of a worker."""

    def __init__(self, store: Snapshots) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._commit = -1  # of the chunks
        self._looked = -1  # the commit at the last look
        self._chunks: dict[int, list[Row]] = {}  # by the generation before; of one commit
        self._waiters: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def read(self, snapshot: Reader, caller: Caller, after: int, limit: int) -> Seen:
        """What a caller may see of what came after a generation; from a negative one on only where the log is."""
        oldest, newest = span(snapshot)
        if after < 0:
            return Seen(position=newest)
        if after + 1 < oldest or after > newest:  # dropped, or of a store that was replaced
            return Seen(position=oldest - 1 if after + 1 < oldest else newest, gap=True)
        if snapshot.commit() != self._commit:
            self._commit = snapshot.commit()
            self._chunks.clear()
        rows = self._chunks.get(after)
        if rows is None:
            if len(self._chunks) >= CHUNKS_MAX:
                self._chunks.clear()
            rows = self._chunks[after] = [_row(event) for event in events_after(snapshot, after, CHUNK_ROWS)]
        return _seen(rows, caller, after, min(limit, EVENTS_MAX))

    async def changed(self, timeout_s: float) -> None:
        """Return when something was committed, or after the time."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.add(waiter)
        if self._timer is None:
            self._timer = self._loop.call_later(LOOK_S, self._look)
        late = self._loop.call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            late.cancel()
            self._waiters.discard(waiter)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if not self._waiters:
            return
        pause_s = max(LOOK_S, LOOK_EACH_S * len(self._waiters))
        try:
            with self._store.snapshot() as snapshot:
                commit = snapshot.commit()
        except Exception:
            log.exception("the events cannot be read; trying again in %g s", LOOK_AGAIN_S)
            pause_s = LOOK_AGAIN_S
        else:
            if commit != self._looked:
                self._looked = commit
                for waiter in self._waiters:
                    _wake(waiter)
        self._timer = self._loop.call_later(pause_s, self._look)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _seen(rows: list[Row], caller: Caller, after: int, limit: int) -> Seen:
    """The rows that exist for a caller, and how far that goes."""
    events: list[msgspec.Raw] = []
    position = after
    for row in rows:
        event = row.full if caller.is_admin else row.public if row.project_id == caller.project_id else None
        if event is not None:
            if len(events) == limit:
                break
            events.append(event)
        position = row.generation
    return Seen(position=position, events=tuple(events))


def _row(logged: Logged) -> Row:
    generation = logged.generation
    try:
        event = EVENT_DECODER.decode(logged.body)
    except msgspec.MsgspecError as error:
        log.warning("the event of generation %d cannot be read: %s", generation, error)
        return Row(generation, "", None, None)
    if isinstance(event, ServerChanged):
        shown = ServerEvent(
            generation=generation,
            server_id=event.server_id,
            project_id=event.project_id,
            status=event.status,
            task_state=event.task_state,
        )
        full = msgspec.structs.replace(shown, host=event.host)
        return Row(generation, event.project_id, _raw(shown), _raw(full))
    if isinstance(event, HostChanged):
        host = event.host
        up = HostEvent(
            generation=generation,
            host=host.name,
            up=host.up,
            enabled=host.enabled,
            forced_down=host.forced_down,
            zone=host.zone,
        )
        return Row(generation, "", None, _raw(up))
    if isinstance(event, HostRemoved):
        return Row(generation, "", None, _raw(HostGone(generation=generation, host=event.host)))
    return Row(generation, "", None, None)


def _raw(event: ServerEvent | HostEvent | HostGone) -> msgspec.Raw:
    return msgspec.Raw(ENCODER.encode(event))
