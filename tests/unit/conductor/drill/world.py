"""The player's cloud with a world behind it: hypervisors, network daemons and a scheduler that remember what they did.

The scheduler and the driver are the real ones, without their processes. So it can be asked what a daemon does when it
is told twice, when it dies in the middle, and whether in the end the world is what the store says.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from nova_fast.commands.guests import record_inventory
from nova_fast.commands.hosts import record_host_up
from nova_fast.commands.registry import run
from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.config import ComputeConfig, SchedulerConfig
from nova_fast.model.base import Message
from nova_fast.model.commands.hosts import UpdateComputeService
from nova_fast.model.errors import Failure, NovaFastError, Unavailable
from nova_fast.model.events import Event
from nova_fast.model.servers import Server
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import (
    ApplyNetworks,
    DestroyGuest,
    Done,
    Guest,
    GuestInventory,
    GuestState,
    NetworksApplied,
    Placement,
    PlacementRequest,
    PowerGuest,
    SelectHosts,
    SpawnGuest,
    WantedGuests,
)
from nova_fast.model.workflows import Task
from nova_fast.queries.claims import fleet
from nova_fast.queries.host_networks import wanted_networks
from nova_fast.scheduler.select import Scheduler
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, Saved
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.player import ADMIN, Cloud

T = TypeVar("T")
HOSTS = ("h1", "h2")


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("it waits")


class Hypervisor(FakeDriver):
    """The fake driver on a machine whose daemon may die in the middle: then files are left, as with a real one."""

    def __init__(self) -> None:
        super().__init__(ComputeConfig(), lambda state: None)
        self.remains: set[str] = set()

    @property
    def guests(self) -> dict[str, PowerState]:
        return self._guests

    async def spawn(self, guest: Guest) -> GuestState:
        self.remains.discard(guest.server_id)  # what a spawn left half made is removed and made again
        return await super().spawn(guest)

    async def destroy(self, server_id: str, domain_name: str) -> GuestState:
        self.remains.discard(server_id)
        return await super().destroy(server_id, domain_name)

    async def inventory(self) -> list[GuestState]:
        files = [GuestState(server_id=server_id, power_state=PowerState.NOSTATE) for server_id in sorted(self.remains)]
        return [*await super().inventory(), *files]

    async def do(self, message: Message) -> GuestState:
        if isinstance(message, SpawnGuest):
            return await self.spawn(message.guest)
        if isinstance(message, DestroyGuest):
            return await self.destroy(message.server_id, message.domain_name)
        assert isinstance(message, PowerGuest), (
            f"nobody told the drill how a hypervisor does a {type(message).__name__}"
        )
        return await self.power(message)

    def begin(self, message: Message) -> None:
        """Do the first half of it."""
        if isinstance(message, SpawnGuest):
            if message.guest.server_id not in self._guests:
                self.remains.add(message.guest.server_id)
        elif isinstance(message, DestroyGuest):
            if self._guests.pop(message.server_id, None) is not None:
                self.remains.add(message.server_id)
        elif isinstance(message, PowerGuest) and message.action is Action.REBOOT:
            self._guests[message.guest.server_id] = PowerState.SHUTDOWN

    def copy(self) -> Hypervisor:
        twin = Hypervisor()
        twin._guests = dict(self._guests)
        twin._consoles = {server_id: list(lines) for server_id, lines in self._consoles.items()}
        twin.remains = set(self.remains)
        return twin


class Reply(msgspec.Struct, frozen=True):
    """How a task ends: answered, failed, not answered in time, or with its host."""

    how: str  # answer, failure, deadline, host down, forced down
    message: Message | None = None

    def like(self, other: Reply) -> bool:
        """The same answer; a choice that is held already is told without its weight."""
        if isinstance(self.message, Placement) and isinstance(other.message, Placement):
            return self.message.host == other.message.host
        return self == other


class Moment(msgspec.Struct, frozen=True):
    """Everything at one moment, to begin from it again."""

    store: Saved
    pending: list[Task]
    stale: list[tuple[Task, Reply]]
    hypervisors: dict[str, Hypervisor]
    applied: dict[str, ApplyNetworks]
    chosen: list[tuple[PlacementRequest, str]]


class World(Cloud):
    """The cloud, and what its daemons have made of it."""

    def __init__(self, store: MemoryStore) -> None:
        self.scheduler: Scheduler | None = None
        self.hypervisors = {host: Hypervisor() for host in HOSTS}
        self.applied: dict[str, ApplyNetworks] = {}
        self.stale: list[tuple[Task, Reply]] = []  # of tasks that were given up before their answer came
        super().__init__(store)
        self.scheduler_restarts()

    def heard(self, events: list[Event]) -> None:
        super().heard(events)
        for event in events if self.scheduler is not None else ():
            self.scheduler.apply(event)  # raises when it does not follow from what is known

    # ------------------------------------------------------------------ beginning again
    def save(self) -> Moment:
        assert self.scheduler is not None
        return Moment(
            store=self.store.save(),
            pending=list(self.pending),
            stale=list(self.stale),
            hypervisors={host: hypervisor.copy() for host, hypervisor in self.hypervisors.items()},
            applied=dict(self.applied),
            chosen=[
                (PlacementRequest(server_id=server_id, claim=held.claim), held.host)
                for server_id, held in self.scheduler.claims._pending.items()
            ],
        )

    def put_back(self, moment: Moment) -> None:
        self.store.put_back(moment.store)
        self.engine = type(self.engine)(self.engine._task_timeout_s)
        self.pending = list(moment.pending)
        self.stale = list(moment.stale)
        self.events = []
        self.hypervisors = {host: hypervisor.copy() for host, hypervisor in moment.hypervisors.items()}
        self.applied = dict(moment.applied)
        self.scheduler_restarts()
        assert self.scheduler is not None
        for request, host in moment.chosen:
            self.scheduler.claims.take(request.server_id, request, host)

    def scheduler_restarts(self) -> None:
        self.scheduler = Scheduler(SchedulerConfig(), random.Random(1))
        self.scheduler.load(*self.store.read(fleet))

    # ------------------------------------------------------------------ what daemons do
    def is_up(self, host: str) -> bool:
        return self.store.read(lambda r: (h := r.need(tables.HOSTS, host, "Host")).up and not h.forced_down)

    def tell(self, task: Task, message: Message | PlacementRequest | None = None) -> Reply:
        """Let the daemon do what a task says (or said, when it was sent); what it answers."""
        message = message or self.message(task)
        assert message is not None, f"nobody waits for {task.step}"
        kind, _, host = task.peer.partition("@")
        if host and not self.is_up(host):
            assert kind != "compute" or not isinstance(message, DestroyGuest), f"{host} is down and is waited for"
            return Reply("deadline")
        try:
            return Reply("answer", self._done(kind, host, message))
        except NovaFastError as error:
            return Reply("failure", error.failure())

    def _done(self, kind: str, host: str, message: Message | PlacementRequest) -> Message:
        if kind == "scheduler":
            assert isinstance(message, PlacementRequest)
            assert self.scheduler is not None
            return self.scheduler.select(SelectHosts(requests=(message,))).placements[0]
        if kind == "network":
            assert isinstance(message, ApplyNetworks)
            if host not in self.applied or message.generation >= self.applied[host].generation:
                self.applied[host] = message
            return NetworksApplied(host=host, generation=self.applied[host].generation)
        assert kind == "compute", f"nobody told the drill how to play {kind}"
        assert isinstance(message, Message)
        return at_once(self.hypervisors[host].do(message))

    def dies_doing(self, task: Task) -> None:
        """The daemon dies in the middle of a task, and is back."""
        kind, _, host = task.peer.partition("@")
        message = self.message(task)
        if kind == "scheduler":
            self.scheduler_restarts()
        elif kind == "network":
            self.applied.pop(host, None)
        elif self.is_up(host):
            assert isinstance(message, Message)
            self.hypervisors[host].begin(message)
            self.host_returns(host)

    def host_returns(self, host: str) -> None:
        """A compute daemon connects: it says what there is, and destroys what belongs there no more."""

        def work(tx: Transaction) -> Done:
            run(tx, UpdateComputeService(caller=ADMIN, host=host, forced_down=False))
            record_host_up(tx, host, True)
            return Done()

        self.commit(work)
        self._compare(host)

    def hosts_compare(self) -> None:
        """Every host that is up does so, as after everything that failed there."""
        for host in self.hypervisors:
            if self.is_up(host):
                self._compare(host)

    def _compare(self, host: str) -> None:
        hypervisor = self.hypervisors[host]
        guests = tuple(at_once(hypervisor.inventory()))

        def work(tx: Transaction) -> WantedGuests:
            return record_inventory(tx, GuestInventory(host=host, guests=guests), tx.now_us)

        wanted = self.commit(work)
        for guest in guests:
            if guest.server_id not in wanted.server_ids:
                at_once(hypervisor.destroy(guest.server_id, ""))

    # ------------------------------------------------------------------ what the conductor hears
    def take(self, task: Task, reply: Reply, *, lost: bool = False) -> None:
        """Record how a task ended."""
        self.commit(self.recording(task, reply), lost=lost)

    def recording(self, task: Task, reply: Reply) -> Callable[[Transaction], Done]:
        host = task.peer.partition("@")[2]

        def work(tx: Transaction) -> Done:
            if reply.how == "answer":
                assert reply.message is not None
                self.engine.take_answer(tx, task.id, reply.message)
            elif reply.how == "failure":
                assert isinstance(reply.message, Failure)
                self.engine.take_failure(tx, task.id, reply.message)
            elif reply.how == "deadline":
                self.engine.expire(tx, task.deadline_us + 1)
            else:
                self._host_lost(tx, host, forced=reply.how == "forced down")
            return Done()

        return work

    def _host_lost(self, tx: Transaction, host: str, *, forced: bool) -> None:
        if forced:
            run(tx, UpdateComputeService(caller=ADMIN, host=host, forced_down=True))
            self.engine.hosts_down(tx)  # as housekeeping finds it
        else:
            record_host_up(tx, host, False)
            self.engine.host_down(tx, host)

    def walk_to(self, step: str, direction: str = "forward", failing: str = "") -> Task | None:
        """Do what is asked up to a step, whose task then waits; None when it is never asked."""
        while self.pending:
            task = self.pending[0]
            workflow = self.workflow(task.server_id)
            assert workflow is not None
            if (task.step, workflow.direction) == (step, direction):
                return task
            reply = self.tell(self.pending.pop(0))
            if task.step == failing and workflow.direction == "forward":
                reply = Reply("failure", Unavailable("It does not work.").failure())
            self.take(task, reply)
        return None

    # ------------------------------------------------------------------ is the world as the store says?
    def assert_world_agrees(self) -> None:
        """Nobody works, nothing is held for nobody, and every host has the guests it should have."""
        assert self.scheduler is not None
        assert self.scheduler.claims._pending == {}, "the scheduler holds a host for nobody"
        for usage in self.store.read(lambda r: list(r.scan(tables.HOST_USAGE))):
            state = self.scheduler.hosts[usage.host]
            table = (state.vcpus, state.ram_mib, state.disk_gib, state.servers, state.busy)
            assert table == (usage.vcpus, usage.ram_mib, usage.disk_gib, usage.servers, 0), f"{usage.host} in the table"
        self.assert_no_orphans()
        for host, hypervisor in self.hypervisors.items():
            for server in self._servers_on(host).values():
                there = hypervisor.guests.get(server.id, PowerState.NOSTATE)
                assert server.power_state == there, f"{server.id} is {there.name}, not {server.power_state.name}"
            wanted = self.store.read(lambda r, host=host: wanted_networks(r, host))
            has = self.applied.get(host, ApplyNetworks(host=host, generation=0, networks=(), groups=()))
            assert has.networks == wanted.networks or has.generation < wanted.generation, f"{host} is not told of ports"

    def assert_no_orphans(self) -> None:
        """No host that is up has anything of a guest that belongs elsewhere."""
        for host, hypervisor in self.hypervisors.items():
            if not self.is_up(host):
                continue
            here = self._servers_on(host).keys()
            assert hypervisor.remains <= here, f"{host} has files of guests that belong elsewhere"
            assert hypervisor.guests.keys() <= here, f"{host} has guests that belong elsewhere"

    def _servers_on(self, host: str) -> dict[str, Server]:
        return {server.id: server for server in self.store.read(lambda r: r.select(tables.SERVERS_BY_HOST, host))}
