"""The metadata address 169.254.169.254: one small HTTP server in each network's namespace, on this daemon's event loop.

Who asks is the network of the listening socket and the address of the peer, which the packet filter pins to the port;
no header matters. A guest is taken for hostile: one request a connection, limits on size, time and number, and
parsing by llhttp (httptools).
"""

from __future__ import annotations

import asyncio
import http
import logging
import socket
from typing import cast

import httptools

from nova_fast.model.errors import Kind, NovaFastError
from nova_fast.model.tasks import MetadataAnswer, MetadataRequest
from nova_fast.network.backend import AskMetadata
from nova_fast.network.linux import namespaces
from nova_fast.network.linux.plan import METADATA_ADDRESS, METADATA_PORT

HEAD_BYTES_MAX = 16 << 10
BODY_BYTES_MAX = 64 << 10
RECEIVE_TIMEOUT_S = 10.0
ASK_TIMEOUT_S = 10.0
SEND_TIMEOUT_S = 20.0
CONNECTIONS_MAX = 64  # of a network
CONNECTIONS_PER_ADDRESS_MAX = 8
_BACKLOG = 64
_IP_FREEBIND = 15

_log = logging.getLogger(__name__)
_STATUS_OF_KIND = {Kind.NOT_FOUND: 404, Kind.BAD_REQUEST: 400, Kind.FORBIDDEN: 403, Kind.TOO_LARGE: 413}


def listen_in(namespace: str) -> socket.socket:
    """A listening socket on the metadata address inside a namespace; call it on the worker thread."""
    with namespaces.visit(namespace):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((METADATA_ADDRESS, METADATA_PORT))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


class MetadataServer:
    """Serves one network."""

    def __init__(self, network_id: str, ask: AskMetadata) -> None:
        self.network_id = network_id
        self.ask = ask
        self.connections: dict[str, int] = {}  # address → open connections
        self._transports: set[asyncio.Transport] = set()
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on a listening socket."""
        assert self._server is None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=listener)

    def close(self) -> None:
        """Stop serving and cut open connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for transport in list(self._transports):
            transport.abort()

    def admit(self, address: str, transport: asyncio.Transport) -> bool:
        """Count a connection in; false when there are too many."""
        count = self.connections.get(address, 0)
        if count >= CONNECTIONS_PER_ADDRESS_MAX or len(self._transports) >= CONNECTIONS_MAX:
            return False
        self.connections[address] = count + 1
        self._transports.add(transport)
        return True

    def leave(self, address: str, transport: asyncio.Transport) -> None:
        """Count a connection out."""
        if transport not in self._transports:
            return
        self._transports.discard(transport)
        left = self.connections[address] - 1
        if left:
            self.connections[address] = left
        else:
            del self.connections[address]


class _Connection(asyncio.Protocol):
    """One connection with one request; the methods named ``on_…`` are called by the parser."""

    def __init__(self, server: MetadataServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._address = ""
        self._target = b""
        self._body = bytearray()
        self._received = 0
        self._headers_done = False
        self._finished = False  # nothing more is read
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if peer else ""
        if not self._address or not self._server.admit(self._address, self._transport):
            self._transport.abort()
            self._finished = True
            return
        self._arm(RECEIVE_TIMEOUT_S, 408)

    def connection_lost(self, _exc: Exception | None) -> None:
        assert self._transport is not None
        self._finished = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
        self._server.leave(self._address, self._transport)

    def data_received(self, data: bytes) -> None:
        if self._finished:
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserCallbackError:
            self._refuse(413)
        except httptools.HttpParserError:
            self._refuse(400)
        if not self._headers_done and self._received > HEAD_BYTES_MAX:
            self._refuse(431)

    def eof_received(self) -> bool:
        return self._finished  # a client that has asked may close its half and wait; one that has not has gone

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > HEAD_BYTES_MAX:
            raise ValueError("target too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"content-length" and value.strip().isdigit() and int(value) > BODY_BYTES_MAX:
            raise ValueError("body too large")
        if lowered == b"expect" and value.lower() == b"100-continue" and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_headers_complete(self) -> None:
        self._headers_done = True
        if self._received > HEAD_BYTES_MAX + BODY_BYTES_MAX:
            raise ValueError("head too large")

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            raise ValueError("body too large")

    def on_message_complete(self) -> None:
        if self._finished:
            return
        self._finished = True
        assert self._transport is not None
        self._transport.pause_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        method = self._parser.get_method().decode("ascii", "replace")
        request = MetadataRequest(
            network_id=self._server.network_id,
            address=self._address,
            method=method,
            path=self._target.decode("utf-8", "replace"),
            body=bytes(self._body),
        )
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                answer = await self._server.ask(request)
        except TimeoutError:
            self._send(_plain(503), method)
        except NovaFastError as error:
            status = _STATUS_OF_KIND.get(error.kind, 503)
            if status == 503:
                _log.warning("metadata for %s on %s: %s", self._address, self._server.network_id, error.message)
            self._send(_plain(status), method)
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 a fault of ours is logged, and the guest gets an answer
            _log.exception("metadata for %s on %s", self._address, self._server.network_id)
            self._send(_plain(500), method)
        else:
            self._send(answer, method)

    def _refuse(self, status: int) -> None:
        if not self._finished:
            self._finished = True
            self._send(_plain(status), "GET")

    def _send(self, answer: MetadataAnswer, method: str) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        phrase = http.HTTPStatus(answer.status).phrase if answer.status in set(http.HTTPStatus) else "Unknown"
        content_type = answer.content_type.translate({13: None, 10: None})
        head = (
            f"HTTP/1.1 {answer.status} {phrase}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nConnection: close\r\nServer: nova-fast\r\n\r\n"
        )
        transport.write(head.encode("latin-1", "replace") + (b"" if method == "HEAD" else answer.body))
        transport.close()
        self._arm(SEND_TIMEOUT_S, 0)

    def _arm(self, timeout_s: float, status: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(timeout_s, self._late, status)

    def _late(self, status: int) -> None:
        assert self._transport is not None
        if status and not self._finished:
            self._refuse(status)
        else:
            self._transport.abort()


def _plain(status: int) -> MetadataAnswer:
    phrase = http.HTTPStatus(status).phrase
    return MetadataAnswer(status=status, content_type="text/plain; charset=utf-8", body=phrase.encode())
