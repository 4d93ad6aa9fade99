"""Networks: made, changed and removed through the network API; and the tags that everything there carries."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from nova_fast.commands import usage
from nova_fast.commands.host_networks import mark_network_dirty
from nova_fast.commands.network_limits import only_admin, only_owner, owner_of, take
from nova_fast.commands.registry import command
from nova_fast.commands.subnets import remove_subnet
from nova_fast.model.commands.networks import (
    CreateNetworks,
    DeleteNetwork,
    NetworkChanges,
    NetworksResult,
    NetworkTagsResult,
    NewNetwork,
    SetNetworkTags,
    UpdateNetwork,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.networks import Network
from nova_fast.model.tasks import Done
from nova_fast.queries.networks import need_network, need_port, need_subnet, network_row, subnets_of
from nova_fast.queries.security_groups import need_group
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

MTU_MIN, MTU_MAX = 68, 1450
MTU_MIN_IPV6 = 1280
PROVIDER_TYPES = ("", "vxlan", "flat")
TAGS_MAX = 50
TAG_CHARACTERS_MAX = 255


@command(CreateNetworks)
def create_networks(tx: Transaction, request: CreateNetworks) -> NetworksResult:
    """Make networks. Raises BadRequest, Forbidden, OverQuota; then none is made."""
    rows = tuple(network_row(tx, _create(tx, request.caller, new)) for new in request.networks)
    return NetworksResult(networks=rows)


@command(UpdateNetwork)
def update_network(tx: Transaction, request: UpdateNetwork) -> NetworksResult:
    """Change a network. Raises NotFound, Forbidden, BadRequest, Conflict (``InvalidSharedSetting``)."""
    network = need_network(tx, request.caller, request.network_id)
    only_owner(request.caller, network.project_id, f"change network {network.id}")
    changes = request.changes
    _check_rights(request.caller, changes)
    fields: dict[str, Any] = {
        name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not UNSET
    }
    if "mtu" in fields:
        _check_mtu(tx, fields["mtu"], network.id)
    if network.shared and fields.get("shared") is False:
        _check_no_guests(tx, network)
    changed = msgspec.structs.replace(network, **fields, revision=network.revision + 1, updated_at_us=tx.now_us)
    tx.put(tables.NETWORKS, changed)
    if (changed.mtu, changed.admin_state_up) != (network.mtu, network.admin_state_up):
        mark_network_dirty(tx, network.id)
    return NetworksResult(networks=(network_row(tx, changed),))


@command(DeleteNetwork)
def delete_network(tx: Transaction, request: DeleteNetwork) -> Done:
    """Remove a network and its subnets. Raises NotFound, Forbidden, Conflict (``NetworkInUse``)."""
    network = need_network(tx, request.caller, request.network_id)
    only_owner(request.caller, network.project_id, f"delete network {network.id}")
    port = next(tx.scan_index(tables.PORTS_BY_NETWORK, network.id, limit=1), None)
    if port is not None:
        raise Conflict(
            f"Unable to complete operation on network {network.id}. There are one or more ports still in use on the "
            f"network, id for these ports is {port.id}.",
            code="NetworkInUse",
        )
    for subnet in subnets_of(tx, network.id):
        remove_subnet(tx, subnet)
    tx.delete(tables.NETWORKS, network.id)
    usage.give_back(tx, network.project_id, networks=1)
    return Done()


@command(SetNetworkTags)
def set_network_tags(tx: Transaction, request: SetNetworkTags) -> NetworkTagsResult:
    """Replace all tags of a thing. Raises NotFound, Forbidden, BadRequest."""
    tags = tuple(dict.fromkeys(request.tags))
    if len(tags) > TAGS_MAX:
        raise BadRequest(f"The number of tags exceed the per-resource limit of {TAGS_MAX}", code="HTTPBadRequest")
    for tag in tags:
        if not tag or len(tag) > TAG_CHARACTERS_MAX:
            raise BadRequest(f"A tag has 1 to {TAG_CHARACTERS_MAX} characters.", code="HTTPBadRequest", field="tags")
    _put_tags(tx, request, tags)
    return NetworkTagsResult(tags=tags)


def _put_tags(tx: Transaction, request: SetNetworkTags, tags: tuple[str, ...]) -> None:
    caller, what = request.caller, f"tag {request.id}"
    if request.collection == "networks":
        network = need_network(tx, caller, request.id)
        only_owner(caller, network.project_id, what)
        tx.put(tables.NETWORKS, msgspec.structs.replace(network, tags=tags, revision=network.revision + 1))
    elif request.collection == "subnets":
        subnet = need_subnet(tx, caller, request.id)
        only_owner(caller, subnet.project_id, what)
        tx.put(tables.SUBNETS, msgspec.structs.replace(subnet, tags=tags, revision=subnet.revision + 1))
    elif request.collection == "ports":
        port = need_port(tx, caller, request.id)
        only_owner(caller, port.project_id, what)
        tx.put(tables.PORTS, msgspec.structs.replace(port, tags=tags, revision=port.revision + 1))
    elif request.collection == "security-groups":
        group = need_group(tx, caller, request.id)
        tx.put(tables.SECURITY_GROUPS, msgspec.structs.replace(group, tags=tags, revision=group.revision + 1))
    else:
        raise NotFound(f"{request.collection} have no tags.", code="TagResourceNotFound")


def _create(tx: Transaction, caller: Caller, new: NewNetwork) -> Network:
    project_id = owner_of(caller, new.project_id)
    _check_rights(caller, new)
    _check_provider(new)
    if new.mtu is not UNSET:
        _check_mtu(tx, new.mtu, "")
    take(tx, project_id, networks=1)
    network = Network(
        id=tx.new_uuid(),
        number=tx.next_number("networks"),
        project_id=project_id,
        name=new.name,
        created_at_us=tx.now_us,
        updated_at_us=tx.now_us,
        admin_state_up=new.admin_state_up,
        shared=new.shared,
        external=new.external,
        mtu=MTU_MAX if new.mtu is UNSET else new.mtu,
        description=new.description,
        port_security_enabled=new.port_security_enabled,
        is_default=new.is_default,
        revision=1,
        provider_network_type=new.provider_network_type,
        provider_physical_network=new.provider_physical_network,
    )
    tx.insert(tables.NETWORKS, network)
    return network


def _check_rights(caller: Caller, wanted: NewNetwork | NetworkChanges) -> None:
    if wanted.shared is True or wanted.external is True or wanted.is_default is True:
        only_admin(caller, "make a network shared, external or the default one")
    if isinstance(wanted, NewNetwork) and (
        wanted.provider_network_type or wanted.provider_physical_network or wanted.provider_segmentation_id is not UNSET
    ):
        only_admin(caller, "set provider attributes")


def _check_provider(new: NewNetwork) -> None:
    if new.provider_network_type not in PROVIDER_TYPES:
        raise BadRequest(
            f"Invalid input for operation: provider:network_type {new.provider_network_type} is not supported; "
            "vxlan and flat are.",
            code="InvalidInput",
        )
    if new.provider_segmentation_id is not UNSET:
        raise BadRequest(
            "Invalid input for operation: provider:segmentation_id is chosen by the cloud.", code="InvalidInput"
        )
    flat = new.provider_network_type == "flat"
    if flat and not new.provider_physical_network:
        raise BadRequest(
            "Invalid input for operation: physical_network is required for a flat provider network.",
            code="InvalidInput",
        )
    if flat and not new.external:
        raise BadRequest(
            "Invalid input for operation: a flat network must be external.",
            code="InvalidInput",
            hint="Add --external, or leave provider:network_type out.",
        )
    if new.provider_physical_network and not flat:
        raise BadRequest(
            "Invalid input for operation: physical_network is for flat networks only.", code="InvalidInput"
        )


def _check_mtu(tx: Transaction, mtu: int, network_id: str) -> None:
    six = network_id and any(subnet.ip_version == 6 for subnet in subnets_of(tx, network_id))
    least = MTU_MIN_IPV6 if six else MTU_MIN
    if not least <= mtu <= MTU_MAX:
        raise BadRequest(
            f"Invalid input for operation: mtu {mtu} is not between {least} and {MTU_MAX}.",
            code="InvalidInput",
            field="mtu",
        )


def _check_no_guests(tx: Transaction, network: Network) -> None:
    for port in tx.scan_index(tables.PORTS_BY_NETWORK, network.id):
        if port.project_id != network.project_id:
            raise Conflict(
                f"Unable to reconfigure sharing settings for network {network.name}. Multiple tenants are using it.",
                code="InvalidSharedSetting",
            )
