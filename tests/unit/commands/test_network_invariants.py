"""Whatever is done, in whatever order: counts are right, and a host whose wanted state changed has been told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nova_fast.commands import ports as server_ports
from nova_fast.commands.host_networks import mark_hosts_dirty
from nova_fast.model.commands.networks import (
    DeleteSubnet,
    NetworkChanges,
    SubnetChanges,
    UpdateNetwork,
    UpdateSubnet,
)
from nova_fast.model.commands.ports import AddressRequest, DeletePort, PortChanges, UpdatePort
from nova_fast.model.commands.security_groups import (
    CreateSecurityGroupRules,
    CreateSecurityGroups,
    DeleteSecurityGroup,
    DeleteSecurityGroupRule,
    NewSecurityGroup,
    NewSecurityGroupRule,
)
from nova_fast.model.commands.servers import RequestedNic
from nova_fast.model.errors import Conflict, NovaFastError
from nova_fast.model.tasks import ApplyNetworks
from nova_fast.queries import host_networks, ports, quotas
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction
from tests.unit.commands.network_world import ALICE, World

HOSTS = ("h1", "h2", "h3")
STEPS = 500


class Chaos:
    """Does random things to a small cloud."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.networks = [world.network(name=f"n{n}") for n in range(2)]
        for network in self.networks:
            world.subnet(network, "10.0.0.0/28")
            world.subnet(network, "fd00::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac")
        self.servers = [world.server(name=f"s{n}") for n in range(6)]

    def any_of(self, table: Any) -> Any:
        rows = self.world.read(lambda r: list(r.scan(table)))
        return self.random.choice(rows) if rows else None

    def step(self) -> None:
        actions: list[Callable[[], None]] = [
            self.create, self.attach, self.bind, self.bind, self.unbind, self.release, self.activate, self.free_port,
            self.change_port, self.delete_port, self.add_rule, self.add_rule, self.delete_rule, self.change_subnet,
            self.change_network, self.delete_subnet, self.add_subnet, self.add_group, self.delete_group,
            self.rename_server,
        ]  # fmt: skip
        try:
            self.random.choice(actions)()
        except NovaFastError:
            pass  # refused, so nothing may have changed

    def create(self) -> None:
        server, network = self.random.choice(self.servers), self.random.choice(self.networks)
        groups = tuple(g.id for g in [self.any_of(tables.SECURITY_GROUPS)] if g and self.random.random() < 0.7)
        self.world.tx(
            lambda tx: server_ports.create_server_ports(tx, [server], RequestedNic(network_id=network.id), groups, 0)[0]
        )

    def attach(self) -> None:
        port, server = self.any_of(tables.PORTS), self.random.choice(self.servers)
        if port:
            self.world.tx(lambda tx: server_ports.attach_existing_port(tx, server, port.id, 1))

    def bind(self) -> None:
        server, host = self.random.choice(self.servers), self.random.choice(HOSTS)
        self.world.tx(lambda tx: server_ports.bind_ports(tx, server.id, host))

    def unbind(self) -> None:
        server = self.random.choice(self.servers)
        self.world.tx(lambda tx: server_ports.unbind_ports(tx, server.id))

    def release(self) -> None:
        server = self.random.choice(self.servers)
        self.world.tx(lambda tx: server_ports.release_ports(tx, server.id))

    def activate(self) -> None:
        server = self.random.choice(self.servers)
        self.world.tx(lambda tx: server_ports.activate_ports(tx, server.id))

    def free_port(self) -> None:
        self.world.port(self.random.choice(self.networks))

    def change_port(self) -> None:
        port, group = self.any_of(tables.PORTS), self.any_of(tables.SECURITY_GROUPS)
        if port is None or group is None:
            return
        changes = self.random.choice(
            [
                PortChanges(admin_state_up=self.random.random() < 0.5),
                PortChanges(security_groups=(group.id,)),
                PortChanges(security_groups=(), port_security_enabled=False),
                PortChanges(port_security_enabled=True),
                PortChanges(fixed_ips=(AddressRequest(ip_address=f"10.0.0.{self.random.randrange(2, 15)}"),)),
                PortChanges(fixed_ips=()),
            ]
        )
        self.world.do(UpdatePort(caller=ALICE, port_id=port.id, changes=changes))

    def delete_port(self) -> None:
        port = self.any_of(tables.PORTS)
        if port:
            self.world.do(DeletePort(caller=ALICE, port_id=port.id))

    def add_rule(self) -> None:
        group, remote = self.any_of(tables.SECURITY_GROUPS), self.any_of(tables.SECURITY_GROUPS)
        if group:
            number = self.random.randrange(1, 20)
            rule = NewSecurityGroupRule(
                security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=number,
                port_range_max=number, remote_group_id=self.random.choice([None, remote.id]),
            )  # fmt: skip
            self.world.do(CreateSecurityGroupRules(caller=ALICE, rules=(rule,)))

    def delete_rule(self) -> None:
        rule = self.any_of(tables.SECURITY_GROUP_RULES)
        if rule:
            self.world.do(DeleteSecurityGroupRule(caller=ALICE, rule_id=rule.id))

    def add_group(self) -> None:
        name = f"g{self.random.randrange(100)}"
        self.world.do(CreateSecurityGroups(caller=ALICE, groups=(NewSecurityGroup(name=name),)))

    def delete_group(self) -> None:
        group = self.any_of(tables.SECURITY_GROUPS)
        if group:
            self.world.do(DeleteSecurityGroup(caller=ALICE, group_id=group.id))

    def change_subnet(self) -> None:
        subnet = self.any_of(tables.SUBNETS)
        if subnet is None:
            return
        changes = SubnetChanges(dns_nameservers=(f"9.9.9.{self.random.randrange(9)}",))
        self.world.do(UpdateSubnet(caller=ALICE, subnet_id=subnet.id, changes=changes))

    def delete_subnet(self) -> None:
        subnet = self.any_of(tables.SUBNETS)
        if subnet is None or self.random.random() < 0.8:
            return
        self.world.do(DeleteSubnet(caller=ALICE, subnet_id=subnet.id))

    def add_subnet(self) -> None:
        self.world.subnet(self.random.choice(self.networks), f"10.0.{self.random.randrange(4)}.0/28")

    def rename_server(self) -> None:
        chosen, name = self.random.choice(self.servers), f"name{self.random.randrange(9)}"

        def work(tx: Transaction) -> None:  # as UpdateServer does it; these servers have no host, only their ports
            server = tx.need(tables.SERVERS, chosen.id, "Instance")
            tx.put(tables.SERVERS, msgspec.structs.replace(server, hostname=name))
            if server.hostname != name:
                mark_hosts_dirty(tx, {port.host for port in ports.server_ports(tx, server.id)})

        self.world.tx(work)

    def change_network(self) -> None:
        network = self.random.choice(self.networks)
        mtu, up = self.random.choice([1300, 1400]), self.random.random() < 0.7
        changes = NetworkChanges(mtu=mtu, admin_state_up=up)
        self.world.do(UpdateNetwork(caller=ALICE, network_id=network.id, changes=changes))


def wanted(reader: Reader) -> dict[str, ApplyNetworks]:
    return {host: host_networks.wanted_networks(reader, host) for host in HOSTS}


def check_counts(reader: Reader) -> None:
    used = quotas.usage(reader, ALICE.project_id)
    assert used.ports == reader.size(tables.PORTS)
    assert used.subnets == reader.size(tables.SUBNETS)
    assert used.security_groups == reader.size(tables.SECURITY_GROUPS)
    assert used.security_group_rules == reader.size(tables.SECURITY_GROUP_RULES)


class Told:
    """Who has been told, and what is known from before."""

    def __init__(self, reader: Reader) -> None:
        self.times = 0
        self._before = wanted(reader)
        self._known = host_networks.Known()

    def check(self, reader: Reader) -> None:
        """Whose wanted state is another now has a new number, and what is known from before makes no difference."""
        after = wanted(reader)
        for host in HOSTS:
            before = self._before[host]
            if msgspec.structs.replace(after[host], generation=before.generation) != before:
                self.times += 1
                assert after[host].generation > before.generation, host
            assert host_networks.wanted_networks(reader, host, self._known) == after[host]
        check_counts(reader)
        self._before = after


@pytest.mark.parametrize("seed", range(4))
def test_a_host_is_told_of_every_change_and_counts_stay_right(seed: int) -> None:
    with memory_store() as store:
        chaos = Chaos(World(store), seed)
        told = chaos.world.read(Told)
        for _ in range(STEPS):
            chaos.step()
            chaos.world.read(told.check)
        assert told.times > STEPS // 20


class OneTransaction:
    """In place of a store: much in one transaction, and what fails is taken back alone, as the writer does it."""

    def __init__(self, tx: Transaction, chance: random.Random) -> None:
        self._tx = tx
        self._chance = chance

    def run(self, work: Callable[[Transaction], Any]) -> Any:
        mark = self._tx.savepoint()
        try:
            result = work(self._tx)
            if self._chance.random() < 0.2:
                raise Conflict("taken back")
        except NovaFastError:
            self._tx.rollback(mark)
            raise
        return result

    def read(self, work: Callable[[Any], Any]) -> Any:
        return work(self._tx)


@pytest.mark.parametrize("seed", range(4))
def test_a_host_is_told_of_changes_that_share_a_transaction(seed: int) -> None:
    with memory_store() as store:
        chaos = Chaos(World(store), seed)
        told = chaos.world.read(Told)

        def some(tx: Transaction) -> None:
            chaos.world.store = OneTransaction(tx, chaos.random)  # type: ignore[assignment]
            for _ in range(chaos.random.randrange(1, 8)):
                chaos.step()

        for _ in range(STEPS // 4):
            store.run(some)
            chaos.world.store = store
            chaos.world.read(told.check)
        assert told.times > STEPS // 20


def test_a_port_that_comes_and_goes_marks_who_admits_it_once_in_a_transaction() -> None:
    """PERF: of a hundred hosts each had been written twice for each port."""
    with memory_store() as store:
        world = World(store)
        network = world.network(name="n")
        world.subnet(network, "10.0.0.0/24")
        for number, host in enumerate(HOSTS):
            server = world.server(name=f"s{number}")
            nic = RequestedNic(network_id=network.id)
            world.tx(lambda tx, s=server, n=nic: server_ports.create_server_ports(tx, [s], n, (), 0))
            world.tx(lambda tx, s=server, h=host: server_ports.bind_ports(tx, s.id, h))
        gone = [world.server(name=f"gone{number}") for number in range(10)]

        def come_and_go(tx: Transaction) -> list[int]:
            numbers = []
            for server in gone:
                server_ports.create_server_ports(tx, [server], RequestedNic(network_id=network.id), (), 0)
                server_ports.release_ports(tx, server.id)
                numbers.append(host_networks.wanted_generation(tx, HOSTS[0]))
            return numbers

        before = world.read(wanted)
        numbers = world.tx(come_and_go)
        assert numbers == [numbers[0]] * len(gone)
        assert {host: state.generation for host, state in world.read(wanted).items()} == dict.fromkeys(
            HOSTS, before[HOSTS[-1]].generation + 1
        )
