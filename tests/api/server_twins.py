"""Two workers over one store, for tests of what a worker keeps: one keeps what it makes, the other nothing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec

from nova_fast.api.app import load_face
from nova_fast.api.compute.server_answers import Kept
from nova_fast.api.framework.build import build
from nova_fast.api.framework.request import Runtime, Services
from nova_fast.state import schema as tables

if TYPE_CHECKING:
    from tests.api.conftest import Client
    from tests.api.server_world import World

#: (version, whether an admin asks, the prefix of the path, the Host header)
VARIANTS = (
    ("2.1", False, "", b"a"),
    ("2.96", False, "", b"a"),
    ("2.96", True, "", b"a"),
    ("2.16", True, "", b"a"),
    ("2.90", False, "", b"b:80"),
    ("2.96", False, "project", b"a"),
)


class Twins:
    """Two workers over one store: one keeps what it makes, the other makes everything anew."""

    def __init__(self, world: World) -> None:
        cloud = world.cloud
        self._world = world
        self._port = cloud.ports["compute"]
        keeping, self._fresh = (Runtime(cloud.config, cloud.store, cloud.commander, Services()) for _ in range(2))
        self._keeping, self._forgetting = (
            build(runtime, [(self._port, load_face("compute"))]) for runtime in (keeping, self._fresh)
        )
        self.kept = keeping.kept(Kept)

    def compare(self, what: str = "") -> list[int]:
        """All variants of all views of both workers are equal; returns the statuses."""
        with self._world.cloud.store.snapshot() as snapshot:
            ids = [server.id for server in snapshot.scan(tables.SERVERS)]
        return asyncio.run(self._compare(ids, what))

    async def _compare(self, ids: list[str], what: str) -> list[int]:
        statuses = []
        for version, admin, prefix, host in VARIANTS:
            client = self._world.admin if admin else self._world.member
            before = f"/v2.1/{client.project_id}" if prefix else "/v2.1"
            everyone = b"all_tenants=1" if admin else b""
            asked = [(f"/servers/{server_id}", b"") for server_id in ids]
            asked += [("/servers", everyone), ("/servers/detail", everyone), ("/servers/detail", b"limit=1")]
            for path, query in asked:
                request = self._scope(client, before + path, query, version, host)
                status, body = await ask(self._keeping, request)
                self._fresh._kept.clear()
                self._fresh._facts.clear()
                fresh_status, fresh_body = await ask(self._forgetting, request)
                statuses.append(status)
                if fresh_status != 500:  # a state that no command makes: a port without its network
                    assert (status, body) == (fresh_status, fresh_body), (what, path, version)
        return statuses

    def _scope(self, client: Client, path: str, query: bytes, version: str, host: bytes) -> dict[str, Any]:
        headers = [
            (b"host", host),
            (b"x-auth-token", client.token.encode()),
            (b"openstack-api-version", f"compute {version}".encode()),
        ]
        return {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "server": ("127.0.0.1", self._port), "client": ("127.0.0.1", 1), "scheme": "http", "root_path": "",
            "headers": headers, "state": {}, "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": query,
        }  # fmt: skip


async def ask(app: Any, scope: dict[str, Any]) -> tuple[int, bytes]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(dict(scope), receive, send)
    return sent[0]["status"], sent[1].get("body", b"")


def change(world: World, table: Any, key: Any, **fields: Any) -> None:
    with world.cloud.store.transaction(time.time_ns() // 1000) as tx:
        tx.put(table, msgspec.structs.replace(tx.need(table, key, "Row"), **fields))
