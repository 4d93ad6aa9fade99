"""Requests that are answered where they are read: in order, one for a turn, and never before they may be."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from nova_fast.api import http_protocol
from nova_fast.api.app import load_face
from nova_fast.api.framework.build import build
from nova_fast.api.framework.request import Runtime, Services
from nova_fast.api.http_protocol import BoundedProtocol

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

TIMEOUT_S = 10.0


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
    with socket.create_connection(("127.0.0.1", cloud.ports["compute"]), timeout=TIMEOUT_S) as connection:
        connection.sendall(head(cloud, "/v2.1/servers", b"Content-Length: 5", b"Connection: close", method=b"POST"))
        for piece in (b"{", b'"a":'):
            time.sleep(0.6)
            connection.sendall(piece)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_head_has_no_body_and_the_next_answer_follows(cloud: Cloud) -> None:
    asked = head(cloud, "/v2.1/servers", method=b"HEAD") + head(cloud, "/v2.1/servers", b"Connection: close")
    assert len(statuses(exchange(cloud, asked))) == 2


def test_the_application_says_which_requests_wait_for_nothing(cloud: Cloud) -> None:
    runtime = Runtime(cloud.config, cloud.store, cloud.commander, Services())
    app = build(runtime, [(1, load_face("compute"))])

    def at_once(path: str, method: str = "GET", port: int = 1) -> bool:
        return app.answers_at_once({"path": path, "method": method, "server": ("x", port)})

    assert at_once("/v2.1/servers/some-id")
    assert at_once("/v2.1/servers/detail")
    assert not at_once("/v2.1/servers", "POST")
    assert not at_once("/v2.1/servers/some-id", "DELETE")
    assert not at_once("/v2.1/flavors")
    assert not at_once("/nothing")
    assert not at_once("/v2.1/servers", port=2)


class Waits:
    """An application that says that it waits for nothing, and waits."""

    def __init__(self) -> None:
        self.cancelled = False

    def answers_at_once(self, scope: Any) -> bool:
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(asyncio.get_running_loop().create_future(), 0.01)
        except TimeoutError:
            self.cancelled = True
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await asyncio.sleep(0.001)
        await send({"type": "http.response.body", "body": b"o", "more_body": True})
        await send({"type": "http.response.body", "body": b"k"})


def test_an_application_that_waits_all_the_same_is_waited_for() -> None:
    async def run() -> tuple[bytes, bool]:
        app = Waits()
        config = uvicorn.Config(
            app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
        )
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.ensure_future(server._serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        found = await asyncio.wait_for(reader.read(-1), TIMEOUT_S)
        writer.close()
        server.should_exit = True
        await serving
        return found, app.cancelled

    found, cancelled = asyncio.run(run())
    assert statuses(found) == [200, 200]
    assert found.count(b"\r\n\r\nok") == 2
    assert cancelled
