"""Host aggregates: hosts that an operator puts together, and what is said of all of them.

Source: Compute API v2.1, "Host aggregates". An aggregate is named by a number; its UUID is shown since 2.41.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.compute import shapes
from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.hub.peer import Peer
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.base import Message
from nova_fast.model.commands.aggregates import (
    AddAggregateHost,
    AggregateResult,
    CreateAggregate,
    DeleteAggregate,
    RemoveAggregateHost,
    SetAggregateMetadata,
    UpdateAggregate,
)
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.identity import Caller
from nova_fast.model.images import ImageStatus
from nova_fast.model.tasks import CacheAggregateImages
from nova_fast.queries import aggregates, images
from nova_fast.queries.reading import Reader

ONE = "/os-aggregates/{aggregate_id}"
ACTION = ONE + "/action"
CACHE_TIMEOUT_S = 15
IMAGES_MAX = 100  # in one request
Text255 = Annotated[str, Meta(min_length=1, max_length=255)]
MetadataKey = Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-_:. ]+\Z")]
MetadataValue = Annotated[str, Meta(max_length=255)] | None


class NewAggregate(msgspec.Struct, forbid_unknown_fields=True):
    name: Text255
    availability_zone: Text255 | None = None


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    aggregate: NewAggregate


class AggregateUpdate(msgspec.Struct, forbid_unknown_fields=True):
    name: Text255 | UnsetType = UNSET
    availability_zone: Text255 | UnsetType | None = UNSET


class UpdateBody(msgspec.Struct, forbid_unknown_fields=True):
    aggregate: AggregateUpdate


class HostName(msgspec.Struct, forbid_unknown_fields=True):
    host: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[a-zA-Z0-9\-._]*\Z")]


class CachedImage(msgspec.Struct, forbid_unknown_fields=True):
    id: uuid.UUID


class ImagesBody(msgspec.Struct, forbid_unknown_fields=True):
    cache: Annotated[list[CachedImage], Meta(min_length=1, max_length=IMAGES_MAX)]


class NewMetadata(msgspec.Struct, forbid_unknown_fields=True):
    metadata: dict[MetadataKey, MetadataValue]


def _view(request: Request, aggregate: Aggregate) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": aggregate.number,
        "name": aggregate.name,
        "availability_zone": aggregate.zone or None,
        "hosts": list(aggregate.hosts),
        "metadata": aggregate.metadata,
        "created_at": shapes.micros(aggregate.created_at_us),
        "updated_at": shapes.micros(aggregate.updated_at_us) if aggregate.updated_at_us else None,
        "deleted": False,
        "deleted_at": None,
    }
    if request.at_least("2.41"):
        body["uuid"] = aggregate.id
    return body


@face.route("GET", "/os-aggregates", policy="admin")
async def list_aggregates(request: Request) -> dict[str, Any]:
    """Every aggregate."""
    with request.snapshot() as snapshot:
        rows = aggregates.listing(snapshot)
    return {"aggregates": [_view(request, row) for row in rows]}


@face.route("GET", ONE, errors=(400, 404), policy="admin")
async def show_aggregate(request: Request, aggregate_id: str) -> dict[str, Any]:
    """One aggregate."""
    number = _number(aggregate_id)
    with request.snapshot() as snapshot:
        return {"aggregate": _view(request, aggregates.get(snapshot, number))}


@face.route("POST", "/os-aggregates", errors=(400, 409), policy="admin", body=CreateBody)
async def create_aggregate(request: Request) -> dict[str, Any]:
    """Make an aggregate; with an availability zone, it is one as soon as it has hosts."""
    asked: NewAggregate = request.body.aggregate
    zone = "" if asked.availability_zone is None else _zone(asked.availability_zone)
    name = shapes.printable_name(asked.name, "name")
    result: AggregateResult = await request.command(CreateAggregate(caller=request.caller, name=name, zone=zone))
    view = _view(request, result.aggregate)
    return {"aggregate": {key: value for key, value in view.items() if key not in ("hosts", "metadata")}}


@face.route("PUT", ONE, errors=(400, 404, 409), policy="admin", body=UpdateBody)
async def update_aggregate(request: Request, aggregate_id: str) -> dict[str, Any]:
    """Change the name or the availability zone."""
    asked: AggregateUpdate = request.body.aggregate
    if asked.name is UNSET and asked.availability_zone is UNSET:
        raise BadRequest("Nothing was asked for: give name or availability_zone.", field="aggregate")
    zone: str | UnsetType = UNSET
    if not isinstance(asked.availability_zone, UnsetType):
        zone = "" if asked.availability_zone is None else _zone(asked.availability_zone)
    name = UNSET if isinstance(asked.name, UnsetType) else shapes.printable_name(asked.name.strip(), "name")
    number = _number(aggregate_id)
    return await _changed(request, UpdateAggregate(caller=request.caller, number=number, name=name, zone=zone))


@face.route("DELETE", ONE, errors=(400, 404), policy="admin")
async def delete_aggregate(request: Request, aggregate_id: str) -> None:
    """Forget an aggregate without hosts."""
    await request.command(DeleteAggregate(caller=request.caller, number=_number(aggregate_id)))


@face.route("POST", ACTION, errors=(400, 404, 409), policy="admin", action="add_host", body=HostName)
async def add_host(request: Request, aggregate_id: str) -> dict[str, Any]:
    """Put a host in."""
    number = _number(aggregate_id)
    return await _changed(request, AddAggregateHost(caller=request.caller, number=number, host=request.body.host))


@face.route("POST", ACTION, errors=(400, 404, 409), policy="admin", action="remove_host", body=HostName)
async def remove_host(request: Request, aggregate_id: str) -> dict[str, Any]:
    """Take a host out."""
    number = _number(aggregate_id)
    return await _changed(request, RemoveAggregateHost(caller=request.caller, number=number, host=request.body.host))


@face.route("POST", ACTION, errors=(400, 404), policy="admin", action="set_metadata", body=NewMetadata)
async def set_metadata(request: Request, aggregate_id: str) -> dict[str, Any]:
    """Merge metadata; null removes a key."""
    metadata: dict[str, str | None] = request.body.metadata
    if metadata.get("availability_zone"):
        _zone(str(metadata["availability_zone"]))
    number = _number(aggregate_id)
    return await _changed(request, SetAggregateMetadata(caller=request.caller, number=number, metadata=metadata))


@face.route("POST", ONE + "/images", ok=202, errors=(400, 404), policy="admin", body=ImagesBody, since="2.81")
async def cache_images(request: Request, aggregate_id: str) -> None:
    """Have the aggregate's hosts fetch images before servers need them."""
    ids = tuple(str(image.id) for image in request.body.cache)
    if len(set(ids)) != len(ids):
        raise BadRequest("Duplicate images in request", field="cache")
    number = _number(aggregate_id)
    with request.snapshot() as snapshot:
        aggregates.get(snapshot, number)
        for image_id in ids:
            _check_image(snapshot, image_id, request.caller)
    message = CacheAggregateImages(number=number, image_ids=ids)
    await request.services.get(Peer).call(message, timeout_s=CACHE_TIMEOUT_S)


def _check_image(reader: Reader, image_id: str, caller: Caller) -> None:
    try:
        image = images.get(reader, image_id, caller)
    except NotFound:
        raise BadRequest(f"Image {image_id} could not be found.", field="cache", code="image_not_found") from None
    if image.status is not ImageStatus.ACTIVE:
        raise BadRequest(f"Image {image_id} is not active.", field="cache", code="image_not_active")


async def _changed(request: Request, command: Message) -> dict[str, Any]:
    result: AggregateResult = await request.command(command)
    return {"aggregate": _view(request, result.aggregate)}


def _number(text: str) -> int:
    return shapes.whole_number(text, "id")


def _zone(text: str) -> str:
    """A zone's name: it stands before a colon in requests for a host, so it has none. Raises BadRequest."""
    if ":" in text:
        raise BadRequest("A zone has no colon in its name.", field="availability_zone")
    return shapes.printable_name(text, "availability_zone")
