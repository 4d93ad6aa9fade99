"""The ports of servers: made, bound, activated, given back; addresses; and which hosts are told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands import ports
from nova_fast.commands.host_networks import record_applied
from nova_fast.commands.security_groups import ensure_default_group
from nova_fast.model.commands.networks import SetNetworkQuota
from nova_fast.model.commands.ports import AddressRequest, DeletePort
from nova_fast.model.commands.security_groups import (
    CreateSecurityGroupRules,
    CreateSecurityGroups,
    NewSecurityGroup,
    NewSecurityGroupRule,
)
from nova_fast.model.commands.servers import RequestedNic
from nova_fast.model.errors import BadRequest, Conflict, NotFound, OverQuota
from nova_fast.model.networks import AddressPool, Port
from nova_fast.model.servers import Server
from nova_fast.queries import host_networks, quotas
from nova_fast.queries.ports import server_addresses, server_ports
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.commands.network_world import ALICE, BOB, World


@pytest.fixture
def world() -> Iterator[World]:
    with memory_store() as store:
        yield World(store)


def give_port(world: World, server: Server, network_id: str, fixed_ip: str | None = None, index: int = 0) -> Port:
    return world.tx(
        lambda tx: ports.create_server_ports(
            tx, [server], RequestedNic(network_id=network_id, fixed_ip=fixed_ip or ""), (), index
        )[0]
    )


def wanted(world: World, host: str) -> int:
    row = world.read(lambda r: r.get(tables.HOST_NETWORKS, host))
    return row.wanted_generation if row else 0


def test_a_server_port_gets_mac_address_and_default_group(world: World) -> None:
    network = world.network(name="blue")
    world.subnet(network)
    server = world.server()
    port = give_port(world, server, network.id)
    assert port.mac_address.startswith("fa:16:3e:")
    assert [ip.ip_address for ip in port.fixed_ips] == ["10.0.0.2"]
    assert (port.device_id, port.device_owner, port.status, port.host) == (server.id, "compute:nova", "DOWN", "")
    group = world.tx(lambda tx: ensure_default_group(tx, ALICE.project_id))
    assert port.security_groups == (group.id,)
    assert world.read(lambda r: server_addresses(r, server.id)) == {"blue": [("10.0.0.2", 4, port.mac_address)]}
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).ports == 1


def test_addresses_go_on_and_round_and_a_full_subnet_is_a_conflict(world: World) -> None:
    network = world.network()
    world.subnet(network, "10.0.0.0/29")
    server = world.server()
    given = [give_port(world, server, network.id, index=i) for i in range(5)]
    assert [p.fixed_ips[0].ip_address for p in given] == [f"10.0.0.{n}" for n in range(2, 7)]
    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            give_port(world, server, network.id, index=9)
        assert caught.value.code == "IpAddressGenerationFailure"
    world.tx(lambda tx: ports.remove_port(tx, given[2]))
    assert give_port(world, server, network.id, index=2).fixed_ips[0].ip_address == "10.0.0.4"


def test_a_freed_address_rests_before_it_is_used_again(world: World) -> None:
    network = world.network()
    world.subnet(network)
    server = world.server()
    first = give_port(world, server, network.id)
    world.tx(lambda tx: ports.remove_port(tx, first))
    assert give_port(world, server, network.id).fixed_ips[0].ip_address == "10.0.0.3"


def test_pools_in_pieces_are_used_one_after_the_other(world: World) -> None:
    network = world.network()
    pools = (AddressPool(start="10.0.0.10", end="10.0.0.11"), AddressPool(start="10.0.0.20", end="10.0.0.20"))
    world.subnet(network, pools=pools)
    server = world.server()
    given = [give_port(world, server, network.id, index=i).fixed_ips[0].ip_address for i in range(3)]
    assert given == ["10.0.0.10", "10.0.0.11", "10.0.0.20"]


def test_an_automatic_ipv6_subnet_gives_the_address_of_the_mac(world: World) -> None:
    network = world.network()
    world.subnet(network)
    world.subnet(network, "fd00::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac")
    port = give_port(world, world.server(), network.id)
    four, six = (ip.ip_address for ip in port.fixed_ips)
    tail = port.mac_address.replace(":", "")[6:]
    assert four == "10.0.0.2"
    assert six == f"fd00::f816:3eff:fe{tail[:2]}:{int(tail[2:], 16):x}"


def test_a_stateful_ipv6_subnet_gives_from_its_pool(world: World) -> None:
    network = world.network()
    world.subnet(network, "fd00::/64")
    port = give_port(world, world.server(), network.id)
    assert [ip.ip_address for ip in port.fixed_ips] == ["fd00::2"]


def test_a_wished_address_is_given_once(world: World) -> None:
    network = world.network()
    world.subnet(network)
    server = world.server()
    assert give_port(world, server, network.id, "10.0.0.77").fixed_ips[0].ip_address == "10.0.0.77"
    for address, error, code in (
        ("10.0.0.77", Conflict, "IpAddressInUse"),
        ("10.0.0.1", Conflict, "IpAddressInUse"),
        ("10.0.0.255", BadRequest, "InvalidIpForSubnet"),
        ("10.1.0.4", BadRequest, "InvalidIpForNetwork"),
        ("nonsense", BadRequest, "InvalidInput"),
    ):
        with pytest.raises(error) as caught:
            give_port(world, server, network.id, address)
        assert caught.value.code == code


def test_a_network_without_subnet_or_none_at_all_is_refused(world: World) -> None:
    server = world.server()
    with pytest.raises(BadRequest) as caught:
        give_port(world, server, world.network().id)
    assert caught.value.code == "NetworkRequiresSubnet"
    with pytest.raises(NotFound):
        give_port(world, server, "nowhere")


def test_the_port_quota_holds_and_a_refused_port_takes_no_address(world: World) -> None:
    network = world.network()
    world.subnet(network)
    admin = ALICE.__class__(user_id="x", project_id="", roles=("admin",))
    world.do(SetNetworkQuota(caller=admin, project_id=ALICE.project_id, limits={"port": 1}))
    server = world.server()
    give_port(world, server, network.id)
    with pytest.raises(OverQuota) as caught:
        give_port(world, server, network.id)
    assert caught.value.code == "OverQuota"
    assert world.read(lambda r: r.size(tables.PORTS)) == 1


def test_an_own_free_port_can_be_attached_once_and_stays(world: World) -> None:
    network = world.network()
    world.subnet(network)
    port, server = world.port(network), world.server()
    world.tx(lambda tx: ports.attach_existing_port(tx, server, port.id, 0))
    with pytest.raises(Conflict) as caught:
        world.tx(lambda tx: ports.attach_existing_port(tx, server, port.id, 1))
    assert caught.value.code == "PortInUse"
    with pytest.raises(Conflict):
        world.do(DeletePort(caller=ALICE, port_id=port.id))
    world.tx(lambda tx: ports.release_ports(tx, server.id))
    free = world.read(lambda r: r.get(tables.PORTS, port.id))
    assert (free.device_id, free.device_owner, free.host, free.status) == ("", "", "", "DOWN")


def test_another_projects_port_is_not_found(world: World) -> None:
    network = world.network()
    world.subnet(network)
    port = world.port(network)
    server = world.server(BOB)
    with pytest.raises(NotFound):
        world.tx(lambda tx: ports.attach_existing_port(tx, server, port.id, 0))


def test_a_port_without_address_cannot_be_attached(world: World) -> None:
    network = world.network()
    world.subnet(network)
    port = world.port(network, fixed_ips=())
    server = world.server()
    with pytest.raises(BadRequest) as caught:
        world.tx(lambda tx: ports.attach_existing_port(tx, server, port.id, 0))
    assert caught.value.code == "PortRequiresFixedIP"


def test_bind_activate_unbind_release(world: World) -> None:
    network = world.network()
    world.subnet(network)
    server = world.server()
    give_port(world, server, network.id)
    world.tx(lambda tx: ports.bind_ports(tx, server.id, "h1"))
    bound = world.read(lambda r: server_ports(r, server.id))[0]
    assert (bound.host, bound.status) == ("h1", "DOWN")
    before = wanted(world, "h1")
    assert before > 0
    world.tx(lambda tx: ports.activate_ports(tx, server.id))
    assert world.read(lambda r: server_ports(r, server.id))[0].status == "ACTIVE"
    assert wanted(world, "h1") == before
    world.tx(lambda tx: ports.unbind_ports(tx, server.id))
    assert wanted(world, "h1") > before
    assert world.read(lambda r: host_networks.wanted_networks(r, "h1")).networks == ()
    world.tx(lambda tx: ports.release_ports(tx, server.id))
    assert world.read(lambda r: r.size(tables.PORTS)) == 0
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).ports == 0


def test_a_new_member_of_a_group_concerns_every_host_that_admits_the_group(world: World) -> None:
    network = world.network()
    world.subnet(network)
    first, second = world.server(name="one"), world.server(name="two")
    give_port(world, first, network.id)
    world.tx(lambda tx: ports.bind_ports(tx, first.id, "h1"))
    before = wanted(world, "h1")
    give_port(world, second, network.id)
    assert wanted(world, "h1") > before  # the default group admits its own members
    before = wanted(world, "h1")
    world.tx(lambda tx: ports.bind_ports(tx, second.id, "h2"))
    assert wanted(world, "h1") == before  # who is a member has not changed
    spec = world.read(lambda r: host_networks.wanted_networks(r, "h1"))
    assert spec.groups[0].members == ("10.0.0.2", "10.0.0.3")
    assert [port.hostname for port in spec.networks[0].ports] == ["one"]
    assert spec.generation == before


def test_a_rule_concerns_the_hosts_with_ports_in_its_group_only(world: World) -> None:
    network = world.network()
    world.subnet(network)
    group = world.do(CreateSecurityGroups(caller=ALICE, groups=(NewSecurityGroup(name="web"),))).groups[0].group
    default, web = world.server(name="d"), world.server(name="w")
    give_port(world, default, network.id)
    world.tx(lambda tx: ports.create_server_ports(tx, [web], RequestedNic(network_id=network.id), ("web",), 0)[0])
    world.tx(lambda tx: ports.bind_ports(tx, default.id, "h1"))
    world.tx(lambda tx: ports.bind_ports(tx, web.id, "h2"))
    before = wanted(world, "h1"), wanted(world, "h2")
    rule = NewSecurityGroupRule(security_group_id=group.id, direction="ingress", protocol="tcp",
                                port_range_min=80, port_range_max=80)  # fmt: skip
    world.do(CreateSecurityGroupRules(caller=ALICE, rules=(rule,)))
    assert wanted(world, "h1") == before[0]
    assert wanted(world, "h2") > before[1]


def test_a_host_is_dirty_until_it_has_applied_the_last_change(world: World) -> None:
    network = world.network()
    world.subnet(network)
    server = world.server()
    give_port(world, server, network.id)
    world.tx(lambda tx: ports.bind_ports(tx, server.id, "h1"))
    last = wanted(world, "h1")
    world.tx(lambda tx: record_applied(tx, "h1", last - 1))
    assert [row.host for row in world.read(host_networks.dirty_hosts)] == ["h1"]
    world.tx(lambda tx: record_applied(tx, "h1", last))
    assert world.read(host_networks.dirty_hosts) == []


def test_a_port_that_is_down_stays_on_the_host_but_may_nothing(world: World) -> None:
    network = world.network(admin_state_up=False)
    world.subnet(network)
    server = world.server()
    give_port(world, server, network.id)
    world.tx(lambda tx: ports.bind_ports(tx, server.id, "h1"))
    port = world.read(lambda r: host_networks.wanted_networks(r, "h1")).networks[0].ports[0]
    assert (port.addresses, port.security_groups, port.port_security_enabled) == ((), (), True)


def test_several_addresses_of_one_subnet_for_one_port(world: World) -> None:
    network = world.network()
    subnet = world.subnet(network)
    wishes = (AddressRequest(subnet_id=subnet.id), AddressRequest(subnet_id=subnet.id))
    port = world.port(network, fixed_ips=wishes)
    assert [ip.ip_address for ip in port.fixed_ips] == ["10.0.0.2", "10.0.0.3"]
