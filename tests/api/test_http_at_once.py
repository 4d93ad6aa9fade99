"""Requests that are answered where they are read: in order, one for a turn, and never before they may be."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import TYPE_CHECKING

import pytest

from nova_fast.api import http_protocol
from nova_fast.api.app import load_face
from nova_fast.api.framework.build import build
from nova_fast.api.framework.request import Runtime, Services
from tests.tries import least_of

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

TIMEOUT_S = 60.0


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("identity", "compute")


def head(cloud: Cloud, path: str, *more: bytes, method: bytes = b"GET") -> bytes:
    token = cloud.admin.token.encode()
    lines = [method + b" " + path.encode() + b" HTTP/1.1", b"Host: x", b"X-Auth-Token: " + token, *more]
    return b"\r\n".join([*lines, b"", b""])


def exchange(cloud: Cloud, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", cloud.ports["compute"]), timeout=TIMEOUT_S) as connection:
        connection.sendall(data)
        found = b""
        while piece := connection.recv(65536):
            found += piece
        return found


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+)", answers)]


@pytest.mark.parametrize("gap", [None, 0.002])
def test_requests_of_one_read_are_answered_in_order(cloud: Cloud, gap: float | None) -> None:
    paths = ["/v2.1/servers/none", "/v2.1/servers", "/v2.1/flavors", "/v2.1/servers/detail", "/v2.1/nothing"] * 8
    requests = [head(cloud, path) for path in paths] + [head(cloud, "/v2.1/servers", b"Connection: close")]
    with socket.create_connection(("127.0.0.1", cloud.ports["compute"]), timeout=TIMEOUT_S) as connection:
        if gap is None:
            connection.sendall(b"".join(requests))
        else:
            whole = b"".join(requests)
            for at in range(0, len(whole), 700):
                connection.sendall(whole[at : at + 700])
                time.sleep(gap)
        found = b""
        while piece := connection.recv(65536):
            found += piece
    assert statuses(found) == [404, 200, 200, 200, 404] * 8 + [200]


def test_nothing_is_done_behind_a_close(cloud: Cloud) -> None:
    closing = head(cloud, "/v2.1/servers", b"Connection: close")
    body = b'{"server_group": {"name": "late", "policy": "affinity"}}'
    length = b"Content-Length: %d" % len(body)
    version = b"OpenStack-API-Version: compute 2.96"
    late = head(cloud, "/v2.1/os-server-groups", length, version, b"Content-Type: application/json", method=b"POST")
    done = len(cloud.commander.commands)
    assert statuses(exchange(cloud, closing + late + body)) == [200]
    time.sleep(0.2)
    assert len(cloud.commander.commands) == done
    assert statuses(exchange(cloud, late + body + closing)) == [200, 200]
    assert len(cloud.commander.commands) == done + 1


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_body_that_never_begins_is_given_up(cloud: Cloud, method: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT_S", 0.3)
    begun = time.monotonic()
    answer = exchange(cloud, head(cloud, "/v2.1/servers", b"Content-Length: 10", method=method))
    assert statuses(answer) == [408]
    assert 0.2 < time.monotonic() - begun < TIMEOUT_S / 2


def test_a_body_that_begins_late_is_read(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "BODY_TIMEOUT_S", 1.0)

    def given_up() -> bool:
        with socket.create_connection(("127.0.0.1", cloud.ports["compute"]), timeout=TIMEOUT_S) as connection:
            connection.sendall(head(cloud, "/v2.1/servers", b"Content-Length: 5", b"Connection: close", method=b"POST"))
            for piece in (b"{", b'"a":'):
                time.sleep(0.6)  # which may be longer on a busy machine
                with contextlib.suppress(ConnectionError):
                    connection.sendall(piece)
            return not connection.recv(65536).startswith(b"HTTP/1.1 400 ")

    assert least_of(given_up, True) == 0


def test_head_has_no_body_and_the_next_answer_follows(cloud: Cloud) -> None:
    asked = head(cloud, "/v2.1/servers", method=b"HEAD") + head(cloud, "/v2.1/servers", b"Connection: close")
    assert len(statuses(exchange(cloud, asked))) == 2


def test_the_application_says_which_requests_wait_for_nothing(cloud: Cloud) -> None:
    runtime = Runtime(cloud.config, cloud.store, cloud.commander, Services())
    app = build(runtime, [(1, load_face("compute"))])

    def at_once(path: str, method: str = "GET", port: int = 1) -> bool:
        found = app.find_direct({"path": path, "method": method, "server": ("x", port)})
        return found is not None and found[0].at_once

    assert at_once("/v2.1/servers/some-id")
    assert at_once("/v2.1/servers/detail")
    assert not at_once("/v2.1/servers", "POST")
    assert not at_once("/v2.1/servers", "HEAD")
    assert not at_once("/v2.1/servers/some-id", "DELETE")
    assert not at_once("/v2.1/servers/")
    assert not at_once("/v2.1/flavors")
    assert not at_once("/nothing")
    assert not at_once("/v2.1/servers", port=2)
