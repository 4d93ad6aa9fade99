"""One event loop for many processes, with virtual time, in an order that the seed decides.

A process is a name for everything that was started inside it: each callback carries its process in its context, as it
would carry it in its address space. Callbacks of one process run in asyncio's order; which process runs next is drawn.
A process that is killed runs no callback any more, from between any two of its steps on, and nothing of it is told:
no ``finally``, no ``close``, as after ``kill -9``. A process that is stopped runs on later.

Time stands still while anything can run, and then jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import asyncio.format_helpers
import contextlib
import contextvars
import heapq
import itertools
import random
import sys
import warnings
import zlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

STEPS_AT_ONCE_MAX = 200_000  # without time going on: something spins


class Process:
    """One run of a program: what it started ends with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.label = name.encode()  # in the digest
        self.alive = True
        self.stopped = False  # as by SIGSTOP
        self.ready: deque[Step] = deque()
        self.queued = False  # among the loop's runnable
        self.dies_after: int | None = None  # so many steps
        self.on_death: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return f"<{self.name}>"


#: The world outside all processes: it never dies.
WORLD = Process("world")
_process: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=WORLD)
_OUTSIDE = contextvars.Context()
_OUTSIDE.run(_process.set, WORLD)


class Livelock(Exception):
    """Something runs for ever without waiting for anything."""


class Step(asyncio.TimerHandle):
    """A callback that is due, or will be, and whose it is.

    PERF: asyncio's own handles ask the loop whether it debugs, and would have to be asked for their process each time.
    """

    __slots__ = ("process",)

    def __init__(
        self, callback: Any, arguments: tuple[Any, ...], context: contextvars.Context, process: Process, when_s: float
    ) -> None:
        self._callback = callback
        self._args = arguments
        self._context = context
        self._cancelled = False
        self._when = when_s
        self.process = process

    def cancel(self) -> None:
        self._cancelled = True
        self._callback = None
        self._args = ()

    def __repr__(self) -> str:
        told = asyncio.format_helpers._format_callback_source(self._callback, self._args)  # type: ignore[attr-defined]
        return f"<{told} of {self.process.name}>"


class SimLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as the daemons use. Not thread-safe: there is one thread."""

    def __init__(self, rng: random.Random, *, traced: bool = True) -> None:
        self._rng = rng
        self._traced = traced
        self._now_s = 0.0
        self._timers: list[tuple[float, int, Step]] = []
        self._number = itertools.count().__next__
        self._runnable: list[Process] = []
        self._readers: dict[int, Step] = {}
        self._dead: list[Process] = []
        self.steps = 0
        self._steps_max = STEPS_AT_ONCE_MAX  # before time must go on
        self._trace: list[bytes] = []  # everything that ran, in order, with the times
        self.troubles: list[str] = []  # exceptions nobody caught
        WORLD.ready.clear()
        WORLD.queued = False
        WORLD.tasks.clear()

    # ------------------------------------------------------------------ asyncio's interface
    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Step:
        if context is None:
            context = contextvars.copy_context()
        process = context.get(_process, WORLD)
        step = Step(callback, args, context, process, self._now_s)
        if process.alive:
            process.ready.append(step)
            if not process.queued:
                self._queue(process)
        return step

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Step:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Step:
        if context is None:
            context = contextvars.copy_context()
        timer = Step(callback, args, context, context.get(_process, WORLD), when)
        heapq.heappush(self._timers, (when, self._number(), timer))
        return timer

    def later(self, delay_s: float, callback: Callable[..., Any], *arguments: Any) -> Step:
        """Do something outside all processes."""
        when_s = self._now_s + delay_s
        timer = Step(callback, arguments, _OUTSIDE, WORLD, when_s)
        heapq.heappush(self._timers, (when_s, self._number(), timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        process = (context or contextvars.copy_context()).get(_process, WORLD)
        process.tasks.append(task)
        if len(process.tasks) > 256:
            process.tasks = [one for one in process.tasks if not one.done()]
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """A thread's work is one step of its process, a little later."""
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(self._rng.random() * 0.002, work)
        return future

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        context = contextvars.copy_context()
        self._readers[fd] = Step(callback, args, context, context.get(_process, WORLD), 0)

    def remove_reader(self, fd: Any) -> bool:
        return self._readers.pop(fd, None) is not None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        where = context.get("handle") or context.get("task") or context.get("future")
        self.troubles.append(f"{context.get('message')}: {error!r} in {where!r}")

    # ------------------------------------------------------------------ processes
    def start(self, process: Process, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a program as a process."""
        context = contextvars.copy_context()
        context.run(_process.set, process)
        return context.run(self.create_task, coroutine)

    def kill(self, process: Process) -> None:
        """As ``kill -9``: nothing of it runs any more, and only the kernel tidies up."""
        if not process.alive:
            return
        process.alive = False
        process.ready.clear()
        self._dead.append(process)
        for close in process.on_death:
            close()
        process.on_death.clear()

    def stop(self, process: Process) -> None:
        """As SIGSTOP: it runs on with :meth:`go_on`."""
        process.stopped = True

    def go_on(self, process: Process) -> None:
        """As SIGCONT."""
        process.stopped = False
        self._queue(process)

    def readable(self, fd: int) -> None:
        """A file descriptor became readable: its reader is called in the next turn of its process."""
        reader = self._readers.get(fd)
        if reader is not None and reader.process.alive:
            reader.process.ready.append(reader)
            self._queue(reader.process)

    @staticmethod
    def current() -> Process:
        """The process whose step this is."""
        return _process.get()

    # ------------------------------------------------------------------ running
    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine of the world, and everything that it starts, until it ends. Raises what it raises."""
        asyncio._set_running_loop(self)
        try:
            task = self.start(WORLD, main)
            self._until(task)
            task.result()
        finally:
            asyncio._set_running_loop(None)

    def _until(self, task: asyncio.Task[Any]) -> None:
        """PERF: one function for all turns: with a call for each turn and each step a seed costs a tenth more."""
        done, random, runnable = task.done, self._rng.random, self._runnable
        traced, trace = self._traced, self._trace.append
        while not done():
            if not runnable:
                self._next_timer()
            process = runnable[int(random() * len(runnable))]
            ready = process.ready
            for _ in range(1 + int(random() * len(ready))):
                if not ready or process.stopped:
                    break
                step = ready.popleft()
                if step._cancelled or (process.dies_after is not None and self._dies(process)):
                    continue
                self.steps += 1
                if self.steps > self._steps_max:
                    raise Livelock(f"{process.name} spins: {step!r}")
                if traced:
                    trace(process.label)
                try:
                    step._context.run(step._callback, *step._args)  # type: ignore[attr-defined]
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # as asyncio does: it is told, and others go on
                    self.call_exception_handler({"message": "Exception in a step", "exception": error, "handle": step})
            if not ready or process.stopped:
                process.queued = False
                runnable[runnable.index(process)] = runnable[-1]
                runnable.pop()

    def _dies(self, process: Process) -> bool:
        assert process.dies_after is not None
        process.dies_after -= 1
        if process.dies_after < 0:
            self.kill(process)
            return True
        return False

    def _next_timer(self) -> None:
        """Time goes on until something can run; what is due in a process that is stopped waits there."""
        self._steps_max = self.steps + STEPS_AT_ONCE_MAX
        timers = self._timers
        while timers:
            when_s, _, timer = heapq.heappop(timers)
            process = timer.process
            if timer._cancelled or not process.alive:
                continue
            if when_s > self._now_s:
                self._now_s = when_s
            if self._traced:
                self._trace.append(b"%.9f" % self._now_s)
            process.ready.append(timer)
            if not process.stopped:
                process.queued = True
                self._runnable.append(process)
                return
        raise Livelock("nothing will ever happen any more")

    @property
    def digest(self) -> int:
        """Of everything that ran, in order; 0 when it was not traced."""
        return zlib.crc32(b"".join(self._trace))

    def _queue(self, process: Process) -> None:
        if process.ready and process.alive and not process.queued and not process.stopped:
            process.queued = True
            self._runnable.append(process)

    # ------------------------------------------------------------------ the end
    def bury(self, living: list[Process]) -> None:
        """Let go of every coroutine without a word: they belong to processes that are gone, and so is this loop."""
        asyncio._set_running_loop(self)
        hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of coroutines that never began
                for process in (*self._dead, *living, WORLD):
                    _let_go(process)
            self._timers.clear()
            self._readers.clear()
        finally:
            asyncio._set_running_loop(None)
            sys.unraisablehook = hook


def _let_go(process: Process) -> None:
    for task in process.tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        if not task.done():
            with contextlib.suppress(BaseException):
                task.get_coro().close()  # type: ignore[union-attr]
    process.tasks.clear()
    process.ready.clear()
