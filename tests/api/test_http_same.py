"""Two connections are sent the same bytes; one knows headers that came before, the other always asks the parser.

Whatever the bytes are, and however they are cut, both must read the same requests and answer the same.
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from nova_fast.api import http_protocol
from nova_fast.api.framework.direct import Reply
from nova_fast.api.http_heads import Head, Heads
from nova_fast.api.http_protocol import BoundedProtocol
from tests.lengths import repeats

STREAMS = repeats(1000, 10_000)
HEADERS = (
    b"Host: a\r\nX-Auth-Token: t\r\n\r\n",
    b"Host: b\r\nX-Auth-Token: t\r\nAccept: */*\r\n\r\n",
    b"\r\n",
    b"Host: a\r\nX: 1\r\nX: 2\r\n\r\n",
    b"Host: a\r\nContent-Length: 0\r\n\r\n",
    b"Host: a\r\nConnection: keep-alive\r\n\r\n",
    b"Host: a\r\nConnection: close\r\n\r\n",
    b"Host: a\r\n folded\r\n\r\n",
    b"Host: a\nX: b\n\n",
)
LINES = (
    b"GET /a HTTP/1.1\r\n", b"GET /a/b?c=d&e=f HTTP/1.1\r\n", b"GET /task HTTP/1.1\r\n", b"GET /a HTTP/1.0\r\n",
    b"GET //a HTTP/1.1\r\n", b"GET /a%20b HTTP/1.1\r\n", b"GET http://h/a HTTP/1.1\r\n", b"HEAD /a HTTP/1.1\r\n",
    b"get /a HTTP/1.1\r\n", b"GET  /a HTTP/1.1\r\n", b"GET /a HTTP/1.1\n", b"POST /a HTTP/1.1\r\n",
    b"\r\nGET /a HTTP/1.1\r\n",
    b"GET /a#b HTTP/1.1\r\n", b"GET /a HTTP/2.0\r\n", b"OPTIONS * HTTP/1.1\r\n",
)  # fmt: skip
USUAL = [line + headers for line in LINES[:3] for headers in HEADERS[:3]]


class Echo:
    """An application that answers with what it was asked; what begins with /task in a task."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once

    def find_direct(self, scope: Any) -> Any:
        if scope["method"] == "HEAD" or scope["path"].endswith("/"):
            return None
        return Echo(at_once=not scope["path"].startswith("/task")), {}

    def read(self, scope: Any, headers: dict[bytes, bytes], parameters: Any, body: bytes = b"") -> Reply:
        reply = Reply()
        reply.data = _shown(scope, body)
        assert headers == dict(scope["headers"])
        return reply

    async def answer(self, scope: Any, headers: dict[bytes, bytes], parameters: Any, body: bytes) -> Reply:
        await asyncio.sleep(0)
        return self.read(scope, headers, parameters, body)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                return
            body += event["body"]
            if not event["more_body"]:
                break
        data = _shown(scope, body)
        length = (b"content-length", b"%d" % len(data))
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": data})


def _shown(scope: Any, body: bytes) -> bytes:
    names = ("method", "path", "raw_path", "query_string", "http_version", "headers", "server", "client", "scheme")
    return json.dumps([*(repr(scope[name]) for name in names), repr(body)]).encode()


class Wire(asyncio.Transport):
    """The other end of a connection."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 9)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        if not self.closed:
            self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


class Counting(Heads):
    """Counts what it knew."""

    def __init__(self) -> None:
        super().__init__()
        self.known = 0
        self.get = self._get  # type: ignore[assignment]

    def _get(self, block: bytes) -> Head | None:
        found = self._heads.get(block)
        self.known += found is not None
        return found


def connection(config: uvicorn.Config) -> tuple[BoundedProtocol, Wire]:
    protocol, wire = BoundedProtocol(config, ServerState(), {}), Wire()
    protocol.connection_made(wire)
    return protocol, wire


def stream(rng: random.Random) -> list[bytes]:
    """Some requests, most of them usual, with a wrong byte here and there, in the pieces in which they come."""
    pieces: list[bytes] = []
    for _ in range(rng.randint(1, 6)):
        one = rng.choice(USUAL) if rng.random() < 0.6 else rng.choice(LINES) + rng.choice(HEADERS)
        kind = rng.random()
        if kind < 0.15:  # a body that looks like a request, in a piece of its own
            inner = rng.choice(USUAL)
            pieces += [b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(inner), inner]
            continue
        if kind < 0.25:
            inner = rng.choice(USUAL)
            pieces += [b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % len(inner), inner]
            pieces.append(b"\r\n0\r\n\r\n")
            continue
        if kind < 0.3:  # a header that ends like a request
            pieces += [b"GET /a HTTP/1.1\r\nX-Begun: ", rng.choice(USUAL)]
            continue
        if kind < 0.4:
            at = rng.randrange(len(one))
            one = one[:at] + rng.choice((b"", b"\r", b"\n", b" ", b"\0", b"\xff", b":", b"\r\n\r\n")) + one[at + 1 :]
        if kind < 0.55:
            at = rng.randrange(len(one))
            pieces += [one[:at], one[at:]]
        elif kind < 0.65 and pieces:
            pieces[-1] += one
        else:
            pieces.append(one)
    return [piece for piece in pieces if piece]


async def sent(config: uvicorn.Config, pieces: list[bytes]) -> tuple[bytes, bool]:
    protocol, wire = connection(config)
    for piece in pieces:
        if wire.closed:
            break
        protocol.data_received(piece)
        for _ in range(12):
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    return wire.written, wire.closed


@pytest.mark.torture
def test_who_knows_headers_reads_what_the_parser_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        config = uvicorn.Config(
            Echo(), ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
        )
        config.load()
        knowing, forgetful = Counting(), Heads()
        forgetful.get = lambda block: None  # type: ignore[assignment,misc]
        for number in range(STREAMS):
            pieces = stream(random.Random(number))
            monkeypatch.setattr(http_protocol, "_heads", knowing)
            found = await sent(config, pieces)
            monkeypatch.setattr(http_protocol, "_heads", forgetful)
            assert found == await sent(config, pieces), (number, pieces)
        assert knowing.known > STREAMS // 3
        assert 3 <= len(knowing._heads) <= STREAMS

    asyncio.run(run())
