"""The receiver's half of a call: recognise it by its id, run it once, remember the answer.

A call whose id is running joins the running one; a call whose id has finished gets the remembered answer; any other
runs. A handler may be a plain function that returns the answer (no task is made), a coroutine function, or, for the
conductor, a function that takes all calls that arrived together. What is remembered is bounded by count, bytes and
age; durable recognition is the business of whoever stores the call id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import cast

import msgspec

from nova_fast.hub import wire
from nova_fast.hub.answers import Answers
from nova_fast.hub.contracts import ENCODER, MessageDecoder
from nova_fast.hub.limits import Counters, Limits
from nova_fast.hub.sockets import Departures
from nova_fast.model.base import Message
from nova_fast.model.errors import (
    BadRequest,
    InternalError,
    NotImplementedHere,
    NovaFastError,
    TooLarge,
    Unavailable,
)

_log = logging.getLogger(__name__)


class Incoming:
    """A call that has arrived and waits for its answer."""

    __slots__ = ("_calls", "call_id", "deadline_s", "message", "peer")

    def __init__(self, calls: IncomingCalls, message: Message, call_id: bytes, deadline_s: float) -> None:
        self._calls = calls
        self.peer = calls.sender
        self.message = message
        self.call_id = call_id
        self.deadline_s = deadline_s  # of this loop's clock; 0 = none

    def reply(self, answer: Message | BaseException) -> None:
        """Answer the call; only on the loop's thread. Of several answers the first counts."""
        self._calls.answer(self, answer)


Run = Callable[[Incoming], Message | Awaitable[Message]]
RunBatch = Callable[[list[Incoming]], None]


class Handlers:
    """What this process does with each type of call; shared by all its senders."""

    def __init__(self) -> None:
        self._run: dict[type[Message], Run] = {}
        self.repeatable: set[type[Message]] = set()  # whose answers are not remembered
        self._batch_of: dict[type[Message], list[Incoming]] = {}
        self._batches: list[tuple[RunBatch, list[Incoming]]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

    def add(self, message_type: type[Message], run: Run) -> None:
        """One call at a time."""
        assert message_type not in self._run and message_type not in self._batch_of, "two handlers for one message"
        self._run[message_type] = run

    def add_batch(self, message_types: tuple[type[Message], ...], run: RunBatch) -> None:
        """All calls of these types that arrived together, in one list."""
        gathered: list[Incoming] = []
        self._batches.append((run, gathered))
        for message_type in message_types:
            assert message_type not in self._run and message_type not in self._batch_of, "two handlers for one message"
            self._batch_of[message_type] = gathered

    def dispatch(self, call: Incoming) -> None:
        """Start a call; its answer goes to ``call.reply``."""
        kind = type(call.message)
        run = self._run.get(kind)
        if run is None:
            gathered = self._batch_of.get(kind)
            if gathered is None:
                call.reply(NotImplementedHere(f"nobody here handles {kind.__name__}", code="no_handler"))
            else:
                gathered.append(call)
            return
        try:
            result = run(call)
        except Exception as error:  # noqa: BLE001 - logged or answered, never fatal to others
            call.reply(error)
            return
        if isinstance(result, Message):
            call.reply(result)
            return
        task = asyncio.get_running_loop().create_task(self._finish(call, result))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def hand_over(self) -> None:
        """Give the gathered calls to their batch handlers; called when the socket is drained."""
        for run, gathered in self._batches:
            if not gathered:
                continue
            calls = gathered.copy()
            gathered.clear()
            try:
                run(calls)
            except Exception as error:  # noqa: BLE001 - logged or answered, never fatal to others
                for call in calls:
                    call.reply(error)

    async def close(self) -> None:
        """Cancel what is running; their callers resend to the next process of this name."""
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _finish(self, call: Incoming, result: Awaitable[Message]) -> None:
        try:
            answer = await result
        except asyncio.CancelledError:
            if not self._closing:
                call.reply(Unavailable("the call was cancelled where it ran", code="cancelled"))
            raise
        except Exception as error:  # noqa: BLE001 - logged or answered, never fatal to others
            call.reply(error)
            return
        call.reply(answer)


class IncomingCalls:
    """All calls from one sender."""

    __slots__ = (
        "_answers",
        "_counters",
        "_decoder",
        "_handlers",
        "_limits",
        "_loop",
        "_put",
        "_running",
        "_settings",
        "sender",
    )

    def __init__(
        self,
        sender: str,
        decoder: MessageDecoder,
        handlers: Handlers,
        put: Callable[[bytes], None],
        settings: Settings,
    ) -> None:
        self.sender = sender
        self._decoder = decoder
        self._handlers = handlers
        self._put = put
        self._limits = settings.limits
        self._counters = settings.counters
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._running: set[bytes] = set()
        self._answers = Answers(settings.limits)

    @property
    def running(self) -> int:
        return len(self._running)

    def receive(self, call_id: bytes, deadline_us: int, body: memoryview) -> bool:
        """A CALL frame has come; ``deadline_us`` is of the hub's clock. Whether it could be read."""
        deadline_s = 0.0
        if call_id in self._running:
            self._counters.repeated += 1
            return True
        remembered = self._answers.get(call_id)
        if remembered is not None:
            self._counters.repeated += 1
            self._put(remembered)
            return True
        if deadline_us:
            deadline_s = (deadline_us - self._settings.clock_ahead_us) / 1e6
            if deadline_s <= self._loop.time():
                self._counters.expired += 1
                self._refuse(call_id, Unavailable("the call came after its deadline", code="deadline_passed"))
                return True
        if len(self._running) >= self._limits.running_calls_max:
            self._refuse(call_id, Unavailable("too many calls are running", code="queue_full", hint="try again"))
            return True
        try:
            message = self._decoder.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._counters.malformed += 1
            self._refuse(call_id, BadRequest(f"the message cannot be read: {error}", code="malformed_message"))
            return False
        self._running.add(call_id)
        self._handlers.dispatch(Incoming(self, message, call_id, deadline_s))
        return True

    def answer(self, call: Incoming, answer: Message | BaseException) -> None:
        """Send the answer of a running call, and remember it unless the call may simply run again."""
        call_id = call.call_id
        if call_id not in self._running:
            return
        self._running.discard(call_id)
        if not isinstance(answer, Message):
            answer = self._failure(call_id, answer).failure()
        frame = wire.pack(wire.REPLY, call_id, 0, self._encode(call_id, answer))
        if len(frame) > self._limits.message_bytes_max:
            too_large = TooLarge(f"the answer has {len(frame)} bytes", code="answer_too_large")
            frame = wire.pack(wire.REPLY, call_id, 0, ENCODER.encode(too_large.failure()))
        if type(call.message) not in self._handlers.repeatable:
            self._answers.add(call_id, frame, self._loop.time())
        self._put(frame)

    def forget_old(self) -> None:
        """Drop remembered answers that are over their age."""
        self._answers.forget_old(self._loop.time())

    def _encode(self, call_id: bytes, answer: Message) -> bytes:
        try:
            return ENCODER.encode(answer)
        except Exception as error:  # noqa: BLE001 - a record that holds what msgpack cannot carry, e.g. an integer over 64 bits
            return ENCODER.encode(self._failure(call_id, error).failure())

    def _failure(self, call_id: bytes, error: object) -> NovaFastError:
        if isinstance(error, NovaFastError):
            return error
        if not isinstance(error, BaseException):
            error = TypeError(f"a handler answered with {type(error).__name__}")
        _log.error("call %s of %s failed", call_id.hex(), self.sender, exc_info=error)
        return InternalError(f"internal error; the log has it under call {call_id.hex()}")

    def _refuse(self, call_id: bytes, error: NovaFastError) -> None:
        """Answer without remembering: the same call may succeed later."""
        self._put(wire.pack(wire.REPLY, call_id, 0, ENCODER.encode(error.failure())))


class Settings:
    """What all calls of a process share."""

    __slots__ = ("clock_ahead_us", "counters", "departures", "limits")

    def __init__(self, limits: Limits, counters: Counters) -> None:
        self.limits = limits
        self.counters = counters
        self.departures = Departures()
        self.clock_ahead_us = 0  # how far the hub's monotonic clock is ahead of this loop's


def read_answer(decoder: MessageDecoder, body: memoryview) -> Message:
    """The message of a REPLY; one that cannot be read becomes an InternalError's Failure."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        unreadable = InternalError(f"the answer cannot be read: {error}", code="malformed_message")
        return cast(Message, unreadable.failure())
