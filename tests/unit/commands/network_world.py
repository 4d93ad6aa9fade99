"""A small cloud for tests of network commands: two projects, an admin, a network with a subnet, and servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nova_fast.commands.registry import load_all, run
from nova_fast.model.base import Message
from nova_fast.model.commands.networks import CreateNetworks, CreateSubnets, NewNetwork, NewSubnet
from nova_fast.model.commands.ports import CreatePorts, NewPort
from nova_fast.model.flavors import Flavor
from nova_fast.model.identity import Caller
from nova_fast.model.networks import Network, Port, Subnet
from nova_fast.model.servers import Server
from nova_fast.model.states import PowerState, VmState
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore
from nova_fast.state.transaction import Transaction

ALICE = Caller(user_id="alice", project_id="a" * 32, roles=("member", "reader"))
BOB = Caller(user_id="bob", project_id="b" * 32, roles=("member", "reader"))
ADMIN = Caller(user_id="root", project_id="c" * 32, roles=("admin", "manager", "member", "reader"))
FLAVOR = Flavor(id="1", name="m1.tiny", vcpus=1, ram_mib=512, disk_gib=1)


class World:
    def __init__(self, store: MemoryStore) -> None:
        load_all()
        self.store = store

    def tx(self, work: Callable[[Transaction], Any]) -> Any:
        return self.store.run(work)

    def read(self, work: Callable[[Any], Any]) -> Any:
        return self.store.read(work)

    def do(self, request: Message) -> Any:
        return self.store.run(lambda tx: run(tx, request))

    def network(self, caller: Caller = ALICE, **fields: Any) -> Network:
        return self.do(CreateNetworks(caller=caller, networks=(NewNetwork(**fields),))).networks[0].network

    def subnet(self, network: Network, cidr: str = "10.0.0.0/24", caller: Caller = ALICE, **fields: Any) -> Subnet:
        version = 6 if ":" in cidr else 4
        new = NewSubnet(network_id=network.id, ip_version=version, cidr=cidr, **fields)
        return self.do(CreateSubnets(caller=caller, subnets=(new,))).subnets[0]

    def port(self, network: Network, caller: Caller = ALICE, **fields: Any) -> Port:
        return self.do(CreatePorts(caller=caller, ports=(NewPort(network_id=network.id, **fields),))).ports[0]

    def server(self, caller: Caller = ALICE, name: str = "vm", **fields: Any) -> Server:
        def work(tx: Transaction) -> Server:
            server = Server(
                id=tx.new_uuid(),
                number=tx.next_number("servers"),
                project_id=caller.project_id,
                user_id=caller.user_id,
                name=name,
                hostname=name,
                created_at_us=tx.now_us,
                updated_at_us=tx.now_us,
                vm_state=VmState.BUILDING,
                task_state=None,
                power_state=PowerState.NOSTATE,
                flavor=FLAVOR,
                image_id="12345678-0000-0000-0000-000000000000",
                image_properties={},
                reservation_id="r-1",
                **fields,
            )
            tx.put(tables.SERVERS, server)
            return server

        return self.tx(work)
