"""HTTP connections with bounds: how long a client may take to ask, how much it may send before it has asked, how many.

uvicorn closes a connection that is idle after an answer, and nothing else: a client that opens connections and sends
nothing, or a header that never ends, would keep memory and file descriptors for ever (the "slow loris").

A body that is still arriving when its request has been answered (too large, not allowed) is read and thrown away for a
while: closing at once would reset the connection, and the client would never read the answer (RFC 9112, 9.6).

PERF: a connection has one timer, which is moved when it rings and not with every request; the head of an answer is
checked and written as one piece, together with a short body (``http_answer``). A request that has come whole is given
to its endpoint without ASGI; one that the endpoint answers without waiting for anything is answered where it is read,
without a task and a turn of the loop. Most of these come behind headers that came before, and are not parsed again
(``http_heads``).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
import urllib.parse
from asyncio import TimerHandle
from collections.abc import Callable, Coroutine
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from nova_fast.api.framework.direct import Reply
from nova_fast.api.framework.endpoint import Endpoint
from nova_fast.api.http_answer import JOINED_BYTES_MAX, Cycle, Direct
from nova_fast.api.http_heads import PLAIN_LINE, Head, Heads, plain_head
from nova_fast.api.http_room import Refusal, is_full

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


#: What answers a request, and the parameters of its path.
_Found = tuple[Endpoint, dict[str, str]]
_heads = Heads()


def _nothing(scope: Any) -> None:
    """What answers a request directly, of an application that does not say."""


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
    _between = True  # the parser expects the first byte of a request
    _begun_messages = 0  # in this read
    _may_be_at_once = False  # only the first request of a read: the other connections have their turn
    _direct: tuple[_Found, Head] | None = None  # how to answer as soon as the request is here as a whole
    _body = b""  # of this
    _answered: Head | None = None  # of the request that this read has brought, when it was answered with a success

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if is_full(transport):
            transport.set_protocol(Refusal(transport))
            return
        super().connection_made(transport)
        self._find_direct: Callable[[Any], _Found | None] = getattr(self.app, "find_direct", _nothing)
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
        if self._between and not self._unanswered and data[:1] == b"G" and self._answer_known(data):
            return
        between = self._between
        self._message_ended = False
        self._begun_messages = 0
        self._may_be_at_once = not self._unanswered
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            log.info("a client asked for another protocol")
        except httptools.HttpParserError:
            log.info("a client sent what is no HTTP")
            self._between = False
            self.send_400_response("Invalid HTTP request received.")
        if self._direct is not None:
            self._begin_with_a_part()
        if self._answered is not None:
            head, self._answered = self._answered, None
            if between and self._between and self._begun_messages == 1:
                _learn(data, head)
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
        self._between = False
        self._begun_messages += 1
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """Begin with a request: what uvicorn's own does, but for upgrades, which are never taken here."""
        self._in_header = self._body_begun = False
        self._header_bytes = 0
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
        keep_alive = http_version != "1.0" and parser.should_keep_alive()
        if not (keep_alive and http_version == "1.1" and self._begin_direct()):
            self._begin_cycle(keep_alive=keep_alive)
        self._may_be_at_once = False

    def _begin_direct(self) -> bool:
        """Whether the request of this scope will be answered without ASGI, if it ends in this read."""
        if self._unanswered or self.flow.write_paused or self.transport.is_closing():
            return False
        head = plain_head(self.headers)
        found = None if head is None else self._find_direct(self.scope)
        if head is None or found is None or (found[0].at_once and not self._may_be_at_once):
            return False
        self._direct = found, head
        return True

    def _begin_with_a_part(self) -> None:
        """The body of a request is still to come: let the application read it."""
        body, self._body, self._direct = self._body, b"", None
        self._begin_cycle(keep_alive=True)
        if body:
            super().on_body(body)

    def _begin_cycle(self, *, keep_alive: bool) -> None:
        self._unanswered += 1
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
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        if self.transport.is_closing():
            return
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:  # pipelined: it waits for its turn
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        self._body_begun = True
        if self._waits is Wait.BODY:
            self._waits = Wait.NOTHING
        if self._direct is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        self._in_header = self._message_ended = self._between = True
        self._waits = Wait.NOTHING
        if self._direct is not None:
            self._answer_directly(*self._direct)
            return
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    # ------------------------------------------------------------------ directly
    def _answer_directly(self, found: _Found, head: Head) -> None:
        body, self._body, self._direct = self._body, b"", None
        if not found[0].at_once:
            self._answer_in_a_task(found, self.scope, head, body)
            return
        reply = self._read(found[0], self.scope, head, found[1])
        if reply.status == 200 and b"content-length" not in head.named:
            self._answered = head

    def _answer_in_a_task(self, found: _Found, scope: Any, head: Head, body: bytes) -> None:
        self._unanswered += 1
        cycle = Direct()
        self.cycle = cycle  # type: ignore[assignment]
        answering = found[0].answer(scope, head.named, found[1], body)
        task = self.loop.create_task(self._answer_later(cycle, answering))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    async def _answer_later(self, cycle: Direct, answering: Coroutine[Any, Any, Reply]) -> None:
        reply = await answering
        cycle.response_complete = True
        if not cycle.disconnected:
            self._write(reply, keep_alive=cycle.keep_alive)
            self.on_response_complete()

    def _answer_known(self, data: bytes) -> bool:
        """Answer a read that is one request of the plainest form, behind headers that came before. Whether it is."""
        end = data.find(b"\r\n")
        head = _heads.get(data[end:])
        line = None if head is None else PLAIN_LINE.fullmatch(data, 0, end)
        if head is None or line is None or self.flow.write_paused or self.transport.is_closing():
            return False
        path = line[1]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": head.listed,
            "method": "GET",
            "raw_path": path,
            "path": path.decode("ascii"),
            "query_string": line[2] or b"",
        }
        found = self._find_direct(scope)
        if found is None:
            return False
        self._waits = Wait.NOTHING
        if found[0].at_once:
            self._read(found[0], scope, head, found[1])
        else:
            self._answer_in_a_task(found, scope, head, b"")
        return True

    def _read(self, endpoint: Endpoint, scope: Any, head: Head, parameters: dict[str, str]) -> Reply:
        reply = endpoint.read(scope, head.named, parameters)
        self._write(reply)
        self.server_state.total_requests += 1
        self._wait(Wait.REQUEST, self.timeout_keep_alive)
        return reply

    def _write(self, reply: Reply, *, keep_alive: bool = True) -> None:
        try:
            head, body = reply.encoded(
                self.server_state.default_headers, b"" if keep_alive else b"connection: close\r\n"
            )
        except ValueError:
            log.exception("an answer cannot be written")
            self.transport.close()
            return
        if len(body) <= JOINED_BYTES_MAX:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        if not keep_alive:
            self.transport.close()

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


def _learn(data: bytes, head: Head) -> None:
    """Keep the headers of a read that was one request, if it is of the plainest form."""
    end = data.find(b"\r\n")
    if PLAIN_LINE.fullmatch(data, 0, end) is not None:
        _heads.learn(data[end:], head)
