"""Requests that are given to their endpoint without ASGI: the same answers, in order, each done once."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from nova_fast.api.framework.direct import Reply
from nova_fast.api.http_answer import Cycle
from nova_fast.api.http_protocol import BoundedProtocol
from nova_fast.config import ApiConfig
from nova_fast.model.commands.servers import CreateServers
from tests.api.http_line import ORDINARY, Line, parts, request, status
from tests.api.server_world import World

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

JSON = b"Content-Type: application/json"
NEWEST = b"OpenStack-API-Version: compute 2.96"
TIMEOUT_S = 60.0
#: What differs between two answers to one question, beside the ids of requests.
VARIES = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|r-[0-9a-z]{8}|"
    rb'(?<="adminPass":)"[^"]*"|(?<=addr":)"[^"]*"|(?<=ated":)"[^"]*"'
)


@pytest.fixture
def api_config() -> ApiConfig:
    return ApiConfig(max_body_bytes=40_000)


@pytest.fixture
def line(cloud: Cloud) -> Line:
    return Line(cloud)


def sent(path: str, token: str, body: bytes, *headers: bytes, method: str = "POST") -> bytes:
    return request(path, token, b"Content-Length: %d" % len(body), *headers, method=method) + body


def test_all_ways_to_an_answer_lead_to_the_same_bytes(world: World, line: Line) -> None:
    create = json.dumps(world.body()).encode()
    token, admin = world.member.token, world.admin.token
    ids = [world.active() for _ in range(2)]  # one for each way
    path = "/v2.1/servers"
    pairs: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((path, token, create, JSON, NEWEST), {}),
        ((path, token, create, NEWEST), {}),
        ((path, token, create, JSON), {}),
        ((path, token, create, JSON, NEWEST, b"X-Nova-Fast-Ids: 1"), {}),
        ((path, token, create, b"Content-Type: text/plain", NEWEST), {}),
        ((path, token, b"", JSON, NEWEST), {}),
        ((path, token, b"{", JSON, NEWEST), {}),
        ((path, token, b"{}", JSON, NEWEST), {}),
        ((path, token, b" " * 30_000 + create, JSON, NEWEST), {}),
        ((path, token, b" " * 40_001, JSON, NEWEST), {}),
        ((path, token, b" " * (1 << 20), JSON, NEWEST), {}),
        ((path, "none", create, JSON), {}),
        ((path, token, create, JSON, b"OpenStack-API-Version: compute 9.9"), {}),
        ((path, token, create, JSON, NEWEST, b'Idempotency-Key: "k1"'), {}),
        ((path, token, create, JSON, NEWEST, b"Idempotency-Key: \xff"), {}),
        (("/v2.1/servers?x=y", token, create, JSON, NEWEST), {}),
        (("/v2.1/nothing", token, create, JSON), {}),
        (("/v2.1/flavors", token, b"{}", JSON), {}),
        (("/v2.1/flavors", admin, b"{}", JSON), {}),
        (("/v2.1/servers/ID/action", token, b'{"os-stop": null}', JSON), {}),
        (("/v2.1/servers/ID/action", token, b'{"os-none": null}', JSON), {}),
        (("/v2.1/servers/ID/metadata", token, b'{"metadata": {"a": "b"}}', JSON), {}),
        (("/v2.1/servers/ID", token, b'{"server": {"name": "other"}}', JSON), {"method": "PUT"}),
        (("/v2.1/servers/ID/tags/red", token, b"", NEWEST), {"method": "PUT"}),
        ((f"{path}/none", token, b""), {"method": "DELETE"}),
        ((f"{path}/none", token, b""), {"method": "PATCH"}),
        ((path, token, b"{}", NEWEST), {"method": "GET"}),
        (("/v2.1/servers/ID", token, b""), {"method": "DELETE"}),
    ]
    for (target, *arguments), named in pairs:
        one, other = (target.replace("ID", server_id) for server_id in ids)
        direct = line.ask(sent(one, *arguments, **named))
        ordinary = line.ask(sent(other, *arguments, ORDINARY, **named))
        found, expected = (parts(VARIES.sub(b"*", answer)) for answer in (direct, ordinary))
        if b"idempotency-replayed: true" in expected[1]:
            expected[1].remove(b"idempotency-replayed: true")
        assert found == expected, (target, arguments)


@pytest.mark.parametrize(
    ("face", "path"),
    [
        ("compute", "/"), ("compute", "/v2.1"), ("compute", "/v2.1/flavors?limit=2"), ("compute", "/v2.1/limits"),
        ("compute", "/v2.1/flavors/none"), ("compute", "/v2.1/servers/1/os-instance-actions"), ("compute", "/none"),
        ("identity", "/v3"), ("identity", "/v3/users"), ("identity", "/v3/auth/catalog"), ("identity", "/"),
        ("image", "/versions"), ("image", "/v2/images?limit=1"), ("image", "/v2/images/none/file"),
        ("network", "/v2.0/networks"), ("network", "/v2.0/ports?fields=id"), ("network", "/"),
        ("placement", "/"), ("placement", "/resource_providers"), ("placement", "/allocation_candidates"),
    ],
)  # fmt: skip
def test_reads_of_all_faces_are_the_same(world: World, cloud: Cloud, face: str, path: str) -> None:
    line = Line(cloud, face)
    for token in (world.member.token, world.admin.token, "none"):
        direct, ordinary = (line.ask(request(path, token, *more)) for more in ((), (ORDINARY,)))
        assert parts(direct) == parts(ordinary)
    assert b"content-length" in line.ask(request(path, world.admin.token, method="HEAD"), body=False)
    assert status(line.ask(request("/", world.admin.token))) // 100 in {2, 3, 4}


def test_usual_requests_are_no_matter_of_asgi(world: World, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cycle, "run_asgi", None)
    create = json.dumps(world.body()).encode()
    assert status(line.ask(sent("/v2.1/servers", world.member.token, create, JSON, NEWEST))) == 202


def test_a_body_in_pieces_is_done_once(world: World, line: Line, cloud: Cloud) -> None:
    whole = sent("/v2.1/servers", world.member.token, json.dumps(world.body()).encode(), JSON, NEWEST)
    end = whole.index(b"\r\n\r\n") + 4
    for cut in (10, end - 1, end, end + 1, len(whole) - 1):
        before = len(cloud.commander.commands)
        line.send(whole[:cut])
        time.sleep(0.05)
        assert status(line.ask(whole[cut:])) == 202
        assert len(cloud.commander.commands) == before + 1


def test_requests_of_one_read_are_done_in_order(world: World, line: Line, cloud: Cloud) -> None:
    def create(name: str) -> bytes:
        return sent("/v2.1/servers", world.member.token, json.dumps(world.body(name=name)).encode(), JSON, NEWEST)

    names = [f"s{number}" for number in range(8)]
    get = request("/v2.1/servers", world.member.token)
    line.send(b"".join(create(name) + get for name in names))
    answers = [line.answer() for _ in range(16)]
    assert [status(answer) for answer in answers] == [202, 200] * 8
    listed = [len(json.loads(answer.partition(b"\r\n\r\n")[2])["servers"]) for answer in answers[1::2]]
    assert listed == sorted(listed)
    assert listed[-1] == listed[0] + 7
    done = [one.name for one in cloud.commander.commands if isinstance(one, CreateServers)]
    assert done == names


def test_a_client_that_goes_away_stops_nothing(world: World, cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    run = cloud.commander.run

    async def slow(command: Any, request_id: str) -> Any:
        await asyncio.sleep(0.3)
        return await run(command, request_id)

    monkeypatch.setattr(cloud.commander, "run", slow)
    done = len(cloud.commander.commands)
    create = json.dumps(world.body()).encode()
    line = Line(cloud)
    line.send(sent("/v2.1/servers", world.member.token, create, JSON, NEWEST))
    time.sleep(0.1)
    line.close()
    end_s = time.monotonic() + TIMEOUT_S
    while len(cloud.commander.commands) == done and time.monotonic() < end_s:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(cloud.commander.commands) == done + 1
    assert status(Line(cloud).ask(request("/v2.1/servers", world.member.token))) == 200


class Late:
    """An application with one endpoint, which answers when it is told to."""

    at_once = False

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.headers: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("this is no request for ASGI")

    def find_direct(self, scope: Any) -> Any:
        return self, {}

    async def answer(self, scope: Any, headers: Any, parameters: Any, body: bytes) -> Reply:
        self.asked.set()
        await self.may_answer.wait()
        reply = Reply()
        reply.data = body
        if self.headers:
            reply.set_headers(self.headers)
        return reply


async def _served(app: Late, send: bytes, before: Any) -> bytes:
    """All that a connection brings until it is closed; ``before`` is called with the server before the answer."""
    config = uvicorn.Config(
        app, http=BoundedProtocol, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server._serve([listener := socket.create_server(("127.0.0.1", 0))]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(send)
    await asyncio.wait_for(app.asked.wait(), TIMEOUT_S)
    before(server)
    await asyncio.sleep(0.3)
    app.may_answer.set()
    found = await asyncio.wait_for(reader.read(-1), TIMEOUT_S)
    writer.close()
    server.should_exit = True
    await asyncio.wait_for(serving, TIMEOUT_S)
    return found


POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"


def test_a_server_that_stops_gives_the_answer_first() -> None:
    async def run() -> bytes:
        return await _served(Late(), POST, lambda server: setattr(server, "should_exit", True))

    found = asyncio.run(run())
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in found
    assert found.endswith(b"\r\n\r\nabc")


def test_a_header_that_cannot_be_written_is_never_written() -> None:
    async def run(value: str) -> bytes:
        app = Late()
        app.headers = {"location": value}
        return await _served(app, POST, lambda server: None)

    assert asyncio.run(run("a\r\nset-cookie: b")) == b""
    assert asyncio.run(run("a\u0416")) == b""
