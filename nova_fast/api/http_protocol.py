"""HTTP connections with bounds: how long a client may take to ask, how much it may send before it has asked, how many.

uvicorn closes a connection that is idle after an answer, and nothing else: a client that opens connections and sends
nothing, or a header that never ends, would keep memory and file descriptors for ever (the "slow loris").

A body that is still arriving when its request has been answered (too large, not allowed) is read and thrown away for a
while: closing at once would reset the connection, and the client would never read the answer (RFC 9112, 9.6).

PERF: a connection has one timer, which is moved when it rings and not with every request; the head of an answer is
checked and written as one piece, together with a short body (``http_answer``); and a request that the application
answers without waiting for anything is answered where it is read, without a task and a turn of the loop.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
import urllib.parse
from asyncio import TimerHandle
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nova_fast.api.driven import drive
from nova_fast.api.http_answer import Cycle

log = logging.getLogger(__name__)

#: A request line and headers must have arrived whole after this time, counted from the connection or the first byte.
HEADER_TIMEOUT_S = 20.0
#: Of a request line and headers; what arrives in one read (256 KiB) is parsed before it is counted.
HEADER_BYTES_MAX = 64 << 10
#: The first byte of a body must come after this time; what follows is watched by who reads it.
BODY_TIMEOUT_S = 30.0
#: For the rest of a body that nobody will read.
DISCARD_TIMEOUT_S = 30.0
#: Of one worker; well below the file descriptors that a process may open.
CONNECTIONS_MAX = 4000


class Wait(enum.Enum):
    """What a connection waits for, with a time limit."""

    NOTHING = 0
    REQUEST = 1  # the first byte of the next one
    HEADER = 2  # its end
    BODY = 3  # its first byte
    REST = 4  # the end of one that nobody will read


def _never(scope: Any) -> bool:
    """What an application answers without waiting, when it does not say."""
    return False


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _timer: TimerHandle | None = None
    _rings_at = math.inf
    _waits = Wait.NOTHING
    _due = math.inf
    _in_header = True
    _message_ended = False  # in this read
    _header_bytes = 0
    _body_begun = False
    _unanswered = 0  # requests, more than one when they are pipelined
    _at_once: Cycle | None = None  # to be answered as soon as it is here as a whole
    _may_be_at_once = False  # only the first request of a read: the other connections have their turn

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers_at_once = getattr(self.app, "answers_at_once", _never)
        if len(self.connections) > CONNECTIONS_MAX:
            log.warning("more than %d connections: one was refused", CONNECTIONS_MAX)
            transport.abort()
            return
        self._wait(Wait.HEADER, HEADER_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._waits is Wait.REQUEST:
            self._waits = Wait.NOTHING
        self._message_ended = False
        self._may_be_at_once = not self._unanswered
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            log.info("a client asked for another protocol")
        except httptools.HttpParserError:
            log.info("a client sent what is no HTTP")
            self.send_400_response("Invalid HTTP request received.")
        if self._at_once is not None:  # it has a body that is still to come, and which nobody will read
            cycle, self._at_once = self._at_once, None
            self._start_asgi_task(cycle, self.app)
        # PERF: a request that arrives whole ends here.
        if self._message_ended or self.transport.is_closing():
            return
        if not self._in_header:
            if self._unanswered and not self._body_begun and self._waits is Wait.NOTHING:
                self._wait(Wait.BODY, BODY_TIMEOUT_S)
            return
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES_MAX:
            self._refuse(b"431 Request Header Fields Too Large")
        elif self._waits is not Wait.HEADER:
            self._wait(Wait.HEADER, HEADER_TIMEOUT_S)

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Begin with a request: what uvicorn's own does, but for upgrades, which are never taken here."""
        self._in_header = self._body_begun = False
        self._header_bytes = 0
        self._unanswered += 1
        self._waits = Wait.NOTHING
        parser, url = self.parser, httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        http_version = parser.get_http_version()
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": http_version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "root_path": "",
            "headers": self.headers,
            "method": parser.get_method().decode("ascii"),
            "raw_path": url.path,
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "query_string": url.query or b"",
        }
        before: RequestResponseCycle | None = self.cycle
        self.cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=http_version != "1.0" and parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if self.transport.is_closing():
            return
        if before is None or before.response_complete:
            if self._may_be_at_once and not self.flow.write_paused and self._answers_at_once(self.scope):
                self._may_be_at_once, self._at_once = False, self.cycle
            else:
                self._start_asgi_task(self.cycle, self.app)
        else:  # pipelined: it waits for its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._body_begun = True
        if self._waits is Wait.BODY:
            self._waits = Wait.NOTHING
        super().on_body(body)

    def on_message_complete(self) -> None:
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        self._in_header = self._message_ended = True
        self._waits = Wait.NOTHING
        if self._at_once is not None:
            at_once, self._at_once = self._at_once, None
            self._answer_at_once(at_once)

    def _answer_at_once(self, cycle: Cycle) -> None:
        rest = drive(cycle.run_asgi(self.app))
        if rest is not None:  # it waits all the same
            task = self.loop.create_task(rest)
            task.add_done_callback(self.tasks.discard)
            self.tasks.add(task)

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for it."""
        self._unanswered -= 1
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif not self._in_header and not self._unanswered:
            self._wait(Wait.REST, DISCARD_TIMEOUT_S)
        elif self._waits is Wait.NOTHING:
            self._wait(Wait.REQUEST, self.timeout_keep_alive)

    # ------------------------------------------------------------------ time
    def _wait(self, what: Wait, seconds: float) -> None:
        self._waits = what
        self._due = self.loop.time() + seconds
        if self._rings_at > self._due:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = self._due
        self._timer = self.loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        if self._waits is Wait.NOTHING or self.transport.is_closing():
            return
        if self.loop.time() < self._due:
            self._set_timer()
        elif self._waits is Wait.HEADER:
            self._refuse(b"408 Request Timeout")
        elif self._waits is Wait.BODY and self._unanswered == 1 and not self.cycle.response_started:
            self._unanswered = 0  # nobody answers it any more
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    def _refuse(self, status: bytes) -> None:
        """Close; with an answer, unless an earlier one of this connection is under way."""
        if not self._unanswered:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
