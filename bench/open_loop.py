"""An open-loop HTTP load generator, in a process of its own: latency is counted from the *intended* time of sending.

Connections are kept open and carry one request at a time; an arrival that finds none free waits, and that counts as its
latency. The generator knows its own limits: it says how late it was itself and how much of its core it used, and
:class:`Run` refuses to give figures when it could not keep its schedule.

    python -m bench.open_loop < job.json
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import sys
import time
from collections import deque
from typing import Any, cast

import msgspec
import uvloop

from bench.arrivals import EVEN, LEAD_S, Pacer, offsets
from bench.histogram import Latencies
from bench.journeys import MIXES, Journey, Next, World, chooser
from bench.machine import ROOT
from bench.results import Refused

PATIENCE_S = 30.0
#: A generator that was later than this for one arrival in a hundred did not offer the load it says.
LAG_P99_S_MAX = 0.010
CPU_SHARE_MAX = 0.92


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One load."""

    port: int
    rate: float  # journeys a second
    seconds: float  # counted; the warm-up comes before
    mix: str = "read"
    headers: dict[str, str] = {}
    create: dict[str, Any] = {}  # body of POST /servers
    ids: list[str] = []  # servers to read
    connections: int = 64
    warm_up_s: float = 1.0
    arrivals: str = EVEN
    seed: int = 1


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What one load found; times in seconds."""

    offered: float  # arrivals a second that were meant
    achieved: float  # of them answered a second, over the time until the last answer
    answered: int
    errors: int
    unanswered: int
    latencies: str  # HDR histogram, encoded
    latencies_of: dict[str, str]  # the same for each kind of journey
    lag_p99_s: float
    cpu_share: float  # of one core, used by the generator

    @property
    def saturated(self) -> str:
        """Why the generator cannot speak for the server; "" when it can."""
        if self.cpu_share > CPU_SHARE_MAX:
            return f"the generator used {self.cpu_share:.0%} of its core at {self.offered:.0f}/s"
        if self.lag_p99_s > LAG_P99_S_MAX:
            return f"the generator was {self.lag_p99_s * 1000:.0f} ms behind its schedule at {self.offered:.0f}/s"
        return ""

    def checked(self) -> Run:
        """This run, if it can be quoted. Raises Refused when the generator was the limit, AssertionError on errors."""
        assert not self.errors, f"{self.errors} of {self.answered} answers were errors"
        if self.saturated:
            raise Refused(self.saturated)
        return self

    def percentiles(self) -> Latencies:
        return Latencies.decode(self.latencies)


def run(job: Job, module: str = "bench.open_loop") -> Run:
    """Load a server from a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module], input=msgspec.json.encode(job), capture_output=True, check=False,
        cwd=ROOT, timeout=job.warm_up_s + job.seconds + PATIENCE_S + 60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return msgspec.json.decode(done.stdout, type=Run)


class _Connection(asyncio.Protocol):
    """One connection; ``owner`` is the arrival that it serves."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.owner: _Arrival | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance

    def send(self, owner: _Arrival, request: bytes) -> None:
        assert self._transport is not None
        self.owner = owner
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.find(b"content-length: ", 0, head)
        length = int(self._buffer[at + 16 : self._buffer.find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        status, body = int(self._buffer[9:12]), self._buffer[head + 4 :]
        self._buffer = b""
        owner, self.owner = self.owner, None
        assert owner is not None, "an answer that nobody asked for"
        self._load.free(self)
        owner.answered(status, body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self)
        if self.owner is not None:
            self.owner.over(ok=False)


class _Arrival:
    """One journey under way."""

    __slots__ = ("_intended_s", "_journey", "_kind", "_load", "request")

    def __init__(self, load: _Load, intended_s: float, kind: str, journey: Journey) -> None:
        self._load = load
        self._intended_s = intended_s
        self._kind = kind
        self._journey = journey
        self.request = journey.begin()

    def answered(self, status: int, body: bytes) -> None:
        following: Next = self._journey.answered(status, body)
        if following.request is None:
            self.over(ok=following.ok)
            return
        self.request = following.request
        if following.pause_s:
            asyncio.get_running_loop().call_later(following.pause_s, self._load.send, self)
        else:
            self._load.send(self)

    def over(self, *, ok: bool) -> None:
        self._load.finished(self._intended_s, self._kind, ok)


class _Load:
    """The whole run."""

    def __init__(self, job: Job) -> None:
        self._job = job
        rng = random.Random(job.seed)
        self._choose = chooser(World(job.headers, job.create, job.ids, rng), MIXES[job.mix])
        times = offsets(job.rate, job.warm_up_s + job.seconds, job.arrivals, rng)
        self._pacer = Pacer(times, job.warm_up_s, self._launch)
        self._free: list[_Connection] = []
        self._waiting: deque[_Arrival] = deque()
        self._opening: set[asyncio.Task[_Connection]] = set()
        self._of_kind: dict[str, list[float]] = {kind: [] for kind in MIXES[job.mix]}

    def _launch(self, intended_s: float) -> None:
        self.send(_Arrival(self, intended_s, *self._choose()))

    def send(self, arrival: _Arrival) -> None:
        if self._free:
            self._free.pop().send(arrival, arrival.request)
        else:
            self._waiting.append(arrival)

    def free(self, connection: _Connection) -> None:
        if self._waiting:
            arrival = self._waiting.popleft()
            connection.send(arrival, arrival.request)
        else:
            self._free.append(connection)

    def lost(self, connection: _Connection) -> None:
        """A server may close what is idle; another takes its place, and what it carried is an error."""
        if connection in self._free:
            self._free.remove(connection)
        opening = asyncio.get_running_loop().create_task(self._open())
        self._opening.add(opening)
        opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[_Connection]) -> None:
        self._opening.discard(opening)
        if not opening.cancelled() and opening.exception() is None:
            self.free(opening.result())

    async def _open(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self._job.port)
        return connection

    def finished(self, intended_s: float, kind: str, ok: bool) -> None:
        before = len(self._pacer.latencies_s)
        self._pacer.finished(intended_s, ok)
        if len(self._pacer.latencies_s) > before:
            self._of_kind[kind].append(self._pacer.latencies_s[-1])

    async def run(self) -> Run:
        for _ in range(self._job.connections):
            self._free.append(await self._open())
        return await paced(self._job, self._pacer, self._of_kind)


async def paced(job: Job, pacer: Pacer, of_kind: dict[str, list[float]]) -> Run:
    """Run a pacer whose arrivals are ready, and sum up; ``of_kind`` is filled meanwhile."""
    gc.collect()
    gc.disable()  # a pause of the generator would be measured as the server's
    begin_s, cpu_s = time.monotonic(), time.process_time()
    await pacer.run(PATIENCE_S)
    wall_s, cpu_s = time.monotonic() - begin_s, time.process_time() - cpu_s
    lags = sorted(pacer.lags_s) or [0.0]
    return Run(
        offered=pacer.counted / job.seconds,
        achieved=len(pacer.latencies_s) / max(wall_s - LEAD_S - job.warm_up_s, 1e-9),
        answered=len(pacer.latencies_s), errors=pacer.errors, unanswered=pacer.unanswered,
        latencies=encoded(pacer.latencies_s), latencies_of={kind: encoded(part) for kind, part in of_kind.items()},
        lag_p99_s=lags[int(len(lags) * 0.99)], cpu_share=cpu_s / wall_s,
    )  # fmt: skip


def encoded(seconds: list[float]) -> str:
    """Times as an encoded histogram."""
    found = Latencies()
    found.add(seconds)
    return found.encode()


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    print(json.dumps(msgspec.to_builtins(uvloop.run(_Load(job).run()))))


if __name__ == "__main__":
    main()
