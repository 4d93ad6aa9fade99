"""Every port is of a device that is there, where that device is, with addresses that are its own.

That no two ports of a network share a MAC address or an address follows from the unique indexes, which are checked for
all tables alike: the second port's entry would lead to the first.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from functools import lru_cache

from nova_fast.model.networks import Port, Subnet
from nova_fast.model.servers import Server
from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, readable

_SUBNETS_CACHED = 4096


def ports(reader: Reader) -> Iterator[Finding]:
    """Devices, bindings and addresses."""

    @lru_cache(_SUBNETS_CACHED)
    def subnet_of(subnet_id: str) -> Subnet | None:
        return find(reader, tables.SUBNETS, subnet_id)

    for port in readable(reader, tables.PORTS):
        server = find(reader, tables.SERVERS, port.device_id) if port.device_id else None
        for wrong in (*_device(port, server), *_addresses(port, [subnet_of(ip.subnet_id) for ip in port.fixed_ips])):
            yield Finding("ports", port.id, f"port {port.id} {wrong}")


def _device(port: Port, server: Server | None) -> Iterator[str]:
    if server is not None:
        if port.host != server.host:
            yield f"is bound to host '{port.host}', but its server {server.id} is on '{server.host}'"
        if port.project_id != server.project_id:
            yield f"is of project {port.project_id}, but its server {server.id} of {server.project_id}"
    elif port.created_by_server or (port.host and port.device_owner.startswith("compute:")):
        # Any other device is what its owner wrote there: it need not be one of ours.
        yield f"was made for server {port.device_id}, which is gone"
    elif not port.device_id and port.status != "DOWN":
        yield f"is {port.status} although it is of no device"


def _addresses(port: Port, subnets: list[Subnet | None]) -> Iterator[str]:
    for ip, subnet in zip(port.fixed_ips, subnets, strict=True):
        if subnet is None:
            yield f"has the address {ip.ip_address} of subnet {ip.subnet_id}, which is gone"
        elif subnet.network_id != port.network_id:
            yield f"has the address {ip.ip_address} of subnet {subnet.id}, which is of another network"
        elif not _is_in(ip.ip_address, subnet.cidr):
            yield f"has the address {ip.ip_address}, which is not in subnet {subnet.id} ({subnet.cidr})"


def _is_in(address: str, cidr: str) -> bool:
    try:
        return ipaddress.ip_address(address) in _network(cidr)
    except ValueError:
        return False


@lru_cache(_SUBNETS_CACHED)
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(cidr)
