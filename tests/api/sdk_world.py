"""What the tests of the SDK share: a door on a loop of its own, over the real application, and clients of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop

from nova_fast.api.app import build_app
from nova_fast.api.framework.request import Runtime, Services
from nova_fast.api.zmq.door import Door
from nova_fast.client import Client, NewServer, Settings
from nova_fast.client.core import AsyncCore
from nova_fast.model.sdk import Answer, Ask
from tests.api.server_world import IMAGE_ID, World

if TYPE_CHECKING:
    from nova_fast.config import Config
    from tests.api.conftest import Client as Rest
    from tests.api.conftest import Cloud

T = TypeVar("T")


class OpenDoor:
    """A door in a thread of its own; as many as there are workers may be open at once."""

    def __init__(self, cloud: Cloud, worker: int = 0, config: Config | None = None) -> None:
        self.config = config or cloud.config
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.door = self._run(self._open(cloud, worker))
        self.address = self.door.address

    async def _open(self, cloud: Cloud, worker: int) -> Door:
        services = Services()
        app = build_app(self.config, cloud.store, cloud.commander, services)
        door = Door(self.config, worker, app, Runtime(self.config, cloud.store, cloud.commander, services))
        await door.start()
        return door

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def close(self) -> None:
        if self._thread.is_alive():
            self._run(self.door.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)
            self._loop.close()

    def settings(self, who: Rest | None, **others: Any) -> Settings:
        """How somebody with a token comes in."""
        return Settings(addresses=(self.address,), token=who.token if who is not None else "", **others)

    def client(self, who: Rest | None, **others: Any) -> Client:
        return Client.connect(self.settings(who, **others))

    def ask(self, who: Rest | None, *asks: Ask) -> list[Answer]:
        """Bare asks, each in a message of its own."""

        async def run() -> list[Answer]:
            core = AsyncCore(self.settings(who))
            await core.open()
            try:
                return [await core.ask(one, alone=True) for one in asks]
            finally:
                await core.close()

        return uvloop.run(run())


def new(world: World, name: str = "vm", **others: Any) -> NewServer:
    """A server that can be made."""
    return NewServer(name=name, flavor="1", image=IMAGE_ID, networks=(world.network_id,), **others)
