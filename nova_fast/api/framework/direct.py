"""Requests that are answered without Falcon's objects and ASGI's events, and the bytes of their answers.

The router, the endpoint and the handler are the same for every request; what is left out here costs more than a kept
answer itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from nova_fast.api.framework.route import JSON

#: Kinds of answers whose first lines are kept; there are few unless somebody finds a way to make many.
_BEGUN_MAX = 256
_NOT_IN_A_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_BODILESS = frozenset({204, 304})
_begun: dict[tuple[int, str], bytes] = {}


class Asked:
    """What an endpoint looks at of a request that is here as a whole: as much of Falcon's as it uses."""

    __slots__ = ("_asgi_headers", "body", "content_type", "scope")

    def __init__(self, scope: dict[str, Any], headers: dict[bytes, bytes], body: bytes) -> None:
        self.scope = scope
        self._asgi_headers = headers
        self.body = body
        media = headers.get(b"content-type")
        self.content_type = None if media is None else media.decode("latin-1")


class Reply:
    """What an endpoint makes of a response: as much of Falcon's as it uses."""

    __slots__ = ("_headers", "content_type", "data", "said", "status", "stream")
    streams = False  # whether a stream can be taken, too

    def __init__(self) -> None:
        self.status = 200
        self.data: bytes | None = None
        self.stream: Any = None
        self.content_type = JSON
        self._headers: dict[str, str] | None = None
        self.said = b""  # header lines that every answer of a face has

    @property
    def status_code(self) -> int:
        return self.status

    def set_header(self, name: str, value: str) -> None:
        self.set_headers({name: value})

    def set_headers(self, headers: dict[str, str]) -> None:
        self._headers = headers if self._headers is None else self._headers | headers

    def encoded(self, default_headers: Iterable[tuple[bytes, bytes]], end: bytes = b"") -> tuple[bytes, bytes]:
        """Head and body. Raises ValueError when a header cannot be written."""
        body = self.data or b""
        if self.status in _BODILESS:
            parts, body = [_begin(self.status), self.said], b""
        else:
            kind = self.status, self.content_type
            parts = [_begun.get(kind) or _begin(*kind), self.said, b"content-length: %d\r\n" % len(body)]
        if self._headers:
            parts.append(lines(self._headers))
        parts += [b"%b: %b\r\n" % header for header in default_headers]
        parts += (end, b"\r\n")
        return b"".join(parts), body


def _begin(status: int, content_type: str = "") -> bytes:
    begun = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
    if content_type:
        begun += _line("content-type", content_type)
    if len(_begun) < _BEGUN_MAX:
        _begun[status, content_type] = begun
    return begun


def _line(name: str, value: str) -> bytes:
    if _NOT_IN_A_HEADER.search(value):
        raise ValueError(f"a control character in the header {name}")
    return f"{name}: {value}\r\n".encode("latin-1")  # UnicodeEncodeError is a ValueError


def lines(headers: dict[str, str]) -> bytes:
    """Header lines. Raises ValueError when one cannot be written."""
    return b"".join(_line(name.lower(), value) for name, value in headers.items())
