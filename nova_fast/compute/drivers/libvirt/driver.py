"""The libvirt driver as the compute daemon sees it.

It keeps no state of guests but what it last reported of each. A lifecycle event is only a hint to look: the guest's
state is read again and reported if it differs. While an operation of ours on a server runs, hints about it wait for its
end. So events may come late, twice or never (libvirtd was away) and the reports are still right.
"""

from __future__ import annotations

import asyncio
import logging
import platform
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from nova_fast.compute.drivers.base import OnChange
from nova_fast.compute.drivers.cells import cpu_use, told_cells
from nova_fast.compute.drivers.libvirt.binding import HELPER_AWAY, UNREACHABLE, Connection
from nova_fast.compute.drivers.libvirt.disks import GuestFolders
from nova_fast.compute.drivers.libvirt.domain_xml import DomainSettings
from nova_fast.compute.drivers.libvirt.domains import Domains
from nova_fast.compute.drivers.libvirt.file_access import FileAccess, disk_errors, qemu_user
from nova_fast.compute.drivers.libvirt.host_facts import (
    machine_cells,
    online_cpus,
    read_resources,
    supports_direct_io,
)
from nova_fast.compute.drivers.libvirt.image_cache import ImageCache
from nova_fast.compute.drivers.libvirt.locks import Hold, ServerLocks
from nova_fast.compute.drivers.libvirt.power import PowerActions
from nova_fast.compute.drivers.libvirt.power_states import power_state
from nova_fast.compute.drivers.libvirt.session import Session
from nova_fast.compute.drivers.libvirt.virt_type import choose_virt_type, read_virt_facts
from nova_fast.config import Config
from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.hosts import HostResources
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import Guest, GuestImage, GuestState, PowerGuest, ReadConsole

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

DISK_TIMEOUT_S = 120.0
IMAGE_TIMEOUT_S = 1800.0  # tens of GiB from a slow disk
DISK_THREADS = 4
IMAGE_THREADS = 2  # their own, so that a large image keeps nobody from small work
LOOK_AGAIN_S = 1.0  # at a guest whose state cannot be read just now; twice as late each time
LOOK_AGAIN_S_MAX = 30.0
PATIENCE_S = 60.0  # with a libvirtd or virtlogd that went away under an operation: they come back by themselves
DO_AGAIN_S = 0.5


class LibvirtDriver:
    """The guests of one host."""

    def __init__(self, config: Config, on_change: OnChange) -> None:
        self._config = config
        self._on_change = on_change
        self._instances = config.instances_path
        self._session = Session(config.compute.libvirt_uri, self._hint, self._reconnected)
        self._disk_pool = ThreadPoolExecutor(max_workers=DISK_THREADS, thread_name_prefix="guest-disks")
        self._image_pool = ThreadPoolExecutor(max_workers=IMAGE_THREADS, thread_name_prefix="guest-images")
        self._locks = ServerLocks()
        self._reported: dict[str, PowerState] = {}
        self._hints_waiting: set[str] = set()
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._resync: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect, make the folders, and take note of the guests that are there.

        Raises Unavailable when libvirtd cannot be reached, Conflict when QEMU could not get at the guests' files.
        """
        await self._session.start()
        self._capabilities = await self._session.call(Connection.capabilities)
        self._hypervisor = await self._session.call(Connection.hypervisor)
        user = qemu_user(self._capabilities)
        access = FileAccess(user)
        await self._on_disk(lambda: self._make_folders(access))
        use = cpu_use(self._config.compute, online_cpus(self._capabilities))
        self._settings = DomainSettings(
            virt_type=choose_virt_type(read_virt_facts(self._config.compute.virt_type)),
            architecture=platform.machine(),
            instances_dir=str(self._instances),
            cache_mode="none" if supports_direct_io(self._instances) else "writeback",
            separate_user=user is not None,
            cells=told_cells(machine_cells(self._capabilities), use, self._config.compute),
            shared_cpus=tuple(sorted(use.shared)) if self._config.compute.cpu_shared_set else (),
        )
        self._folders = GuestFolders(self._instances, access)
        self._images = ImageCache(self._instances / "_base", access, self._on_images)
        await self._on_disk(self._images.remove_partial)
        self._domains = Domains(self._session, self._settings)
        self._power = PowerActions(self._domains, self._remake)
        await self.inventory()
        _log.info("libvirt driver ready: %s guests, %s", self._settings.virt_type, self._hypervisor)

    async def close(self) -> None:
        """Let go of libvirt; guests go on."""
        tasks = [*self._looking.values(), *([self._resync] if self._resync else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._session.close()
        for pool in (self._disk_pool, self._image_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    async def resources(self) -> HostResources:
        """What the machine has."""
        return await self._on_disk(
            lambda: read_resources(self._config, self._capabilities, self._hypervisor, self._settings.virt_type)
        )

    async def spawn(self, guest: Guest) -> GuestState:
        """Make a guest and start it.

        One that runs, or that ran and has been shut down since, is left as it is. What a spawn left half made is
        removed and made again.
        """
        async with self._locks.hold(guest.server_id) as hold:
            try:
                return await self._patiently(hold, lambda: self._spawn(guest))
            except NovaFastError:
                await self._clean_up(guest.server_id)
                raise

    async def _spawn(self, guest: Guest) -> GuestState:
        status = await self._domains.status(guest.server_id)
        done = await self._on_disk(lambda: self._folders.spawned(guest.server_id))
        if status is None or not (done or status.active):
            async with self._images.holding(guest.image) as image:
                await self._domains.remove(guest.server_id)
                await self._on_disk(lambda: self._folders.make(guest, image))
            await self._remake(guest)
            await self._domains.start(guest.server_id)
        if not done:
            await self._on_disk(lambda: self._folders.mark_spawned(guest.server_id))
        return await self._settle(guest.server_id)

    async def _patiently(self, hold: Hold, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Do it again when libvirtd or virtlogd goes away under it, unless somebody more important waits."""
        give_up_s = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            try:
                return await operation()
            except NovaFastError as e:
                late = asyncio.get_running_loop().time() >= give_up_s
                if e.code not in (UNREACHABLE, HELPER_AWAY) or late or hold.hurry.is_set():
                    raise
            await asyncio.sleep(DO_AGAIN_S)

    async def _clean_up(self, server_id: str) -> None:
        """After a spawn that failed: leave nothing, as far as can be; the next spawn or destroy removes the rest."""
        self._reported.pop(server_id, None)
        try:
            await self._domains.remove(server_id)
            await self._on_disk(lambda: self._folders.remove(server_id))
        except NovaFastError as e:
            _log.warning("what the failed spawn of %s left stays for now: %s", server_id, e.message)

    async def destroy(self, server_id: str, domain_name: str) -> GuestState:
        """Remove domain, saved memory, disks and console log, whichever there are. → NOSTATE."""
        async with self._locks.hold(server_id, hurry_others=True) as hold:
            self._reported.pop(server_id, None)
            await self._patiently(hold, lambda: self._domains.remove(server_id))
            await self._on_disk(lambda: self._folders.remove(server_id))
            _log.info("removed guest %s of server %s", domain_name, server_id)
            return GuestState(server_id=server_id, power_state=PowerState.NOSTATE)

    async def power(self, message: PowerGuest) -> GuestState:
        """Do a power action. A hard reboot does not wait for a guest that is being asked to shut down."""
        server_id = message.guest.server_id
        hard_reboot = message.action is Action.REBOOT and message.hard
        async with self._locks.hold(server_id, hurry_others=hard_reboot) as hold:
            try:
                await self._patiently(hold, lambda: self._power.perform(message, hold))
            finally:
                self._hint(server_id)  # should it fail half way, what came of it is looked up and reported
            return await self._patiently(hold, lambda: self._settle(server_id))

    async def console(self, message: ReadConsole) -> str:
        """The end of the guest's serial console log."""
        return await self._on_disk(lambda: self._folders.read_console(message.server_id, message.lines))

    async def cache_image(self, image: GuestImage) -> None:
        """Copy an image in and check it, if it is not here."""
        await self._images.get(image)

    async def manage_image_cache(self) -> None:
        """Remove the images that no guest has needed for so long."""
        min_age_s = self._config.image_cache.remove_unused_original_minimum_age_seconds
        await self._images.remove_unused(lambda: self._on_disk(self._folders.images_in_use), min_age_s)

    async def inventory(self) -> list[GuestState]:
        """The guests of this cloud on this host; NOSTATE for those of which only files are left."""
        left = dict.fromkeys(await self._on_disk(self._folders.server_ids), PowerState.NOSTATE)
        there = {status.server_id: power_state(status) for status in await self._domains.all()}
        for server_id, state in there.items():
            self._reported.setdefault(server_id, state)  # a change not reported yet still will be
        return [GuestState(server_id=server_id, power_state=state) for server_id, state in (left | there).items()]

    async def switch_off_all(self, grace_s: float) -> list[str]:
        """Shut every guest down and let its domain go. Suspended ones stay: their domain names their memory."""
        servers = [status.server_id for status in await self._domains.all()]
        done = await asyncio.gather(*(self._switch_off(server_id, grace_s) for server_id in servers))
        return [server_id for server_id, is_off in zip(servers, done, strict=True) if not is_off]

    async def _switch_off(self, server_id: str, grace_s: float) -> bool:
        async with self._locks.hold(server_id, hurry_others=True) as hold:
            try:
                await self._power.power_off(server_id, grace_s, hold)
                status = await self._domains.status(server_id)
                if status is not None and not status.saved:
                    self._reported.pop(server_id, None)
                    await self._domains.remove(server_id)
            except NovaFastError as e:
                _log.warning("guest %s could not be switched off: %s", server_id, e.message)
                return False
            return True

    async def _remake(self, guest: Guest) -> None:
        """Define the domain anew for the disks that are there, with a fresh config drive."""
        image = await self._images.get(guest.image)
        await self._on_disk(lambda: self._folders.write_config_drive(guest))
        disks = await self._on_disk(lambda: self._folders.disks(guest, image))
        await self._domains.define(guest, disks, str(self._folders.console_log(guest.server_id)))

    async def _settle(self, server_id: str) -> GuestState:
        """The state after an operation of ours; it counts as reported."""
        state = power_state(await self._domains.status(server_id))
        self._reported[server_id] = state
        return GuestState(server_id=server_id, power_state=state)

    def _hint(self, server_id: str) -> None:
        """Something happened to a domain: look at it, once, when nobody of us works on it."""
        if server_id in self._looking:
            self._hints_waiting.add(server_id)
            return
        task = asyncio.get_running_loop().create_task(self._look(server_id), name=f"look at {server_id}")
        self._looking[server_id] = task
        task.add_done_callback(lambda done: self._looked(server_id, done))

    def _looked(self, server_id: str, task: asyncio.Task[None]) -> None:
        del self._looking[server_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("cannot look at guest %s", server_id, exc_info=error)
        if server_id in self._hints_waiting:
            self._hints_waiting.discard(server_id)
            if not task.cancelled():
                self._hint(server_id)

    async def _look(self, server_id: str) -> None:
        """Read a guest's state and report it if it is not the one last reported."""
        pause_s = LOOK_AGAIN_S
        while True:
            async with self._locks.hold(server_id):
                if server_id not in self._reported:
                    return  # not ours, or not any more, or what a failed spawn leaves
                try:
                    status = await self._domains.status(server_id)
                except NovaFastError as e:
                    _log.info("cannot look at guest %s now: %s", server_id, e.message)
                else:
                    self._report(GuestState(server_id=server_id, power_state=power_state(status)))
                    return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LOOK_AGAIN_S_MAX)

    def _report(self, state: GuestState) -> None:
        if self._reported.get(state.server_id, PowerState.NOSTATE) == state.power_state:
            return
        if state.power_state is PowerState.NOSTATE:
            del self._reported[state.server_id]
        else:
            self._reported[state.server_id] = state.power_state
        self._on_change(state)

    def _reconnected(self) -> None:
        if self._resync is not None:
            self._resync.cancel()
        self._resync = asyncio.get_running_loop().create_task(self._look_at_all(), name="look at all guests")

    async def _look_at_all(self) -> None:
        """After libvirtd was away: look at every guest that is there, and at every one that was."""
        ours: list[str] = []
        try:
            ours = [status.server_id for status in await self._domains.all()]
        except NovaFastError as e:
            _log.warning("cannot list the guests after reconnecting: %s", e.message)
        for server_id in {*ours, *self._reported}:
            self._hint(server_id)

    def _make_folders(self, access: FileAccess) -> None:
        with disk_errors("make the folder of instances"):
            self._instances.parent.mkdir(parents=True, exist_ok=True)
            access.make_folder(self._instances)
            access.make_folder(self._instances / "_base")
        access.check_way(self._instances)

    async def _on_disk(self, blocking: Callable[[], _T]) -> _T:
        return await _within(self._disk_pool, blocking, DISK_TIMEOUT_S)

    async def _on_images(self, blocking: Callable[[], _T]) -> _T:
        return await _within(self._image_pool, blocking, IMAGE_TIMEOUT_S)


async def _within(pool: ThreadPoolExecutor, blocking: Callable[[], _T], timeout_s: float) -> _T:
    future = asyncio.get_running_loop().run_in_executor(pool, blocking)
    try:
        return await asyncio.wait_for(future, timeout_s)
    except TimeoutError as e:
        raise Unavailable(f"The host's disk did not answer in {timeout_s:g} s.") from e
