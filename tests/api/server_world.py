"""What the tests of ``/servers`` share: a furnished cloud, and daemons that do at once what they are asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nova_fast.commands.hosts import record_host_report
from nova_fast.conductor.engine import Engine, message_of
from nova_fast.model.commands.networks import CreateNetworks, CreateSubnets, NewNetwork, NewSubnet
from nova_fast.model.hosts import HostResources
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, ImageStatus, Visibility
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import DestroyGuest, Done, GuestState, HostReport, Placement, PowerGuest, SpawnGuest
from nova_fast.model.workflows import Task
from nova_fast.state import schema as tables

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud, Reply

IMAGE_ID = "12345678-0000-4000-8000-000000000000"
LARGE_IMAGE_ID = "12345678-0000-4000-8000-000000000001"
GIB = 1 << 30
HOST = "h1"
_RESOURCES = HostResources(
    vcpus=64, ram_mib=1 << 20, disk_gib=10_000, architecture="x86_64", hypervisor_type="fake", hypervisor_version=1,
    virt_type="fake",
)  # fmt: skip
_POWER = {Action.STOP: PowerState.SHUTDOWN, Action.PAUSE: PowerState.PAUSED, Action.SUSPEND: PowerState.SUSPENDED}


class World:
    """A cloud with a host, two images and a network of project ``p1``."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.p1 = cloud.project("p1")
        self.member = self.p1.member
        self.admin = cloud.admin
        self._engine = Engine(60)
        with cloud.store.transaction(time.time_ns() // 1000) as tx:
            record_host_report(tx, HostReport(host=HOST, zone="nova", resources=_RESOURCES))
            for image_id, size in ((IMAGE_ID, 1), (LARGE_IMAGE_ID, 9 * GIB)):
                tx.put(tables.IMAGES, _image(image_id, size))
        caller = Caller(user_id=self.member.user_id, project_id=self.p1.id, roles=("member", "reader"))
        networks = cloud.run(CreateNetworks(caller=caller, networks=(NewNetwork(name="blue"),))).networks
        self.network_id = networks[0].network.id
        subnet = NewSubnet(network_id=self.network_id, ip_version=4, cidr="10.0.0.0/24")
        cloud.run(CreateSubnets(caller=caller, subnets=(subnet,)))

    def body(self, **fields: Any) -> dict[str, Any]:
        """A request for one server; a field that is ``...`` is left out."""
        server = {
            "name": "vm", "imageRef": IMAGE_ID, "flavorRef": "1", "networks": [{"uuid": self.network_id}], **fields,
        }  # fmt: skip
        return {"server": {key: value for key, value in server.items() if value is not ...}}

    def post(self, client: Client | None = None, version: str = "2.96", **fields: Any) -> Reply:
        return (client or self.member).post("compute", "/v2.1/servers", json=self.body(**fields), microversion=version)

    def create(self, client: Client | None = None, version: str = "2.96", **fields: Any) -> str:
        """A server that has been accepted; its id."""
        reply = self.post(client, version, **fields)
        assert reply.status == 202, reply.body
        return str(reply.json["server"]["id"])

    def active(self, **fields: Any) -> str:
        """A server that runs; its id."""
        server_id = self.create(**fields)
        self.settle()
        return server_id

    def act(self, server_id: str, action: str, value: Any = None, client: Client | None = None) -> Reply:
        path = f"/v2.1/servers/{server_id}/action"
        return (client or self.member).post("compute", path, json={action: value}, microversion="2.96")

    def get(self, path: str, client: Client | None = None, version: str = "2.96") -> Reply:
        return (client or self.member).get("compute", f"/v2.1{path}", microversion=version)

    def settle(self, host: str = HOST) -> None:
        """Every daemon does what it is asked; without a host the scheduler finds none."""
        for _ in range(1000):
            with self.cloud.store.transaction(time.time_ns() // 1000) as tx:
                self._engine.advance_ready(tx)
                tasks = list(tx.scan(tables.TASKS))
                for task in tasks:
                    self._engine.take_answer(tx, task.id, self._answer(tx, task, host))
            if not tasks:
                return
        raise AssertionError("it does not end")

    def _answer(self, tx: Any, task: Task, host: str) -> Any:
        if task.peer == "scheduler":
            return Placement(server_id=task.server_id, host=host)
        message = message_of(tx, task)
        if isinstance(message, SpawnGuest):
            return GuestState(server_id=task.server_id, power_state=PowerState.RUNNING)
        if isinstance(message, DestroyGuest):
            return GuestState(server_id=task.server_id, power_state=PowerState.NOSTATE)
        if isinstance(message, PowerGuest):
            state = _POWER.get(message.action, PowerState.RUNNING)
            return GuestState(server_id=task.server_id, power_state=state)
        return Done()

    def count(self) -> int:
        with self.cloud.store.snapshot() as snapshot:
            return snapshot.size(tables.SERVERS)


def message(reply: Any) -> str:
    """The sentence of an error body of the compute API, which has one key and says its code again."""
    (problem,) = reply.json.values()
    assert problem["code"] == reply.status
    return str(problem["message"])


def _image(image_id: str, virtual_size: int) -> Image:
    return Image(
        id=image_id, name="tiny", project_id="", status=ImageStatus.ACTIVE, visibility=Visibility.PUBLIC, size=1,
        created_at_us=1, updated_at_us=1, virtual_size=virtual_size, disk_format="qcow2", container_format="bare",
    )  # fmt: skip
