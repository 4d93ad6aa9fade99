"""Users: they ask for what may be asked and what may not, lose their connection, ask again, and remember the answers.

The ledger is all that the checker knows of what was asked: what was sent, and what was promised.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec

from nova_fast.model.aggregates import ZONE_KEY
from nova_fast.model.base import Message
from nova_fast.model.commands.aggregates import (
    AddAggregateHost,
    CreateAggregate,
    DeleteAggregate,
    RemoveAggregateHost,
    SetAggregateMetadata,
)
from nova_fast.model.commands.hosts import RemoveHost, UpdateComputeService
from nova_fast.model.commands.ports import CreatePorts, DeletePort, NewPort, PortChanges, UpdatePort
from nova_fast.model.commands.quotas import SetComputeQuota
from nova_fast.model.commands.security_groups import CreateSecurityGroups, NewSecurityGroup
from nova_fast.model.commands.server_groups import CreateServerGroup, DeleteServerGroup
from nova_fast.model.commands.servers import (
    ActOnServer,
    CreateServers,
    DeleteServer,
    LockServer,
    RequestedNic,
    SetServerMetadata,
    UpdateServer,
)
from nova_fast.model.errors import Kind, NovaFastError, Unavailable
from nova_fast.model.identity import Caller
from nova_fast.model.states import ACTION_RULES

from .cloud import ADMIN, IMAGE_ID, PROJECTS, Cloud
from .loop import Process

CALL_TIMEOUT_S = 30.0
NOBODYS_ID = "00000000-0000-4000-8000-00000000dead"
ZONES = ("east", "west")
GROUP_POLICIES = ("affinity", "anti-affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")


class Creation(msgspec.Struct):
    """Servers somebody asked for; the name is theirs alone."""

    name: str
    project_id: str
    count: int
    group_id: str = ""
    zone: str = ""
    ids: tuple[str, ...] | None = None  # as promised
    refused: bool = False  # by the only answer there was


class Ledger(msgspec.Struct):
    """What was asked and what was promised."""

    creations: dict[str, Creation] = {}  # by name
    owners: dict[str, str] = {}  # server → project, of those promised
    delete_asked: set[str] = set()
    delete_promised: set[str] = set()
    requests: set[str] = set()  # every request id that was ever sent
    ports: dict[str, str] = {}  # port → project, of those promised and not asked to be deleted
    port_names: dict[str, bool] = {}  # by name → whether its only answer was a refusal
    groups: dict[str, str] = {}  # server group → project, of those promised and not asked to be deleted
    aggregates: dict[int, str] = {}  # by number → zone, of those promised and not asked to be deleted
    labels: dict[str, set[str]] = {}  # server → values that were ever sent for its label
    labelled: set[str] = set()  # servers with a label that was promised
    answered: int = 0
    troubles: list[str] = []  # answers nobody should get


class Users:
    """All users of a cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.rng = random.Random(f"users {cloud.seed}")
        self.ledger = Ledger()
        self.going = True
        self._count = 0
        self._served: list[tuple[Process, asyncio.Task[None]]] = []
        self._wishes: list[tuple[int, Callable[[], Any]]] = [
            (10, self._create),
            (6, self._delete),
            (10, self._act),
            (1, self._act_on_nothing),
            (2, self._create_port),
            (2, self._delete_port),
            (1, self._update_port),
            (1, self._set_quota),
            (2, self._change_host),
            (1, self._remove_host),
            (1, self._lock),
            (2, self._label),
            (1, self._security_group),
            (1, self._make_group),
            (1, self._drop_group),
            (1, self._make_aggregate),
            (3, self._change_aggregate),
        ]

    async def live(self) -> None:
        """One user: thinks, asks, thinks."""
        pace_s = 0.2 + 2 * self.rng.random()
        while self.going:
            await asyncio.sleep(self.rng.expovariate(1 / pace_s))
            wishes, weights = [w for _, w in self._wishes], [n for n, _ in self._wishes]
            await self.rng.choices(wishes, weights)[0]()

    # ------------------------------------------------------------------ asking
    async def ask(self, message: Message, tries: int = 1) -> Message | NovaFastError:
        """Ask through some API worker; after a broken connection perhaps again, under the same id."""
        call_id = self.rng.randbytes(16)
        answer: Message | NovaFastError = Unavailable("nobody was asked")
        for _ in range(tries):
            answer = await self._through(message, call_id)
            if not unsure(answer):
                break
            await asyncio.sleep(self.rng.random())
        self.ledger.answered += not unsure(answer)
        if isinstance(answer, NovaFastError) and answer.kind is Kind.INTERNAL:
            self.ledger.troubles.append(f"{type(message).__name__} was answered: {answer.message}")
        return answer

    async def _through(self, message: Message, call_id: bytes) -> Message | NovaFastError:
        cloud = self.cloud
        program = cloud.programs[f"api.{self.rng.randrange(2)}"]
        process, peer = program.process, program.peer
        if process is None or not process.alive or peer is None:
            return Unavailable("Nobody listens.", code="refused")
        future: asyncio.Future[Message | NovaFastError] = asyncio.get_running_loop().create_future()

        def tell(answer: Message | NovaFastError) -> None:
            if not future.done():
                future.set_result(answer)

        async def serve() -> None:
            answer: Message | NovaFastError
            try:
                answer = await peer.call(message, timeout_s=CALL_TIMEOUT_S, call_id=call_id)
            except NovaFastError as error:
                answer = error
            cloud.network.later(0.001, tell, answer)

        broken = Unavailable("The connection broke.", code="broken")
        process.on_death.append(lambda: tell(broken))
        self._served.append((process, cloud.loop.start(process, serve())))
        try:
            return await asyncio.wait_for(future, CALL_TIMEOUT_S + 1)
        except TimeoutError:
            return broken

    def under_way(self) -> bool:
        """Whether an API worker still works for somebody, who may have left: what it asks for may yet be done."""
        self._served = [(process, task) for process, task in self._served if process.alive and not task.done()]
        return bool(self._served)

    def _caller(self, project_id: str = "") -> Caller:
        self._count += 1
        request_id = f"req-{self._count:08x}-0000-4000-8000-{self.cloud.seed:012x}"
        self.ledger.requests.add(request_id)
        project_id = project_id or self.rng.choice(PROJECTS)
        return Caller(user_id="u", project_id=project_id, roles=("member", "reader"), request_id=request_id)

    def _admin(self) -> Caller:
        return msgspec.structs.replace(ADMIN, request_id=self._caller().request_id)

    # ------------------------------------------------------------------ servers
    async def _create(self) -> None:
        rng, caller = self.rng, self._caller()
        count = rng.choice((1, 1, 1, 2, 3))
        creation = Creation(
            name=f"vm{self._count}",
            project_id=caller.project_id,
            count=count,
            group_id=self._some_group(caller.project_id),
            zone=rng.choices(("", *ZONES, "nova", "nowhere"), (30, 2, 2, 1, 1))[0],
        )
        self.ledger.creations[creation.name] = creation
        nics: Any = (RequestedNic(network_id=self.cloud.network_id),)
        wish = rng.random()
        own = [port for port, project in self.ledger.ports.items() if project == caller.project_id]
        if wish < 0.15:
            nics = "none"
        elif wish < 0.3 and own and count == 1:
            nics = (RequestedNic(port_id=rng.choice(own)),)
        elif wish < 0.35:
            nics = (RequestedNic(network_id=NOBODYS_ID),)
        elif wish < 0.4 and count == 1:
            nics = (RequestedNic(port_id=NOBODYS_ID),)  # found out when the server has been written
        message = CreateServers(
            caller=caller,
            name=creation.name,
            flavor_id=rng.choices(("1", "2", "3", "9", "nonsense"), (7, 3, 3, 1, 1))[0],
            image_id=IMAGE_ID if rng.random() < 0.95 else NOBODYS_ID,
            networks=nics,
            min_count=1 if rng.random() < 0.3 else count,
            max_count=count,
            user_data=b"#!" if rng.random() < 0.2 else None,
            key_name="no such key" if rng.random() < 0.03 else None,
            zone=creation.zone,
            group_id=creation.group_id,
        )
        tries = rng.choice((1, 1, 3))
        answer = await self.ask(message, tries)
        if isinstance(answer, NovaFastError):
            creation.refused = tries == 1 and not unsure(answer)
            return
        creation.ids = answer.server_ids  # type: ignore[attr-defined]
        for server_id in creation.ids or ():
            self.ledger.owners[server_id] = caller.project_id

    def _some_server(self) -> tuple[str, str]:
        """A server and a project; mostly its own, sometimes another's, sometimes none's."""
        if not self.ledger.owners or self.rng.random() < 0.02:
            return NOBODYS_ID, PROJECTS[0]
        recent = list(self.ledger.owners)[-8:]
        server_id = self.rng.choice(recent)
        return server_id, self.ledger.owners[server_id] if self.rng.random() < 0.95 else self.rng.choice(PROJECTS)

    async def _delete(self) -> None:
        await self.delete(*self._some_server())

    async def delete(self, server_id: str, project_id: str, tries: int = 1) -> None:
        """Ask for a server to be deleted."""
        caller = self._caller(project_id) if self.ledger.owners.get(server_id) == project_id else self._admin()
        self.ledger.delete_asked.add(server_id)
        answer = await self.ask(DeleteServer(caller=caller, server_id=server_id), tries)
        if not isinstance(answer, NovaFastError):
            self.ledger.delete_promised.add(server_id)

    async def _act(self) -> None:
        server_id, project_id = self._some_server()
        action, hard = self.rng.choice(list(ACTION_RULES))
        await self.ask(
            ActOnServer(caller=self._caller(project_id), server_id=server_id, action=action, hard=hard),
            self.rng.choice((1, 2)),
        )

    async def _act_on_nothing(self) -> None:
        action, hard = self.rng.choice(list(ACTION_RULES))
        answer = await self.ask(ActOnServer(caller=self._caller(), server_id=NOBODYS_ID, action=action, hard=hard))
        if not isinstance(answer, NovaFastError):
            self.ledger.troubles.append("an action on nothing was accepted")

    async def _lock(self) -> None:
        server_id, project_id = self._some_server()
        locked = self.rng.random() < 0.3
        await self.ask(LockServer(caller=self._caller(project_id), server_id=server_id, locked=locked))

    async def _label(self) -> None:
        server_id, project_id = self._some_server()
        caller = self._caller(project_id)
        if self.rng.random() < 0.5:
            value = f"v{self._count}"
            self.ledger.labels.setdefault(server_id, set()).add(value)
            answer = await self.ask(SetServerMetadata(caller=caller, server_id=server_id, metadata={"label": value}))
            if not isinstance(answer, NovaFastError):
                self.ledger.labelled.add(server_id)
        else:
            await self.ask(UpdateServer(caller=caller, server_id=server_id, description=f"d{self._count}"))

    # ------------------------------------------------------------------ the rest
    async def _create_port(self) -> None:
        caller = self._caller()
        name = f"port{self._count}"
        self.ledger.port_names[name] = False
        network_id = self.cloud.network_id if self.rng.random() < 0.9 else NOBODYS_ID
        answer: Any = await self.ask(CreatePorts(caller=caller, ports=(NewPort(network_id=network_id, name=name),)))
        if isinstance(answer, NovaFastError):
            self.ledger.port_names[name] = not unsure(answer)
        else:
            self.ledger.ports[answer.ports[0].id] = caller.project_id

    async def _delete_port(self) -> None:
        port_id = self.rng.choice([*self.ledger.ports, NOBODYS_ID])
        project_id = self.ledger.ports.pop(port_id, PROJECTS[0])
        await self.ask(DeletePort(caller=self._caller(project_id), port_id=port_id))

    async def _update_port(self) -> None:
        port_id = self.rng.choice([*self.ledger.ports, NOBODYS_ID])
        project_id = self.ledger.ports.get(port_id, PROJECTS[0])
        changes = PortChanges(name=f"p{self._count}", admin_state_up=self.rng.random() < 0.5)
        await self.ask(UpdatePort(caller=self._caller(project_id), port_id=port_id, changes=changes))

    async def _set_quota(self) -> None:
        limits = {"instances": self.rng.choice((2, 5, 10, -1)), "cores": self.rng.choice((4, 20, -1))}
        project_id = self.rng.choice(PROJECTS)
        await self.ask(SetComputeQuota(caller=self._admin(), project_id=project_id, limits=limits, force=True))

    async def _change_host(self) -> None:
        host = self.rng.choice([*self.cloud.hosts, "nowhere"])
        change = {self.rng.choice(("enabled", "forced_down")): self.rng.random() < 0.5}
        await self.ask(UpdateComputeService(caller=self._admin(), host=host, **change))

    async def open_hosts(self) -> None:
        """Every host takes servers again."""
        for host in self.cloud.hosts:
            await self.ask(
                UpdateComputeService(caller=self._admin(), host=host, enabled=True, forced_down=False), tries=20
            )

    async def _remove_host(self) -> None:
        await self.ask(RemoveHost(caller=self._admin(), host=self.rng.choice(self.cloud.hosts)))

    async def _security_group(self) -> None:
        caller = self._caller()
        group = NewSecurityGroup(name=f"g{self._count}")
        await self.ask(CreateSecurityGroups(caller=caller, groups=(group,)))

    # ------------------------------------------------------------------ where servers may be
    def _some_group(self, project_id: str) -> str:
        """A server group; mostly none."""
        own = [group_id for group_id, owner in self.ledger.groups.items() if owner == project_id]
        wish = self.rng.random()
        if wish < 0.02:
            return NOBODYS_ID
        return self.rng.choice(own[-3:]) if own and wish < 0.4 else ""

    async def _make_group(self) -> None:
        caller, policy = self._caller(), self.rng.choice(GROUP_POLICIES)
        most = self.rng.choice((1, 2)) if policy == "anti-affinity" else 1
        message = CreateServerGroup(caller=caller, name="g", policy=policy, max_servers_per_host=most)
        answer: Any = await self.ask(message, self.rng.choice((1, 3)))
        if not isinstance(answer, NovaFastError):
            self.ledger.groups[answer.group.id] = caller.project_id

    async def _drop_group(self) -> None:
        group_id = self.rng.choice([*self.ledger.groups, NOBODYS_ID])
        project_id = self.ledger.groups.pop(group_id, PROJECTS[0])
        await self.ask(DeleteServerGroup(caller=self._caller(project_id), group_id=group_id))

    async def _make_aggregate(self) -> None:
        zone = self.rng.choice(("", *ZONES))
        message = CreateAggregate(caller=self._admin(), name=f"a{self._count % 4}", zone=zone)
        answer: Any = await self.ask(message, self.rng.choice((1, 3)))
        if not isinstance(answer, NovaFastError):
            self.ledger.aggregates[answer.aggregate.number] = zone

    async def _change_aggregate(self) -> None:
        rng, caller = self.rng, self._admin()
        number, host = rng.choice([*self.ledger.aggregates, 10_000]), rng.choice([*self.cloud.hosts, "nowhere"])
        wish = rng.random()
        if wish < 0.5:
            await self.ask(AddAggregateHost(caller=caller, number=number, host=host))
        elif wish < 0.8:
            await self.ask(RemoveAggregateHost(caller=caller, number=number, host=host))
        elif wish < 0.9:
            await self.ask(SetAggregateMetadata(caller=caller, number=number, metadata={ZONE_KEY: rng.choice(ZONES)}))
        else:
            self.ledger.aggregates.pop(number, None)
            await self.ask(DeleteAggregate(caller=caller, number=number))


def unsure(answer: Message | NovaFastError) -> bool:
    """Whether this answer leaves open what happened."""
    return isinstance(answer, Unavailable)
