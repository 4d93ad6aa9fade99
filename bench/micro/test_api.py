"""One request through the ASGI application, without the HTTP server: token, microversion, policy, route, view."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from bench.stand import AsgiClient, Stand
from nova_fast.identity.tokens import unseal

TIMES = 20  # requests in one turn of the loop


@pytest.fixture(scope="module")
def client(stand: Stand) -> AsgiClient:
    return AsgiClient(stand.app(), stand.token)


def _many(
    loop: asyncio.AbstractEventLoop, client: AsgiClient, path: str, query: bytes = b"", times: int = TIMES
) -> int:
    async def ask() -> int:
        for _ in range(times):
            status = await client.get(path, query)
        return status

    return loop.run_until_complete(ask())


def test_token_check(benchmark: Any, stand: Stand) -> None:
    from bench.stand import TOKEN_KEY

    assert benchmark(unseal, TOKEN_KEY, stand.token).user_id == stand.user_id


def test_get_server_x20(benchmark: Any, loop: Any, client: AsgiClient, stand: Stand) -> None:
    assert benchmark(_many, loop, client, f"/v2.1/servers/{stand.server_ids[3]}") == 200
    assert json.loads(client.body)["server"]["id"] == stand.server_ids[3]


def test_route_that_is_not_there_x20(benchmark: Any, loop: Any, client: AsgiClient) -> None:
    assert benchmark(_many, loop, client, "/v2.1/nothing/here") == 404


def test_middleware_and_an_empty_list_x20(benchmark: Any, loop: Any, client: AsgiClient) -> None:
    assert benchmark(_many, loop, client, "/v2.1/os-server-groups") == 200


def test_list_detail_100(benchmark: Any, loop: Any, client: AsgiClient) -> None:
    assert benchmark(_many, loop, client, "/v2.1/servers/detail", b"limit=100", 1) == 200
    assert len(json.loads(client.body)["servers"]) == 100


def test_list_1000(benchmark: Any, loop: Any, client: AsgiClient) -> None:
    assert benchmark(_many, loop, client, "/v2.1/servers", b"limit=1000", 1) == 200
    assert len(json.loads(client.body)["servers"]) == 1000
