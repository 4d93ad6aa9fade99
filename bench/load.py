"""A closed-loop HTTP load generator: so many connections, each sends its next request when the last is answered.

Runs in a process of its own, so that it takes no time from the server's; asyncio protocols on uvloop, no HTTP library,
so that it costs little of the other core. Latency is from the write of a request to the last byte of its answer.

    python -m bench.load '{"host": …, "port": …, "connections": …, "seconds": …, "requests": […]}'
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import uvloop

ROOT = Path(__file__).resolve().parent.parent


def request_bytes(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> str:
    """A whole HTTP/1.1 request, as text (Latin-1)."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", *(f"{name}: {value}" for name, value in headers.items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines) + "\r\n\r\n" + body.decode()


def run(port: int, connections: int, seconds: float, requests: list[str]) -> dict[str, Any]:
    """Load a server from a process of its own.

    Returns ``{"count", "errors", "seconds", "latencies_ms"}``; latencies of at most 100,000 requests. An answer that is
    no 2xx is an error, and an error ends the benchmark: it would be measured as a fast answer.
    """
    job = {"port": port, "connections": connections, "seconds": seconds, "requests": requests}
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"], input=json.dumps(job), capture_output=True, text=True, check=True,
        cwd=ROOT, timeout=seconds + 60,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["errors"] == 0, f"{found['errors']} of {found['count']} answers were errors"
    assert found["count"], "nothing was answered"
    return found


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._sent_at = 0.0
        self._buffer = b""

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
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.find(b"content-length: ", 0, head)
        length = int(self._buffer[at + 16 : self._buffer.find(b"\r\n", at)]) if at >= 0 else 0
        if len(self._buffer) < head + 4 + length:
            return
        ok = self._buffer[9:10] == b"2"
        self._buffer = b""
        self._load.answered(time.perf_counter() - self._sent_at, ok)
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.closed()


class _Load:
    """The whole run."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._requests = [request.encode("latin-1") for request in job["requests"]]
        self._seconds = job["seconds"]
        self._job = job
        self._next = 0
        self._end = 0.0
        self._done = asyncio.Event()
        self.count = 0
        self.errors = 0
        self.latencies: list[float] = []
        self._open = job["connections"]

    def next_request(self) -> bytes | None:
        if time.perf_counter() >= self._end:
            return None
        self._next += 1
        return self._requests[self._next % len(self._requests)]

    def answered(self, latency_s: float, ok: bool) -> None:
        self.count += 1
        self.errors += not ok
        if len(self.latencies) < 100_000:
            self.latencies.append(latency_s * 1000)

    def closed(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._done.set()

    async def run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        self._end = started + self._seconds
        for _ in range(self._job["connections"]):
            await loop.create_connection(lambda: _Client(self), "127.0.0.1", self._job["port"])
        await self._done.wait()
        seconds = time.perf_counter() - started
        return {"count": self.count, "errors": self.errors, "seconds": seconds, "latencies_ms": self.latencies}


def main() -> None:
    job = json.load(sys.stdin)
    print(json.dumps(uvloop.run(_Load(job).run())))


if __name__ == "__main__":
    main()
