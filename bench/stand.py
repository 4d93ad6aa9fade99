"""A furnished store and the API over it in one process: what single steps are measured on, without daemons.

Hosts and servers are those of ``bench/fill.py``: each server has a port, an action and an event.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec

from bench.fill import fill
from nova_fast.api.app import build_app
from nova_fast.api.framework.request import Services
from nova_fast.commands import registry
from nova_fast.config import Config
from nova_fast.identity.tokens import TokenFacts, new_audit_id, seal
from nova_fast.model.base import Message
from nova_fast.model.commands.identity import Bootstrap, CatalogEntry
from nova_fast.model.identity import Caller
from nova_fast.state import schema as tables
from nova_fast.state.store import Store

TOKEN_KEY = bytes(range(32))
COMPUTE_PORT = Config().api.compute_port


class Stand:
    """An open store and who may ask."""

    def __init__(self, folder: Path, hosts: int, servers: int) -> None:
        registry.load_all()
        path = folder / "state" / "store"
        self.config = Config(state_dir=str(folder / "state"))
        store = Store.open(path)
        entry = CatalogEntry(type="compute", name="nova", public_url="u", internal_url="u", admin_url="u")
        with store.transaction(now_us()) as tx:
            made: Any = registry.run(
                tx, Bootstrap(admin_password_hash="none", token_key=TOKEN_KEY, region="RegionOne", catalog=(entry,))
            )
        store.close()
        self.user_id, self.project_id = made.admin_user_id, made.admin_project_id
        fill(path, hosts, servers, self.project_id, self.user_id)
        self.store = Store.open(path)
        with self.store.snapshot() as snapshot:
            mine = snapshot.scan_index(tables.SERVERS_BY_PROJECT, self.project_id, limit=1000)
            self.server_ids = [server.id for server in mine]
        facts = TokenFacts(
            user_id=self.user_id, methods=("password",), scope_type="project", scope_id=self.project_id,
            issued_at_us=now_us(), expires_at_us=now_us() + 86_400_000_000, audit_id=new_audit_id(),
        )  # fmt: skip
        self.token = seal(TOKEN_KEY, facts)
        self.caller = Caller(user_id=self.user_id, project_id=self.project_id, roles=("admin", "member", "reader"))

    def app(self) -> Any:
        """The ASGI application of one worker, whose commands run at once in this process."""
        return build_app(self.config, self.store, _Commander(self.store), Services())

    def close(self) -> None:
        self.store.close()


class _Commander:
    """Does a command in one durable transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self, command: Message, request_id: str) -> Any:
        with self._store.transaction(now_us()) as tx:
            return registry.run(tx, command)


class AsgiClient:
    """Asks an ASGI application one GET at a time, without a server."""

    def __init__(self, app: Any, token: str) -> None:
        self._app = app
        self._headers = [
            (b"host", b"bench"),
            (b"x-auth-token", token.encode()),
            (b"openstack-api-version", b"compute 2.96"),
        ]
        self.status = 0
        self.body = b""

    async def get(self, path: str, query: bytes = b"") -> int:
        """The status; the body is kept."""
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": "GET",
            "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query, "root_path": "",
            "headers": self._headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", COMPUTE_PORT),
        }  # fmt: skip
        await self._app(scope, _nothing, self._send)
        return self.status

    async def _send(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start":
            self.status = event["status"]
        else:
            self.body = event.get("body", b"")


async def _nothing() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def now_us() -> int:
    return time.time_ns() // 1000


def renewed(server: Any, number: int) -> Any:
    """The same server as another one, for writes that must not meet."""
    return msgspec.structs.replace(server, id=f"{number:08x}-0000-4000-9000-0000000000dd", number=1_000_000 + number)
