"""Networks and subnets: what may be made, seen, changed and removed, and by whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nova_fast.commands import ports
from nova_fast.model.commands.networks import (
    CreateNetworks,
    CreateSubnets,
    DeleteNetwork,
    DeleteSubnet,
    NetworkChanges,
    NewNetwork,
    NewSubnet,
    SetNetworkQuota,
    SetNetworkTags,
    SubnetChanges,
    UpdateNetwork,
    UpdateSubnet,
)
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NotFound, NovaFastError, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.networks import AddressPool, HostRoute
from nova_fast.queries import networks as queries
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.commands.network_world import ADMIN, ALICE, BOB, World


@pytest.fixture
def world() -> Iterator[World]:
    with memory_store() as store:
        yield World(store)


def code_of(world: World, request: Any) -> tuple[type[NovaFastError], str]:
    with pytest.raises(NovaFastError) as caught:
        world.do(request)
    return type(caught.value), caught.value.code


def test_a_network_has_the_usual_values_and_is_counted(world: World) -> None:
    network = world.network(name="blue")
    assert (network.number, network.mtu, network.project_id, network.revision) == (1, 1450, ALICE.project_id, 1)
    assert world.network().number == 2
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).networks == 2


def test_networks_are_made_all_or_none(world: World) -> None:
    request = CreateNetworks(caller=ALICE, networks=(NewNetwork(name="one"), NewNetwork(name="two", mtu=1)))
    assert code_of(world, request) == (BadRequest, "InvalidInput")
    assert world.read(lambda r: r.size(tables.NETWORKS)) == 0
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).networks == 0


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"shared": True}, Forbidden),
        ({"external": True}, Forbidden),
        ({"is_default": True}, Forbidden),
        ({"provider_network_type": "vxlan"}, Forbidden),
        ({"provider_segmentation_id": 7}, Forbidden),
        ({"project_id": BOB.project_id}, BadRequest),
        ({"mtu": 67}, BadRequest),
        ({"mtu": 1451}, BadRequest),
    ],
)
def test_what_a_member_may_not_ask_of_a_new_network(
    world: World, fields: dict[str, Any], error: type[NovaFastError]
) -> None:
    assert code_of(world, CreateNetworks(caller=ALICE, networks=(NewNetwork(**fields),)))[0] is error


@pytest.mark.parametrize(
    "fields",
    [
        {"provider_network_type": "vlan"},
        {"provider_network_type": "flat"},
        {"provider_network_type": "flat", "provider_physical_network": "public"},
        {"provider_physical_network": "public"},
        {"provider_network_type": "vxlan", "provider_segmentation_id": 5},
    ],
)
def test_provider_attributes_that_cannot_be_are_refused(world: World, fields: dict[str, Any]) -> None:
    request = CreateNetworks(caller=ADMIN, networks=(NewNetwork(**fields),))
    assert code_of(world, request) == (BadRequest, "InvalidInput")


def test_a_token_without_project_must_name_one(world: World) -> None:
    nobody = Caller(user_id="root", project_id="", roles=("admin",), system=True)
    assert code_of(world, CreateNetworks(caller=nobody, networks=(NewNetwork(),)))[0] is BadRequest
    made = world.do(CreateNetworks(caller=nobody, networks=(NewNetwork(project_id=BOB.project_id),)))
    assert made.networks[0].network.project_id == BOB.project_id


def test_the_network_quota_is_a_409_of_type_over_quota(world: World) -> None:
    world.do(SetNetworkQuota(caller=ADMIN, project_id=ALICE.project_id, limits={"network": 1}))
    world.network()
    assert code_of(world, CreateNetworks(caller=ALICE, networks=(NewNetwork(),))) == (OverQuota, "OverQuota")


def test_another_projects_network_does_not_exist_unless_shared_or_external(world: World) -> None:
    private = world.network()
    for request in (
        UpdateNetwork(caller=BOB, network_id=private.id, changes=NetworkChanges(name="x")),
        DeleteNetwork(caller=BOB, network_id=private.id),
        CreateSubnets(caller=BOB, subnets=(NewSubnet(network_id=private.id, ip_version=4, cidr="10.0.0.0/24"),)),
    ):
        assert code_of(world, request) == (NotFound, "NetworkNotFound")
    shared = world.network(ADMIN, shared=True)
    external = world.network(ADMIN, external=True)
    seen = {row.network.id for row in world.read(lambda r: list(queries.visible_networks(r, BOB)))}
    assert seen == {shared.id, external.id}
    assert [n.id for n in world.read(lambda r: queries.usable_networks(r, BOB))] == [shared.id]
    assert code_of(world, DeleteNetwork(caller=BOB, network_id=shared.id))[0] is Forbidden
    assert code_of(world, UpdateNetwork(caller=BOB, network_id=shared.id, changes=NetworkChanges(name="x")))[0] is (
        Forbidden
    )
    subnet = NewSubnet(network_id=shared.id, ip_version=4, cidr="10.0.0.0/24")
    assert code_of(world, CreateSubnets(caller=BOB, subnets=(subnet,)))[0] is Forbidden


def test_a_network_with_ports_stays_and_one_without_goes_with_its_subnets(world: World) -> None:
    network = world.network()
    world.subnet(network)
    port = world.port(network)
    assert code_of(world, DeleteNetwork(caller=ALICE, network_id=network.id)) == (Conflict, "NetworkInUse")
    world.tx(lambda tx: ports.remove_port(tx, port))
    world.do(DeleteNetwork(caller=ALICE, network_id=network.id))
    assert world.read(lambda r: (r.size(tables.NETWORKS), r.size(tables.SUBNETS))) == (0, 0)
    used = world.read(lambda r: quotas.usage(r, ALICE.project_id))
    assert (used.networks, used.subnets, used.ports) == (0, 0, 0)


def test_a_shared_network_that_others_use_stays_shared(world: World) -> None:
    network = world.network(ADMIN, shared=True)
    world.subnet(network, caller=ADMIN)
    world.port(network, BOB)
    request = UpdateNetwork(caller=ADMIN, network_id=network.id, changes=NetworkChanges(shared=False))
    assert code_of(world, request) == (Conflict, "InvalidSharedSetting")


def test_the_mtu_of_a_network_with_ipv6_is_1280_at_least(world: World) -> None:
    network = world.network()
    world.subnet(network, "fd00::/64")
    request = UpdateNetwork(caller=ALICE, network_id=network.id, changes=NetworkChanges(mtu=1000))
    assert code_of(world, request) == (BadRequest, "InvalidInput")
    narrow = world.network(mtu=1000)
    subnet = NewSubnet(network_id=narrow.id, ip_version=6, cidr="fd00::/64")
    assert code_of(world, CreateSubnets(caller=ALICE, subnets=(subnet,)))[0] is BadRequest


def test_a_subnet_has_a_gateway_and_a_pool_around_it(world: World) -> None:
    subnet = world.subnet(world.network())
    assert subnet.gateway_ip == "10.0.0.1"
    assert subnet.pools == (AddressPool(start="10.0.0.2", end="10.0.0.254"),)
    middle = world.subnet(world.network(), gateway_ip="10.0.0.100")
    assert middle.pools == (
        AddressPool(start="10.0.0.1", end="10.0.0.99"),
        AddressPool(start="10.0.0.101", end="10.0.0.254"),
    )
    none = world.subnet(world.network(), gateway_ip=None)
    assert none.pools == (AddressPool(start="10.0.0.1", end="10.0.0.254"),)


BAD = BadRequest, "InvalidInput"
WRONG_SUBNETS: list[tuple[dict[str, Any], tuple[type[NovaFastError], str]]] = [
    ({"cidr": "10.0.0.0"}, BAD),
    ({"cidr": "10.0.0.7/24"}, BAD),
    ({"cidr": "rubbish/24"}, BAD),
    ({"cidr": "10.0.0.0/33"}, BAD),
    ({"cidr": "0.0.0.0/0"}, BAD),
    ({"cidr": "224.0.0.0/24"}, BAD),
    ({"cidr": "127.0.0.0/24"}, BAD),
    ({"cidr": "169.254.0.0/16"}, BAD),
    ({"cidr": "168.0.0.0/7"}, BAD),
    ({"cidr": "fd00::/64"}, BAD),
    ({"cidr": "fe80::%eth0/64", "ip_version": 6}, BAD),
    ({"ip_version": 5}, BAD),
    ({"cidr": "10.0.0.0/31"}, BAD),
    ({"gateway_ip": "10.0.1.1"}, BAD),
    ({"gateway_ip": "10.0.0.0"}, BAD),
    ({"gateway_ip": "10.0.0.255"}, BAD),
    ({"gateway_ip": "fd00::1"}, BAD),
    ({"gateway_ip": "x"}, BAD),
    ({"pools": (AddressPool(start="10.0.0.9", end="10.0.0.5"),)}, (BadRequest, "InvalidAllocationPool")),
    ({"pools": (AddressPool(start="fd00::2", end="fd00::3"),)}, (BadRequest, "InvalidAllocationPool")),
    ({"pools": (AddressPool(start="x", end="10.0.0.5"),)}, BAD),
    ({"pools": (AddressPool(start="10.0.0.5", end="10.0.1.5"),)}, (BadRequest, "OutOfBoundsAllocationPool")),
    (
        {"pools": (AddressPool(start="10.0.0.5", end="10.0.0.9"), AddressPool(start="10.0.0.9", end="10.0.0.12"))},
        (Conflict, "OverlappingAllocationPools"),
    ),
    ({"pools": (AddressPool(start="10.0.0.1", end="10.0.0.9"),)}, (Conflict, "GatewayConflictWithAllocationPools")),
    ({"dns_nameservers": ("8.8.8.8", "8.8.8.8")}, BAD),
    ({"dns_nameservers": ("dns.example",)}, BAD),
    ({"dns_nameservers": tuple(f"8.8.8.{n}" for n in range(6))}, (BadRequest, "DNSNameServersExhausted")),
    ({"host_routes": (HostRoute(destination="x", nexthop="10.0.0.9"),)}, BAD),
    ({"host_routes": (HostRoute(destination="10.9.0.0/16", nexthop="x"),)}, BAD),
    ({"host_routes": (HostRoute(destination="fd01::/64", nexthop="10.0.0.9"),)}, BAD),
    ({"host_routes": (HostRoute(destination="10.9.0.0/16", nexthop="10.0.0.9"),) * 2}, BAD),
    (
        {"host_routes": tuple(HostRoute(destination=f"10.9.{n}.0/24", nexthop="10.0.0.9") for n in range(21))},
        (BadRequest, "HostRoutesExhausted"),
    ),
    ({"ipv6_ra_mode": "slaac"}, BAD),
    ({"ip_version": 6, "cidr": "fd00::/64", "ipv6_ra_mode": "magic"}, BAD),
    ({"ip_version": 6, "cidr": "fd00::/64", "ipv6_ra_mode": "slaac", "enable_dhcp": False}, BAD),
    (
        {"ip_version": 6, "cidr": "fd00::/64", "ipv6_ra_mode": "slaac", "ipv6_address_mode": "dhcpv6-stateful"},
        BAD,
    ),
    ({"ip_version": 6, "cidr": "fd00::/80", "ipv6_address_mode": "slaac"}, BAD),
    ({"network_id": "nowhere"}, (NotFound, "NetworkNotFound")),
]


@pytest.mark.parametrize(("fields", "error"), WRONG_SUBNETS)
def test_a_wrong_subnet_is_refused_by_name(
    world: World, fields: dict[str, Any], error: tuple[type[NovaFastError], str]
) -> None:
    usual = {"network_id": world.network().id, "ip_version": 4, "cidr": "10.0.0.0/24"}
    assert code_of(world, CreateSubnets(caller=ALICE, subnets=(NewSubnet(**{**usual, **fields}),))) == error
    assert world.read(lambda r: r.size(tables.SUBNETS)) == 0


@pytest.mark.parametrize("cidr", ["10.0.0.0/24", "10.0.0.0/16", "10.0.0.128/25"])
def test_subnets_of_a_network_may_not_overlap(world: World, cidr: str) -> None:
    network = world.network()
    world.subnet(network)
    subnet = NewSubnet(network_id=network.id, ip_version=4, cidr=cidr)
    assert code_of(world, CreateSubnets(caller=ALICE, subnets=(subnet,))) == BAD
    world.subnet(world.network(), cidr)


def test_a_subnet_in_use_stays(world: World) -> None:
    network = world.network()
    subnet = world.subnet(network)
    port = world.port(network)
    assert code_of(world, DeleteSubnet(caller=ALICE, subnet_id=subnet.id)) == (Conflict, "SubnetInUse")
    assert code_of(world, DeleteSubnet(caller=BOB, subnet_id=subnet.id)) == (NotFound, "SubnetNotFound")
    world.tx(lambda tx: ports.remove_port(tx, port))
    world.do(DeleteSubnet(caller=ALICE, subnet_id=subnet.id))
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).subnets == 0


def test_a_gateway_cannot_become_an_address_that_a_port_has(world: World) -> None:
    network = world.network()
    subnet = world.subnet(network, pools=(AddressPool(start="10.0.0.50", end="10.0.0.60"),))
    world.port(network)
    changes = SubnetChanges(gateway_ip="10.0.0.50", pools=(AddressPool(start="10.0.0.51", end="10.0.0.60"),))
    request = UpdateSubnet(caller=ALICE, subnet_id=subnet.id, changes=changes)
    assert code_of(world, request) == (Conflict, "GatewayIpInUse")
    request = UpdateSubnet(caller=ALICE, subnet_id=subnet.id, changes=SubnetChanges(gateway_ip="10.0.0.55"))
    assert code_of(world, request) == (Conflict, "GatewayConflictWithAllocationPools")


def test_a_larger_pool_gives_addresses_again(world: World) -> None:
    network = world.network()
    subnet = world.subnet(network, pools=(AddressPool(start="10.0.0.50", end="10.0.0.50"),))
    world.port(network)
    with pytest.raises(Conflict):
        world.port(network)
    changes = SubnetChanges(pools=(AddressPool(start="10.0.0.50", end="10.0.0.51"),), name="s")
    changed = world.do(UpdateSubnet(caller=ALICE, subnet_id=subnet.id, changes=changes)).subnets[0]
    assert (changed.name, changed.revision) == ("s", 2)
    assert world.port(network).fixed_ips[0].ip_address == "10.0.0.51"


def test_tags_are_replaced_and_limited(world: World) -> None:
    network = world.network()
    request = SetNetworkTags(caller=ALICE, collection="networks", id=network.id, tags=("b", "a", "b"))
    assert world.do(request).tags == ("b", "a")
    assert world.read(lambda r: r.get(tables.NETWORKS, network.id)).tags == ("b", "a")
    for tags in ((("",)), ("x" * 256,), tuple(map(str, range(51)))):
        request = SetNetworkTags(caller=ALICE, collection="networks", id=network.id, tags=tags)
        assert code_of(world, request)[0] is BadRequest
    request = SetNetworkTags(caller=BOB, collection="networks", id=network.id, tags=())
    assert code_of(world, request)[0] is NotFound


def test_network_limits_are_set_and_reset_beside_the_compute_limits(world: World) -> None:
    def limits() -> dict[str, int]:
        return world.read(lambda r: quotas.limits(r, ALICE.project_id))

    request = SetNetworkQuota(caller=ADMIN, project_id=ALICE.project_id, limits={"port": 7, "network": -1})
    assert world.do(request).limits["port"] == 7
    assert (limits()["port"], limits()["network"], limits()["cores"]) == (7, -1, 20)
    world.do(SetNetworkQuota(caller=ADMIN, project_id=ALICE.project_id, limits=None))
    assert limits()["port"] == 500
    for wrong in ({"cores": 1}, {"port": -2}, {"port": 2**31}):
        assert code_of(world, SetNetworkQuota(caller=ADMIN, project_id="x", limits=wrong))[0] is BadRequest
    assert code_of(world, SetNetworkQuota(caller=ALICE, project_id="x", limits={"port": 1}))[0] is Forbidden
