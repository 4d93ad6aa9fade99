"""The caller's half of a call: credits, the queue, deadlines and resending.

A call is in one of three places: *in flight* (it has a credit), *waiting* (in order, bounded) or answered. It is sent
when it gets its credit, again whenever the link is made anew, and again after a while without an answer, always with
the same id and body. It ends with the first answer or at its deadline; there is no third end, except that
this side closes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from nova_fast.hub import wire
from nova_fast.hub.callbacks import tell
from nova_fast.hub.limits import Counters, Limits
from nova_fast.hub.queues import EMPTY, with_room
from nova_fast.model.base import Message
from nova_fast.model.errors import Failure, NovaFastError, Unavailable, from_failure

_SWEEP_S_MIN = 0.005

#: Told once how a call ended.
Ended = Callable[[Message | NovaFastError], None]


class _Call:
    __slots__ = ("call_id", "deadline_s", "ended", "frame", "resend_at_s", "resend_s")

    def __init__(self, call_id: bytes, frame: bytes, deadline_s: float, ended: Ended) -> None:
        self.call_id = call_id
        self.frame = frame
        self.deadline_s = deadline_s  # of the loop's clock
        self.ended = [ended]  # all who wait for it
        self.resend_s = 0.0
        self.resend_at_s = 0.0


class OutgoingCalls:
    """All calls to one peer."""

    __slots__ = (
        "_closed",
        "_closed_because",
        "_counters",
        "_flight",
        "_limits",
        "_loop",
        "_put",
        "_timer",
        "_timer_at_s",
        "_waiting",
        "_waiting_ids",
        "credits",
        "linked",
        "receiver",
    )

    def __init__(self, receiver: str, put: Callable[[bytes], None], limits: Limits, counters: Counters) -> None:
        self.receiver = receiver
        self.credits = 0
        self.linked = False
        self._put = put
        self._limits = limits
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._flight: dict[bytes, _Call] = {}
        self._waiting: deque[_Call] = EMPTY
        self._waiting_ids: dict[bytes, _Call] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_s = 0.0
        self._closed = False
        self._closed_because = ""

    @property
    def in_flight(self) -> int:
        return len(self._flight)

    @property
    def waiting(self) -> int:
        return len(self._waiting_ids)

    async def call(self, call_id: bytes, frame: bytes, deadline_s: float) -> Message:
        """Send the frame until it is answered; ``deadline_s`` is of the loop's clock.

        Raises what the answer says, or Unavailable at the deadline, when too many calls wait, or on closing.
        """
        future: asyncio.Future[Message] = self._loop.create_future()

        def ended(outcome: Message | NovaFastError) -> None:
            if future.done():
                return
            if isinstance(outcome, NovaFastError):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)

        self.begin(call_id, frame, deadline_s, ended)
        try:
            return await future
        finally:
            if future.cancelled():
                self._abandon(call_id, ended)

    def begin(self, call_id: bytes, frame: bytes, deadline_s: float, ended: Ended) -> None:
        """The same for whoever needs no future: ``ended`` is told what the answer says, or why there is none.

        Raises Unavailable when the call cannot even begin.
        """
        if self._closed:
            raise self._gone()
        known = self._flight.get(call_id) or self._waiting_ids.get(call_id)
        if known is not None:
            known.ended.append(ended)
            return
        now_s = self._loop.time()
        if deadline_s <= now_s:
            raise self._late()
        call = _Call(call_id, frame, deadline_s, ended)
        if self.linked and len(self._flight) < self.credits and not self._waiting_ids:
            self._launch(call, now_s)
        elif len(self._waiting_ids) >= self._limits.waiting_calls_max:
            raise Unavailable(
                f"too many calls to {self.receiver} are waiting", code="queue_full", hint="try again in a moment"
            )
        else:
            self._waiting = with_room(self._waiting)
            self._waiting.append(call)
            self._waiting_ids[call_id] = call
            self._arm(deadline_s, now_s)

    def _launch(self, call: _Call, now_s: float) -> None:
        self._flight[call.call_id] = call
        call.resend_s = self._limits.resend_after_s
        call.resend_at_s = now_s + call.resend_s
        self._arm(min(call.deadline_s, call.resend_at_s), now_s)
        self._put(call.frame)

    def _refill(self) -> None:
        if not self.linked:
            return
        now_s = self._loop.time()
        while self._waiting and len(self._flight) < self.credits:
            call = self._waiting.popleft()
            if self._waiting_ids.get(call.call_id) is call:
                del self._waiting_ids[call.call_id]
                self._launch(call, now_s)

    def link_up(self, credits_now: int, hub_clock_us: int) -> None:
        """A link is there: everything that has no answer is sent (again), in the order it was first sent.

        Deadlines are written anew from this machine's monotonic clock, because only now the hub's clock is known.
        """
        assert credits_now > 0
        self.credits = credits_now
        self.linked = True
        now_s = self._loop.time()
        for call in (*self._flight.values(), *self._waiting_ids.values()):
            call.frame = wire.restamp(call.frame, hub_clock_us + int((call.deadline_s - now_s) * 1e6))
        for call in self._flight.values():
            call.resend_at_s = now_s + call.resend_s
            self._put(call.frame)
        self._refill()

    def link_down(self) -> None:
        """The link is gone; calls stay until their deadline."""
        self.linked = False

    def answered(self, call_id: bytes, answer: Message) -> None:
        """An answer has come."""
        call = self._flight.pop(call_id, None)
        if call is None:
            self._counters.late_answers += 1
            return
        if isinstance(answer, Failure):
            _fail(call, lambda: from_failure(answer))
        else:
            for ended in call.ended:
                tell(ended, answer)
        if self._waiting:
            self._refill()

    def close(self, reason: str = "the hub is closing") -> None:
        """Every call without an answer, and every later one, fails with Unavailable."""
        self._closed = True
        self._closed_because = reason
        self.linked = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for call in [*self._flight.values(), *self._waiting_ids.values()]:
            _fail(call, self._gone)
        self._flight.clear()
        self._waiting.clear()
        self._waiting_ids.clear()

    def _abandon(self, call_id: bytes, ended: Ended) -> None:
        """The caller was cancelled; when nobody else waits for this call, its credit is free again."""
        call = self._flight.get(call_id) or self._waiting_ids.get(call_id)
        if call is None or ended not in call.ended:
            return
        call.ended.remove(ended)
        if not call.ended:
            self._forget(call)
            self._refill()

    def _forget(self, call: _Call) -> None:
        if self._flight.pop(call.call_id, None) is None:
            del self._waiting_ids[call.call_id]
            self._waiting.remove(call)

    def _gone(self) -> Unavailable:
        return Unavailable(self._closed_because, code="hub_closed")

    def _late(self) -> Unavailable:
        return Unavailable(f"{self.receiver} did not answer in time", code="deadline_passed", hint="try again")

    def _arm(self, at_s: float, now_s: float) -> None:
        # PERF: one timer for all calls, moved only towards the nearer; a timer for each call costs more than the call.
        if self._timer is not None:
            if self._timer_at_s <= at_s:
                return
            self._timer.cancel()
        self._timer_at_s = max(at_s, now_s + _SWEEP_S_MIN)
        self._timer = self._loop.call_later(self._timer_at_s - now_s, self._sweep)

    def _sweep(self) -> None:
        """Fail what is past its deadline, resend what is silent, and set the timer for the next of them."""
        self._timer = None
        now_s = self._loop.time()
        next_s = float("inf")
        late: list[_Call] = []
        for call in self._flight.values():
            if call.deadline_s <= now_s:
                late.append(call)
                continue
            if call.resend_at_s <= now_s:
                call.resend_s = min(call.resend_s * 2, self._limits.resend_after_s_max)
                call.resend_at_s = now_s + call.resend_s
                if self.linked:
                    self._put(call.frame)
            next_s = min(next_s, call.deadline_s, call.resend_at_s)
        for call in self._waiting_ids.values():
            if call.deadline_s <= now_s:
                late.append(call)
            else:
                next_s = min(next_s, call.deadline_s)
        for call in late:
            self._forget(call)
            _fail(call, self._late)
        if next_s != float("inf"):
            self._arm(next_s, now_s)
        self._refill()


def _fail(call: _Call, error: Callable[[], NovaFastError]) -> None:
    for ended in call.ended:
        tell(ended, error())
