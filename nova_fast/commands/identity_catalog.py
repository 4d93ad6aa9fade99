"""The service catalog: services, their endpoints, and the regions these are in."""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.commands.identity import NAME_BYTES_MAX
from nova_fast.commands.registry import command
from nova_fast.model.base import Message
from nova_fast.model.commands.identity import (
    CreateEndpoint,
    CreateRegion,
    CreateService,
    DeleteEndpoint,
    DeleteRegion,
    DeleteService,
    EndpointResult,
    RegionResult,
    ServiceResult,
    UpdateEndpoint,
    UpdateRegion,
    UpdateService,
)
from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.identity import CatalogEndpoint, CatalogService, Region
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction


def _given(request: Message, *names: str) -> dict[str, Any]:
    """The fields of an update that are to change."""
    return {name: value for name in names if (value := getattr(request, name)) is not None}


@command(CreateService)
def create_service(tx: Transaction, request: CreateService) -> ServiceResult:
    """Add a service to the catalog."""
    service = CatalogService(
        id=tx.new_hex(), type=request.service_type, name=request.name, description=request.description,
        enabled=request.enabled,
    )  # fmt: skip
    tx.insert(tables.CATALOG_SERVICES, service)
    return ServiceResult(service=service)


@command(UpdateService)
def update_service(tx: Transaction, request: UpdateService) -> ServiceResult:
    """Change a service."""
    service = tx.need(tables.CATALOG_SERVICES, request.service_id, "Service")
    changes = _given(request, "name", "description", "enabled")
    if request.service_type is not None:
        changes["type"] = request.service_type
    changed = msgspec.structs.replace(service, **changes)
    tx.put(tables.CATALOG_SERVICES, changed)
    return ServiceResult(service=changed)


@command(DeleteService)
def delete_service(tx: Transaction, request: DeleteService) -> ServiceResult:
    """Remove a service and its endpoints."""
    service = tx.need(tables.CATALOG_SERVICES, request.service_id, "Service")
    for endpoint in list(tx.scan_index(tables.ENDPOINTS_BY_SERVICE, service.id)):
        tx.delete(tables.CATALOG_ENDPOINTS, endpoint.id)
    tx.delete(tables.CATALOG_SERVICES, service.id)
    return ServiceResult(service=service)


@command(CreateEndpoint)
def create_endpoint(tx: Transaction, request: CreateEndpoint) -> EndpointResult:
    """Add an endpoint; its region is made when it is new. Raises BadRequest for an unknown service."""
    _need_service(tx, request.service_id)
    if request.region_id:
        _check_region_id(request.region_id)
        if tx.get(tables.REGIONS, request.region_id) is None:
            tx.insert(tables.REGIONS, Region(id=request.region_id))
    endpoint = CatalogEndpoint(
        id=tx.new_hex(), service_id=request.service_id, interface=request.interface, url=request.url,
        region_id=request.region_id, enabled=request.enabled,
    )  # fmt: skip
    tx.insert(tables.CATALOG_ENDPOINTS, endpoint)
    return EndpointResult(endpoint=endpoint)


@command(UpdateEndpoint)
def update_endpoint(tx: Transaction, request: UpdateEndpoint) -> EndpointResult:
    """Change an endpoint. Raises BadRequest for an unknown service or region."""
    endpoint = tx.need(tables.CATALOG_ENDPOINTS, request.endpoint_id, "Endpoint")
    if request.service_id is not None:
        _need_service(tx, request.service_id)
    if request.region_id and tx.get(tables.REGIONS, request.region_id) is None:
        raise BadRequest(f"Region {request.region_id} could not be found.", field="region_id")
    changed = msgspec.structs.replace(
        endpoint, **_given(request, "service_id", "interface", "url", "region_id", "enabled")
    )
    tx.put(tables.CATALOG_ENDPOINTS, changed)
    return EndpointResult(endpoint=changed)


@command(DeleteEndpoint)
def delete_endpoint(tx: Transaction, request: DeleteEndpoint) -> EndpointResult:
    """Remove an endpoint."""
    endpoint = tx.need(tables.CATALOG_ENDPOINTS, request.endpoint_id, "Endpoint")
    tx.delete(tables.CATALOG_ENDPOINTS, endpoint.id)
    return EndpointResult(endpoint=endpoint)


@command(CreateRegion)
def create_region(tx: Transaction, request: CreateRegion) -> RegionResult:
    """Make a region. Raises Conflict when its id is taken, NotFound for an unknown parent."""
    region_id = request.id or tx.new_hex()
    _check_region_id(region_id)
    if tx.get(tables.REGIONS, region_id) is not None:
        raise Conflict(f"Duplicate ID, {region_id}.", code="region_exists", field="id")
    if request.parent_region_id:
        tx.need(tables.REGIONS, request.parent_region_id, "Region")
    region = Region(id=region_id, description=request.description, parent_region_id=request.parent_region_id or None)
    tx.insert(tables.REGIONS, region)
    return RegionResult(region=region)


@command(UpdateRegion)
def update_region(tx: Transaction, request: UpdateRegion) -> RegionResult:
    """Change a region. Raises NotFound for an unknown parent, BadRequest for a circle of parents."""
    region = tx.need(tables.REGIONS, request.region_id, "Region")
    parent_id = region.parent_region_id
    if request.parent_region_id is not None:
        parent_id = request.parent_region_id or None
    above = parent_id
    while above is not None:
        if above == region.id:
            raise BadRequest("A region cannot be below itself.", field="parent_region_id")
        above = tx.need(tables.REGIONS, above, "Region").parent_region_id
    description = region.description if request.description is None else request.description
    changed = msgspec.structs.replace(region, description=description, parent_region_id=parent_id)
    tx.put(tables.REGIONS, changed)
    return RegionResult(region=changed)


@command(DeleteRegion)
def delete_region(tx: Transaction, request: DeleteRegion) -> RegionResult:
    """Remove a region. Raises Conflict while it has endpoints or children."""
    region = tx.need(tables.REGIONS, request.region_id, "Region")
    if any(endpoint.region_id == region.id for endpoint in tx.scan(tables.CATALOG_ENDPOINTS)):
        raise Conflict(f"Region {region.id} still has endpoints.", code="region_in_use", hint="Delete them first.")
    if any(other.parent_region_id == region.id for other in tx.scan(tables.REGIONS)):
        raise Conflict(f"Region {region.id} still has child regions.", code="region_in_use")
    tx.delete(tables.REGIONS, region.id)
    return RegionResult(region=region)


def _need_service(tx: Transaction, service_id: str) -> None:
    if tx.get(tables.CATALOG_SERVICES, service_id) is None:
        raise BadRequest(f"Service {service_id} could not be found.", field="service_id")


def _check_region_id(region_id: str) -> None:
    if len(region_id.encode()) > NAME_BYTES_MAX:
        raise BadRequest(f"A region id has at most {NAME_BYTES_MAX} bytes.", field="id")
