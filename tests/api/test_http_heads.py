"""Headers that were parsed before are not parsed again, and nobody can tell: neither he who asks nor he who may not."""

from __future__ import annotations

import itertools
import json
import time
from typing import TYPE_CHECKING

import pytest

from nova_fast.api import http_heads, http_protocol
from nova_fast.api.http_heads import BYTES_MAX, Heads, plain_head
from nova_fast.api.http_protocol import BoundedProtocol
from tests.api.http_line import ORDINARY, Line, parts, request, status
from tests.api.server_world import World

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

PATIENCE_S = 60.0
NEWEST = b"OpenStack-API-Version: compute 2.96"


@pytest.fixture(autouse=True)
def heads(monkeypatch: pytest.MonkeyPatch) -> Heads:
    found = Heads()
    monkeypatch.setattr(http_protocol, "_heads", found)
    return found


@pytest.fixture
def line(cloud: Cloud) -> Line:
    return Line(cloud)


def known(heads: Heads) -> int:
    """How many blocks are kept, one at least; the server learns when its answer has left, so we may be early."""
    end_s = time.monotonic() + PATIENCE_S
    while not heads._heads and time.monotonic() < end_s:
        time.sleep(0.001)
    return len(heads._heads)


def test_all_ways_to_an_answer_lead_to_the_same_bytes(world: World, line: Line, heads: Heads) -> None:
    server = world.active()
    paths = [f"/v2.1/servers/{server}", "/v2.1/servers", "/v2.1/servers/detail?limit=1", "/v2.1/servers/none"]
    paths += ["/v2.1/servers?limit=x", "/v2.1/servers?changes-since=%32", "/v2.1/servers?sort_key=nothing"]
    versions = [b"X-A: b", NEWEST, b"OpenStack-API-Version: compute 2.1", b"OpenStack-API-Version: compute 2.x"]
    versions += [b"OpenStack-API-Version: compute 9.1", b"OpenStack-API-Version: compute 2.60,", b"Host2: \xff"]
    tokens = [world.member.token, world.admin.token, "none", world.member.token + "x"]
    for path, version, token in itertools.product(paths, versions, tokens):
        first, second = (line.ask(request(path, token, version)) for _ in range(2))
        ordinary = line.ask(request(path, token, version, ORDINARY))
        assert parts(first) == parts(second) == parts(ordinary), (path, version)
    assert len(heads._heads) >= 6


def test_headers_are_learned_from_a_success_and_serve_every_path(
    world: World, cloud: Cloud, heads: Heads, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = world.active(), world.active()
    first, second = Line(cloud), Line(cloud)
    assert status(first.ask(request("/v2.1/servers/none", world.member.token))) == 404
    assert not heads._heads
    assert status(first.ask(request(f"/v2.1/servers/{one}", world.member.token))) == 200
    assert known(heads) == 1
    monkeypatch.setattr(BoundedProtocol, "on_url", None)  # the parser cannot be asked
    answer = second.ask(request(f"/v2.1/servers/{other}", world.member.token))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["server"]["id"] == other


@pytest.mark.parametrize(
    "headers",
    [
        (b"Connection: close",), (b"Content-Length: 0",), (b"Transfer-Encoding: chunked",), (b"Expect: 100-continue",),
        (b"X-Twice: a", b"X-Twice: b"), (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"), (ORDINARY,),
        (b"X-Long: " + b"a" * http_heads.BLOCK_BYTES_MAX,),
    ],
)  # fmt: skip
def test_what_says_more_than_who_asks_is_not_learned(
    world: World, line: Line, heads: Heads, headers: tuple[bytes, ...]
) -> None:
    chunked = headers[0].startswith(b"Transfer")
    answer = line.ask(request("/v2.1/servers", world.member.token, *headers) + (b"0\r\n\r\n" if chunked else b""))
    assert status(answer) in {100, 200}
    time.sleep(0.05)
    assert not heads._heads


@pytest.mark.parametrize(
    "begin", [b"GET /v2.1/servers HTTP/1.0", b"GET /v2.1//servers HTTP/1.1", b"GET /v2.1/server%73 HTTP/1.1"]
)
def test_lines_of_another_form_are_not_learned_from(world: World, cloud: Cloud, heads: Heads, begin: bytes) -> None:
    asked = request("/v2.1/servers", world.member.token)
    Line(cloud).ask(begin + asked[asked.index(b"\r\n") :])
    time.sleep(0.05)
    assert not heads._heads


def test_two_requests_of_one_read_are_learned_from_by_none(world: World, line: Line, heads: Heads) -> None:
    asked = request("/v2.1/servers", world.member.token)
    line.send(asked * 2)
    assert [status(line.answer()) for _ in range(2)] == [200, 200]
    assert not heads._heads
    assert status(line.ask(asked)) == 200
    assert known(heads) == 1
    line.send(asked * 3)  # known headers, but behind them another request
    assert [status(line.answer()) for _ in range(3)] == [200] * 3


def test_a_revoked_token_is_refused_at_the_next_request(world: World, line: Line, heads: Heads) -> None:
    asked = request("/v2.1/servers", world.member.token)
    assert [status(line.ask(asked)) for _ in range(3)] == [200] * 3
    assert known(heads) == 1
    own = {"X-Subject-Token": world.member.token}
    assert world.member.delete("identity", "/v3/auth/tokens", headers=own).status == 204
    assert status(line.ask(asked)) == 401


def test_known_headers_show_nothing_of_others(world: World, cloud: Cloud, line: Line) -> None:
    server = world.active()
    stranger = cloud.project("strangers").member
    own = request("/v2.1/servers", stranger.token)
    assert [status(line.ask(own)) for _ in range(2)] == [200, 200]
    assert status(line.ask(request(f"/v2.1/servers/{server}", stranger.token))) == 404
    assert status(line.ask(request(f"/v2.1/servers/{server}", world.member.token))) == 200


def test_a_body_that_looks_like_a_known_request_is_a_body(world: World, line: Line, heads: Heads) -> None:
    """Else a proxy in front, or a careless client, would have its bytes taken for orders of another."""
    asked = request("/v2.1/servers", world.member.token)
    assert status(line.ask(asked)) == 200
    assert known(heads) == 1
    length = b"Content-Length: %d" % len(asked)
    media = b"Content-Type: application/json"
    line.send(request("/v2.1/servers", world.member.token, length, media, method="POST"))
    time.sleep(0.1)
    assert status(line.ask(asked)) == 400
    line.send(request("/v2.1/servers", world.member.token, b"Transfer-Encoding: chunked", media, method="POST"))
    time.sleep(0.1)
    line.send(b"%x\r\n" % len(asked))
    time.sleep(0.1)
    line.send(asked)
    time.sleep(0.1)
    assert status(line.ask(b"\r\n0\r\n\r\n")) == 400
    assert status(line.ask(asked)) == 200


def test_the_rest_of_a_request_that_looks_like_a_known_one_is_a_rest(world: World, line: Line) -> None:
    asked = request("/v2.1/servers", world.member.token)
    assert status(line.ask(asked)) == 200
    line.send(b"GET /v2.1/servers/none HTTP/1.1\r\nX-Begun: ")
    time.sleep(0.1)
    assert status(line.ask(asked)) == 404  # the known line was the end of a header
    for cut in (1, 24, asked.index(b"\r\n"), asked.index(b"\r\n") + 2, len(asked) - 1):
        line.send(asked[:cut])
        time.sleep(0.05)
        assert status(line.ask(asked[cut:])) == 200


def test_an_upgrade_is_not_taken_and_the_connection_goes_on(world: World, line: Line) -> None:
    asked = request("/v2.1/servers", world.member.token)
    upgrade = request("/v2.1/servers", world.member.token, b"Connection: Upgrade", b"Upgrade: websocket")
    assert [status(line.ask(data)) for data in (asked, upgrade, asked, upgrade)] == [200] * 4


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_heads, "BYTES_MAX", 100_000)
    heads = Heads()
    for number in range(3000):
        block = b"\r\nX: %d\r\n\r\n" % number
        head = plain_head([(b"x", b"%d" % number)])
        assert head is not None
        heads.learn(block, head)
        heads.learn(block, head)
        assert heads.get(block) is head
        assert heads.size == sum(http_heads._size(*item) for item in heads._heads.items()) <= 100_000
    assert 100 < len(heads._heads) < 1000
    assert BYTES_MAX == 8 << 20
