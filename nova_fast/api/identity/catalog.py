"""The service catalog as an admin keeps it: services, endpoints, regions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.identity import shapes
from nova_fast.api.identity.face import face, found, v3
from nova_fast.api.identity.listing import listing
from nova_fast.model.commands.identity import (
    CreateEndpoint,
    CreateRegion,
    CreateService,
    DeleteEndpoint,
    DeleteRegion,
    DeleteService,
    UpdateEndpoint,
    UpdateRegion,
    UpdateService,
)
from nova_fast.queries import identity as queries

Name = Annotated[str, Meta(max_length=255)]
Type = Annotated[str, Meta(min_length=1, max_length=255)]
Text = Annotated[str, Meta(max_length=1000)]
Url = Annotated[str, Meta(min_length=1, max_length=225, pattern=r"^[a-zA-Z0-9+.\-]+:.+")]
Interface = Literal["public", "internal", "admin"]
RegionId = Annotated[str, Meta(max_length=255)]


class NewService(msgspec.Struct, forbid_unknown_fields=True):
    type: Type
    name: Name | None = None
    description: Text | None = None
    enabled: bool = True


class NewServiceBody(msgspec.Struct, forbid_unknown_fields=True):
    service: NewService


class ChangedService(msgspec.Struct, forbid_unknown_fields=True):
    type: Type | None = None
    name: Name | None = None
    description: Text | None = None
    enabled: bool | None = None


class ChangedServiceBody(msgspec.Struct, forbid_unknown_fields=True):
    service: ChangedService


class NewEndpoint(msgspec.Struct, forbid_unknown_fields=True):
    service_id: str
    interface: Interface
    url: Url
    region_id: RegionId | None = None
    region: RegionId | None = None
    enabled: bool = True
    name: Name | None = None


class NewEndpointBody(msgspec.Struct, forbid_unknown_fields=True):
    endpoint: NewEndpoint


class ChangedEndpoint(msgspec.Struct, forbid_unknown_fields=True):
    service_id: str | None = None
    interface: Interface | None = None
    url: Url | None = None
    region_id: RegionId | None = None
    region: RegionId | None = None
    enabled: bool | None = None
    name: Name | None = None


class ChangedEndpointBody(msgspec.Struct, forbid_unknown_fields=True):
    endpoint: ChangedEndpoint


class NewRegion(msgspec.Struct, forbid_unknown_fields=True):
    id: RegionId | None = None
    description: Text | None = None
    parent_region_id: RegionId | None = None


class NewRegionBody(msgspec.Struct, forbid_unknown_fields=True):
    region: NewRegion


class ChangedRegion(msgspec.Struct, forbid_unknown_fields=True):
    description: Text | None = None
    parent_region_id: RegionId | None = None


class ChangedRegionBody(msgspec.Struct, forbid_unknown_fields=True):
    region: ChangedRegion


# ---------------------------------------------------------------------- services


@face.route("GET", "/services", policy="system-reader")
async def list_services(request: Request) -> dict[str, Any]:
    """All services."""
    with request.snapshot() as reader:
        rows = [shapes.service(one, v3(request)) for one in queries.services(reader)]
    return listing(request, "services", rows, ("name", "type"))


@face.route("POST", "/services", ok=201, errors=(400,), policy="admin", body=NewServiceBody)
async def create_service(request: Request) -> dict[str, Any]:
    """Add a service."""
    new = request.body.service
    command = CreateService(
        caller=request.caller,
        service_type=new.type,
        name=new.name or "",
        description=new.description or "",
        enabled=new.enabled,
    )
    return {"service": shapes.service((await request.command(command)).service, v3(request))}


@face.route("GET", "/services/{service_id}", errors=(404,), policy="system-reader")
async def show_service(request: Request, service_id: str) -> dict[str, Any]:
    """One service."""
    with request.snapshot() as reader:
        service = found(queries.service(reader, service_id), "service", service_id)
    return {"service": shapes.service(service, v3(request))}


@face.route("PATCH", "/services/{service_id}", errors=(400, 404), policy="admin", body=ChangedServiceBody)
async def update_service(request: Request, service_id: str) -> dict[str, Any]:
    """Change a service."""
    changed = request.body.service
    command = UpdateService(
        caller=request.caller,
        service_id=service_id,
        service_type=changed.type,
        name=changed.name,
        description=changed.description,
        enabled=changed.enabled,
    )
    return {"service": shapes.service((await request.command(command)).service, v3(request))}


@face.route("DELETE", "/services/{service_id}", ok=204, errors=(404,), policy="admin")
async def delete_service(request: Request, service_id: str) -> None:
    """Remove a service and its endpoints."""
    await request.command(DeleteService(caller=request.caller, service_id=service_id))


# ---------------------------------------------------------------------- endpoints


@face.route("GET", "/endpoints", policy="system-reader")
async def list_endpoints(request: Request) -> dict[str, Any]:
    """All endpoints."""
    with request.snapshot() as reader:
        rows = [shapes.endpoint(one, v3(request)) for one in queries.endpoints(reader)]
    return listing(request, "endpoints", rows, ("service_id", "interface", "region_id", "region"))


@face.route("POST", "/endpoints", ok=201, errors=(400,), policy="admin", body=NewEndpointBody)
async def create_endpoint(request: Request) -> dict[str, Any]:
    """Add an endpoint."""
    new = request.body.endpoint
    command = CreateEndpoint(
        caller=request.caller,
        service_id=new.service_id,
        interface=new.interface,
        url=new.url,
        region_id=new.region_id or new.region or "",
        enabled=new.enabled,
    )
    return {"endpoint": shapes.endpoint((await request.command(command)).endpoint, v3(request))}


@face.route("GET", "/endpoints/{endpoint_id}", errors=(404,), policy="system-reader")
async def show_endpoint(request: Request, endpoint_id: str) -> dict[str, Any]:
    """One endpoint."""
    with request.snapshot() as reader:
        endpoint = found(queries.endpoint(reader, endpoint_id), "endpoint", endpoint_id)
    return {"endpoint": shapes.endpoint(endpoint, v3(request))}


@face.route("PATCH", "/endpoints/{endpoint_id}", errors=(400, 404), policy="admin", body=ChangedEndpointBody)
async def update_endpoint(request: Request, endpoint_id: str) -> dict[str, Any]:
    """Change an endpoint."""
    changed = request.body.endpoint
    command = UpdateEndpoint(
        caller=request.caller,
        endpoint_id=endpoint_id,
        service_id=changed.service_id,
        interface=changed.interface,
        url=changed.url,
        region_id=changed.region_id if changed.region_id is not None else changed.region,
        enabled=changed.enabled,
    )
    return {"endpoint": shapes.endpoint((await request.command(command)).endpoint, v3(request))}


@face.route("DELETE", "/endpoints/{endpoint_id}", ok=204, errors=(404,), policy="admin")
async def delete_endpoint(request: Request, endpoint_id: str) -> None:
    """Remove an endpoint."""
    await request.command(DeleteEndpoint(caller=request.caller, endpoint_id=endpoint_id))


# ---------------------------------------------------------------------- regions


@face.route("GET", "/regions", policy="any")
async def list_regions(request: Request) -> dict[str, Any]:
    """All regions."""
    with request.snapshot() as reader:
        rows = [shapes.region(one, v3(request)) for one in queries.regions(reader)]
    return listing(request, "regions", rows, ("parent_region_id",))


@face.route("POST", "/regions", ok=201, errors=(400, 404, 409), policy="admin", body=NewRegionBody)
async def create_region(request: Request) -> dict[str, Any]:
    """Make a region."""
    new = request.body.region
    command = CreateRegion(
        caller=request.caller,
        id=new.id or "",
        description=new.description or "",
        parent_region_id=new.parent_region_id,
    )
    return {"region": shapes.region((await request.command(command)).region, v3(request))}


@face.route("GET", "/regions/{region_id}", errors=(404,), policy="any")
async def show_region(request: Request, region_id: str) -> dict[str, Any]:
    """One region."""
    with request.snapshot() as reader:
        region = found(queries.region(reader, region_id), "region", region_id)
    return {"region": shapes.region(region, v3(request))}


@face.route("PATCH", "/regions/{region_id}", errors=(400, 404), policy="admin", body=ChangedRegionBody)
async def update_region(request: Request, region_id: str) -> dict[str, Any]:
    """Change a region."""
    changed = request.body.region
    command = UpdateRegion(
        caller=request.caller,
        region_id=region_id,
        description=changed.description,
        parent_region_id=changed.parent_region_id,
    )
    return {"region": shapes.region((await request.command(command)).region, v3(request))}


@face.route("DELETE", "/regions/{region_id}", ok=204, errors=(404, 409), policy="admin")
async def delete_region(request: Request, region_id: str) -> None:
    """Remove a region."""
    await request.command(DeleteRegion(caller=request.caller, region_id=region_id))
