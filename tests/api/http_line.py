"""A connection that stays open, and what is said over it: for tests of how requests are read and answers written."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

TIMEOUT_S = 60.0
#: What differs between two answers to one question.
VARIES = re.compile(rb"(req-[0-9a-f-]{36}|date: [^\r]*)")
#: A header that says something of the connection, so that the request takes the way of all others.
ORDINARY = b"TE: trailers"


class Line:
    """A connection that stays open."""

    def __init__(self, cloud: Cloud, face: str = "compute") -> None:
        self._socket = socket.create_connection(("127.0.0.1", cloud.ports[face]), timeout=TIMEOUT_S)
        self._read = b""

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, data: bytes, *, body: bool = True) -> bytes:
        """One answer, whole; without ``body`` it has none, whatever it says."""
        self.send(data)
        return self.answer(body=body)

    def answer(self, *, body: bool = True) -> bytes:
        """The next answer, whole."""
        while b"\r\n\r\n" not in self._read:
            self._read += self._piece()
        head, _, _ = self._read.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        end = len(head) + 4 + (0 if length is None or not body else int(length[1]))
        while len(self._read) < end:
            self._read += self._piece()
        found, self._read = self._read[:end], self._read[end:]
        return found

    def _piece(self) -> bytes:
        piece = self._socket.recv(1 << 20)
        assert piece, "the server closed the connection"
        return piece


def request(path: str, token: str, *headers: bytes, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode(), b"Host: x", b"X-Auth-Token: " + token.encode(), *headers]
    return b"\r\n".join([*lines, b"", b""])


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def parts(answer: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Status line, headers in order of their names, body; without what differs each time."""
    head, _, body = VARIES.sub(b"*", answer).partition(b"\r\n\r\n")
    first, *rest = head.split(b"\r\n")
    return first, sorted(rest), body
