"""A closed-loop HTTP load generator: so many connections, each sends its next request when the last is answered.

It finds how much a server can do for so many clients that wait for their answers; what a latency is worth under a
given load only ``bench/open_loop.py`` can say. Runs in a process of its own, so that it takes no time from the
server's; asyncio protocols on uvloop, no HTTP library, so that it costs little of the other core. Latency is from the
write of a request to the last byte of its answer. Its own share of a core is part of what it finds.

    python -m bench.closed_loop < job.json
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any, cast

import msgspec
import uvloop

from bench.histogram import Latencies
from bench.machine import ROOT


class Job(msgspec.Struct, frozen=True):
    """One load; the requests are sent in turn, again and again until the time is over, or each ``once``."""

    port: int
    connections: int
    seconds: float
    requests: list[bytes]
    once: bool = False
    host: str = "127.0.0.1"


class Run(msgspec.Struct, frozen=True):
    """What one load found."""

    count: int
    errors: int
    seconds: float
    latencies: str  # HDR histogram, encoded
    cpu_share: float  # of one core, used by the generator

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / self.seconds

    def percentiles(self) -> Latencies:
        return Latencies.decode(self.latencies)


def run(
    port: int, connections: int, seconds: float, requests: list[bytes], *, once: bool = False, host: str = "127.0.0.1"
) -> Run:
    """Load a server from a process of its own.

    An answer that is no 2xx is an error, and an error ends the benchmark: it would be measured as a fast answer.
    """
    job = msgspec.json.encode(Job(port, connections, seconds, requests, once, host))
    done = subprocess.run(
        [sys.executable, "-m", "bench.closed_loop"], input=job, capture_output=True, check=False, cwd=ROOT,
        timeout=seconds + 90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = msgspec.json.decode(done.stdout, type=Run)
    assert found.errors == 0, f"{found.errors} of {found.count} answers were errors"
    assert found.count, "nothing was answered"
    assert not once or found.count == len(requests), f"{found.count} of {len(requests)} were sent in {seconds} s"
    return found


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._parts: list[bytes] = []
        self._missing = -1  # bytes of the answer that have not come; -1: its head has not come whole
        self._ok = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._send()

    def _send(self) -> None:
        assert self._transport is not None
        request = self._load.next_request()
        if request is None:
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            self._parts.append(data)
            head = b"".join(self._parts) if len(self._parts) > 1 else data
            end = head.find(b"\r\n\r\n")
            if end < 0:
                return
            at = head.find(b"content-length: ", 0, end)
            length = int(head[at + 16 : head.find(b"\r\n", at)]) if at >= 0 else 0
            self._parts.clear()
            self._ok = head[9:10] == b"2"
            self._missing = length - (len(head) - end - 4)
        else:
            self._missing -= len(data)
        if self._missing > 0:
            return
        self._missing = -1
        self._load.answered(time.perf_counter() - self._sent_at, self._ok)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.closed()


class _Load:
    """The whole run."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._next = 0
        self._end = 0.0
        self._done = asyncio.Event()
        self._open = job.connections
        self._errors = 0
        self._latencies_s: list[float] = []

    def next_request(self) -> bytes | None:
        number = self._next
        if time.perf_counter() >= self._end or (self._job.once and number == len(self._job.requests)):
            return None
        self._next += 1
        return self._job.requests[number % len(self._job.requests)]

    def answered(self, latency_s: float, ok: bool) -> None:
        self._errors += not ok
        self._latencies_s.append(latency_s)

    def closed(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._done.set()

    async def run(self) -> Run:
        loop = asyncio.get_running_loop()
        started, cpu_s = time.perf_counter(), time.process_time()
        self._end = started + self._job.seconds
        for _ in range(self._job.connections):
            await loop.create_connection(lambda: _Client(self), self._job.host, self._job.port)
        await self._done.wait()
        seconds = time.perf_counter() - started
        cpu_share = (time.process_time() - cpu_s) / seconds
        latencies = Latencies()
        latencies.add(self._latencies_s)
        return Run(len(self._latencies_s), self._errors, seconds, latencies.encode(), cpu_share)


def main() -> None:
    job: Any = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    print(json.dumps(msgspec.to_builtins(uvloop.run(_Load(job).run()))))


if __name__ == "__main__":
    main()
