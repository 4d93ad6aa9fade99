"""HTTP connections with bounds: how long a client may take to ask, how much it may send before it has asked, how many.

uvicorn closes a connection that is idle after an answer, and nothing else: a client that opens connections and sends
nothing, or a header that never ends, would keep memory and file descriptors for ever (the "slow loris").

A body that is still arriving when its request has been answered (too large, not allowed) is read and thrown away for a
while: closing at once would reset the connection, and the client would never read the answer (RFC 9112, 9.6).
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import TimerHandle

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = logging.getLogger(__name__)

#: A request line and headers must have arrived whole after this time, counted from the connection or the first byte.
HEADER_TIMEOUT_S = 20.0
#: Of a request line and headers; what arrives in one read (256 KiB) is parsed before it is counted.
HEADER_BYTES_MAX = 64 << 10
#: For the rest of a body that nobody will read.
DISCARD_TIMEOUT_S = 30.0
#: Of one worker; well below the file descriptors that a process may open.
CONNECTIONS_MAX = 4000


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _timer: TimerHandle | None = None
    _in_header = True
    _message_ended = False  # in this read
    _header_bytes = 0
    _unanswered = 0  # requests, more than one when they are pipelined

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            log.warning("more than %d connections: one was refused", CONNECTIONS_MAX)
            transport.abort()
            return
        self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._message_ended = False
        super().data_received(data)
        # PERF: a request that arrives whole ends here.
        if self._message_ended or not self._in_header or self.transport.is_closing():
            return
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES_MAX:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADER_TIMEOUT_S, self._too_slow)

    def on_headers_complete(self) -> None:
        self._in_header = False
        self._header_bytes = 0
        self._unanswered += 1
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_header = self._message_ended = True
        self._stop_timer()

    def on_response_complete(self) -> None:
        self._unanswered -= 1
        super().on_response_complete()
        if not self._in_header and not self._unanswered and not self.transport.is_closing():
            self._timer = self.loop.call_later(DISCARD_TIMEOUT_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        """Close; with an answer, unless an earlier one of this connection is under way."""
        if not self._unanswered:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
