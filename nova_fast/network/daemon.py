"""nova-network: keeps this machine's networks as the conductor wants them, and answers guests at 169.254.169.254."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from nova_fast.config import Config
from nova_fast.daemon import Tell, begin_patiently, playing, run_daemon, tell_nobody, waits_of
from nova_fast.edges import REAL, Edges
from nova_fast.hub.local import local_peer
from nova_fast.model.base import Message
from nova_fast.model.errors import Unavailable
from nova_fast.model.tasks import ApplyNetworks, MetadataAnswer, MetadataRequest, ServiceReport
from nova_fast.network.backend import AskMetadata, Backend, settings_for
from nova_fast.network.fake import FakeBackend

log = logging.getLogger(__name__)

METADATA_TIMEOUT_S = 10

MakeBackend = Callable[[Config, AskMetadata], Backend]


def main(config: Config, teardown: bool = False) -> int:
    """Run the network daemon in the foreground, or with ``teardown`` remove all that this cloud made here, and end."""

    async def serve(stop: asyncio.Event) -> int:
        names = config.played_hosts
        if teardown:
            await Daemon(config, names[0]).teardown()
            return 0
        waits = waits_of(config, "network")
        async with playing(names, lambda name, edges: Daemon(config, name, edges, tell=waits.tell), stop):
            log.info("nova-network serves %d host(s) with the driver %s", len(names), config.network.driver)
            await stop.wait()
        return 0

    return run_daemon(config, serve)


def create_backend(config: Config, ask: AskMetadata) -> Backend:
    """The backend named by ``network.driver``, not started yet."""
    network = config.network
    if network.driver == "fake":
        return FakeBackend()
    from nova_fast.network.linux.backend import LinuxBackend

    settings = settings_for(config.state_path, network.external_bridge, network.external_cidr, network.dns_nameservers)
    return LinuxBackend(settings, ask)


class Daemon:
    """One host at the hub."""

    def __init__(
        self,
        config: Config,
        host: str,
        edges: Edges = REAL,
        make_backend: MakeBackend = create_backend,
        tell: Tell = tell_nobody,
    ) -> None:
        self._config = config
        self._host = host
        self._tell = partial(tell, host)
        self._peer = local_peer(f"network@{host}", config, edges)
        self._backend = make_backend(config, self._ask)

    async def start(self, stop: asyncio.Event) -> None:
        """Take over what is there (again and again until the machine can), then connect to the hub."""
        await begin_patiently(self._backend.start, stop, "the networks cannot be looked after yet", self._tell)
        report = ServiceReport(name=f"network@{self._host}", binary="nova-network", host=self._host, zone="internal")
        self._peer.heartbeat = lambda: report
        self._peer.handle(ApplyNetworks, self._apply)
        await self._peer.start()

    async def close(self) -> None:
        """Leave the hub; everything that was put up goes on."""
        await self._peer.close()
        await self._backend.close()

    async def teardown(self) -> None:
        """Remove everything this cloud made on this machine."""
        await self._backend.start()
        await self._backend.teardown()

    async def _apply(self, message: ApplyNetworks, _call_id: bytes) -> Message:
        applied = await self._backend.apply(message)
        log.info(
            "generation %d: %d networks, %d failed", message.generation, len(message.networks), len(applied.failed)
        )
        return applied

    async def _ask(self, request: MetadataRequest) -> MetadataAnswer:
        answer = await self._peer.call(request, timeout_s=METADATA_TIMEOUT_S)
        if not isinstance(answer, MetadataAnswer):
            raise Unavailable("The conductor gave no metadata.")
        return answer
