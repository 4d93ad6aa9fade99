"""The machines of the cloud: their clocks, and the hypervisor and the networks of each host.

What a hypervisor has begun it may finish after whoever asked has died: libvirt does. So an operation belongs to the
machine, and only the waiting for it to the daemon.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from nova_fast.compute.drivers.base import OnChange
from nova_fast.model.errors import Conflict, NotFound, Unavailable
from nova_fast.model.hosts import HostResources
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import (
    ApplyNetworks,
    Guest,
    GuestState,
    NetworksApplied,
    PowerGuest,
    ReadConsole,
)
from nova_fast.model.topology import NumaCell

from .wire import Network

EPOCH_US = 1_780_000_000_000_000

_RESULT = {
    Action.START: PowerState.RUNNING,
    Action.STOP: PowerState.SHUTDOWN,
    Action.PAUSE: PowerState.PAUSED,
    Action.UNPAUSE: PowerState.RUNNING,
    Action.SUSPEND: PowerState.SUSPENDED,
    Action.RESUME: PowerState.RUNNING,
    Action.REBOOT: PowerState.RUNNING,
}
_FROM = {
    Action.START: {PowerState.SHUTDOWN, PowerState.CRASHED, PowerState.SUSPENDED},
    Action.STOP: {PowerState.RUNNING, PowerState.PAUSED, PowerState.CRASHED},
    Action.PAUSE: {PowerState.RUNNING},
    Action.UNPAUSE: {PowerState.PAUSED},
    Action.SUSPEND: {PowerState.RUNNING, PowerState.PAUSED},
    Action.RESUME: {PowerState.SUSPENDED, PowerState.SHUTDOWN},
    Action.REBOOT: set(PowerState) - {PowerState.NOSTATE},
}


class Machine:
    """A machine with a clock of its own."""

    def __init__(self, name: str, network: Network) -> None:
        self.name = name
        self.network = network
        self.clock_ahead_us = 0

    def now_us(self) -> int:
        """Its wall clock."""
        return EPOCH_US + int(self.network.loop.time() * 1e6) + self.clock_ahead_us


#: What each machine has: two CPUs that are shared, three that are given to one server each.
CELLS = (
    NumaCell(number=0, shared_cpus=(0, 1), dedicated_cpus=(2,), siblings=((0, 1), (2,)), ram_mib=2048),
    NumaCell(number=1, dedicated_cpus=(3, 4), siblings=((3, 4),), ram_mib=2048),
)


class Hypervisor:
    """The guests of one host, and how well they can be reached."""

    def __init__(self, machine: Machine, rng: random.Random) -> None:
        self.machine = machine
        self.rng = rng
        self.guests: dict[str, PowerState] = {}
        self.disks: set[str] = set()
        self.listener: Callable[[str], None] | None = None  # told which guest changed; "" = look at all
        self.hanging = False  # operations begin and do not come back until it is over
        self.failing = 0.0  # probability that an operation fails, before or after it was done
        self.away = False  # libvirtd does not answer at all
        self._held: list[Callable[[], None]] = []

    # ------------------------------------------------------------------ what happens to it
    def recover(self) -> None:
        """Everything works again, and what hung goes on."""
        back = self.away
        self.hanging, self.failing, self.away = False, 0.0, False
        if back:
            self._tell("")
        held, self._held = self._held, []
        for go_on in held:
            go_on()

    def power_cut(self) -> None:
        """The machine restarts: no guest runs; their disks are there."""
        for server_id, state in self.guests.items():
            if state is not PowerState.SUSPENDED:
                self.guests[server_id] = PowerState.SHUTDOWN
        self._held.clear()

    def change(self, server_id: str, state: PowerState, *, twice: bool) -> None:
        """A guest changes by itself."""
        self.guests[server_id] = state
        for _ in range(1 + twice):
            self._tell(server_id)

    def _tell(self, server_id: str) -> None:
        if not self.away and self.listener is not None:
            self.machine.network.later(self.rng.random() * 0.05, self.listener, server_id)

    def state(self, server_id: str) -> PowerState:
        return self.guests.get(server_id, PowerState.NOSTATE)

    # ------------------------------------------------------------------ what is asked of it
    def operate(self, work: Callable[[], GuestState]) -> asyncio.Future[GuestState]:
        """Begin an operation; the future is the caller's, the operation is not."""
        future: asyncio.Future[GuestState] = asyncio.get_running_loop().create_future()
        if self.away:
            future.set_exception(Unavailable("The hypervisor does not answer.", code="hypervisor_down"))
            return future
        before = self.rng.random() < self.failing
        after = self.rng.random() < self.failing

        def finish() -> None:
            if self.hanging:
                self._held.append(finish)
                return
            if before:
                _fail(future, "The hypervisor would not.")
                return
            try:
                state = work()
            except (NotFound, Conflict) as error:
                _fail(future, error)
                return
            if after:
                _fail(future, "The connection to the hypervisor broke.")
            elif not future.done():
                future.set_result(state)

        self.machine.network.later(0.05 + self.rng.expovariate(1 / 0.3), finish)
        return future


def _fail(future: asyncio.Future[Any], error: str | Exception) -> None:
    if not future.done():
        future.set_exception(Unavailable(error, code="hypervisor_failed") if isinstance(error, str) else error)


class SimDriver:
    """The driver of one run of a compute daemon.

    As the real one it reports what it did not report before: a lifecycle event, a failed operation and a hypervisor
    that is back are hints to look.
    """

    def __init__(self, hypervisor: Hypervisor, on_change: OnChange) -> None:
        self._hypervisor = hypervisor
        self._on_change = on_change
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._reported: dict[str, PowerState] = {}
        self._looking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        if self._hypervisor.away:
            raise Unavailable("The hypervisor does not answer.", code="hypervisor_down")
        self._hypervisor.listener = self._heard
        await self.inventory()

    async def close(self) -> None:
        self._hypervisor.listener = None

    def _heard(self, server_id: str) -> None:
        for name in [server_id] if server_id else list(self._reported):
            self._loop.call_soon(self._hint, name, context=self._context)

    def _hint(self, server_id: str) -> None:
        task = self._loop.create_task(self._look(server_id))
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _look(self, server_id: str) -> None:
        for _ in range(5):
            async with self._locks[server_id]:
                if server_id not in self._reported:
                    return
                if not self._hypervisor.away:
                    self._report(server_id)
                    return
            await asyncio.sleep(1)

    def _report(self, server_id: str) -> None:
        state = self._hypervisor.state(server_id)
        if self._reported[server_id] is state:
            return
        if state is PowerState.NOSTATE:
            del self._reported[server_id]
        else:
            self._reported[server_id] = state
        self._on_change(GuestState(server_id=server_id, power_state=state))

    async def resources(self) -> HostResources:
        if self._hypervisor.away:
            raise Unavailable("The hypervisor does not answer.", code="hypervisor_down")
        return HostResources(
            vcpus=2, ram_mib=4096, disk_gib=40, architecture="x86_64", hypervisor_type="fake", hypervisor_version=1,
            virt_type="fake", numa=CELLS, pcpus=3,
        )  # fmt: skip

    async def spawn(self, guest: Guest) -> GuestState:
        hypervisor, server_id = self._hypervisor, guest.server_id

        def disk() -> GuestState:
            hypervisor.disks.add(server_id)
            return GuestState(server_id=server_id, power_state=PowerState.NOSTATE)

        def boot() -> GuestState:
            if server_id not in hypervisor.disks:
                raise Conflict("There is no disk to boot from.")
            if server_id not in hypervisor.guests:
                hypervisor.guests[server_id] = PowerState.RUNNING
            return GuestState(server_id=server_id, power_state=hypervisor.guests[server_id])

        async def work() -> GuestState:
            if server_id not in hypervisor.guests:
                await hypervisor.operate(disk)
            return await hypervisor.operate(boot)

        return await self._one_by_one(server_id, work)

    async def destroy(self, server_id: str, domain_name: str) -> GuestState:
        hypervisor = self._hypervisor

        def stop() -> GuestState:
            hypervisor.guests.pop(server_id, None)
            return GuestState(server_id=server_id, power_state=PowerState.NOSTATE)

        def wipe() -> GuestState:
            hypervisor.disks.discard(server_id)
            return GuestState(server_id=server_id, power_state=PowerState.NOSTATE)

        async with self._locks[server_id]:
            self._reported.pop(server_id, None)
            await hypervisor.operate(stop)
            return await hypervisor.operate(wipe)

    async def power(self, message: PowerGuest) -> GuestState:
        hypervisor, server_id, action = self._hypervisor, message.guest.server_id, message.action

        def move() -> GuestState:
            current = hypervisor.state(server_id)
            if (
                current is PowerState.NOSTATE
                and server_id in hypervisor.disks
                and action in (Action.START, Action.REBOOT)
            ):
                current = PowerState.SHUTDOWN  # the machine lost the domain, its disk is there
            if current is PowerState.NOSTATE:
                raise NotFound(f"There is no guest for server {server_id} on this host.")
            if current != _RESULT[action] or action is Action.REBOOT:
                if current not in _FROM[action]:
                    raise Conflict(f"Cannot {action} a guest that is {current.name.lower()}.")
                hypervisor.guests[server_id] = _RESULT[action]
            return GuestState(server_id=server_id, power_state=hypervisor.state(server_id))

        try:
            return await self._one_by_one(server_id, lambda: hypervisor.operate(move))
        finally:
            self._hint(server_id)

    async def console(self, message: ReadConsole) -> str:
        return ""

    async def inventory(self) -> list[GuestState]:
        def look() -> GuestState:
            return GuestState(server_id="", power_state=PowerState.NOSTATE)

        await self._hypervisor.operate(look)
        there = dict.fromkeys([*self._hypervisor.guests, *sorted(self._hypervisor.disks)])
        for server_id, state in self._hypervisor.guests.items():
            self._reported.setdefault(server_id, state)
        return [GuestState(server_id=name, power_state=self._hypervisor.state(name)) for name in there]

    async def manage_image_cache(self) -> None:
        """There is none."""

    async def switch_off_all(self, grace_s: float) -> list[str]:
        return []

    async def _one_by_one(self, server_id: str, work: Callable[[], Awaitable[GuestState]]) -> GuestState:
        async with self._locks[server_id]:
            state = await work()
            self._reported[server_id] = state.power_state
            return state


class NetworkPlane:
    """The bridges of one host: what was applied last, and how well that goes."""

    def __init__(self, machine: Machine, rng: random.Random) -> None:
        self.machine = machine
        self.rng = rng
        self.ports: dict[str, tuple[str, ...]] = {}  # port → addresses
        self.generation = -1
        self.failing = 0.0
        self.hanging = False

    def recover(self) -> None:
        self.failing, self.hanging = 0.0, False

    def power_cut(self) -> None:
        self.ports, self.generation = {}, -1


class SimBackend:
    """The back end of one run of a network daemon."""

    def __init__(self, plane: NetworkPlane) -> None:
        self._plane = plane
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        if self._plane.rng.random() < self._plane.failing:
            raise Unavailable("The networks cannot be read.", code="network_backend")

    async def apply(self, message: ApplyNetworks) -> NetworksApplied:
        plane = self._plane
        async with self._lock:
            await asyncio.sleep(0.02 + plane.rng.expovariate(1 / 0.1))
            while plane.hanging:  # noqa: ASYNC110 - it is the world that changes
                await asyncio.sleep(1)
            if plane.rng.random() < plane.failing:
                raise Unavailable("The networks could not be changed.", code="network_backend")
            failed = {n.id: "it would not" for n in message.networks if plane.rng.random() < plane.failing}
            plane.ports = {
                port.id: port.addresses
                for network in message.networks
                if network.id not in failed
                for port in network.ports
            }
            plane.generation = message.generation
            if plane.rng.random() < plane.failing:
                raise Unavailable("The networks were changed, but nobody heard.", code="network_backend")
            return NetworksApplied(host=message.host, generation=message.generation, failed=failed)

    async def close(self) -> None:
        """Everything that was put up goes on."""

    async def teardown(self) -> None:
        self._plane.power_cut()
