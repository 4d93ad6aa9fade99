"""A cloud in which the test plays the other daemons: it sees each task the engine asks and says what is answered.

Commits, the engine and the store are the real ones; only the writer's thread and the hub are left out. A restart is
nothing but going on from the rows, so :meth:`Cloud.restart` forgets everything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from nova_fast.commands.hosts import record_host_report, record_host_up
from nova_fast.commands.registry import load_all, run
from nova_fast.conductor.engine import Engine, message_of
from nova_fast.conductor.workflows.create_server import placement_request
from nova_fast.model.base import Message
from nova_fast.model.commands.networks import CreateNetworks, CreateSubnets, NewNetwork, NewSubnet
from nova_fast.model.commands.servers import ActOnServer, CreateServers, DeleteServer, RequestedNic
from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.events import Event
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import HostResources
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, ImageStatus, Visibility
from nova_fast.model.networks import Port
from nova_fast.model.quotas import UNLIMITED, Quota
from nova_fast.model.servers import Server, ServerAction
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import (
    DestroyGuest,
    Done,
    GuestState,
    HostReport,
    Placement,
    PlacementRequest,
    PowerGuest,
    SpawnGuest,
)
from nova_fast.model.workflows import Task, Workflow
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store
from nova_fast.state.transaction import Transaction
from tests.unit.recount import assert_nothing_leaks, assert_nothing_left

ALICE = Caller(user_id="alice", project_id="a" * 32, roles=("member", "reader"))
BOB = Caller(user_id="bob", project_id="b" * 32, roles=("member", "reader"))
ADMIN = Caller(user_id="root", project_id="c" * 32, roles=("admin", "manager", "member", "reader"))
FLAVOR = Flavor(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1)
IMAGE_ID = "12345678-0000-4000-8000-000000000000"
GIB = 1 << 30
TIMEOUT_S = 60.0

_POWER = {
    Action.START: PowerState.RUNNING,
    Action.STOP: PowerState.SHUTDOWN,
    Action.REBOOT: PowerState.RUNNING,
    Action.PAUSE: PowerState.PAUSED,
    Action.UNPAUSE: PowerState.RUNNING,
    Action.SUSPEND: PowerState.SUSPENDED,
    Action.RESUME: PowerState.RUNNING,
}


def resources(vcpus: int = 8, ram_mib: int = 16_384, disk_gib: int = 100) -> HostResources:
    return HostResources(
        vcpus=vcpus, ram_mib=ram_mib, disk_gib=disk_gib, architecture="x86_64", hypervisor_type="fake",
        hypervisor_version=1, virt_type="fake",
    )  # fmt: skip


class CommitLost(Exception):
    """A transaction was done and not written."""


class Cloud:
    """Two hosts, a network, an image and a flavor; ``pending`` are the tasks that were asked and not answered."""

    def __init__(self, store: MemoryStore) -> None:
        load_all()
        self.store = store
        self.engine = Engine(TIMEOUT_S)
        self.pending: list[Task] = []
        self.events: list[Event] = []
        self.guests: dict[str, str] = {}  # server → host, as the computes would have them
        self.commit(self._furnish)
        self.network_id = (
            self.run(CreateNetworks(caller=ALICE, networks=(NewNetwork(name="blue"),))).networks[0].network.id
        )
        subnet = NewSubnet(network_id=self.network_id, ip_version=4, cidr="10.0.0.0/24")
        self.run(CreateSubnets(caller=ALICE, subnets=(subnet,)))

    def _furnish(self, tx: Transaction) -> Done:
        tx.put(tables.FLAVORS, FLAVOR)
        tx.put(
            tables.IMAGES,
            Image(
                id=IMAGE_ID, name="tiny", project_id=ALICE.project_id, status=ImageStatus.ACTIVE,
                visibility=Visibility.PUBLIC,
                created_at_us=1, updated_at_us=1, size=1, virtual_size=GIB, disk_format="qcow2",
                container_format="bare",
            ),
        )  # fmt: skip
        for host in ("h1", "h2"):
            record_host_report(tx, HostReport(host=host, zone="nova", resources=resources()))
        return Done()

    # ------------------------------------------------------------------ commits
    def commit(self, work: Any, *, lost: bool = False) -> Any:
        """One batch as the writer does it: the work, then whatever is ready moves on.

        A ``lost`` one is done to its end and then not written. Raises CommitLost.
        """

        def batch(tx: Transaction) -> tuple[Any, list[Task], list[Event]]:
            result = work(tx)
            asked = self.engine.advance_ready(tx)
            if lost:
                raise CommitLost
            return result, asked, [event for _, event in tx.events]

        result, asked, events = self.store.run(batch)
        self.pending += asked
        self.store.read(assert_nothing_leaks)
        self.heard(events)
        return result

    def heard(self, events: list[Event]) -> None:
        """What was committed is told to whoever follows."""
        self.events += events

    def run(self, request: Message) -> Any:
        return self.commit(lambda tx: run(tx, request))

    def refused(self, request: Message) -> NovaFastError:
        """Run a command that must be refused and change nothing."""
        before = self.dump()
        try:
            self.store.run(lambda tx: run(tx, request))
        except NovaFastError as error:
            assert self.dump() == before
            return error
        raise AssertionError("it was accepted")

    def dump(self) -> dict[str, list[Any]]:
        return self.store.read(lambda r: {t.name: list(r.scan(t)) for t in tables.TABLES})

    def restart(self) -> None:
        """The conductor has died: all that is left are the rows."""
        self.engine = Engine(TIMEOUT_S)
        self.pending = self.store.read(lambda r: list(r.scan(tables.TASKS)))
        self.commit(lambda tx: Done())

    # ------------------------------------------------------------------ playing the daemons
    def message(self, task: Task) -> Message | PlacementRequest | None:
        if task.peer == "scheduler":
            server, workflow = self.server(task.server_id), self.workflow(task.server_id)
            if workflow is None:
                return None
            return self.store.read(lambda r: placement_request(r, server, workflow))
        return self.store.read(lambda r: message_of(r, task))

    def good(self, task: Task) -> Message:
        """What a daemon that can do it answers; the guests it makes and removes are noted."""
        if task.peer == "scheduler":
            request = self.message(task)
            assert isinstance(request, PlacementRequest)
            free = [host for host in ("h1", "h2") if host not in request.excluded_hosts]
            return Placement(server_id=task.server_id, host=free[0] if free else "")
        host = task.peer.partition("@")[2]
        message = self.message(task)
        if isinstance(message, SpawnGuest):
            self.guests[task.server_id] = host
            return GuestState(server_id=task.server_id, power_state=PowerState.RUNNING)
        if isinstance(message, DestroyGuest):
            self.guests.pop(task.server_id, None)
            return GuestState(server_id=task.server_id, power_state=PowerState.NOSTATE)
        if isinstance(message, PowerGuest):
            return GuestState(server_id=task.server_id, power_state=_POWER[message.action])
        return Done()

    def next(self, step: str | None = None) -> Task:
        """Take the oldest task that waits."""
        task = self.pending.pop(0)
        assert step is None or task.step == step, f"{task.step} is asked, not {step}"
        return task

    def answer(self, task: Task, answer: Message | None = None) -> None:
        message = self.good(task) if answer is None else answer
        self.commit(lambda tx: (self.engine.take_answer(tx, task.id, message), Done())[1])

    def fail(self, task: Task, error: NovaFastError | None = None) -> None:
        failure = (error or Unavailable(f"{task.step} did not work")).failure()
        self.commit(lambda tx: (self.engine.take_failure(tx, task.id, failure), Done())[1])

    def settle(self, *, twice: bool = False, restarting: bool = False) -> None:
        """Let every daemon do what it is asked, until nothing is asked any more."""
        for _ in range(100):
            if restarting:
                self.restart()
            if not self.pending:
                return
            task = self.next()
            answer = self.good(task) if self.waits(task) else Done()
            self.answer(task, answer)
            if twice:
                before = self.dump()
                self.answer(task, answer)
                assert {k: v for k, v in self.dump().items() if k != "events"} == {
                    k: v for k, v in before.items() if k != "events"
                }
        raise AssertionError("it does not end")

    def waits(self, task: Task) -> bool:
        return self.store.read(lambda r: r.get(tables.TASKS, task.id)) is not None

    def host_up(self, host: str, up: bool) -> None:
        def work(tx: Transaction) -> Done:
            record_host_up(tx, host, up)
            if not up:
                self.engine.host_down(tx, host)
            return Done()

        self.commit(work)

    # ------------------------------------------------------------------ asking
    def create(self, caller: Caller = ALICE, **fields: Any) -> str:
        """Ask for one server; its id."""
        return str(self.run(self.wish(caller, **fields)).server_ids[0])

    def wish(self, caller: Caller = ALICE, **fields: Any) -> CreateServers:
        asked: dict[str, Any] = {
            "name": "vm", "flavor_id": FLAVOR.id, "image_id": IMAGE_ID,
            "networks": (RequestedNic(network_id=self.network_id),), **fields,
        }  # fmt: skip
        return CreateServers(caller=caller, **asked)

    def active(self, **fields: Any) -> str:
        """A server that runs."""
        server_id = self.create(**fields)
        self.settle()
        assert self.server(server_id).vm_state == "active"
        return server_id

    def act(self, server_id: str, action: Action, *, hard: bool = False, caller: Caller = ALICE) -> None:
        self.run(ActOnServer(caller=caller, server_id=server_id, action=action, hard=hard))

    def delete(self, server_id: str, caller: Caller = ALICE) -> None:
        self.run(DeleteServer(caller=caller, server_id=server_id))

    def find(self, server_id: str) -> Server | None:
        return self.store.read(lambda r: r.get(tables.SERVERS, server_id))

    def server(self, server_id: str) -> Server:
        found = self.find(server_id)
        assert found is not None
        return found

    def workflow(self, server_id: str) -> Workflow | None:
        return self.store.read(lambda r: r.get(tables.WORKFLOWS, server_id))

    def ports(self, server_id: str) -> list[Port]:
        return self.store.read(lambda r: server_ports(r, server_id))

    def actions(self, server_id: str) -> dict[str, ServerAction]:
        """The actions of a server by name; the last of each."""
        rows = self.store.read(lambda r: list(r.scan(tables.SERVER_ACTIONS, server_id)))
        return {row.action: row for row in sorted(rows, key=lambda row: row.start_at_us)}

    def assert_gone(self, server_id: str) -> None:
        """Nothing of any server is left, in the store and on the hosts."""
        assert self.find(server_id) is None
        self.store.read(assert_nothing_left)
        assert self.guests == {}


@contextlib.contextmanager
def unlimited_cloud() -> Iterator[Cloud]:
    """A cloud of its own store, in which Alice may have as many servers as she likes."""
    with memory_store() as store:
        made = Cloud(store)
        limits = dict.fromkeys(("instances", "cores", "ram"), UNLIMITED)
        made.commit(lambda tx: tx.put(tables.QUOTAS, Quota(project_id=ALICE.project_id, limits=limits)))
        yield made
