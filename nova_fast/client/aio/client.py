"""The cloud as a program sees it: its nouns, what happens in it, and every other operation of the REST API."""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.client.aio.flavors import AsyncFlavors
from nova_fast.client.aio.hosts import AsyncHosts
from nova_fast.client.aio.images import AsyncImages
from nova_fast.client.aio.networks import AsyncNetworks
from nova_fast.client.aio.servers import AsyncServers
from nova_fast.client.aio.watch import AsyncWatch
from nova_fast.client.answers import check
from nova_fast.client.core import AsyncCore
from nova_fast.client.requests import new_key
from nova_fast.client.settings import Settings, read_file
from nova_fast.client.shapes import Reply
from nova_fast.model.sdk import Ask


class AsyncClient:
    """A link to a cloud.

    >>> from nova_fast.client import AsyncClient
    >>> async with await AsyncClient.connect() as cloud:
    ...     flavors = [flavor.name async for flavor in cloud.flavors.list()]
    >>> flavors[0]
    'm1.tiny'

    Calls that are made together travel together, so what can be asked at once should be. All methods raise
    :class:`~nova_fast.model.errors.NovaFastError`: with ``status`` and sentence as REST has them for what the cloud
    refuses, Unavailable when it does not answer in time.
    """

    def __init__(self, core: AsyncCore) -> None:
        """From an open core; :meth:`connect` makes one."""
        self._core = core
        self.servers = AsyncServers(core)
        self.flavors = AsyncFlavors(core)
        self.images = AsyncImages(core)
        self.networks = AsyncNetworks(core)
        self.hosts = AsyncHosts(core)

    @classmethod
    async def connect(cls, settings: Settings | None = None) -> AsyncClient:
        """Connect and log in; without settings as the file of ``nova-fast up`` says (see ``settings.read_file``).

        Raises ConfigError, Unauthorized, and Unavailable when no API worker answers.
        """
        core = AsyncCore(settings if settings is not None else read_file())
        await core.open()
        return cls(core)

    async def close(self) -> None:
        """Hang up. What was asked and has no answer yet may be done or not."""
        await self._core.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def watch(self, since: int | None = None) -> AsyncWatch:
        """What happens from now on, or what happened after the place another watch had come to (its ``position``).

        Servers of the caller's project; for an admin of all projects, and hosts.
        """
        return AsyncWatch(self._core, since)

    async def request(self, method: str, face: str, target: str, json: Any = None) -> Reply:
        """Any operation of the REST API: ``request("GET", "compute", "/v2.1/limits")``. Raises NovaFastError."""
        body = b"" if json is None else msgspec.json.encode(json)
        key = new_key() if method == "POST" and target != "/v3/auth/tokens" else ""
        answer = check(await self._core.ask(Ask(face, method, target, body, key), alone=True))
        return Reply(status=answer.status, headers=answer.headers, body=answer.body)
