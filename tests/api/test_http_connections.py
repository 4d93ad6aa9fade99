"""Bytes that are no proper HTTP, or come too slowly: what the server answers, and that it goes on serving others."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from typing import TYPE_CHECKING

import pytest

from nova_fast.api import http_protocol
from tests.tries import least_of

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

TIMEOUT_S = 60.0
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("identity", "compute")


def connect(cloud: Cloud, face: str = "compute") -> socket.socket:
    return socket.create_connection(("127.0.0.1", cloud.ports[face]), timeout=TIMEOUT_S)


def rest_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    while piece := connection.recv(65536):
        found += piece
    return found


def exchange(cloud: Cloud, data: bytes, face: str = "compute") -> bytes:
    """Send bytes on a new connection; the whole answer until the server closes."""
    with connect(cloud, face) as connection:
        connection.sendall(data)
        return rest_of(connection)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def get(cloud: Cloud, *headers: bytes, line: bytes = b"GET /v2.1/flavors HTTP/1.1") -> bytes:
    lines = [line, b"X-Auth-Token: " + cloud.admin.token.encode(), b"Connection: close", *headers]
    return b"\r\n".join([*lines, b"", b""])


def post(cloud: Cloud, *headers: bytes, body: bytes = b"{}") -> bytes:
    return get(cloud, *headers, line=b"POST /v2.1/flavors HTTP/1.1") + body


@pytest.mark.parametrize(
    ("wanted", "headers"),
    [
        (400, (b"Content-Length: 2", b"Transfer-Encoding: chunked")),
        (400, (b"Transfer-Encoding: chunked", b"Content-Length: 2")),
        (400, (b"Content-Length: 2", b"Content-Length: 3")),
        (400, (b"Content-Length: -2",)),
        (400, (b"Content-Length: 99999999999999999999999",)),
        (400, (b"Transfer-Encoding: xchunked",)),
        (413, (b"Content-Length: 9999999999",)),
    ],
)
def test_a_length_that_can_be_read_two_ways_is_refused(cloud: Cloud, wanted: int, headers: tuple[bytes, ...]) -> None:
    answer = exchange(cloud, post(cloud, *headers))
    assert status(answer) == wanted
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    ("wanted", "data"),
    [
        (505, b"GET /\r\n\r\n"),
        (400, b"GET v2.1 HTTP/1.1\r\n\r\n"),
        (400, b"FOO / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200)),
        (405, b"TRACE / HTTP/1.1\r\nConnection: close\r\n\r\n"),
        (300, b"GET / HTTP/1.0\r\n\r\n"),
    ],
)
def test_what_is_no_request_is_refused(cloud: Cloud, wanted: int, data: bytes) -> None:
    assert status(exchange(cloud, data, "identity")) == wanted
    assert cloud.nobody.get("identity", "/v3").status == 200


def test_pipelined_requests_are_answered_in_order(cloud: Cloud) -> None:
    one = get(cloud).replace(b"Connection: close\r\n", b"")
    found = exchange(cloud, one * 20 + get(cloud, line=b"GET /v2.1/flavors/none HTTP/1.1"))
    assert [int(s) for s in re.findall(rb"HTTP/1\.1 (\d+)", found)] == [200] * 20 + [404]


@pytest.mark.parametrize("host", [b'"><script>', b'a"b', b"a\\b", b"\xff\xfe", b"user@evil", b"evil/path", b"h:999999"])
def test_a_host_header_that_is_no_host_is_in_no_link(cloud: Cloud, host: bytes) -> None:
    answer = exchange(cloud, get(cloud, b"Host: " + host))
    links = [
        link["href"] for flavor in json.loads(answer.partition(b"\r\n\r\n")[2])["flavors"] for link in flavor["links"]
    ]
    assert links
    assert all(link.startswith(f"http://127.0.0.1:{cloud.ports['compute']}/") for link in links)


def test_a_path_goes_into_links_as_it_was_sent(cloud: Cloud) -> None:
    """Decoded, it would put a line end into a header."""
    answer = exchange(cloud, get(cloud, line=b"GET /v3/users?name=a HTTP/1.1"), "identity")
    assert b"/v3/users" in answer
    answer = exchange(cloud, get(cloud, line=b"GET /%763/users HTTP/1.1"), "identity")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["links"]["self"].endswith("/%763/users")


@pytest.mark.parametrize("header", [b"X-Big: " + b"a" * (1 << 20), b"\r\n".join(b"X-%d: a" % n for n in range(50_000))])
def test_headers_without_end_are_refused(cloud: Cloud, header: bytes) -> None:
    with connect(cloud) as connection:
        try:
            connection.sendall(get(cloud, header))
            assert status(rest_of(connection)) == 431
        except ConnectionError:
            pass  # it had seen enough before all was sent
    assert cloud.nobody.get("compute", "/").status == 200


@pytest.mark.parametrize(
    "begin", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HT"], ids=["none", "first", "second"]
)
def test_a_request_that_never_ends_is_given_up(cloud: Cloud, begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_TIMEOUT_S", 0.5)

    def took_s() -> float:
        started = time.monotonic()
        with connect(cloud) as connection:
            connection.sendall(begin)
            time.sleep(0.1)
            try:
                connection.sendall(b"G" if not begin else b"T")
                answer = rest_of(connection)
            except ConnectionError:
                return float("inf")  # it was given up before all this was sent
        assert answer.endswith(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        return time.monotonic() - started

    assert 0.4 < least_of(took_s, 5) < 5


def test_an_open_connection_that_asks_in_time_is_kept(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "HEADER_TIMEOUT_S", 0.3)
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

    def given_up() -> bool:
        with connect(cloud) as connection:
            for _ in range(4):
                connection.sendall(request[:5])
                time.sleep(0.15)  # which may be longer on a busy machine
                try:
                    connection.sendall(request[5:])
                    if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                        return True
                except ConnectionError:
                    return True
        return False

    assert least_of(given_up, True) == 0


def test_a_client_that_sends_too_much_reads_why(cloud: Cloud) -> None:
    """Although it sends on: a connection closed under it would be reset, and the answer lost."""
    with connect(cloud) as connection:
        head = post(cloud, b"Transfer-Encoding: chunked", b"Content-Type: application/json", body=b"")
        connection.sendall(head.replace(b"Connection: close\r\n", b""))
        for _ in range(100):
            connection.sendall(CHUNK)
        connection.sendall(b"0\r\n\r\n" + get(cloud, line=b"GET / HTTP/1.1"))
        answer = rest_of(connection)
    assert [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+)", answer)] == [413, 200]


def test_a_body_that_nobody_reads_is_not_waited_for_without_end(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "DISCARD_TIMEOUT_S", 0.5)
    with connect(cloud) as connection:
        started = time.monotonic()
        connection.sendall(b"POST /v2.1/flavors HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        assert status(rest_of(connection)) == 401
        assert 0.4 < time.monotonic() - started < 20


def test_more_connections_than_a_worker_takes_are_closed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "CONNECTIONS_MAX", 20)
    kept = [connect(cloud) for _ in range(20)]
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while True:
            with connect(cloud) as extra:
                try:
                    extra.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                    if rest_of(extra) == b"":
                        break
                except ConnectionError:
                    break
            assert time.monotonic() < deadline, "it was served"
    finally:
        for one in kept:
            one.close()
    while True:
        try:
            assert cloud.nobody.get("compute", "/").status == 200
            break
        except (ConnectionError, http.client.HTTPException):  # it has not seen yet that they are gone
            assert time.monotonic() < deadline, "it serves nobody"
            time.sleep(0.01)
