"""The documents a guest reads about itself: the same over HTTP and on the config drive.

Source: Nova's metadata service (``meta_data.json``, ``network_data.json``) and the EC2 metadata tree of 2009-04-04.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
from typing import Any

import msgspec

from nova_fast.model.networks import Network, Port, Subnet, tap_name
from nova_fast.model.servers import Server
from nova_fast.queries.ports import server_ports
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader

DOMAIN = "novalocal"
DEFAULT_ZONE = "nova"
SEED_BYTES = 512
SECRET_NAME = "token"  # noqa: S105 - the name of a record, not a secret

#: OpenStack versions of the tree, oldest first, and what each one brought.
OPENSTACK_VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
    "2020-10-14", "2025-04-04",
)  # fmt: skip
LATEST = "latest"
_SEED_SINCE, _PROJECT_SINCE, _DEVICES_SINCE, _CPUS_SINCE = "2013-04-04", "2015-10-15", "2016-06-30", "2020-10-14"

EC2_VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04",
)  # fmt: skip

#: A tree of text, or a text.
Tree = dict[str, Any]


class Nic(msgspec.Struct, frozen=True):
    """A port of the server with what it is connected to."""

    port: Port
    network: Network
    subnets: dict[str, Subnet]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the documents are made from, read once."""

    server: Server
    nics: tuple[Nic, ...]
    zone: str
    group_names: tuple[str, ...]
    user_data: bytes | None
    secret: bytes | None


def gather(reader: Reader, server: Server) -> Facts:
    """Read what the documents of a server need."""
    ports = server_ports(reader, server.id)
    host = reader.get(tables.HOSTS, server.host) if server.host else None
    group_ids = dict.fromkeys(group for port in ports for group in port.security_groups)
    groups = (reader.get(tables.SECURITY_GROUPS, group_id) for group_id in group_ids)
    user_data = reader.get(tables.USER_DATA, server.id) if server.has_user_data else None
    secret = reader.get(tables.SECRETS, SECRET_NAME)
    return Facts(
        server=server,
        nics=tuple(_nic(reader, port) for port in ports),
        zone=(host.zone if host else server.zone) or DEFAULT_ZONE,
        group_names=tuple(dict.fromkeys(group.name for group in groups if group)),
        user_data=user_data.data if user_data else None,
        secret=secret.value if secret else None,
    )


def _nic(reader: Reader, port: Port) -> Nic:
    network = reader.get(tables.NETWORKS, port.network_id)
    assert network is not None, f"port {port.id} is on network {port.network_id}, which is not there"
    found = (reader.get(tables.SUBNETS, ip.subnet_id) for ip in port.fixed_ips)
    return Nic(port=port, network=network, subnets={subnet.id: subnet for subnet in found if subnet})


def host_name(server: Server) -> str:
    """The full name of a server; one that was given with a domain keeps it."""
    return server.hostname if "." in server.hostname else f"{server.hostname}.{DOMAIN}"


def random_seed(secret: bytes, server_id: str) -> str:
    """Entropy for the guest: always the same for a server, and nobody without the cloud's secret can tell it."""
    blocks = (
        hmac.digest(secret, f"random-seed:{server_id}:{block}".encode(), "sha512")
        for block in range(SEED_BYTES // hashlib.sha512().digest_size)
    )
    return base64.b64encode(b"".join(blocks)).decode()


def meta_data(facts: Facts, version: str, admin_pass: str | None = None) -> dict[str, Any]:
    """``meta_data.json`` as a version shows it; "latest" is above all dates."""
    server = facts.server
    document: dict[str, Any] = {
        "uuid": server.id,
        "name": server.name,
        "hostname": host_name(server),
        "launch_index": server.launch_index,
        "availability_zone": facts.zone,
    }
    if server.metadata:
        document["meta"] = server.metadata
    if server.key is not None:
        document["public_keys"] = {server.key.name: server.key.public_key}
        document["keys"] = [{"name": server.key.name, "type": server.key.type, "data": server.key.public_key}]
    if version >= _SEED_SINCE and facts.secret is not None:
        document["random_seed"] = random_seed(facts.secret, server.id)
    if version >= _PROJECT_SINCE:
        document["project_id"] = server.project_id
    if version >= _DEVICES_SINCE:
        document["devices"] = [_device(nic.port) for nic in facts.nics if nic.port.device_tag]
    if version >= _CPUS_SINCE:
        document["dedicated_cpus"] = []
    if admin_pass is not None:
        document["admin_pass"] = admin_pass
    return document


def _device(port: Port) -> dict[str, Any]:
    return {"type": "nic", "bus": "none", "address": "none", "mac": port.mac_address, "tags": [port.device_tag]}


def network_data(facts: Facts) -> dict[str, Any]:
    """``network_data.json``: links, the networks on them, and name servers."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, str]] = []
    for nic in facts.nics:
        link = tap_name(nic.port.id)
        links.append(
            {
                "id": link,
                "vif_id": nic.port.id,
                "type": "bridge",
                "mtu": nic.network.mtu,
                "ethernet_mac_address": nic.port.mac_address,
            }
        )
        for ip in nic.port.fixed_ips:
            subnet = nic.subnets[ip.subnet_id]
            networks.append(_network_entry(f"network{len(networks)}", link, subnet, ip.ip_address))
            for server in subnet.dns_nameservers:
                service = {"type": "dns", "address": server}
                if service not in services:
                    services.append(service)
    return {"links": links, "networks": networks, "services": services}


def _network_entry(name: str, link: str, subnet: Subnet, address: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": name, "link": link, "network_id": subnet.network_id}
    if subnet.enable_dhcp and not subnet.ipv6_address_mode:
        return {**entry, "type": f"ipv{subnet.ip_version}_dhcp"}
    mode = f"_{subnet.ipv6_address_mode}" if subnet.ipv6_address_mode else ""
    prefix = ipaddress.ip_network(subnet.cidr)
    return {
        **entry,
        "type": f"ipv{subnet.ip_version}{mode}",
        "ip_address": address,
        "netmask": str(prefix.netmask),
        "routes": _routes(subnet),
        "services": [{"type": "dns", "address": server} for server in subnet.dns_nameservers],
    }


def _routes(subnet: Subnet) -> list[dict[str, str]]:
    anywhere = "0.0.0.0/0" if subnet.ip_version == 4 else "::/0"
    routes = [(anywhere, subnet.gateway_ip)] if subnet.gateway_ip else []
    routes += [(route.destination, route.nexthop) for route in subnet.host_routes]
    rows = []
    for destination, gateway in routes:
        prefix = ipaddress.ip_network(destination)
        rows.append({"network": str(prefix.network_address), "netmask": str(prefix.netmask), "gateway": gateway})
    return rows


def ec2_meta_data(facts: Facts, version: str) -> Tree:
    """The EC2 tree ``meta-data`` as a version shows it."""
    server = facts.server
    addresses = [ip.ip_address for nic in facts.nics for ip in nic.port.fixed_ips]
    tree: Tree = {
        "ami-id": f"ami-{server.image_id.replace('-', '')[:8]}",
        "ami-launch-index": str(server.launch_index),
        "ami-manifest-path": "FIXME",
        "hostname": host_name(server),
        "instance-id": f"i-{server.number:08x}",
        "local-ipv4": next((address for address in addresses if ":" not in address), ""),
        "reservation-id": server.reservation_id,
        "security-groups": "\n".join(facts.group_names),
    }
    if server.key is not None:
        tree["public-keys"] = {"0": {"openssh-key": server.key.public_key}}
    if version >= "2007-01-19":
        tree |= {"local-hostname": host_name(server), "public-hostname": host_name(server), "public-ipv4": ""}
    if version >= "2007-08-29":
        tree["instance-type"] = server.flavor.name
    if version >= "2007-12-15":
        tree["block-device-mapping"] = _block_devices(server)
    if version >= "2008-02-01":
        tree["placement"] = {"availability-zone": facts.zone}
    if version >= "2008-09-01":
        tree["instance-action"] = "none"
    return tree


def _block_devices(server: Server) -> dict[str, str]:
    devices = {"ami": "vda", "root": "/dev/vda"}
    letters = iter("bc")
    if server.flavor.ephemeral_gib:
        devices["ephemeral0"] = f"/dev/vd{next(letters)}"
    if server.flavor.swap_mib:
        devices["swap"] = f"/dev/vd{next(letters)}"
    return devices
