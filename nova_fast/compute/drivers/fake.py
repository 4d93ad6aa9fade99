"""Machines in memory: the same answers as real ones, at no cost.

For development without a hypervisor, for tests of everything above the driver, and for scale. One driver is one host; a
daemon that plays many hosts makes one driver for each. Guests live as long as the driver; when it goes it is as if the
machine had lost power, and what would be on disk is thought to be there still.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections import defaultdict

from nova_fast.compute.drivers.base import OnChange
from nova_fast.compute.drivers.cells import MachineCell, cpu_use, told_cells
from nova_fast.compute.drivers.pci import PciDevice, told_pools
from nova_fast.compute.drivers.traits import EVERY_DRIVER, architecture_traits, cpu_traits
from nova_fast.config import ComputeConfig
from nova_fast.model.errors import Conflict, NotFound
from nova_fast.model.hosts import HostResources
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import Guest, GuestImage, GuestState, PowerGuest, ReadConsole
from nova_fast.model.topology import KIB_PER_MIB

#: action → the states it may start from, where it ends. A guest that is there already is left.
_MOVES: dict[Action, tuple[frozenset[PowerState], PowerState]] = {
    Action.START: (frozenset({PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.SUSPENDED}), PowerState.RUNNING),
    Action.STOP: (frozenset({PowerState.RUNNING, PowerState.PAUSED, PowerState.CRASHED}), PowerState.SHUTDOWN),
    Action.PAUSE: (frozenset({PowerState.RUNNING}), PowerState.PAUSED),
    Action.UNPAUSE: (frozenset({PowerState.PAUSED}), PowerState.RUNNING),
    Action.SUSPEND: (frozenset({PowerState.RUNNING, PowerState.PAUSED}), PowerState.SUSPENDED),
    Action.RESUME: (frozenset({PowerState.SUSPENDED, PowerState.SHUTDOWN}), PowerState.RUNNING),
    Action.REBOOT: (frozenset(PowerState), PowerState.RUNNING),
}


#: The same on every machine: what a test asks for does not depend on where it runs.
_FLAGS = ("aes", "avx", "avx2", "mmx", "pni", "sse", "sse2", "sse4_1", "sse4_2", "ssse3")
_FEATURES = ("aes", "avx", "avx2")
_TRAITS = tuple(sorted({*EVERY_DRIVER, *architecture_traits(platform.machine()), *cpu_traits(_FLAGS)}))


_SMALL_PAGE_KIB, _HUGE_PAGE_KIB = 4, 2048


class FakeDriver:
    """One host in memory."""

    def __init__(self, config: ComputeConfig, on_change: OnChange) -> None:
        self._config = config
        self._on_change = on_change
        self._guests: dict[str, PowerState] = {}
        self._consoles: dict[str, list[str]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._started = time.monotonic()

    async def start(self) -> None:
        """Nothing to connect to."""
        self._started = time.monotonic()

    async def close(self) -> None:
        """Forget the locks; the guests stay until the driver goes."""
        self._locks.clear()

    async def resources(self) -> HostResources:
        """What the configuration says this host has."""
        use = cpu_use(self._config, frozenset(range(self._config.fake_vcpus)))
        return HostResources(
            vcpus=len(use.shared),
            ram_mib=self._config.fake_ram_mib,
            disk_gib=self._config.fake_disk_gib,
            architecture=platform.machine(),
            hypervisor_type="fake",
            hypervisor_version=1000,
            virt_type="fake",
            cpu_info={"arch": platform.machine(), "model": "fake", "vendor": "fake"},
            host_ip="127.0.0.1",
            uptime=f"up {int((time.monotonic() - self._started) / 60)} min",
            supported_instances=((platform.machine(), "fake", "hvm"),),
            traits=_TRAITS,
            features=_FEATURES,
            numa=told_cells(_cells(self._config), use, self._config),
            pci=told_pools(_devices(self._config), ("{}",)),
            pcpus=use.kept,
        )

    async def spawn(self, guest: Guest) -> GuestState:
        """Put a running guest into memory."""
        async with self._locks[guest.server_id]:
            if guest.server_id not in self._guests:
                await self._work()
                self._guests[guest.server_id] = PowerState.RUNNING
                self._consoles[guest.server_id] = []
                self._write_boot(guest)
            return self._state(guest.server_id)

    async def destroy(self, server_id: str, domain_name: str) -> GuestState:
        """Take a guest out of memory."""
        async with self._locks[server_id]:
            if server_id in self._guests:
                await self._work()
                del self._guests[server_id], self._consoles[server_id]
        if not self._locks[server_id].locked():
            del self._locks[server_id]
        return GuestState(server_id=server_id, power_state=PowerState.NOSTATE)

    async def power(self, message: PowerGuest) -> GuestState:
        """Move a guest to the state the action ends in. Raises NotFound, Conflict."""
        guest = message.guest
        async with self._locks[guest.server_id]:
            if guest.server_id not in self._guests:
                return await self._power_lost_guest(message)
            current = self._state(guest.server_id).power_state
            allowed, result = _MOVES[message.action]
            if current == result and message.action is not Action.REBOOT:
                return self._state(guest.server_id)
            if current not in allowed:
                raise Conflict(f"Cannot {message.action} a guest that is {current.name.lower()}.")
            await self._work()
            self._guests[guest.server_id] = result
            if message.action is Action.REBOOT or current in (PowerState.SHUTDOWN, PowerState.CRASHED):
                self._write_boot(guest)
            return self._state(guest.server_id)

    async def _power_lost_guest(self, message: PowerGuest) -> GuestState:
        server_id = message.guest.server_id
        if message.action is Action.STOP:
            return GuestState(server_id=server_id, power_state=PowerState.NOSTATE)
        if message.action not in (Action.START, Action.RESUME, Action.REBOOT):
            raise _no_guest(server_id)
        await self._work()
        self._guests[server_id] = PowerState.RUNNING
        self._consoles[server_id] = []
        self._write_boot(message.guest)
        return self._state(server_id)

    async def console(self, message: ReadConsole) -> str:
        """What the guest would have written. Raises NotFound."""
        self._state(message.server_id)
        kept = self._consoles[message.server_id]
        chosen = kept if message.lines is None else kept[max(0, len(kept) - message.lines) :]
        return "".join(f"{line}\n" for line in chosen)

    async def cache_image(self, image: GuestImage) -> None:
        """Nothing is read of an image here."""

    async def manage_image_cache(self) -> None:
        """There is none."""

    async def inventory(self) -> list[GuestState]:
        """Every guest in memory."""
        return [self._state(server_id) for server_id in self._guests]

    async def switch_off_all(self, grace_s: float) -> list[str]:
        """Every guest in memory is off."""
        for server_id, state in self._guests.items():
            if state is not PowerState.SUSPENDED:
                self._guests[server_id] = PowerState.SHUTDOWN
        return []

    def change(self, server_id: str, power_state: PowerState) -> None:
        """Let a guest change by itself, as if it had shut down inside or crashed. Raises NotFound."""
        self._state(server_id)
        self._guests[server_id] = power_state
        self._on_change(self._state(server_id))

    def _state(self, server_id: str) -> GuestState:
        if server_id not in self._guests:
            raise _no_guest(server_id)
        return GuestState(server_id=server_id, power_state=self._guests[server_id])

    def _write_boot(self, guest: Guest) -> None:
        lines = self._consoles[guest.server_id]
        lines += [f"fake: {guest.vcpus} vcpus, {guest.ram_mib} MiB", f"{guest.domain_name} login:"]
        del lines[:-1000]

    async def _work(self) -> None:
        if self._config.fake_delay_s:
            await asyncio.sleep(self._config.fake_delay_s)


def _cells(config: ComputeConfig) -> list[MachineCell]:
    """The cells of a fake machine: CPUs one after the other, in cores of so many threads."""
    count, threads = config.fake_numa_cells, config.fake_threads_per_core
    each, ram_mib = config.fake_vcpus // max(1, count), config.fake_ram_mib // max(1, count)
    huge_mib = min(ram_mib, config.fake_huge_pages * _HUGE_PAGE_KIB // KIB_PER_MIB)
    return [
        MachineCell(
            number=number,
            cores=tuple(
                [
                    tuple(range(first, min(first + threads, (number + 1) * each)))
                    for first in range(number * each, (number + 1) * each, threads)
                ]
            ),
            ram_mib=ram_mib,
            pages=(
                (_SMALL_PAGE_KIB, (ram_mib - huge_mib) * KIB_PER_MIB // _SMALL_PAGE_KIB),
                (_HUGE_PAGE_KIB, huge_mib * KIB_PER_MIB // _HUGE_PAGE_KIB),
            ),
            socket=number,
        )
        for number in range(count)
    ]


def _devices(config: ComputeConfig) -> list[PciDevice]:
    """The PCI devices of a fake machine."""
    cells = config.fake_numa_cells
    return [
        PciDevice(
            f"0000:{number // 32 + 1:02x}:{number % 32:02x}.0",
            "8086",
            "0443",
            "type-PCI",
            number % cells if cells else None,
        )
        for number in range(config.fake_pci_devices)
    ]


def _no_guest(server_id: str) -> NotFound:
    return NotFound(f"There is no guest for server {server_id} on this host.", hint="A hard reboot makes it again.")
