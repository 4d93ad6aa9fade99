"""The floor: ``httptools`` under a bare ``asyncio.Protocol`` on uvloop, which sends the same bytes to whoever asks.

No framework, no routing, no encoding; headers are parsed and thrown away. It is what the bytes themselves cost.

    python -m bench.bare_protocol PORT < body
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import httptools
import uvloop

from nova_fast.daemon import settle_memory


class BareProtocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._parser: Any = httptools.HttpRequestParser(self)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        pass

    def on_message_complete(self) -> None:
        self._transport.write(self._answer)


async def serve(port: int, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    answer = head.encode() + body
    server = await asyncio.get_running_loop().create_server(lambda: BareProtocol(answer), "127.0.0.1", port)
    settle_memory()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.stdin.buffer.read()))
