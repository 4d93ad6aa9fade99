"""What clients read: records as the attribute maps of the Networking API v2.0 list them."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from nova_fast.model.identity import Caller
from nova_fast.model.networks import Network, Port, SecurityGroup, SecurityGroupRule, Subnet

View = dict[str, Any]
VIF_TYPE = "bridge"


def stamp(at_us: int) -> str:
    """A time as Neutron writes it."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _standard(record: Network | Subnet | Port | SecurityGroup) -> View:
    return {
        "project_id": record.project_id,
        "tenant_id": record.project_id,
        "description": record.description,
        "created_at": stamp(record.created_at_us),
        "updated_at": stamp(record.updated_at_us),
        "revision_number": record.revision,
        "tags": list(record.tags),
    }


def network_view(network: Network, subnet_ids: Sequence[str], caller: Caller) -> View:
    """A network; the provider's side of it is for admins."""
    view = {
        "id": network.id,
        "name": network.name,
        "subnets": list(subnet_ids),
        "admin_state_up": network.admin_state_up,
        "status": "ACTIVE" if network.admin_state_up else "DOWN",
        "shared": network.shared,
        "router:external": network.external,
        "mtu": network.mtu,
        "port_security_enabled": network.port_security_enabled,
        **_standard(network),
    }
    if network.external:
        view["is_default"] = network.is_default
    if caller.is_admin:
        flat = network.provider_network_type == "flat"
        view["provider:network_type"] = network.provider_network_type or "vxlan"
        view["provider:physical_network"] = network.provider_physical_network or None
        view["provider:segmentation_id"] = None if flat else network.number
    return view


def subnet_view(subnet: Subnet) -> View:
    """A subnet."""
    return {
        "id": subnet.id,
        "name": subnet.name,
        "network_id": subnet.network_id,
        "ip_version": subnet.ip_version,
        "subnetpool_id": None,
        "cidr": subnet.cidr,
        "gateway_ip": subnet.gateway_ip,
        "allocation_pools": [{"start": pool.start, "end": pool.end} for pool in subnet.pools],
        "dns_nameservers": list(subnet.dns_nameservers),
        "host_routes": [{"destination": r.destination, "nexthop": r.nexthop} for r in subnet.host_routes],
        "enable_dhcp": subnet.enable_dhcp,
        "ipv6_ra_mode": subnet.ipv6_ra_mode or None,
        "ipv6_address_mode": subnet.ipv6_address_mode or None,
        **_standard(subnet),
    }


def port_view(port: Port, caller: Caller) -> View:
    """A port; where it is bound is for admins."""
    view = {
        "id": port.id,
        "name": port.name,
        "network_id": port.network_id,
        "admin_state_up": port.admin_state_up,
        "mac_address": port.mac_address,
        "fixed_ips": [{"subnet_id": ip.subnet_id, "ip_address": ip.ip_address} for ip in port.fixed_ips],
        "device_id": port.device_id,
        "device_owner": port.device_owner,
        "status": port.status,
        "security_groups": list(port.security_groups),
        "binding:vnic_type": port.vnic_type,
        "port_security_enabled": port.port_security_enabled,
        "allowed_address_pairs": [
            {"ip_address": pair.ip_address, "mac_address": pair.mac_address} for pair in port.allowed_address_pairs
        ],
        **_standard(port),
    }
    if caller.is_admin:
        view["binding:host_id"] = port.host
        view["binding:vif_type"] = VIF_TYPE if port.host else "unbound"
        view["binding:vif_details"] = {"port_filter": True} if port.host else {}
        view["binding:profile"] = port.profile
    return view


def rule_view(rule: SecurityGroupRule) -> View:
    """A security-group rule."""
    prefix = rule.remote_ip_prefix
    return {
        "id": rule.id,
        "security_group_id": rule.security_group_id,
        "project_id": rule.project_id,
        "tenant_id": rule.project_id,
        "direction": rule.direction,
        "ethertype": rule.ethertype,
        "protocol": rule.protocol,
        "port_range_min": rule.port_range_min,
        "port_range_max": rule.port_range_max,
        "remote_ip_prefix": prefix,
        "normalized_cidr": None if prefix is None else str(ipaddress.ip_network(prefix, strict=False)),
        "remote_group_id": rule.remote_group_id,
        "description": rule.description,
        "created_at": stamp(rule.created_at_us),
        "updated_at": stamp(rule.created_at_us),
        "revision_number": rule.revision,
    }


def group_view(group: SecurityGroup, rules: Sequence[SecurityGroupRule]) -> View:
    """A security group with its rules."""
    return {
        "id": group.id,
        "name": group.name,
        "security_group_rules": [rule_view(rule) for rule in rules],
        "shared": False,
        **_standard(group),
    }
