"""One event loop for many processes, with virtual time, in an order that the seed decides.

A process is a name for everything that was started inside it: each callback carries its process in its context, as it
would carry it in its address space. Callbacks of one process run in asyncio's order; which process runs next is drawn.
A process that is killed runs no callback any more, from between any two of its steps on, and nothing of it is told:
no ``finally``, no ``close``, as after ``kill -9``. A process that is stopped runs on later.

Time stands still while anything can run, and then jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import heapq
import itertools
import random
import sys
import zlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

STEPS_AT_ONCE_MAX = 200_000  # without time going on: something spins


class Process:
    """One run of a program: what it started ends with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.stopped = False  # as by SIGSTOP
        self.ready: deque[asyncio.Handle] = deque()
        self.queued = False  # among the loop's runnable
        self.dies_after: int | None = None  # so many steps
        self.on_death: list[Callable[[], None]] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def __repr__(self) -> str:
        return f"<{self.name}>"


#: The world outside all processes: it never dies.
WORLD = Process("world")
_process: contextvars.ContextVar[Process] = contextvars.ContextVar("process", default=WORLD)


class Livelock(Exception):
    """Something runs for ever without waiting for anything."""


class SimLoop(asyncio.AbstractEventLoop):
    """As much of an event loop as the daemons use. Not thread-safe: there is one thread."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = itertools.count()
        self._runnable: list[Process] = []
        self._readers: dict[int, asyncio.Handle] = {}
        self._dead: list[Process] = []
        self.steps = 0
        self.digest = 0  # of everything that ran, in order
        self.troubles: list[str] = []  # exceptions nobody caught
        WORLD.ready.clear()
        WORLD.queued = False
        WORLD.tasks.clear()

    # ------------------------------------------------------------------ asyncio's interface
    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is passed over when it is due

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
        self._readers[fd] = asyncio.Handle(callback, args, self, None)

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
        if reader is not None:
            self._ready(reader)

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
            while not task.done():
                self._turn()
            task.result()
        finally:
            asyncio._set_running_loop(None)

    def _turn(self) -> None:
        if not self._runnable:
            self._next_timer()
            return
        runnable = self._runnable
        place = int(self._rng.random() * len(runnable))
        process = runnable[place]
        for _ in range(1 + int(self._rng.random() * len(process.ready))):
            if not process.ready or process.stopped:
                break
            self._step(process)
        if not process.ready or process.stopped:
            process.queued = False
            runnable[runnable.index(process)] = runnable[-1]
            runnable.pop()

    def _step(self, process: Process) -> None:
        handle = process.ready.popleft()
        if handle._cancelled:
            return
        if process.dies_after is not None:
            process.dies_after -= 1
            if process.dies_after < 0:
                self.kill(process)
                return
        self.steps += 1
        self._at_once += 1
        if self._at_once > STEPS_AT_ONCE_MAX:
            raise Livelock(f"{process.name} spins: {handle!r}")
        self.digest = zlib.crc32(process.name.encode(), self.digest)
        handle._run()

    _at_once = 0

    def _next_timer(self) -> None:
        self._at_once = 0
        while self._timers:
            when, _, timer = heapq.heappop(self._timers)
            if timer._cancelled:
                continue
            process = timer._context.get(_process, WORLD)  # type: ignore[attr-defined]
            if not process.alive:
                continue
            self._now_s = max(self._now_s, when)
            self.digest = zlib.crc32(b"%.9f" % self._now_s, self.digest)
            self._ready(timer)
            return
        raise Livelock("nothing will ever happen any more")

    def _ready(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(_process, WORLD)  # type: ignore[attr-defined]
        if process.alive:
            process.ready.append(handle)
            self._queue(process)

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
            for process in (*self._dead, *living, WORLD):
                for task in process.tasks:
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    if not task.done():
                        with contextlib.suppress(BaseException):
                            task.get_coro().close()  # type: ignore[union-attr]
                process.tasks.clear()
                process.ready.clear()
            self._timers.clear()
            self._readers.clear()
        finally:
            asyncio._set_running_loop(None)
            sys.unraisablehook = hook
