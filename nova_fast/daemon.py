"""What every daemon does alike: logging, signals, the event loop, the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Protocol

import uvloop

from nova_fast import logs
from nova_fast.config import Config
from nova_fast.edges import Edges, shared_wire
from nova_fast.model.errors import NovaFastError
from nova_fast.waits import Waits, path_of

log = logging.getLogger(__name__)

RETRY_S = 2


def set_up_logging(config: Config) -> None:
    """One line for each event on standard error, which the supervisor keeps in a file for each daemon."""
    logging.basicConfig(
        stream=logs.stderr,
        level=config.log_level.upper(),
        format="%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def run_daemon(config: Config, serve: Callable[[asyncio.Event], Awaitable[int | None]]) -> int:
    """Run a daemon until SIGTERM or SIGINT; ``serve`` gets an event that is set then. Returns the exit code."""
    set_up_logging(config)

    async def main() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        return await serve(stop) or 0

    return uvloop.run(main())


async def begin_patiently(
    begin: Callable[[], Awaitable[None]], stop: asyncio.Event, complaint: str, tell: Callable[[str], None]
) -> None:
    """Begin again and again until it works, or the daemon is to stop.

    Why it does not is logged and told when it changes; when it has begun, nothing is told.
    """
    told = ""
    while not stop.is_set():
        try:
            await begin()
            tell("")
            return
        except NovaFastError as error:
            if told != (told := str(error)):
                log.warning("%s: %s", complaint, error)
                tell(f"{complaint}: {error.message}" + (f" ({error.hint})" if error.hint else ""))
            await asyncio.sleep(RETRY_S)


#: Called with a host and what it waits for, "" when it has begun.
Tell = Callable[[str, str], None]


def tell_nobody(_host: str, _sentence: str) -> None:
    """For a daemon whose process has no place to say what it waits for."""


def waits_of(config: Config, program: str) -> Waits:
    """Where this process says what its hosts wait for."""
    return Waits(path_of(config.run_path, program), os.getpid(), config.played_hosts)


class Played(Protocol):
    """The daemon of one host; a process may play several."""

    async def start(self, stop: asyncio.Event) -> None: ...
    async def close(self) -> None: ...


@contextlib.asynccontextmanager
async def playing(
    names: Sequence[str], make: Callable[[str, Edges], Played], stop: asyncio.Event
) -> AsyncIterator[None]:
    """Start the daemon of each of these hosts, over one wire, and close them all in the end."""
    with shared_wire(len(names)) as edges:
        hosts = [make(name, edges) for name in names]
        await asyncio.gather(*(host.start(stop) for host in hosts))
        settle_memory()
        yield
        await asyncio.gather(*(host.close() for host in hosts))


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """While much is made that stays, the collector would only look at it again and again.

    PERF: the scheduler takes a fifth less time to take in 100,000 hosts.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def settle_memory() -> None:
    """After start: what is there stays, so the collector need not look at it again, and need not look so often.

    PERF: a full collection of an API worker takes 27 ms, in which nobody is answered, and 1 µs afterwards; what a
    request costs is the same either way (52,000 objects, 2026-11-26, two shared cores). It takes half a microsecond to
    look at a young object, so 25,000 of them are the longest pause that is not felt.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(25_000, 200, 100)
