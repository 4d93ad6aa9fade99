"""What the network daemon of a host should do, and which hosts a change concerns.

The wanted state is always whole: the daemon compares it with what it has. A port that is administratively down stays in
it without addresses and groups, so everything it sends and gets is dropped.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import msgspec

from nova_fast.model.hosts import HostNetwork
from nova_fast.model.networks import Network, Port, SecurityGroupRule, Subnet, bridge_name, namespace_name, tap_name
from nova_fast.model.tasks import ApplyNetworks, GroupSpec, NetworkSpec, PortSpec, RuleSpec, SubnetSpec
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.table import Index

#: Behind every id: UUIDs are hexadecimal digits and dashes.
_BEHIND_IDS = "~"


def wanted_networks(reader: Reader, host: str) -> ApplyNetworks:
    """Every network, port and security group that must work on a host."""
    by_network: dict[str, list[Port]] = {}
    for port in reader.scan_index(tables.PORTS_BY_HOST, host):
        by_network.setdefault(port.network_id, []).append(port)
    networks = tuple(_network_spec(reader, network_id, by_network[network_id]) for network_id in sorted(by_network))
    used = {group for ports in by_network.values() for port in ports for group in port.security_groups}
    progress = reader.get(tables.HOST_NETWORKS, host)
    return ApplyNetworks(
        host=host,
        generation=progress.wanted_generation if progress else 0,
        networks=networks,
        groups=_group_specs(reader, used),
    )


def dirty_hosts(reader: Reader) -> list[HostNetwork]:
    """The hosts whose network daemon has not yet carried out the last change."""
    return [row for row in reader.scan(tables.HOST_NETWORKS) if row.applied_generation < row.wanted_generation]


def hosts_of_network(reader: Reader, network_id: str) -> set[str]:
    """The hosts that have ports of a network."""
    return _hosts_of(reader, tables.PORTS_BY_NETWORK, network_id)


def hosts_of_group(reader: Reader, group_id: str) -> set[str]:
    """The hosts that have ports in a security group."""
    return _hosts_of(reader, tables.PORTS_BY_GROUP, group_id)


def hosts_admitting(reader: Reader, group_id: str) -> set[str]:
    """The hosts that have ports in a group one of whose rules names ``group_id`` as its remote group."""
    groups = {rule.security_group_id for rule in reader.scan_index(tables.RULES_BY_REMOTE_GROUP, group_id)}
    return {host for group in groups for host in hosts_of_group(reader, group)}


def _hosts_of(reader: Reader, index: Index[Port], part: str) -> set[str]:
    """The hosts of the ports under one part of an index whose second part is the host.

    PERF: jumps from host to host, so it costs one probe for each host and not one for each port.
    """
    hosts: set[str] = set()
    behind: Port | None = None
    while (port := next(reader.scan_index(index, part, after=behind, limit=1), None)) is not None:
        hosts.add(port.host)
        behind = msgspec.structs.replace(port, id=_BEHIND_IDS)
    return hosts - {""}


def _network_spec(reader: Reader, network_id: str, ports: list[Port]) -> NetworkSpec:
    network = reader.get(tables.NETWORKS, network_id)
    assert network is not None, f"port {ports[0].id} is on network {network_id}, which is not there"
    subnets = sorted(reader.scan_index(tables.SUBNETS_BY_NETWORK, network_id), key=lambda s: (s.created_at_us, s.id))
    return NetworkSpec(
        id=network.id,
        number=network.number,
        bridge=bridge_name(network.id),
        namespace=namespace_name(network.id),
        mtu=network.mtu,
        subnets=tuple(_subnet_spec(subnet) for subnet in subnets),
        ports=tuple(_port_spec(reader, network, port) for port in sorted(ports, key=lambda p: p.id)),
    )


def _subnet_spec(subnet: Subnet) -> SubnetSpec:
    return SubnetSpec(
        id=subnet.id,
        ip_version=subnet.ip_version,
        cidr=subnet.cidr,
        gateway_ip=subnet.gateway_ip,
        enable_dhcp=subnet.enable_dhcp,
        dns_nameservers=subnet.dns_nameservers,
        host_routes=tuple((route.destination, route.nexthop) for route in subnet.host_routes),
    )


def _port_spec(reader: Reader, network: Network, port: Port) -> PortSpec:
    up = port.admin_state_up and network.admin_state_up
    return PortSpec(
        id=port.id,
        tap=tap_name(port.id),
        mac_address=port.mac_address,
        addresses=tuple(ip.ip_address for ip in port.fixed_ips) if up else (),
        hostname=_hostname(reader, port),
        server_id=port.device_id,
        project_id=port.project_id,
        security_groups=tuple(sorted(port.security_groups)) if up else (),
        port_security_enabled=port.port_security_enabled or not up,
        allowed_address_pairs=tuple((pair.ip_address, pair.mac_address) for pair in port.allowed_address_pairs)
        if up
        else (),
    )


def _hostname(reader: Reader, port: Port) -> str:
    server = reader.get(tables.SERVERS, port.device_id) if port.device_id else None
    if server is not None and server.hostname:
        return server.hostname.split(".")[0]
    first = port.fixed_ips[0].ip_address if port.fixed_ips else port.id
    return "host-" + first.replace(".", "-").replace(":", "-").strip("-")


def _group_specs(reader: Reader, used: Iterable[str]) -> tuple[GroupSpec, ...]:
    rules = {group: tuple(_rule_spec(rule) for rule in _sorted_rules(reader, group)) for group in used}
    named = {rule.remote_group_id for specs in rules.values() for rule in specs if rule.remote_group_id}
    return tuple(
        GroupSpec(id=group, rules=rules.get(group, ()), members=_members(reader, group) if group in named else ())
        for group in sorted(rules.keys() | named)
    )


def _sorted_rules(reader: Reader, group_id: str) -> list[SecurityGroupRule]:
    return sorted(reader.scan_index(tables.RULES_BY_GROUP, group_id), key=lambda rule: (rule.created_at_us, rule.id))


def _rule_spec(rule: SecurityGroupRule) -> RuleSpec:
    prefix = rule.remote_ip_prefix
    return RuleSpec(
        direction=rule.direction,
        ethertype=rule.ethertype,
        protocol=rule.protocol,
        port_range_min=rule.port_range_min,
        port_range_max=rule.port_range_max,
        remote_ip_prefix=None if prefix is None else str(ipaddress.ip_network(prefix, strict=False)),
        remote_group_id=rule.remote_group_id,
    )


def _members(reader: Reader, group_id: str) -> tuple[str, ...]:
    ports = reader.scan_index(tables.PORTS_BY_GROUP, group_id)
    return tuple(sorted({ip.ip_address for port in ports for ip in port.fixed_ips}))
