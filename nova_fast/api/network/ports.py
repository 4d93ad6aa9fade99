"""``/v2.0/ports``. Source: Networking API v2.0, "Ports"."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.listing import answer_list, choose_fields, only, query_type
from nova_fast.api.network.shapes import (
    Body,
    Boolean,
    Identifier,
    Name,
    bad_value,
    boolean,
    boolean_or_unset,
    one_or_many,
    owner,
)
from nova_fast.api.network.views import port_view
from nova_fast.model.commands.ports import (
    AddressRequest,
    CreatePorts,
    DeletePort,
    NewPort,
    PortChanges,
    UpdatePort,
)
from nova_fast.model.networks import AddressPair
from nova_fast.queries import networks as queries

PortQuery = query_type(
    "PortQuery", "id", "name", "network_id", "admin_state_up", "mac_address", "fixed_ips", "device_id", "device_owner",
    "status", "binding:host_id", "binding:vnic_type", "security_groups", "port_security_enabled",
)  # fmt: skip
_BINDING = {"host_id": "binding:host_id", "vnic_type": "binding:vnic_type", "profile": "binding:profile"}
Address = Annotated[str, Meta(max_length=64)]
PROFILE_MAX = 32


class FixedIpBody(Body, frozen=True):
    subnet_id: Identifier | UnsetType = UNSET
    ip_address: Address | UnsetType = UNSET


class PairBody(Body, frozen=True):
    ip_address: Address
    mac_address: Address = ""


class PortBody(Body, frozen=True, rename=_BINDING):
    """What a new port may say of itself."""

    network_id: Identifier
    name: Name = ""
    admin_state_up: Boolean = True
    mac_address: Address | UnsetType = UNSET
    fixed_ips: list[FixedIpBody] | UnsetType = UNSET
    device_id: Name = ""
    device_owner: Name = ""
    project_id: Identifier | UnsetType = UNSET
    tenant_id: Identifier | UnsetType = UNSET
    security_groups: list[Identifier] | UnsetType | None = UNSET
    port_security_enabled: Boolean | UnsetType = UNSET
    allowed_address_pairs: list[PairBody] | UnsetType | None = UNSET
    description: Name = ""
    host_id: Name | None = ""
    vnic_type: Name = "normal"
    profile: dict[str, Any] | None = None

    def new(self) -> NewPort:
        """As a command says it. Raises BadRequest."""
        return NewPort(
            network_id=self.network_id,
            project_id=owner(self.project_id, self.tenant_id),
            name=self.name,
            mac_address=self.mac_address,
            fixed_ips=UNSET if self.fixed_ips is UNSET else _wishes(self.fixed_ips),
            device_id=self.device_id,
            device_owner=self.device_owner,
            host=self.host_id or "",
            admin_state_up=boolean(self.admin_state_up, "admin_state_up"),
            security_groups=UNSET if self.security_groups is UNSET else tuple(self.security_groups or ()),
            port_security_enabled=boolean_or_unset(self.port_security_enabled, "port_security_enabled"),
            allowed_address_pairs=_pairs(self.allowed_address_pairs or []),
            description=self.description,
            vnic_type=self.vnic_type,
            profile=_profile(self.profile),
        )


class CreateBody(Body, frozen=True):
    port: PortBody | UnsetType = UNSET
    ports: list[PortBody] | UnsetType = UNSET


class PortUpdate(Body, frozen=True, rename=_BINDING):
    name: Name | UnsetType = UNSET
    admin_state_up: Boolean | UnsetType = UNSET
    mac_address: Address | UnsetType = UNSET
    fixed_ips: list[FixedIpBody] | UnsetType = UNSET
    device_id: Name | UnsetType = UNSET
    device_owner: Name | UnsetType = UNSET
    security_groups: list[Identifier] | UnsetType | None = UNSET
    port_security_enabled: Boolean | UnsetType = UNSET
    allowed_address_pairs: list[PairBody] | UnsetType | None = UNSET
    description: Name | UnsetType = UNSET
    host_id: Name | UnsetType | None = UNSET
    vnic_type: Name | UnsetType = UNSET
    profile: dict[str, Any] | UnsetType | None = UNSET

    def changes(self) -> PortChanges:
        """As a command says it. Raises BadRequest."""
        return PortChanges(
            name=self.name,
            mac_address=self.mac_address,
            fixed_ips=UNSET if self.fixed_ips is UNSET else _wishes(self.fixed_ips),
            device_id=self.device_id,
            device_owner=self.device_owner,
            host=UNSET if self.host_id is UNSET else (self.host_id or ""),
            admin_state_up=boolean_or_unset(self.admin_state_up, "admin_state_up"),
            security_groups=UNSET if self.security_groups is UNSET else tuple(self.security_groups or ()),
            port_security_enabled=boolean_or_unset(self.port_security_enabled, "port_security_enabled"),
            allowed_address_pairs=(
                UNSET if self.allowed_address_pairs is UNSET else _pairs(self.allowed_address_pairs or [])
            ),
            description=self.description,
            vnic_type=self.vnic_type,
            profile=UNSET if self.profile is UNSET else _profile(self.profile),
        )


class UpdateBody(Body, frozen=True):
    port: PortUpdate


def _wishes(bodies: list[FixedIpBody]) -> tuple[AddressRequest, ...]:
    return tuple(AddressRequest(subnet_id=b.subnet_id or "", ip_address=b.ip_address or "") for b in bodies)


def _pairs(bodies: list[PairBody]) -> tuple[AddressPair, ...]:
    return tuple(AddressPair(ip_address=body.ip_address, mac_address=body.mac_address) for body in bodies)


def _profile(profile: dict[str, Any] | None) -> dict[str, str]:
    """Texts only: nothing here reads a profile, so nothing more can be promised of it. Raises BadRequest."""
    values = profile or {}
    if len(values) > PROFILE_MAX or not all(isinstance(value, str) for value in values.values()):
        raise bad_value("binding:profile", f"it may hold {PROFILE_MAX} texts at most and nothing else.")
    return values


@face.route("GET", "/ports", policy="reader", errors=(400,), query=PortQuery)
async def list_ports(request: Request) -> dict[str, Any]:
    """The ports the caller may see."""
    with request.snapshot() as snapshot:
        ports = queries.visible_ports(
            snapshot, request.caller, device_id=only(request, "device_id"), network_id=only(request, "network_id")
        )
        rows = [port_view(port, request.caller) for port in ports]
    return answer_list(request, "ports", rows)


@face.route("POST", "/ports", ok=201, policy="member", errors=(400, 403, 404, 409), body=CreateBody)
async def create_ports(request: Request) -> dict[str, Any]:
    """Make one port, or several: all or none."""
    bodies, bulk = one_or_many(request.body.port, request.body.ports, "port")
    result = await request.command(CreatePorts(caller=request.caller, ports=tuple(body.new() for body in bodies)))
    views = [port_view(port, request.caller) for port in result.ports]
    return {"ports": views} if bulk else {"port": views[0]}


@face.route("GET", "/ports/{port_id}", policy="reader", errors=(404,))
async def show_port(request: Request, port_id: str) -> dict[str, Any]:
    """One port."""
    with request.snapshot() as snapshot:
        port = queries.need_port(snapshot, request.caller, port_id)
    return {"port": choose_fields(request, port_view(port, request.caller))}


@face.route("PUT", "/ports/{port_id}", policy="member", errors=(400, 403, 404, 409), body=UpdateBody)
async def update_port(request: Request, port_id: str) -> dict[str, Any]:
    """Change a port."""
    changes = request.body.port.changes()
    result = await request.command(UpdatePort(caller=request.caller, port_id=port_id, changes=changes))
    return {"port": port_view(result.ports[0], request.caller)}


@face.route("DELETE", "/ports/{port_id}", ok=204, policy="member", errors=(403, 404, 409))
async def delete_port(request: Request, port_id: str) -> None:
    """Remove a port that no server uses."""
    await request.command(DeletePort(caller=request.caller, port_id=port_id))
