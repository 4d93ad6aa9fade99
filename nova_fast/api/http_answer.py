"""Writes answers of HTTP: as uvicorn does, with half of its work for the usual one.

The usual answer has a Content-Length and comes as a head and one body. Its head is checked as a whole, not header by
header, and goes to the socket together with the body when that is short. Everything else is left to uvicorn.
"""

from __future__ import annotations

import re
from typing import Any, Self

from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

#: A longer body is written by itself: to join it would be to copy it.
JOINED_BYTES_MAX = 64 << 10
#: Header names that were found right; an application has few.
_NAMES_MAX = 256
_names: set[bytes] = set()
_SPECIAL = frozenset({b"transfer-encoding", b"connection"})
_NOT_IN_A_VALUE = re.compile(b"[\x00-\x08\x0a-\x1f\x7f]")


class Cycle(RequestResponseCycle):
    """A request and its answer."""

    _head = b""  # that waits for the body
    _told = False  # that the request has no body

    async def receive(self) -> Any:
        """The next piece of the request, or that there is none any more."""
        if self.more_body or self.body or self._told or self.disconnected or self.response_complete:
            return await super().receive()
        # PERF: a request without a body, which is here as a whole: 0.7 µs less than to wait for nothing
        self._told = True
        self.message_event.clear()
        self.flow.resume_reading()
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: Any) -> None:
        """An ASGI message of the application. Raises RuntimeError for one that is not proper."""
        head, self._head = self._head, b""
        if self.disconnected or self.flow.write_paused:
            if head:
                self.transport.write(head)
        elif head:
            body = message.get("body", b"")
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                if self.scope["method"] == "HEAD":
                    body = b""
                elif len(body) != self.expected_content_length:
                    self.transport.write(head)
                    return await super().send(message)  # raises
                return self._finish(head, body)
            self.transport.write(head)
        elif not self.response_started and message["type"] == "http.response.start" and self._begin(message):
            return None
        return await super().send(message)

    def _begin(self, message: Any) -> bool:
        """Make the head of a usual answer; False when it is none."""
        parts = [STATUS_LINE[message["status"]]]
        values = []
        length = -1
        for name, value in message["headers"]:
            if name not in _names and not _is_usual(name):
                return False
            if name == b"content-length":
                length = int(value)
            values.append(value)
            parts += (name, b": ", value, b"\r\n")
        if length < 0 or _NOT_IN_A_VALUE.search(b"".join(values)):
            return False
        for name, value in self.default_headers:
            parts += (name, b": ", value, b"\r\n")
        parts.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self._head = b"".join(parts)
        self.expected_content_length = length
        self.chunked_encoding = False
        self.response_started = True
        self.waiting_for_100_continue = False
        return True

    def _finish(self, head: bytes, body: bytes) -> None:
        if len(body) <= JOINED_BYTES_MAX:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self.expected_content_length = 0
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Direct:
    """What the server asks of a request that is answered without ASGI."""

    __slots__ = ("disconnected", "keep_alive", "response_complete")

    response_started = False

    def __init__(self) -> None:
        self.disconnected = self.response_complete = False
        self.keep_alive = True

    @property
    def message_event(self) -> Self:
        """Nobody waits for anything of it."""
        return self

    def set(self) -> None:
        """Nothing to do."""


def _is_usual(name: bytes) -> bool:
    """Whether a header can be written as it is: a proper name in lower case that does not say how the answer ends."""
    if name in _SPECIAL or name != name.lower() or not name or HEADER_RE.search(name):
        return False
    if len(_names) < _NAMES_MAX:
        _names.add(name)
    return True
