"""Histories of commands and daemons under a seed: what a worker keeps of servers is as fresh as what it reads."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.commands.guests import record_guest_state, record_inventory
from nova_fast.model.servers import UserData
from nova_fast.model.states import PowerState
from nova_fast.model.tasks import GuestChanged, GuestInventory, GuestState
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from tests.api.server_twins import Twins, change
from tests.api.server_world import HOST, World
from tests.lengths import repeats

if TYPE_CHECKING:
    pass


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("identity", "compute", "network")


@pytest.fixture
def twins(world: World) -> Twins:
    return Twins(world)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(repeats(2, 60)))
def test_histories_of_commands_are_shown_as_they_go(world: World, twins: Twins, seed: int) -> None:
    play = random.Random(seed)
    history = History(world, play)
    for _ in range(40):
        name = play.choice([name for name in dir(history) if name.startswith("do_")])
        getattr(history, name)()
        if play.random() < 0.6:
            world.settle()
        twins.compare(name)


class History:
    """What users, operators and daemons do; a refusal is fine, the answers after it count."""

    def __init__(self, world: World, play: random.Random) -> None:
        self._world = world
        self._play = play
        self._sequence = 0

    def _server(self) -> str:
        with self._world.cloud.store.snapshot() as snapshot:
            ids = [server.id for server in snapshot.scan(tables.SERVERS)]
        return self._play.choice(ids) if ids else self._world.create()

    def _word(self) -> str:
        return self._play.choice(["red", "green", "blue"]) + str(self._play.randrange(100))

    def _ports(self) -> list[Any]:
        server_id = self._server()
        with self._world.cloud.store.snapshot() as snapshot:
            return server_ports(snapshot, server_id)

    def _network(self, method: str, path: str, body: Any = None, client: Any = None) -> Any:
        return (client or self._world.member).request(method, "network", path, json=body)

    def _compute(self, method: str, path: str, body: Any = None) -> Any:
        return self._world.admin.request(method, "compute", f"/v2.1{path}", json=body, microversion="2.96")

    def do_create(self) -> None:
        self._world.post(tags=[self._word()], metadata={"k": self._word()})

    def do_create_two(self) -> None:
        self._world.post(min_count=2, max_count=2, key_name=..., user_data="aGk=")

    def do_delete(self) -> None:
        self._world.member.delete("compute", f"/v2.1/servers/{self._server()}")

    def do_rename(self) -> None:
        self._world.member.put(
            "compute", f"/v2.1/servers/{self._server()}", json={"server": {"name": self._word()}}, microversion="2.96"
        )

    def do_act(self) -> None:
        action = self._play.choice(["os-stop", "os-start", "pause", "unpause", "suspend", "resume", "lock", "unlock"])
        self._world.act(self._server(), action)

    def do_reset_state(self) -> None:
        state = {"state": self._play.choice(["error", "active"])}
        self._world.act(self._server(), "os-resetState", state, self._world.admin)

    def do_metadata_and_tags(self) -> None:
        path = f"/v2.1/servers/{self._server()}"
        self._world.member.put("compute", f"{path}/tags/{self._word()}", microversion="2.96")
        self._world.member.post("compute", f"{path}/metadata", json={"metadata": {"k": self._word()}})

    def do_rename_network(self) -> None:
        self._network("PUT", f"/v2.0/networks/{self._world.network_id}", {"network": {"name": self._word()}})

    def do_rename_group(self) -> None:
        with self._world.cloud.store.snapshot() as snapshot:
            groups = [group.id for group in snapshot.scan(tables.SECURITY_GROUPS)]
        if groups:
            change(self._world, tables.SECURITY_GROUPS, self._play.choice(groups), name=self._word())

    def do_regroup_port(self) -> None:
        made = self._network("POST", "/v2.0/security-groups", {"security_group": {"name": self._word()}})
        for port in self._ports():
            groups = {"security_groups": [made.json["security_group"]["id"]]}
            self._network("PUT", f"/v2.0/ports/{port.id}", {"port": groups})

    def do_readdress_port(self) -> None:
        for port in self._ports():
            wish = {"fixed_ips": [{"subnet_id": ip.subnet_id} for ip in port.fixed_ips] * 2}
            self._network("PUT", f"/v2.0/ports/{port.id}", {"port": wish})

    def do_take_over_port(self) -> None:
        made = self._network("POST", "/v2.0/ports", {"port": {"network_id": self._world.network_id}})
        self._world.post(networks=[{"port": made.json["port"]["id"]}, {"uuid": self._world.network_id}])

    def do_close_host(self) -> None:
        path = "/os-services/" + self._service_id()
        body = self._play.choice([{"status": "disabled"}, {"status": "enabled"}, {"forced_down": True}])
        self._compute("PUT", path, body)
        self._compute("PUT", path, {"forced_down": False})

    def _service_id(self) -> str:
        with self._world.cloud.store.snapshot() as snapshot:
            return str(snapshot.need(tables.HOSTS, HOST, "Host").service_uuid)

    def do_move_host_to_another_zone(self) -> None:
        aggregate = {"aggregate": {"name": self._word(), "availability_zone": self._word()}}
        made = self._compute("POST", "/os-aggregates", aggregate)
        if made.status == 200:
            path = f"/os-aggregates/{made.json['aggregate']['id']}/action"
            self._compute("POST", path, {"add_host": {"host": HOST}})
            self._compute("POST", path, {"set_metadata": {"metadata": {"availability_zone": self._word()}}})
            if self._play.random() < 0.7:
                self._compute("POST", path, {"remove_host": {"host": HOST}})

    def do_tell_of_a_guest(self) -> None:
        self._sequence += 1
        state = self._play.choice(list(PowerState))
        server_id = self._server()
        with self._world.cloud.store.transaction(time.time_ns() // 1000) as tx:
            if self._play.random() < 0.5:
                record_guest_state(
                    tx, GuestChanged(host=HOST, server_id=server_id, power_state=state, sequence=self._sequence)
                )
            else:
                guests = (GuestState(server_id=server_id, power_state=state),)
                record_inventory(tx, GuestInventory(host=HOST, guests=guests, sequence=self._sequence), 0)

    def do_lose_the_host(self) -> None:
        change(self._world, tables.HOSTS, HOST, up=self._play.random() < 0.5)

    def do_write_user_data(self) -> None:
        with self._world.cloud.store.transaction(1) as tx:
            for row in list(tx.scan(tables.USER_DATA)):
                tx.put(tables.USER_DATA, UserData(server_id=row.server_id, data=self._word().encode()))
