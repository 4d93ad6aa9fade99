"""An object that lives in a process of its own, on uvloop, and whose methods the test calls by name.

So the hub, its honest peers and its attackers each have a process with its own interpreter, its own niceness and its
own fate: it can be stopped, continued and killed while the others run.
"""

from __future__ import annotations

import asyncio
import ctypes
import inspect
import multiprocessing
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from nova_fast.daemon import settle_memory

FEW_DESCRIPTORS = 256
_PR_SET_PDEATHSIG = 1
_SPAWN = multiprocessing.get_context("spawn")


class Remote:
    """A process that made ``factory(*arguments)`` and does what it is told."""

    def __init__(self, factory: Callable[..., Any], *arguments: Any, nice: int = 0) -> None:
        self._connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, nice, factory, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def begin(self, method: str, *arguments: Any) -> None:
        """Tell it to do something; ``finish`` brings the result."""
        self._connection.send((method, arguments))

    def finish(self, timeout_s: float = 120.0) -> Any:
        """The result of what was begun; raises what it raised."""
        assert self._connection.poll(timeout_s), f"process {self.pid} did not answer within {timeout_s:g} s"
        ok, result = self._connection.recv()
        if not ok:
            raise AssertionError(f"in process {self.pid}: {result}")
        return result

    def do(self, method: str, *arguments: Any, timeout_s: float = 120.0) -> Any:
        """Tell it to do something and wait for the result."""
        self.begin(method, *arguments)
        return self.finish(timeout_s)

    def until(self, method: str, *arguments: Any, timeout_s: float = 60.0) -> float:
        """Ask again and again until it says yes; the seconds that took."""
        begin = time.monotonic()
        while not self.do(method, *arguments):
            assert time.monotonic() - begin < timeout_s, f"{method}{arguments} is not true after {timeout_s:g} s"
            time.sleep(0.02)
        return time.monotonic() - begin

    def stop(self) -> None:
        """SIGSTOP: it neither reads nor says anything from now on."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()

    def idle(self, idle: bool = True) -> None:
        """From now on all its threads get of the processors only what nobody else wants, or again as much as others."""
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_IDLE if idle else os.SCHED_OTHER, os.sched_param(0))

    def rss_mib(self) -> float:
        """Its resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _serve(connection: Connection, nice: int, factory: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    # A pytest that is killed cannot continue who was stopped; and nobody else would.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    os.nice(nice)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = FEW_DESCRIPTORS if factory.__name__ == "HubHost" else hard  # the hub must raise it by itself
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked: asyncio.Queue[tuple[str, tuple[Any, ...]]] = asyncio.Queue()
        threading.Thread(target=_listen, args=(connection, loop, asked), daemon=True).start()
        thing = factory(*arguments)
        settle_memory()  # as every daemon does
        while True:
            method, given = await asked.get()
            try:
                result = getattr(thing, method)(*given)
                if inspect.isawaitable(result):
                    result = await result
                connection.send((True, result))
            except Exception as error:
                connection.send((False, f"{type(error).__name__}: {error}"))

    uvloop.run(main())


def _listen(connection: Connection, loop: asyncio.AbstractEventLoop, asked: asyncio.Queue[Any]) -> None:
    try:
        while True:
            loop.call_soon_threadsafe(asked.put_nowait, connection.recv())
    except (EOFError, OSError):
        os._exit(0)  # the test is over, however it ended
