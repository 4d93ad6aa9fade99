"""A store as a large cloud has it, written through the real tables in large transactions: for what depends on size.

Every count, claim, address and index is right: ``nova-fast check`` finds nothing. Each server has a port, an action and
an event; hosts are up, as they were when the last conductor ended.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from nova_fast.commands.hosts import record_host_report
from nova_fast.conductor.trim import trim
from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import HostResources, HostUsage, claim_of
from nova_fast.model.networks import AddressPool, FixedIp, Network, Port, Subnet
from nova_fast.model.quotas import Usage
from nova_fast.model.servers import ActionEvent, Server, ServerAction
from nova_fast.model.states import PowerState, VmState
from nova_fast.model.tasks import HostReport
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from nova_fast.state.transaction import Transaction

HOSTS_IN_ONE, SERVERS_IN_ONE = 2_000, 5_000  # transaction
SERVERS_OF_NETWORK = 1_000
EVENTS_KEPT = 5_000
FLAVOR = Flavor(id="bench", name="bench", vcpus=2, ram_mib=4096, disk_gib=20)
IMAGE_ID = "00000000-0000-4000-8000-00000000feed"
RESOURCES = HostResources(  # room for a hundred servers, and one more
    vcpus=128, ram_mib=1_048_576, disk_gib=4_000, architecture="x86_64", hypervisor_type="fake", hypervisor_version=1,
    virt_type="fake",
)  # fmt: skip


def fill(path: Path, hosts: int, servers: int, project_id: str, user_id: str) -> None:
    """Add hosts and servers to the store of a stopped cloud; the servers belong to one project for each thousand."""
    store = Store.open(path)
    try:
        _in_parts(store, hosts, HOSTS_IN_ONE, lambda tx, n: _add_host(tx, n, servers // hosts + (n < servers % hosts)))
        for first in range(0, servers, SERVERS_OF_NETWORK):
            owner = project_id if first == 0 else f"{first:032x}"
            count = min(SERVERS_OF_NETWORK, servers - first)
            network = _Network(first // SERVERS_OF_NETWORK, owner, user_id, hosts)
            _in_parts(store, 1, 1, lambda tx, _n, n=network, c=count: n.make(tx, c))  # type: ignore[misc]
            _in_parts(store, count, SERVERS_IN_ONE, lambda tx, n, f=first, net=network: net.add_server(tx, f + n))  # type: ignore[misc]
    finally:
        store.close()


def _in_parts(store: Store, count: int, size: int, add: Callable[[Transaction, int], None]) -> None:
    for first in range(0, count, size):
        with store.transaction(time.time_ns() // 1000) as tx:
            for number in range(first, min(first + size, count)):
                add(tx, number)
            while trim(tx, events_max=EVENTS_KEPT):  # as the conductor does
                pass


def host_name(number: int) -> str:
    return f"full{number:05d}"


def _add_host(tx: Transaction, number: int, servers: int) -> None:
    """A host with what its servers will take of it: counted once, and not by each of them."""
    name, claim = host_name(number), claim_of(FLAVOR)
    record_host_report(tx, HostReport(host=name, zone=f"zone{number % 3}", resources=RESOURCES))
    tx.put(
        tables.HOST_USAGE,
        HostUsage(
            host=name, vcpus=servers * claim.vcpus, ram_mib=servers * claim.ram_mib, disk_gib=servers * claim.disk_gib,
            servers=servers,
        ),
    )  # fmt: skip


class _Network:
    """A network with a subnet, and the servers on it."""

    def __init__(self, number: int, project_id: str, user_id: str, hosts: int) -> None:
        self._number = number
        self._project_id = project_id
        self._user_id = user_id
        self._hosts = hosts
        self._id = f"{number:08x}-0000-4000-8000-0000000000aa"
        self._subnet_id = f"{number:08x}-0000-4000-8000-0000000000bb"
        self._cidr = ipaddress.IPv4Network((int(ipaddress.IPv4Address("10.0.0.0")) + (number << 12), 20))

    def make(self, tx: Transaction, servers: int) -> None:
        """The network, and what its project has in all."""
        owner, now_us = self._project_id, tx.now_us
        tx.put(
            tables.NETWORKS,
            Network(
                id=self._id, number=tx.next_number("networks"), project_id=owner, name="full", created_at_us=now_us,
                updated_at_us=now_us,
            ),
        )  # fmt: skip
        pool = AddressPool(start=str(self._cidr[2]), end=str(self._cidr[-2]))
        tx.put(
            tables.SUBNETS,
            Subnet(
                id=self._subnet_id, network_id=self._id, project_id=owner, name="", ip_version=4, cidr=str(self._cidr),
                gateway_ip=str(self._cidr[1]), pools=(pool,), created_at_us=now_us, updated_at_us=now_us,
            ),
        )  # fmt: skip
        used = tx.get(tables.USAGES, owner) or Usage(project_id=owner)
        more = {
            "instances": servers,
            "cores": servers * FLAVOR.vcpus,
            "ram": servers * FLAVOR.ram_mib,
            "networks": 1,
            "subnets": 1,
            "ports": servers,
        }
        tx.put(tables.USAGES, msgspec.structs.replace(used, **{n: getattr(used, n) + m for n, m in more.items()}))

    def add_server(self, tx: Transaction, number: int) -> None:
        """A server that runs on a host, with its port and action."""
        server = self._server(tx, number)
        tx.put(tables.SERVERS, server)
        address = str(self._cidr[2 + number % SERVERS_OF_NETWORK])
        tx.put(
            tables.PORTS,
            Port(
                id=f"{number:08x}-0000-4000-8000-0000000000cc", network_id=self._id, project_id=server.project_id,
                name="", mac_address=f"fa:16:3e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
                created_at_us=tx.now_us, updated_at_us=tx.now_us, status="ACTIVE", created_by_server=True,
                fixed_ips=(FixedIp(subnet_id=self._subnet_id, ip_address=address),), device_id=server.id,
                device_owner="compute:nova", host=server.host,
            ),
        )  # fmt: skip
        event = ActionEvent(event="compute__do_build_and_run_instance", start_at_us=1, finish_at_us=2, result="Success")
        tx.put(
            tables.SERVER_ACTIONS,
            ServerAction(
                server_id=server.id, request_id=f"req-{number:032x}", action="create", user_id=server.user_id,
                project_id=server.project_id, start_at_us=1, updated_at_us=2, events=(event,),
            ),
        )  # fmt: skip

    def _server(self, tx: Transaction, number: int) -> Server:
        return Server(
            id=f"{number:08x}-0000-4000-8000-0000000000dd", number=tx.next_number("servers"),
            project_id=self._project_id, user_id=self._user_id, name=f"full{number}", hostname=f"full{number}",
            created_at_us=tx.now_us + number, updated_at_us=tx.now_us, vm_state=VmState.ACTIVE, task_state=None,
            power_state=PowerState.RUNNING, flavor=FLAVOR, image_id=IMAGE_ID, image_properties={},
            reservation_id="r-full", host=host_name(number % self._hosts), launched_at_us=tx.now_us,
            metadata={"role": "full"},
        )  # fmt: skip
