"""``/v2.0/networks``. Source: Networking API v2.0, "Networks"."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.listing import answer_list, choose_fields, query_type
from nova_fast.api.network.shapes import (
    Body,
    Boolean,
    Identifier,
    Name,
    Number,
    boolean,
    boolean_or_unset,
    number_or_unset,
    one_or_many,
    owner,
)
from nova_fast.api.network.views import View, network_view
from nova_fast.model.commands.networks import (
    CreateNetworks,
    DeleteNetwork,
    NetworkChanges,
    NetworkRow,
    NewNetwork,
    UpdateNetwork,
)
from nova_fast.queries import networks as queries

NetworkQuery = query_type(
    "NetworkQuery", "id", "name", "admin_state_up", "status", "shared", "router:external", "mtu", "is_default",
    "provider:network_type", "provider:physical_network", "provider:segmentation_id", "port_security_enabled",
)  # fmt: skip


class NetworkBody(Body, frozen=True, rename={"external": "router:external", "network_type": "provider:network_type",
                                             "physical_network": "provider:physical_network",
                                             "segmentation_id": "provider:segmentation_id"}):  # fmt: skip
    """What a new network may say of itself."""

    name: Name = ""
    admin_state_up: Boolean = True
    shared: Boolean = False
    external: Boolean = False
    mtu: Number | UnsetType | None = UNSET
    description: Name = ""
    port_security_enabled: Boolean = True
    is_default: Boolean = False
    project_id: Identifier | UnsetType = UNSET
    tenant_id: Identifier | UnsetType = UNSET
    network_type: Name | UnsetType | None = UNSET
    physical_network: Name | UnsetType | None = UNSET
    segmentation_id: Number | UnsetType | None = UNSET

    def new(self) -> NewNetwork:
        """As a command says it."""
        return NewNetwork(
            project_id=owner(self.project_id, self.tenant_id),
            name=self.name,
            admin_state_up=boolean(self.admin_state_up, "admin_state_up"),
            shared=boolean(self.shared, "shared"),
            external=boolean(self.external, "router:external"),
            mtu=number_or_unset(self.mtu, "mtu"),
            description=self.description,
            port_security_enabled=boolean(self.port_security_enabled, "port_security_enabled"),
            is_default=boolean(self.is_default, "is_default"),
            provider_network_type=self.network_type or "",
            provider_physical_network=self.physical_network or "",
            provider_segmentation_id=number_or_unset(self.segmentation_id, "provider:segmentation_id"),
        )


class CreateBody(Body, frozen=True):
    network: NetworkBody | UnsetType = UNSET
    networks: list[NetworkBody] | UnsetType = UNSET


class NetworkUpdate(Body, frozen=True, rename={"external": "router:external"}):
    name: Name | UnsetType = UNSET
    admin_state_up: Boolean | UnsetType = UNSET
    shared: Boolean | UnsetType = UNSET
    external: Boolean | UnsetType = UNSET
    mtu: Number | UnsetType = UNSET
    description: Name | UnsetType = UNSET
    port_security_enabled: Boolean | UnsetType = UNSET
    is_default: Boolean | UnsetType = UNSET


class UpdateBody(Body, frozen=True):
    network: NetworkUpdate


def _view(row: NetworkRow, request: Request) -> View:
    return network_view(row.network, row.subnet_ids, request.caller)


@face.route("GET", "/networks", policy="reader", errors=(400,), query=NetworkQuery)
async def list_networks(request: Request) -> dict[str, Any]:
    """The networks the caller may see."""
    with request.snapshot() as snapshot:
        rows = [_view(row, request) for row in queries.visible_networks(snapshot, request.caller)]
    return answer_list(request, "networks", rows)


@face.route("POST", "/networks", ok=201, policy="member", errors=(400, 403, 409), body=CreateBody)
async def create_networks(request: Request) -> dict[str, Any]:
    """Make one network, or several: all or none."""
    bodies, bulk = one_or_many(request.body.network, request.body.networks, "network")
    result = await request.command(CreateNetworks(caller=request.caller, networks=tuple(b.new() for b in bodies)))
    views = [_view(row, request) for row in result.networks]
    return {"networks": views} if bulk else {"network": views[0]}


@face.route("GET", "/networks/{network_id}", policy="reader", errors=(404,))
async def show_network(request: Request, network_id: str) -> dict[str, Any]:
    """One network."""
    with request.snapshot() as snapshot:
        network = queries.need_network(snapshot, request.caller, network_id)
        row = queries.network_row(snapshot, network)
    return {"network": choose_fields(request, _view(row, request))}


@face.route("PUT", "/networks/{network_id}", policy="member", errors=(400, 403, 404, 409), body=UpdateBody)
async def update_network(request: Request, network_id: str) -> dict[str, Any]:
    """Change a network."""
    body: NetworkUpdate = request.body.network
    changes = NetworkChanges(
        name=body.name,
        admin_state_up=boolean_or_unset(body.admin_state_up, "admin_state_up"),
        shared=boolean_or_unset(body.shared, "shared"),
        external=boolean_or_unset(body.external, "router:external"),
        mtu=number_or_unset(body.mtu, "mtu"),
        description=body.description,
        port_security_enabled=boolean_or_unset(body.port_security_enabled, "port_security_enabled"),
        is_default=boolean_or_unset(body.is_default, "is_default"),
    )
    result = await request.command(UpdateNetwork(caller=request.caller, network_id=network_id, changes=changes))
    return {"network": _view(result.networks[0], request)}


@face.route("DELETE", "/networks/{network_id}", ok=204, policy="member", errors=(403, 404, 409))
async def delete_network(request: Request, network_id: str) -> None:
    """Remove a network without ports."""
    await request.command(DeleteNetwork(caller=request.caller, network_id=network_id))
