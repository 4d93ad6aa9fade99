"""Images: make, list, show, change, remove, deactivate, tag.

Source: Image API v2, "Images" and "Image tags". A custom property is a key of its own beside the attributes.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.image import listing
from nova_fast.api.image.face import face
from nova_fast.image.store import ImageStore
from nova_fast.model.commands.images import (
    ChangeImageTag,
    CreateImage,
    DeleteImage,
    ImageResult,
    PatchImage,
    PatchOperation,
    SetImageActive,
)
from nova_fast.model.errors import BadRequest
from nova_fast.model.images import CONTAINER_FORMATS, DISK_FORMATS, Image, Visibility
from nova_fast.queries import images

PATCH_MEDIA = (
    "application/openstack-images-v2.1-json-patch",
    "application/openstack-images-v2.0-json-patch",
)

Text = Annotated[str, Meta(max_length=255)]
WholeNumber = Annotated[int, Meta(ge=0, le=0x7FFFFFFF)]
Tags = Annotated[list[Text], Meta(max_length=128)]


class Attributes(msgspec.Struct):
    """What a request to make an image may say; every other key is a custom property."""

    id: str | None = None
    name: Text | None = None
    owner: Text | None = None
    visibility: Visibility = Visibility.SHARED
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: WholeNumber = 0
    min_ram: WholeNumber = 0
    protected: bool = False
    os_hidden: bool = False
    tags: Tags = []


_ATTRIBUTES = frozenset(field.name for field in msgspec.structs.fields(Attributes))


class Operation(msgspec.Struct, forbid_unknown_fields=True):
    """One operation of a JSON patch (RFC 6902) on a flat document."""

    op: Literal["add", "replace", "remove"]
    path: Annotated[str, Meta(min_length=1, max_length=600)]
    value: Any = None


Patch = Annotated[list[Operation], Meta(max_length=500)]


def zulu(at_us: int) -> str:
    """``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image_body(image: Image) -> dict[str, Any]:
    """An image as the API shows it."""
    return {
        **image.properties,
        "id": image.id,
        "name": image.name,
        "status": image.status.value,
        "visibility": image.visibility.value,
        "owner": image.project_id,
        "protected": image.protected,
        "os_hidden": image.hidden,
        "disk_format": image.disk_format,
        "container_format": image.container_format,
        "size": image.size,
        "virtual_size": image.virtual_size,
        "min_disk": image.min_disk_gib,
        "min_ram": image.min_ram_mib,
        "checksum": image.checksum,
        "os_hash_algo": "sha512" if image.hash_value else None,
        "os_hash_value": image.hash_value,
        "tags": list(image.tags),
        "created_at": zulu(image.created_at_us),
        "updated_at": zulu(image.updated_at_us),
        "self": f"/v2/images/{image.id}",
        "file": f"/v2/images/{image.id}/file",
        "schema": "/v2/schemas/image",
    }


@face.route("GET", "/images", errors=(400,), policy="reader")
async def list_images(request: Request) -> dict[str, Any]:
    """One page, newest first unless asked otherwise."""
    wanted, kept = listing.read(request.query_pairs(), request.config.api.max_limit)
    with request.snapshot() as snapshot:
        rows = images.listing(snapshot, wanted, request.caller)
    body: dict[str, Any] = {
        "images": [image_body(image) for image in rows],
        "first": listing.href(kept),
        "schema": "/v2/schemas/images",
    }
    if rows and len(rows) == wanted.limit:
        body["next"] = listing.href([*kept, ("marker", rows[-1].id)])
    return body


@face.route("POST", "/images", ok=201, errors=(400, 403, 409, 413), policy="member", body=dict[str, msgspec.Raw])
async def create_image(request: Request) -> Answer:
    """Describe an image; the bytes come later."""
    attributes, properties = _read_new(request.body)
    result: ImageResult = await request.command(
        CreateImage(
            caller=request.caller,
            id=_new_id(attributes.id),
            owner=attributes.owner or "",
            name=attributes.name,
            visibility=attributes.visibility,
            disk_format=_one_of("disk_format", attributes.disk_format, DISK_FORMATS),
            container_format=_one_of("container_format", attributes.container_format, CONTAINER_FORMATS),
            min_disk_gib=attributes.min_disk,
            min_ram_mib=attributes.min_ram,
            protected=attributes.protected,
            hidden=attributes.os_hidden,
            tags=tuple(attributes.tags),
            properties=properties,
        )
    )
    location = f"{request.base_url}/v2/images/{result.image.id}"
    return Answer(body=image_body(result.image), headers={"location": location})


@face.route("GET", "/images/{image_id}", errors=(404,), policy="reader")
async def show_image(request: Request, image_id: str) -> dict[str, Any]:
    """One image."""
    with request.snapshot() as snapshot:
        return image_body(images.get(snapshot, image_id, request.caller))


@face.route(
    "PATCH",
    "/images/{image_id}",
    errors=(400, 403, 404, 409, 413, 415),
    policy="member",
    body=Patch,
    media=PATCH_MEDIA,
)
async def patch_image(request: Request, image_id: str) -> dict[str, Any]:
    """Change attributes and properties, all or none."""
    operations = tuple(_operation(one) for one in request.body)
    result: ImageResult = await request.command(
        PatchImage(caller=request.caller, image_id=image_id, operations=operations)
    )
    return image_body(result.image)


@face.route("DELETE", "/images/{image_id}", ok=204, errors=(403, 404, 409), policy="member")
async def delete_image(request: Request, image_id: str) -> None:
    """Remove an image; its file goes once that is durable."""
    result: ImageResult = await request.command(DeleteImage(caller=request.caller, image_id=image_id))
    await asyncio.to_thread(request.services.get(ImageStore).remove, result.image.id)


@face.route("POST", "/images/{image_id}/actions/deactivate", ok=204, errors=(403, 404), policy="member")
async def deactivate_image(request: Request, image_id: str) -> None:
    """Nobody but an admin may read it any more."""
    await request.command(SetImageActive(caller=request.caller, image_id=image_id, active=False))


@face.route("POST", "/images/{image_id}/actions/reactivate", ok=204, errors=(403, 404), policy="member")
async def reactivate_image(request: Request, image_id: str) -> None:
    """They may again."""
    await request.command(SetImageActive(caller=request.caller, image_id=image_id, active=True))


@face.route("PUT", "/images/{image_id}/tags/{tag}", ok=204, errors=(400, 403, 404, 413), policy="member")
async def add_tag(request: Request, image_id: str, tag: str) -> None:
    """Add a tag; one that is there stays."""
    if len(tag) > 255:
        raise BadRequest("A tag may have at most 255 characters.", field="tag")
    await request.command(ChangeImageTag(caller=request.caller, image_id=image_id, tag=tag, present=True))


@face.route("DELETE", "/images/{image_id}/tags/{tag}", ok=204, errors=(403, 404), policy="member")
async def remove_tag(request: Request, image_id: str, tag: str) -> None:
    """Remove a tag."""
    await request.command(ChangeImageTag(caller=request.caller, image_id=image_id, tag=tag, present=False))


def _read_new(body: dict[str, msgspec.Raw]) -> tuple[Attributes, dict[str, str]]:
    known = {name: _value(name, raw) for name, raw in body.items() if name in _ATTRIBUTES}
    properties: dict[str, str] = {}
    for name, raw in body.items():
        if name in _ATTRIBUTES:
            continue
        value = _value(name, raw)
        if not isinstance(value, str):
            raise BadRequest(f"The value of property {name[:80]} must be text.", field=name[:80])
        properties[name] = value
    try:
        return msgspec.convert(known, Attributes), properties
    except msgspec.ValidationError as error:
        raise BadRequest(f"Provided object does not match schema 'image': {error}", code="invalid_value") from None


def _value(name: str, raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"The value of {name[:80]} cannot be read: {error}", field=name[:80]) from None


def _new_id(text: str | None) -> str:
    if text is None:
        return ""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise BadRequest("Provided object does not match schema 'image': id must be a UUID.", field="id") from None


def _one_of(field: str, value: str | None, allowed: tuple[str, ...]) -> str | None:
    if value is not None and value not in allowed:
        raise BadRequest(
            f"Provided object does not match schema 'image': {value[:80]} is not one of {', '.join(allowed)}.",
            field=field,
        )
    return value


def _operation(asked: Operation) -> PatchOperation:
    if not asked.path.startswith("/"):
        raise BadRequest(f"Invalid JSON pointer {asked.path[:80]}: it must begin with '/'.", field="path")
    name = asked.path[1:].replace("~1", "/").replace("~0", "~")
    if not name or "/" in asked.path[1:]:
        raise BadRequest(f"Invalid JSON pointer {asked.path[:80]}: it must name one attribute.", field="path")
    value = asked.value
    text_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if not (value is None or isinstance(value, str | bool | int) or text_list):
        raise BadRequest(f"The value of {name[:80]} is of a type that no attribute has.", field=name[:80])
    return PatchOperation(op=asked.op, name=name, value=value)
