"""What a guest learns about itself: who it is, both trees, and the config drive."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import msgspec
import pytest

from nova_fast.commands import ports
from nova_fast.model.commands.servers import RequestedNic
from nova_fast.model.identity import Secret
from nova_fast.model.networks import HostRoute, Network, Port
from nova_fast.model.servers import Server, ServerKey, UserData
from nova_fast.model.tasks import MetadataAnswer, MetadataRequest
from nova_fast.queries.metadata import answer, config_drive_files
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.commands.network_world import BOB, World

KEY = ServerKey(name="k", type="ssh", public_key="ssh-ed25519 AAAA me")


class Guest:
    """A server with a port, and its questions."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.network: Network = world.network(name="blue")
        world.subnet(
            self.network,
            dns_nameservers=("9.9.9.9",),
            host_routes=(HostRoute(destination="10.9.0.0/16", nexthop="10.0.0.9"),),
        )
        self.server: Server = world.server(name="vm", key=KEY, metadata={"role": "web"}, has_user_data=True)
        self.port: Port = world.tx(
            lambda tx: ports.create_server_ports(
                tx, [self.server], RequestedNic(network_id=self.network.id, tag="net1"), (), 0
            )[0]
        )
        user_data = UserData(server_id=self.server.id, data=b"#!/bin/sh\n\xff")
        secret = Secret(name="token", value=b"s" * 32, created_at_us=1)
        world.tx(lambda tx: tx.put(tables.USER_DATA, user_data))
        world.tx(lambda tx: tx.put(tables.SECRETS, secret))

    def ask(self, path: str, address: str = "10.0.0.2", network_id: str = "", method: str = "GET") -> MetadataAnswer:
        request = MetadataRequest(network_id=network_id or self.network.id, address=address, method=method, path=path)
        return self.world.read(lambda r: answer(r, request))

    def text(self, path: str) -> str:
        found = self.ask(path)
        assert found.status == 200, path
        return found.body.decode()

    def document(self, path: str) -> dict[str, object]:
        loaded: dict[str, object] = json.loads(self.text(path))
        return loaded


@pytest.fixture
def guest() -> Iterator[Guest]:
    with memory_store() as store:
        yield Guest(World(store))


def test_who_asks_follows_from_network_and_address_only(guest: Guest) -> None:
    other = guest.world.network(BOB)
    assert guest.ask("/").status == 200
    assert guest.ask("/", address="10.0.0.3").status == 404
    assert guest.ask("/", network_id=other.id).status == 404
    free = guest.world.port(guest.network).fixed_ips[0].ip_address
    assert guest.ask("/", address=free).status == 404


def test_a_port_of_another_project_does_not_speak_for_the_server(guest: Guest) -> None:
    stolen = msgspec.structs.replace(guest.port, project_id=BOB.project_id)
    guest.world.tx(lambda tx: tx.put(tables.PORTS, stolen))
    assert guest.ask("/openstack/latest/meta_data.json").status == 404


def test_the_ec2_tree(guest: Guest) -> None:
    assert guest.text("/").split("\n")[-2:] == ["2009-04-04", "latest"]
    assert guest.text("/latest/") == "meta-data/\nuser-data"
    keys = guest.text("/2009-04-04/meta-data/").split("\n")
    assert {"instance-id", "local-ipv4", "placement/", "public-keys/", "hostname", "instance-type"} <= set(keys)
    assert "placement/" not in guest.text("/1.0/meta-data/")
    assert "instance-type" not in guest.text("/2007-03-01/meta-data").split("\n")
    for name, value in {
        "instance-id": "i-00000001",
        "local-ipv4": "10.0.0.2",
        "hostname": "vm.novalocal",
        "instance-type": "m1.tiny",
        "security-groups": "default",
        "placement/availability-zone": "nova",
        "public-keys/": "0=k",
        "public-keys/0/": "openssh-key",
        "public-keys/0/openssh-key": KEY.public_key,
        "ami-id": "ami-12345678",
        "block-device-mapping/root": "/dev/vda",
        "reservation-id": "r-1",
    }.items():
        assert guest.text(f"/latest/meta-data/{name}") == value, name
    assert guest.ask("/latest/user-data").body == b"#!/bin/sh\n\xff"


@pytest.mark.parametrize(
    "path",
    ["/nonsense", "/2009-04-05/", "/latest/meta-data/nonsense", "/latest/meta-data/hostname/more", "/latest/dynamic",
     "/latest/user-data/more", "/openstack/2011-01-01/", "/openstack/latest/nonsense", "/openstack/latest/../../etc",
     "/openstack/latest/meta_data.json/more", "/openstack/2012-08-10/network_data.json"],
)  # fmt: skip
def test_what_is_not_there_is_a_404(guest: Guest, path: str) -> None:
    assert guest.ask(path).status == 404


def test_only_reading_is_possible(guest: Guest) -> None:
    assert guest.ask("/openstack/latest/meta_data.json", method="POST").status == 405
    head = guest.ask("/openstack/latest/meta_data.json", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_the_openstack_tree(guest: Guest) -> None:
    versions = guest.text("/openstack").split("\n")
    assert (versions[0], versions[-1], len(versions)) == ("2012-08-10", "latest", 11)
    assert guest.text("/openstack/2012-08-10/").split("\n") == ["meta_data.json", "user_data"]
    assert "network_data.json" in guest.text("/openstack/latest//").split("\n")
    assert guest.document("/openstack/latest/vendor_data.json") == {}
    assert guest.ask("/openstack/latest/user_data").body == b"#!/bin/sh\n\xff"


def test_meta_data_grows_with_the_version(guest: Guest) -> None:
    oldest = guest.document("/openstack/2012-08-10/meta_data.json")
    assert set(oldest) == {
        "uuid", "name", "hostname", "launch_index", "availability_zone", "meta", "public_keys", "keys",
    }  # fmt: skip
    newest = guest.document("/openstack/latest/meta_data.json")
    assert set(newest) - set(oldest) == {"random_seed", "project_id", "devices", "dedicated_cpus"}
    assert newest["uuid"] == guest.server.id
    assert newest["meta"] == {"role": "web"}
    assert newest["public_keys"] == {"k": KEY.public_key}
    device = {"type": "nic", "bus": "none", "address": "none", "mac": guest.port.mac_address, "tags": ["net1"]}
    assert newest["devices"] == [device]


def test_the_seed_is_stable_for_a_server_differs_between_servers_and_needs_the_secret(guest: Guest) -> None:
    path = "/openstack/latest/meta_data.json"
    seed = guest.document(path)["random_seed"]
    assert isinstance(seed, str)
    assert len(base64.b64decode(seed)) == 512
    assert guest.document(path)["random_seed"] == seed
    other = guest.world.server(name="other")
    drive = guest.world.read(lambda r: config_drive_files(r, other))
    assert json.loads(drive["openstack/latest/meta_data.json"])["random_seed"] != seed
    guest.world.tx(lambda tx: tx.delete(tables.SECRETS, "token"))
    assert "random_seed" not in guest.document(path)


def test_network_data_of_a_dhcp_and_of_a_static_subnet(guest: Guest) -> None:
    fixed = guest.world.network()
    guest.world.subnet(fixed, "192.168.7.0/25", enable_dhcp=False)
    guest.world.tx(
        lambda tx: ports.create_server_ports(tx, [guest.server], RequestedNic(network_id=fixed.id), (), 1)[0]
    )
    data = guest.document("/openstack/latest/network_data.json")
    link = "tap" + guest.port.id[:11]
    first = {"id": link, "vif_id": guest.port.id, "type": "bridge", "mtu": 1450,
             "ethernet_mac_address": guest.port.mac_address}  # fmt: skip
    assert data["links"][0] == first  # type: ignore[index]
    dhcp, static = data["networks"]  # type: ignore[misc]
    assert dhcp == {"id": "network0", "type": "ipv4_dhcp", "link": link, "network_id": guest.network.id}  # type: ignore[has-type]
    assert (static["type"], static["ip_address"], static["netmask"]) == ("ipv4", "192.168.7.2", "255.255.255.128")  # type: ignore[has-type]
    assert static["routes"] == [{"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "192.168.7.1"}]  # type: ignore[has-type]
    assert data["services"] == [{"type": "dns", "address": "9.9.9.9"}]


def test_the_config_drive_holds_the_same_documents(guest: Guest) -> None:
    files = guest.world.read(lambda r: config_drive_files(r, guest.server))
    for path in ("openstack/latest/meta_data.json", "openstack/2015-10-15/network_data.json",
                 "openstack/latest/user_data", "openstack/latest/vendor_data2.json"):  # fmt: skip
        assert files[path] == guest.ask("/" + path).body, path
    ec2 = json.loads(files["ec2/latest/meta-data.json"])
    assert ec2["public-keys"] == {"0": {"openssh-key": KEY.public_key}}
    assert files["ec2/2009-04-04/user-data"] == b"#!/bin/sh\n\xff"
    assert {path.split("/")[1] for path in files if path.startswith("ec2/")} == {"2009-04-04", "latest"}
    assert "openstack/2012-08-10/network_data.json" not in files


def test_the_admin_password_is_on_the_drive_only(guest: Guest) -> None:
    files = guest.world.read(lambda r: config_drive_files(r, guest.server, "hunter2"))
    assert json.loads(files["openstack/latest/meta_data.json"])["admin_pass"] == "hunter2"
    assert json.loads(files["openstack/2012-08-10/meta_data.json"])["admin_pass"] == "hunter2"
    assert "admin_pass" not in guest.text("/openstack/latest/meta_data.json")


def test_a_server_without_key_data_or_port_has_a_drive_too(guest: Guest) -> None:
    plain = guest.world.server(name="plain")
    files = guest.world.read(lambda r: config_drive_files(r, plain))
    assert "openstack/latest/user_data" not in files
    assert json.loads(files["openstack/latest/network_data.json"]) == {"links": [], "networks": [], "services": []}
    assert "keys" not in json.loads(files["openstack/latest/meta_data.json"])
