"""``/v2.0/subnets``. Source: Networking API v2.0, "Subnets"."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.listing import answer_list, choose_fields, query_type
from nova_fast.api.network.shapes import (
    Body,
    Boolean,
    Identifier,
    Name,
    Number,
    bad_value,
    boolean,
    boolean_or_unset,
    number,
    one_or_many,
    owner,
)
from nova_fast.api.network.views import subnet_view
from nova_fast.model.commands.networks import CreateSubnets, DeleteSubnet, NewSubnet, SubnetChanges, UpdateSubnet
from nova_fast.model.networks import AddressPool, HostRoute
from nova_fast.queries import networks as queries

SubnetQuery = query_type(
    "SubnetQuery", "id", "name", "ip_version", "network_id", "subnetpool_id", "cidr", "gateway_ip", "enable_dhcp",
    "ipv6_ra_mode", "ipv6_address_mode", "shared",
)  # fmt: skip
Address = Annotated[str, Meta(max_length=64)]


class PoolBody(Body, frozen=True):
    start: Address
    end: Address


class RouteBody(Body, frozen=True):
    destination: Address
    nexthop: Address


class SubnetBody(Body, frozen=True):
    """What a new subnet may say of itself; subnet pools are not there, so only null may be said of them."""

    network_id: Identifier
    ip_version: Number
    cidr: Address | UnsetType | None = UNSET
    name: Name = ""
    project_id: Identifier | UnsetType = UNSET
    tenant_id: Identifier | UnsetType = UNSET
    gateway_ip: Address | UnsetType | None = UNSET
    allocation_pools: list[PoolBody] | UnsetType = UNSET
    dns_nameservers: list[Address] | UnsetType | None = UNSET
    host_routes: list[RouteBody] | UnsetType | None = UNSET
    enable_dhcp: Boolean = True
    ipv6_ra_mode: Name | UnsetType | None = UNSET
    ipv6_address_mode: Name | UnsetType | None = UNSET
    description: Name = ""
    subnetpool_id: None = None

    def new(self) -> NewSubnet:
        """As a command says it. Raises BadRequest."""
        if not self.cidr:
            raise bad_value("cidr", "a subnetpool_id or a cidr must be specified, and subnet pools are not there.")
        return NewSubnet(
            network_id=self.network_id,
            ip_version=number(self.ip_version, "ip_version"),
            cidr=self.cidr,
            project_id=owner(self.project_id, self.tenant_id),
            name=self.name,
            gateway_ip=self.gateway_ip,
            pools=UNSET if self.allocation_pools is UNSET else _pools(self.allocation_pools),
            dns_nameservers=tuple(self.dns_nameservers or ()),
            host_routes=_routes(self.host_routes or []),
            enable_dhcp=boolean(self.enable_dhcp, "enable_dhcp"),
            ipv6_ra_mode=self.ipv6_ra_mode or "",
            ipv6_address_mode=self.ipv6_address_mode or "",
            description=self.description,
        )


class CreateBody(Body, frozen=True):
    subnet: SubnetBody | UnsetType = UNSET
    subnets: list[SubnetBody] | UnsetType = UNSET


class SubnetUpdate(Body, frozen=True):
    name: Name | UnsetType = UNSET
    gateway_ip: Address | UnsetType | None = UNSET
    allocation_pools: list[PoolBody] | UnsetType = UNSET
    dns_nameservers: list[Address] | UnsetType = UNSET
    host_routes: list[RouteBody] | UnsetType = UNSET
    enable_dhcp: Boolean | UnsetType = UNSET
    description: Name | UnsetType = UNSET


class UpdateBody(Body, frozen=True):
    subnet: SubnetUpdate


def _pools(pools: list[PoolBody]) -> tuple[AddressPool, ...]:
    return tuple(AddressPool(start=pool.start, end=pool.end) for pool in pools)


def _routes(routes: list[RouteBody]) -> tuple[HostRoute, ...]:
    return tuple(HostRoute(destination=route.destination, nexthop=route.nexthop) for route in routes)


@face.route("GET", "/subnets", policy="reader", errors=(400,), query=SubnetQuery)
async def list_subnets(request: Request) -> dict[str, Any]:
    """The subnets the caller may see."""
    with request.snapshot() as snapshot:
        subnets = list(queries.visible_subnets(snapshot, request.caller))
        shared = queries.shared_networks(snapshot) if request.query.shared else frozenset()
    hidden = {subnet.id: {"shared": subnet.network_id in shared} for subnet in subnets}
    return answer_list(request, "subnets", [subnet_view(subnet) for subnet in subnets], hidden)


@face.route("POST", "/subnets", ok=201, policy="member", errors=(400, 403, 404, 409), body=CreateBody)
async def create_subnets(request: Request) -> dict[str, Any]:
    """Make one subnet, or several: all or none."""
    bodies, bulk = one_or_many(request.body.subnet, request.body.subnets, "subnet")
    result = await request.command(CreateSubnets(caller=request.caller, subnets=tuple(b.new() for b in bodies)))
    views = [subnet_view(subnet) for subnet in result.subnets]
    return {"subnets": views} if bulk else {"subnet": views[0]}


@face.route("GET", "/subnets/{subnet_id}", policy="reader", errors=(404,))
async def show_subnet(request: Request, subnet_id: str) -> dict[str, Any]:
    """One subnet."""
    with request.snapshot() as snapshot:
        subnet = queries.need_subnet(snapshot, request.caller, subnet_id)
    return {"subnet": choose_fields(request, subnet_view(subnet))}


@face.route("PUT", "/subnets/{subnet_id}", policy="member", errors=(400, 403, 404, 409), body=UpdateBody)
async def update_subnet(request: Request, subnet_id: str) -> dict[str, Any]:
    """Change a subnet."""
    body: SubnetUpdate = request.body.subnet
    changes = SubnetChanges(
        name=body.name,
        gateway_ip=body.gateway_ip,
        pools=UNSET if body.allocation_pools is UNSET else _pools(body.allocation_pools),
        dns_nameservers=UNSET if body.dns_nameservers is UNSET else tuple(body.dns_nameservers),
        host_routes=UNSET if body.host_routes is UNSET else _routes(body.host_routes),
        enable_dhcp=boolean_or_unset(body.enable_dhcp, "enable_dhcp"),
        description=body.description,
    )
    result = await request.command(UpdateSubnet(caller=request.caller, subnet_id=subnet_id, changes=changes))
    return {"subnet": subnet_view(result.subnets[0])}


@face.route("DELETE", "/subnets/{subnet_id}", ok=204, policy="member", errors=(403, 404, 409))
async def delete_subnet(request: Request, subnet_id: str) -> None:
    """Remove a subnet without ports."""
    await request.command(DeleteSubnet(caller=request.caller, subnet_id=subnet_id))
