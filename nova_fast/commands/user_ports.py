"""Ports as users make, change and delete them through the network API.

A port that a server uses belongs to the server: it can be renamed, regrouped and readdressed, but not taken away,
moved to another device or deleted under it. And nobody may claim to be a server: the link from a port to a server
decides whose metadata a guest gets, so only the commands for servers make it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from nova_fast.commands.addresses import any_addresses, new_mac, wished_addresses
from nova_fast.commands.network_limits import only_admin, only_owner, owner_of, take
from nova_fast.commands.ports import insert_port, remove_port, save_port
from nova_fast.commands.registry import command
from nova_fast.commands.security_groups import checked_groups, ensure_default_group
from nova_fast.model.commands.ports import (
    CreatePorts,
    DeletePort,
    NewPort,
    PortChanges,
    PortsResult,
    UpdatePort,
)
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.identity import Caller
from nova_fast.model.networks import AddressPair, Network, Port
from nova_fast.model.tasks import Done
from nova_fast.queries.networks import need_network, need_port, subnets_of
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

ADDRESS_PAIRS_MAX = 10
VNIC_TYPES = ("normal",)
_MAC = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}")
_DEVICE_BYTES_MAX = 255


@command(CreatePorts)
def create_ports(tx: Transaction, request: CreatePorts) -> PortsResult:
    """Make ports. Raises NotFound, BadRequest, Forbidden, Conflict, OverQuota; then none is made."""
    return PortsResult(ports=tuple(_create(tx, request.caller, new) for new in request.ports))


@command(UpdatePort)
def update_port(tx: Transaction, request: UpdatePort) -> PortsResult:
    """Change a port. Raises NotFound, BadRequest, Forbidden, Conflict."""
    port = need_port(tx, request.caller, request.port_id)
    network = tx.need(tables.NETWORKS, port.network_id, "Network")
    _check_rights(request.caller, network, request.changes)
    return PortsResult(ports=(save_port(tx, port, **_changed_fields(tx, request, port, network)),))


@command(DeletePort)
def delete_port(tx: Transaction, request: DeletePort) -> Done:
    """Remove a port. Raises NotFound, Conflict (``PortInUse``) while a server uses it."""
    port = need_port(tx, request.caller, request.port_id)
    if _server_has(tx, port):
        raise Conflict(
            f"Port {port.id} is in use by server {port.device_id}.",
            code="PortInUse",
            hint="Delete the server, or detach the port from it first.",
        )
    remove_port(tx, port)
    return Done()


def _create(tx: Transaction, caller: Caller, new: NewPort) -> Port:
    project_id = owner_of(caller, new.project_id)
    network = need_network(tx, caller, new.network_id)
    if network.external and not network.shared:
        only_owner(caller, network.project_id, f"create a port on external network {network.id}")
    _check_rights(caller, network, new)
    _check_device(tx, new.device_id, new.device_owner)
    _check_host(tx, new.host)
    mac = new_mac(tx, network.id) if new.mac_address is UNSET else _free_mac(tx, network, new.mac_address)
    take(tx, project_id, ports=1)
    secured = network.port_security_enabled if new.port_security_enabled is UNSET else new.port_security_enabled
    if new.fixed_ips is UNSET:
        (addresses,) = any_addresses(tx, network, subnets_of(tx, network.id), [mac])
    else:
        addresses = wished_addresses(tx, network, new.fixed_ips, mac)
    port = Port(
        id=tx.new_uuid(),
        network_id=network.id,
        project_id=project_id,
        name=new.name,
        mac_address=mac,
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        fixed_ips=addresses,
        device_id=new.device_id,
        device_owner=new.device_owner,
        host=new.host,
        admin_state_up=new.admin_state_up,
        security_groups=_new_groups(tx, caller, project_id, secured, new.security_groups),
        port_security_enabled=secured,
        allowed_address_pairs=_address_pairs(new.allowed_address_pairs, mac),
        description=new.description,
        revision=1,
        vnic_type=_vnic_type(new.vnic_type),
        profile=new.profile,
    )
    _check_security(port)
    insert_port(tx, port)
    return port


def _changed_fields(tx: Transaction, request: UpdatePort, port: Port, network: Network) -> dict[str, Any]:
    changes = request.changes
    fields = {
        name: value
        for name in changes.__struct_fields__
        if (value := getattr(changes, name)) is not UNSET
    }  # fmt: skip
    _check_attachment(tx, port, fields)
    mac = fields.get("mac_address", port.mac_address)
    if "mac_address" in fields:
        mac = fields["mac_address"] = _changed_mac(tx, network, port, mac)
    if "fixed_ips" in fields:
        own = frozenset(ip.ip_address for ip in port.fixed_ips)
        fields["fixed_ips"] = wished_addresses(tx, network, fields["fixed_ips"], mac, own)
    if "security_groups" in fields:
        fields["security_groups"] = checked_groups(tx, request.caller, port.project_id, fields["security_groups"])
    if "allowed_address_pairs" in fields:
        fields["allowed_address_pairs"] = _address_pairs(fields["allowed_address_pairs"], mac)
    if "vnic_type" in fields:
        fields["vnic_type"] = _vnic_type(fields["vnic_type"])
    if "host" in fields:
        _check_host(tx, fields["host"])
    _check_security(msgspec.structs.replace(port, **fields))
    return fields


def _check_rights(caller: Caller, network: Network, wanted: NewPort | PortChanges) -> None:
    """What only an admin, or only the owner of the network, may say of a port. Raises Forbidden."""
    if wanted.host or wanted.profile:
        only_admin(caller, "set binding:host_id or binding:profile")
    owners = {
        "mac_address": wanted.mac_address,
        "port_security_enabled": wanted.port_security_enabled,
        "allowed_address_pairs": wanted.allowed_address_pairs or UNSET,
    }
    for name, value in owners.items():
        if value is not UNSET:
            only_owner(caller, network.project_id, f"set {name} on network {network.id}")
    if wanted.device_owner and wanted.device_owner.startswith("network:"):
        only_owner(caller, network.project_id, f"make a {wanted.device_owner} port on network {network.id}")
    if wanted.fixed_ips is not UNSET and any(wish.ip_address and not wish.subnet_id for wish in wanted.fixed_ips):
        only_owner(caller, network.project_id, f"choose an address on network {network.id}")


def _server_has(tx: Transaction, port: Port) -> bool:
    return bool(port.device_id) and tx.get(tables.SERVERS, port.device_id) is not None


def _check_attachment(tx: Transaction, port: Port, fields: dict[str, Any]) -> None:
    """A port of a server stays with it, and no port becomes a server's here. Raises Conflict, BadRequest."""
    attachment = ("device_id", "device_owner", "host")
    moved = any(name in fields and fields[name] != getattr(port, name) for name in attachment)
    if moved and _server_has(tx, port):
        raise Conflict(
            f"Port {port.id} is in use by server {port.device_id}.",
            code="PortInUse",
            hint="Detach the port from the server first.",
        )
    if moved:
        _check_device(tx, fields.get("device_id", port.device_id), fields.get("device_owner", port.device_owner))


def _check_device(tx: Transaction, device_id: str, device_owner: str) -> None:
    for name, text in (("device_id", device_id), ("device_owner", device_owner)):
        if len(text.encode()) > _DEVICE_BYTES_MAX or "\0" in text:
            raise BadRequest(f"Invalid input for {name}: too long.", code="HTTPBadRequest", field=name)
    if device_id and tx.get(tables.SERVERS, device_id) is not None:
        raise BadRequest(
            f"Port cannot be given to server {device_id} here.",
            code="HTTPBadRequest",
            field="device_id",
            hint="Name the port when the server is created, or attach it through the compute API.",
        )


def _check_host(tx: Transaction, host: str) -> None:
    if host and tx.get(tables.HOSTS, host) is None:
        raise BadRequest(f"Host {host} could not be found.", code="HTTPBadRequest", field="binding:host_id")


def _new_groups(
    tx: Transaction, caller: Caller, project_id: str, secured: bool, wanted: tuple[str, ...] | UnsetType
) -> tuple[str, ...]:
    if wanted is not UNSET:
        return checked_groups(tx, caller, project_id, wanted)
    return (ensure_default_group(tx, project_id).id,) if secured else ()


def _check_security(port: Port) -> None:
    if port.port_security_enabled:
        return
    if port.security_groups:
        raise Conflict(
            "Port has security group associated. Cannot disable port security or IP address until security group is "
            "removed.",
            code="PortSecurityPortHasSecurityGroup",
        )
    if port.allowed_address_pairs:
        raise Conflict(
            "Port Security must be enabled in order to have allowed address pairs on a port.",
            code="AddressPairAndPortSecurityRequired",
        )


def parse_mac(text: str) -> str:
    """A unicast MAC address in lower case with colons. Raises BadRequest."""
    mac = text.lower()
    if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or mac.strip("0:-") == "":
        raise BadRequest(f"'{text}' is not a valid MAC address.", code="HTTPBadRequest", field="mac_address")
    return mac.replace("-", ":")


def _free_mac(tx: Transaction, network: Network, text: str) -> str:
    mac = parse_mac(text)
    if tx.find(tables.PORTS_BY_MAC, network.id, mac) is not None:
        raise Conflict(
            f"Unable to complete operation for network {network.id}. The mac address {mac} is in use.",
            code="MacAddressInUse",
        )
    return mac


def _changed_mac(tx: Transaction, network: Network, port: Port, text: str) -> str:
    mac = parse_mac(text)
    if mac == port.mac_address:
        return mac
    if port.host or _server_has(tx, port):
        raise Conflict(
            f"Unable to complete operation on port {port.id}, port is already bound, port type: bridge, old_mac "
            f"{port.mac_address}, new_mac {mac}",
            code="PortBound",
        )
    return _free_mac(tx, network, mac)


def _vnic_type(text: str) -> str:
    if text not in VNIC_TYPES:
        raise BadRequest(
            f"Invalid input for binding:vnic_type. Reason: '{text}' is not in {list(VNIC_TYPES)}.",
            code="HTTPBadRequest",
            field="binding:vnic_type",
        )
    return text


def _address_pairs(pairs: tuple[AddressPair, ...], own_mac: str) -> tuple[AddressPair, ...]:
    """Pairs with parsed addresses; without a MAC address the port's own counts. Raises BadRequest."""
    if len(pairs) > ADDRESS_PAIRS_MAX:
        raise BadRequest(
            f"The number of allowed address pair exceeds the maximum {ADDRESS_PAIRS_MAX}.",
            code="AllowedAddressPairExhausted",
            field="allowed_address_pairs",
        )
    checked: list[AddressPair] = []
    for pair in pairs:
        mac = parse_mac(pair.mac_address) if pair.mac_address else own_mac
        found = AddressPair(ip_address=_pair_address(pair.ip_address), mac_address=mac)
        if found in checked:
            raise BadRequest(
                f"Request contains duplicate address pair: mac_address {mac} ip_address {found.ip_address}.",
                code="DuplicateAddressPairInRequest",
                field="allowed_address_pairs",
            )
        checked.append(found)
    return tuple(checked)


def _pair_address(text: str) -> str:
    try:
        if "%" in text:
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise BadRequest(
            f"'{text}' is not a valid IP address or subnet.", code="HTTPBadRequest", field="allowed_address_pairs"
        ) from None
    return str(network) if "/" in text else str(network.network_address)
