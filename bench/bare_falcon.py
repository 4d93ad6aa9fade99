"""What the API is compared with: the smallest Falcon application, on the same HTTP server with the same settings.

It answers ``GET /v2.1/servers/{server_id}`` by encoding one record that it holds in memory: no token, no store, no
microversion, no log. Our share of its rate says how much of the time is ours, on a quiet machine and on a busy one. It
runs on the very server that our API runs on, or with ``uvicorn`` on uvicorn's own protocol, which is slower.

    python -m bench.bare_falcon PORT [uvicorn] < record.json
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import falcon.asgi
import msgspec
import uvicorn
import uvloop

from nova_fast.api.http_protocol import BoundedProtocol
from nova_fast.daemon import settle_memory


class Record:
    """One resource with one record."""

    def __init__(self, record: Any) -> None:
        self._record = record
        self._encode = msgspec.json.Encoder().encode

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, server_id: str) -> None:
        resp.data = self._encode(self._record)


async def serve(port: int, record: Any, http: Any) -> None:
    app: Any = falcon.asgi.App()
    app.add_route("/v2.1/servers/{server_id}", Record(record))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.setblocking(False)
    config = uvicorn.Config(
        app, http=http, loop="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False, ws="none",
    )  # fmt: skip
    settle_memory()
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    http = "httptools" if "uvicorn" in sys.argv[2:] else BoundedProtocol
    uvloop.run(serve(int(sys.argv[1]), msgspec.json.decode(sys.stdin.buffer.read()), http))
