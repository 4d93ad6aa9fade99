"""Servers: created one or ten thousand at once, read in bulk, waited for by events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from nova_fast.client.answers import Many, One, check
from nova_fast.client.core import AsyncCore
from nova_fast.client.requests import create_body, new_key, path_of, query_of
from nova_fast.client.shapes import Created, NewServer, Server
from nova_fast.client.waiting import Wanted
from nova_fast.model.sdk import Answer, Ask

_SERVER = One(Server, "server")
_SERVERS = Many(Server, "servers")
_CREATED = One(Created)
_PATH = "/v2.1/servers"
_NOT_FOUND = 404

ManyServers = list[Server]


class AsyncServers:
    """``cloud.servers``.

    >>> from nova_fast.client import AsyncClient, NewServer
    >>> async with await AsyncClient.connect() as cloud:
    ...     image = await cloud.images.create("tiny", bytes(65536))
    ...     wanted = NewServer(name="web", flavor="1", image=image, networks="none")
    ...     made = await cloud.servers.create(wanted, count=3)
    ...     servers = await cloud.servers.wait(made.ids)
    ...     await cloud.servers.delete_many(made.ids)
    >>> [(server.name, server.status) for server in servers]
    [('web-1', 'ACTIVE'), ('web-2', 'ACTIVE'), ('web-3', 'ACTIVE')]
    """

    def __init__(self, core: AsyncCore) -> None:
        self._core = core

    async def create(self, new: NewServer, *, count: int = 1, all_or_nothing: bool = True) -> Created:
        """Have servers made; they are recorded durably when this returns, and built after that.

        ``count`` of them in one transaction: all or none, or else as many as the quota allows. With several their
        names end in -1, -2, …. Done once, whatever breaks on the way.
        """
        body = create_body(new, count, all_or_nothing=all_or_nothing)
        headers = {"x-nova-fast-ids": "true"}
        return _CREATED.read(await self._core.ask(Ask("compute", "POST", _PATH, body, new_key(), headers)))

    async def get(self, server_id: str) -> Server:
        """One server. Raises NotFound."""
        return _SERVER.read(await self._core.ask(Ask("compute", "GET", path_of(_PATH, server_id))))

    async def get_many(self, server_ids: Iterable[str], *, missing_ok: bool = False) -> ManyServers:
        """Many servers, in the order of their ids; all asked for at once. Raises NotFound for a missing one."""
        asks = [Ask("compute", "GET", path_of(_PATH, server_id)) for server_id in server_ids]
        answers = await self._core.ask_all(asks)
        return [_SERVER.read(one) for one in answers if not (missing_ok and one.status == _NOT_FOUND)]

    async def list(self, **filters: Any) -> AsyncIterator[Server]:
        """The servers of the project, newest first, page by page; filters as the Compute API has them.

        ``name``, ``status``, ``all_tenants=True`` for admins, … ``limit`` is the size of a page.
        """
        marker = ""
        more = True
        while more:
            target = f"{_PATH}/detail{query_of(filters, marker)}"
            rows, more = _SERVERS.read(await self._core.ask(Ask("compute", "GET", target), alone=True))
            for server in rows:
                yield server
            marker = rows[-1].id if rows else ""

    async def delete(self, server_id: str) -> None:
        """Have a server deleted. Raises NotFound."""
        met = self._core.workers_met
        self._deleted(await self._core.ask(Ask("compute", "DELETE", path_of(_PATH, server_id))), met)

    def _deleted(self, answer: Answer, met: int) -> None:
        """A worker that died may have had it deleted, and another does not find it then."""
        if answer.status != _NOT_FOUND or met == self._core.workers_met:
            check(answer)

    async def delete_many(self, server_ids: Iterable[str]) -> None:
        """Have many servers deleted; those that are gone already are passed over."""
        asks = [Ask("compute", "DELETE", path_of(_PATH, server_id)) for server_id in server_ids]
        for answer in await self._core.ask_all(asks):
            if answer.status != _NOT_FOUND:
                check(answer)

    async def rename(self, server_id: str, name: str) -> Server:
        """Give a server another name."""
        body = msgspec.json.encode({"server": {"name": name}})
        return _SERVER.read(await self._core.ask(Ask("compute", "PUT", path_of(_PATH, server_id), body)))

    async def start(self, server_id: str) -> None:
        await self._act(server_id, "os-start")

    async def stop(self, server_id: str) -> None:
        await self._act(server_id, "os-stop")

    async def reboot(self, server_id: str, *, hard: bool = False) -> None:
        await self._act(server_id, "reboot", {"type": "HARD" if hard else "SOFT"})

    async def pause(self, server_id: str) -> None:
        await self._act(server_id, "pause")

    async def unpause(self, server_id: str) -> None:
        await self._act(server_id, "unpause")

    async def suspend(self, server_id: str) -> None:
        await self._act(server_id, "suspend")

    async def resume(self, server_id: str) -> None:
        await self._act(server_id, "resume")

    async def console(self, server_id: str, lines: int = 100) -> str:
        """The last lines of a server's console."""
        answer = await self._act(server_id, "os-getConsoleOutput", {"length": lines})
        return str(msgspec.json.decode(answer.body)["output"])

    async def wait(
        self, server_ids: str | Iterable[str], status: str = "ACTIVE", *, timeout_s: float = 300.0
    ) -> ManyServers:
        """Wait until all of these have a status (DELETED: until they are gone), told by events; the servers then.

        Raises Conflict when one goes into ERROR instead, and Unavailable after the time.
        """
        ids = [server_ids] if isinstance(server_ids, str) else list(server_ids)
        wanted = Wanted(ids, status)
        end_s = time.monotonic() + timeout_s
        following = await self._core.follow(ids)
        try:
            wanted.look(await self.get_many(ids, missing_ok=True))
            while wanted.left:
                wanted.check(time.monotonic() < end_s)
                news = await self._core.hear(following, max(0.0, end_s - time.monotonic()))
                if news.gap:
                    wanted.look(await self.get_many(wanted.left, missing_ok=True))
                elif failed := wanted.take(news.events):
                    wanted.fail(await self.get_many(failed, missing_ok=True))
        finally:
            await self._core.leave(following)
        return await self.get_many(ids, missing_ok=status == "DELETED")

    async def _act(self, server_id: str, action: str, value: Any = None) -> Answer:
        body = msgspec.json.encode({action: value})
        target = f"{path_of(_PATH, server_id)}/action"
        key = "" if action.startswith("os-get") else new_key()
        return check(await self._core.ask(Ask("compute", "POST", target, body, key)))
