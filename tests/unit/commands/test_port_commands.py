"""Ports as users make them: what may be asked, by whom, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from nova_fast.commands import ports as server_ports
from nova_fast.model.commands.ports import AddressRequest, CreatePorts, DeletePort, NewPort, PortChanges, UpdatePort
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NotFound, NovaFastError
from nova_fast.model.networks import AddressPair, Port
from nova_fast.queries import host_networks, networks, quotas
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


def change(world: World, port: Port, caller: Any = ALICE, **fields: Any) -> Port:
    return world.do(UpdatePort(caller=caller, port_id=port.id, changes=PortChanges(**fields))).ports[0]


def refused_change(world: World, port: Port, caller: Any = ALICE, **fields: Any) -> tuple[type[NovaFastError], str]:
    return code_of(world, UpdatePort(caller=caller, port_id=port.id, changes=PortChanges(**fields)))


def test_a_port_has_the_usual_values(world: World) -> None:
    network = world.network()
    world.subnet(network)
    port = world.port(network)
    assert (port.status, port.device_id, port.created_by_server, port.revision) == ("DOWN", "", False, 1)
    assert [ip.ip_address for ip in port.fixed_ips] == ["10.0.0.2"]
    assert len(port.security_groups) == 1


def test_a_port_on_a_network_without_subnet_has_no_address(world: World) -> None:
    assert world.port(world.network()).fixed_ips == ()


BAD_MAC = BadRequest, "HTTPBadRequest"
WRONG_PORTS: list[tuple[dict[str, Any], tuple[type[NovaFastError], str]]] = [
    ({"network_id": "nowhere"}, (NotFound, "NetworkNotFound")),
    ({"project_id": BOB.project_id}, (BadRequest, "HTTPBadRequest")),
    ({"mac_address": "rubbish"}, BAD_MAC),
    ({"mac_address": "01:00:5e:00:00:01"}, BAD_MAC),
    ({"mac_address": "00:00:00:00:00:00"}, BAD_MAC),
    ({"mac_address": "fa:16:3e-00-00-01"}, BAD_MAC),
    ({"host": "h1"}, (Forbidden, "PolicyNotAuthorized")),
    ({"profile": {"a": "b"}}, (Forbidden, "PolicyNotAuthorized")),
    ({"vnic_type": "direct"}, (BadRequest, "HTTPBadRequest")),
    ({"device_id": "x" * 256}, (BadRequest, "HTTPBadRequest")),
    ({"security_groups": ("nobody",)}, (NotFound, "SecurityGroupNotFound")),
    ({"security_groups": (), "port_security_enabled": False, "allowed_address_pairs": (
        AddressPair(ip_address="10.0.0.9", mac_address=""),)}, (Conflict, "AddressPairAndPortSecurityRequired")),
    ({"allowed_address_pairs": (AddressPair(ip_address="x", mac_address=""),)}, (BadRequest, "HTTPBadRequest")),
    ({"allowed_address_pairs": (AddressPair(ip_address="10.0.0.9", mac_address="x"),)}, BAD_MAC),
    ({"allowed_address_pairs": (AddressPair(ip_address="10.0.0.9", mac_address=""),) * 2},
     (BadRequest, "DuplicateAddressPairInRequest")),
    ({"allowed_address_pairs": tuple(AddressPair(ip_address=f"10.0.0.{n}", mac_address="") for n in range(10, 21))},
     (BadRequest, "AllowedAddressPairExhausted")),
    ({"fixed_ips": (AddressRequest(),)}, (BadRequest, "InvalidInput")),
    ({"fixed_ips": (AddressRequest(subnet_id="nowhere"),)}, (BadRequest, "InvalidInput")),
    ({"fixed_ips": (AddressRequest(ip_address="10.9.0.1"),)}, (BadRequest, "InvalidIpForNetwork")),
    ({"fixed_ips": (AddressRequest(ip_address="10.0.0.0"),)}, (BadRequest, "InvalidIpForSubnet")),
    ({"fixed_ips": (AddressRequest(ip_address="10.0.0.1"),)}, (Conflict, "IpAddressInUse")),
    ({"fixed_ips": (AddressRequest(ip_address="10.0.0.50"),) * 2}, (BadRequest, "InvalidInput")),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "error"), WRONG_PORTS)
def test_a_wrong_port_is_refused_by_name(
    world: World, fields: dict[str, Any], error: tuple[type[NovaFastError], str]
) -> None:
    network = world.network()
    world.subnet(network)
    new = NewPort(**{"network_id": network.id, **fields})
    assert code_of(world, CreatePorts(caller=ALICE, ports=(new,))) == error
    assert world.read(lambda r: r.size(tables.PORTS)) == 0
    assert world.read(lambda r: quotas.usage(r, ALICE.project_id)).ports == 0


def test_mac_addresses_and_addresses_are_unique_in_a_network_however_they_are_written(world: World) -> None:
    network = world.network()
    world.subnet(network, "fd00::/64")
    first = world.port(network, mac_address="FA-16-3E-00-00-01", fixed_ips=(AddressRequest(ip_address="fd00:0::A"),))
    assert (first.mac_address, first.fixed_ips[0].ip_address) == ("fa:16:3e:00:00:01", "fd00::a")
    new = NewPort(network_id=network.id, mac_address="fa:16:3e:00:00:01")
    assert code_of(world, CreatePorts(caller=ALICE, ports=(new,))) == (Conflict, "MacAddressInUse")
    new = NewPort(network_id=network.id, fixed_ips=(AddressRequest(ip_address="fd00::000a"),))
    assert code_of(world, CreatePorts(caller=ALICE, ports=(new,))) == (Conflict, "IpAddressInUse")
    other = world.network()
    assert world.port(other, mac_address="fa:16:3e:00:00:01").mac_address == first.mac_address


def test_on_a_shared_network_a_guest_may_not_choose_mac_address_or_protection(world: World) -> None:
    network = world.network(ADMIN, shared=True)
    world.subnet(network, caller=ADMIN)
    port = world.port(network, BOB)
    for fields in (
        {"mac_address": "fa:16:3e:00:00:01"},
        {"port_security_enabled": False},
        {"allowed_address_pairs": (AddressPair(ip_address="10.0.0.9", mac_address=""),)},
        {"device_owner": "network:router_interface"},
        {"fixed_ips": (AddressRequest(ip_address="10.0.0.9"),)},
    ):
        new = NewPort(network_id=network.id, **fields)  # type: ignore[arg-type]
        assert code_of(world, CreatePorts(caller=BOB, ports=(new,))) == (Forbidden, "PolicyNotAuthorized")
        assert refused_change(world, port, BOB, **fields) == (Forbidden, "PolicyNotAuthorized")


def test_nobody_makes_a_port_on_an_external_network_of_another(world: World) -> None:
    network = world.network(ADMIN, external=True)
    assert code_of(world, CreatePorts(caller=BOB, ports=(NewPort(network_id=network.id),)))[0] is Forbidden


def test_a_port_exists_for_its_project_the_networks_owner_and_admins(world: World) -> None:
    network = world.network(ADMIN, shared=True)
    port = world.port(network, BOB)
    assert code_of(world, DeletePort(caller=ALICE, port_id=port.id)) == (NotFound, "PortNotFound")
    for caller, count in ((ALICE, 0), (BOB, 1), (ADMIN, 1)):
        found = world.read(lambda r, caller=caller: list(networks.visible_ports(r, caller)))
        assert len(found) == count


def test_no_port_becomes_a_servers_through_the_network_api(world: World) -> None:
    network = world.network()
    world.subnet(network)
    server = world.server(BOB)
    new = NewPort(network_id=network.id, device_id=server.id, device_owner="compute:nova")
    assert code_of(world, CreatePorts(caller=ALICE, ports=(new,))) == (BadRequest, "HTTPBadRequest")
    port = world.port(network)
    assert refused_change(world, port, device_id=server.id) == (BadRequest, "HTTPBadRequest")


def test_a_servers_port_is_changed_with_care(world: World) -> None:
    network = world.network()
    subnet = world.subnet(network)
    port, server = world.port(network), world.server()
    world.tx(lambda tx: server_ports.attach_existing_port(tx, server, port.id, 0))
    world.tx(lambda tx: server_ports.bind_ports(tx, server.id, "h1"))
    for fields, error in (
        ({"device_id": ""}, (Conflict, "PortInUse")),
        ({"device_owner": "me"}, (Conflict, "PortInUse")),
        ({"mac_address": "fa:16:3e:00:00:01"}, (Conflict, "PortBound")),
    ):
        assert refused_change(world, port, **fields) == error
    assert code_of(world, DeletePort(caller=ALICE, port_id=port.id)) == (Conflict, "PortInUse")
    changed = change(world, port, name="web", fixed_ips=(AddressRequest(subnet_id=subnet.id, ip_address="10.0.0.99"),))
    assert (changed.name, changed.fixed_ips[0].ip_address, changed.device_id) == ("web", "10.0.0.99", server.id)
    spec = world.read(lambda r: host_networks.wanted_networks(r, "h1"))
    assert spec.networks[0].ports[0].addresses == ("10.0.0.99",)


def test_an_address_may_be_kept_in_a_change(world: World) -> None:
    network = world.network()
    subnet = world.subnet(network)
    port = world.port(network)
    wishes = (AddressRequest(subnet_id=subnet.id, ip_address="10.0.0.2"), AddressRequest(subnet_id=subnet.id))
    assert [ip.ip_address for ip in change(world, port, fixed_ips=wishes).fixed_ips] == ["10.0.0.2", "10.0.0.3"]


def test_protection_goes_only_when_its_groups_are_gone(world: World) -> None:
    port = world.port(world.network())
    assert refused_change(world, port, port_security_enabled=False) == (Conflict, "PortSecurityPortHasSecurityGroup")
    assert change(world, port, port_security_enabled=False, security_groups=()).port_security_enabled is False


def test_another_projects_group_does_not_exist(world: World) -> None:
    theirs = world.port(world.network(BOB), BOB).security_groups
    port = world.port(world.network())
    assert refused_change(world, port, security_groups=theirs) == (NotFound, "SecurityGroupNotFound")


def test_an_admin_binds_a_port_to_a_host_that_is_there(world: World) -> None:
    port = world.port(world.network())
    assert refused_change(world, port, ADMIN, host="nowhere") == (BadRequest, "HTTPBadRequest")
