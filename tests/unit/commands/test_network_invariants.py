"""Whatever is done, in whatever order: counts are right, and a host whose wanted state changed has been told."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nova_fast.commands import ports as server_ports
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
from nova_fast.model.errors import NovaFastError
from nova_fast.model.tasks import ApplyNetworks
from nova_fast.queries import host_networks, quotas
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.testing import memory_store
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


@pytest.mark.parametrize("seed", range(4))
def test_a_host_is_told_of_every_change_and_counts_stay_right(seed: int) -> None:
    with memory_store() as store:
        chaos = Chaos(World(store), seed)
        before = chaos.world.read(wanted)
        told = 0
        for _ in range(STEPS):
            chaos.step()
            after = chaos.world.read(wanted)
            for host in HOSTS:
                same = msgspec.structs.replace(after[host], generation=before[host].generation) == before[host]
                if not same:
                    told += 1
                    assert after[host].generation > before[host].generation, host
            chaos.world.read(check_counts)
            before = after
        assert told > STEPS // 20
