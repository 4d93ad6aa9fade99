"""One request through the ASGI application, without the HTTP server: token, microversion, policy, route, view."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import msgspec
import pytest

from bench.stand import TOKEN_KEY, AsgiClient, Stand, now_us
from nova_fast.identity.tokens import unseal
from nova_fast.state import schema as tables

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


def test_list_detail_100_of_changed_servers(benchmark: Any, loop: Any, client: AsgiClient, stand: Stand) -> None:
    """Nothing that was kept of them is of use."""
    names = itertools.count()

    def change() -> None:
        with stand.store.transaction(now_us()) as tx:
            newest = list(tx.scan_index(tables.SERVERS_BY_PROJECT, stand.project_id, limit=100))
            for server in newest:
                tx.put(tables.SERVERS, msgspec.structs.replace(server, name=f"changed{next(names)}"))

    def ask() -> int:
        return _many(loop, client, "/v2.1/servers/detail", b"limit=100", 1)

    assert benchmark.pedantic(ask, setup=change, rounds=30, warmup_rounds=2) == 200
    assert all(server["name"].startswith("changed") for server in json.loads(client.body)["servers"])


def test_list_1000(benchmark: Any, loop: Any, client: AsgiClient) -> None:
    assert benchmark(_many, loop, client, "/v2.1/servers", b"limit=1000", 1) == 200
    assert len(json.loads(client.body)["servers"]) == 1000
