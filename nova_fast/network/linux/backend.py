"""The Linux backend: the asynchronous shell around the reconciler.

One worker thread does everything that blocks, so applications never overlap and the event loop never waits. The loop
itself has what must answer at any time: the metadata servers and the watch over the dnsmasq processes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nova_fast.model.errors import Unavailable
from nova_fast.model.tasks import ApplyNetworks, NetworksApplied
from nova_fast.network.backend import AskMetadata, BackendSettings
from nova_fast.network.linux.dhcp import Watch
from nova_fast.network.linux.metadata import MetadataServer
from nova_fast.network.linux.reconcile import Outcome, Reconciler

APPLY_TIMEOUT_S = 120.0
_REVIVE_DELAY_S_MIN = 0.1
_REVIVE_DELAY_S_MAX = 30.0
_CALM_AFTER_S = 60.0

_log = logging.getLogger(__name__)
T = TypeVar("T")


class LinuxBackend:
    """Bridges, namespaces, dnsmasq, nftables and metadata servers on this host."""

    def __init__(self, settings: BackendSettings, ask: AskMetadata) -> None:
        self._ask = ask
        self._reconciler = Reconciler(settings)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._lock = asyncio.Lock()
        self._metadata: dict[str, MetadataServer] = {}
        self._watch: Watch | None = None
        self._delays: dict[str, tuple[float, float]] = {}  # network id → time of its last revival, delay before it
        self._revivals: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Load what an earlier run made and prepare the host. Raises NovaFastError."""
        self._watch = Watch(asyncio.get_running_loop(), self._server_ended)
        await self._run(self._reconciler.start)

    async def apply(self, message: ApplyNetworks) -> NetworksApplied:
        """Make the host look exactly as the message says. Raises Unavailable after 120 s."""
        assert self._watch is not None, "start() comes first"
        async with self._lock:
            outcome = await self._run(lambda: self._reconciler.apply(message))
            await self._take_over(outcome)
        return NetworksApplied(host=message.host, generation=message.generation, failed=outcome.failed)

    async def close(self) -> None:
        """Stop serving; bridges, rules and DHCP go on."""
        async with self._lock:
            self._stop_serving()
            await self._run(self._reconciler.forget_listeners)
        self._worker.shutdown(wait=False)

    async def teardown(self) -> None:
        """Remove everything this cloud made on this host, then close."""
        async with self._lock:
            self._stop_serving()
            await self._run(self._reconciler.teardown)
        self._worker.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        """Do blocking work on the worker thread."""
        try:
            async with asyncio.timeout(APPLY_TIMEOUT_S):
                return await asyncio.get_running_loop().run_in_executor(self._worker, work)
        except TimeoutError:
            raise Unavailable(f"the host's network did not change in {APPLY_TIMEOUT_S:g} s") from None

    async def _take_over(self, outcome: Outcome) -> None:
        assert self._watch is not None
        for network_id in set(self._metadata) - outcome.wanted:
            self._metadata.pop(network_id).close()
        for network_id, listener in outcome.listeners.items():
            if network_id in self._metadata:
                self._metadata.pop(network_id).close()
            server = MetadataServer(network_id, self._ask)
            await server.start(listener)
            self._metadata[network_id] = server
        for network_id, pid in outcome.servers.items():
            self._watch.set(network_id, pid)
        self._watch.keep_only(outcome.wanted)

    def _stop_serving(self) -> None:
        for task in self._revivals.values():
            task.cancel()
        self._revivals.clear()
        for server in self._metadata.values():
            server.close()
        self._metadata.clear()
        if self._watch is not None:
            self._watch.close()

    # -------------------------------------------------------------------------------------------- supervision

    def _server_ended(self, network_id: str) -> None:
        """A dnsmasq ended that we did not stop, or stopped to start another."""
        if network_id not in self._revivals:
            task = asyncio.get_running_loop().create_task(self._revive(network_id))
            self._revivals[network_id] = task
            task.add_done_callback(lambda done: self._revived(network_id, done))

    def _revived(self, network_id: str, task: asyncio.Task[None]) -> None:
        if self._revivals.get(network_id) is task:
            del self._revivals[network_id]
        if not task.cancelled() and task.exception() is not None:
            _log.error("dnsmasq of network %s: %s; trying again", network_id, task.exception())
            self._server_ended(network_id)

    async def _revive(self, network_id: str) -> None:
        loop = asyncio.get_running_loop()
        async with self._lock:  # an application under way may be what ended it, and then has started another
            assert self._watch is not None
            if self._watch.pid(network_id) is not None or network_id not in self._metadata:
                return
        last_s, delay_s = self._delays.get(network_id, (float("-inf"), 0.0))
        calm = loop.time() - last_s > _CALM_AFTER_S
        delay_s = _REVIVE_DELAY_S_MIN if calm else min(_REVIVE_DELAY_S_MAX, delay_s * 2)
        self._delays[network_id] = (loop.time(), delay_s)
        _log.warning("dnsmasq of network %s ended; starting it again in %.1f s", network_id, delay_s)
        await asyncio.sleep(delay_s)
        async with self._lock:
            pid = await self._run(lambda: self._reconciler.revive(network_id))
            self._watch.set(network_id, pid)
