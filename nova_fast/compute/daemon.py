"""nova-compute: runs the guests of this machine for the conductor.

It keeps no record of its own. When it has come up, or the conductor has, it says which guests there are, is told which
belong there, and destroys the rest (``reports``); between, it does what it is asked and says what guests do by
themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from nova_fast.compute.drivers.base import Driver, OnChange
from nova_fast.compute.drivers.choice import create_driver
from nova_fast.compute.monitors import Monitors
from nova_fast.compute.reports import GuestReports
from nova_fast.config import Config
from nova_fast.daemon import Tell, begin_patiently, playing, run_daemon, tell_nobody, waits_of
from nova_fast.edges import REAL, Edges
from nova_fast.hub.local import local_peer
from nova_fast.hub.peer import Peer
from nova_fast.model.base import Message
from nova_fast.model.errors import NovaFastError
from nova_fast.model.hosts import HostResources
from nova_fast.model.tasks import (
    CacheImages,
    ConsoleOutput,
    DestroyGuest,
    Done,
    Guest,
    GuestImage,
    HostHeard,
    HostReport,
    PowerGuest,
    ReadConsole,
    SpawnGuest,
)

log = logging.getLogger(__name__)

RESOURCES_EVERY_S = 30
REPORT_TIMEOUT_S = 60
IMAGES_EVERY_S = 60  # with a manager_interval of 0, as in Nova

MakeDriver = Callable[[Config, OnChange], Driver]


def main(config: Config, teardown: bool = False) -> int:
    """Run the compute daemon in the foreground, or with ``teardown`` switch every guest of this cloud off, and end."""

    async def serve(stop: asyncio.Event) -> int:
        if teardown:
            return await _switch_off(config)
        names = config.played_hosts
        waits = waits_of(config, "compute")
        async with playing(names, lambda name, edges: HostDaemon(config, name, edges, tell=waits.tell), stop):
            log.info("nova-compute plays %d host(s) with the driver %s", len(names), config.compute.driver)
            await stop.wait()
        return 0

    return run_daemon(config, serve)


class HostDaemon:
    """One host at the hub."""

    def __init__(
        self,
        config: Config,
        name: str,
        edges: Edges = REAL,
        make_driver: MakeDriver = create_driver,
        tell: Tell = tell_nobody,
    ) -> None:
        self._config = config
        self._name = name
        self._tell = partial(tell, name)
        self._images_path = config.images_path
        self._driver: Driver = make_driver(config, lambda state: self._reports.changed(state))
        self._peer: Peer = local_peer(f"compute@{name}", config, edges)
        process = int.from_bytes(edges.entropy(4), "big") >> 1
        self._reports = GuestReports(name, self._driver, self._ask, process)
        self._monitors = Monitors(config.compute.compute_monitors)
        self._resources: HostResources | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, stop: asyncio.Event) -> None:
        """Connect to the hypervisor (again and again until it answers), then to the hub."""
        await begin_patiently(self._begin, stop, "the hypervisor does not answer", self._tell)
        if self._resources is None:
            return
        self._peer.heartbeat = self._report
        self._peer.on_heard = self._heard
        self._peer.on_connected = lambda _new: self._spawn(self._connected())
        self._peer.handle(SpawnGuest, self._spawn_guest)
        self._peer.handle(DestroyGuest, self._destroy_guest)
        self._peer.handle(PowerGuest, self._power_guest)
        self._peer.handle(ReadConsole, self._console)
        self._peer.handle(CacheImages, self._cache_images)
        self._reports.start()
        await self._peer.start()
        self._spawn(self._look_at_resources())
        self._spawn(self._manage_image_cache())

    async def _begin(self) -> None:
        await self._driver.start()
        self._resources = self._monitors.added(await self._driver.resources())

    async def close(self) -> None:
        """Leave the hub and the hypervisor; guests go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._reports.close()
        await self._peer.close()
        await self._driver.close()

    # ------------------------------------------------------------------ what is asked
    async def _spawn_guest(self, message: SpawnGuest, _call_id: bytes) -> Message:
        try:
            with self._reports.making(message.guest.server_id):
                return self._reports.numbered(await self._driver.spawn(self._here(message.guest)))
        except NovaFastError:
            self._reports.compare()  # it may have left something
            raise

    async def _destroy_guest(self, message: DestroyGuest, _call_id: bytes) -> Message:
        try:
            return self._reports.numbered(await self._driver.destroy(message.server_id, message.domain_name))
        except NovaFastError:
            self._reports.compare()  # the conductor may not ask again
            raise

    async def _power_guest(self, message: PowerGuest, _call_id: bytes) -> Message:
        grace_s = self._config.compute.stop_grace_s
        message = msgspec.structs.replace(message, guest=self._here(message.guest), grace_s=grace_s)
        return self._reports.numbered(await self._driver.power(message))

    async def _console(self, message: ReadConsole, _call_id: bytes) -> Message:
        return ConsoleOutput(text=await self._driver.console(message))

    async def _cache_images(self, message: CacheImages, _call_id: bytes) -> Message:
        self._spawn(self._fetch(message.images))
        return Done()

    async def _fetch(self, images: tuple[GuestImage, ...]) -> None:
        """Fetch images one after the other; a guest that needs one which could not be fetched says why."""
        for image in images:
            try:
                await self._driver.cache_image(self._reachable(image))
                log.info("image %s is on host %s", image.id, self._name)
            except NovaFastError as error:
                log.warning("image %s is not on host %s: %s", image.id, self._name, error)

    def _here(self, guest: Guest) -> Guest:
        """The guest with its image as this machine reaches it."""
        return msgspec.structs.replace(guest, image=self._reachable(guest.image))

    def _reachable(self, image: GuestImage) -> GuestImage:
        return msgspec.structs.replace(image, path=f"{self._images_path}/{image.id}")

    # ------------------------------------------------------------------ what is said
    def _report(self) -> Message:
        assert self._resources is not None
        compute = self._config.compute
        return HostReport(
            host=self._name,
            zone=compute.zone,
            resources=self._resources,
            cpu_ratio=compute.cpu_allocation_ratio,
            ram_ratio=compute.ram_allocation_ratio,
            disk_ratio=compute.disk_allocation_ratio,
            reserved_ram_mib=compute.reserved_ram_mib,
        )

    def _heard(self, answer: Message) -> None:
        if isinstance(answer, HostHeard) and answer.compare:
            self._reports.compare()

    async def _connected(self) -> None:
        """Make the host known, and compare its guests with the servers."""
        try:
            await self._ask(self._report())
        except NovaFastError as error:
            log.warning("the conductor has not heard of this host yet: %s", error)
        self._reports.compare()

    async def _ask(self, message: Message) -> Message:
        return await self._peer.call(message, timeout_s=REPORT_TIMEOUT_S)

    async def _look_at_resources(self) -> None:
        while True:
            await asyncio.sleep(RESOURCES_EVERY_S)
            try:
                self._resources = self._monitors.added(await self._driver.resources())
            except NovaFastError as error:
                log.warning("the resources could not be read: %s", error)

    async def _manage_image_cache(self) -> None:
        options = self._config.image_cache
        interval_s = options.manager_interval or IMAGES_EVERY_S
        while options.remove_unused_base_images and interval_s > 0:
            await asyncio.sleep(interval_s)
            try:
                await self._driver.manage_image_cache()
            except NovaFastError as error:
                log.warning("the image cache could not be looked through: %s", error)

    def _spawn(self, coroutine: object) -> None:
        assert asyncio.iscoroutine(coroutine)
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _switch_off(config: Config) -> int:
    """Shut every guest of this cloud down and let its domain go; its disks stay for the next start."""
    driver = create_driver(config, lambda _state: None)
    await driver.start()
    failed = await driver.switch_off_all(config.compute.stop_grace_s)
    await driver.close()
    for server_id in failed:
        log.error("guest %s could not be switched off", server_id)
    return 1 if failed else 0
