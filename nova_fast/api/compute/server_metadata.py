"""``/servers/{id}/metadata`` and ``/servers/{id}/tags``: labels that a user puts on a server."""

from __future__ import annotations

from typing import Any

import msgspec

from nova_fast.api.compute.face import face
from nova_fast.api.compute.server_bodies import Metadata, Tag
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.model.commands.servers import ChangeServerTag, DeleteServerMetadata, SetServerMetadata, SetServerTags
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.queries.servers import visible_server

METADATA = "/servers/{server_id}/metadata"
TAGS = "/servers/{server_id}/tags"
TAG_CHARACTERS_MAX = 60


class MetadataBody(msgspec.Struct, forbid_unknown_fields=True):
    metadata: Metadata


class MetaBody(msgspec.Struct, forbid_unknown_fields=True):
    meta: Metadata


class TagsBody(msgspec.Struct, forbid_unknown_fields=True):
    tags: list[Tag]


@face.route("GET", METADATA, errors=(404,), policy="reader")
async def list_metadata(request: Request, server_id: str) -> dict[str, Any]:
    """All items."""
    with request.snapshot() as snapshot:
        return {"metadata": visible_server(snapshot, request.caller, server_id).metadata}


@face.route("POST", METADATA, errors=(400, 403, 404, 409), policy="member", body=MetadataBody)
async def merge_metadata(request: Request, server_id: str) -> dict[str, Any]:
    """Add or replace these items."""
    return await _set(request, server_id, request.body.metadata, replace=False)


@face.route("PUT", METADATA, errors=(400, 403, 404, 409), policy="member", body=MetadataBody)
async def replace_metadata(request: Request, server_id: str) -> dict[str, Any]:
    """Have these items and no others."""
    return await _set(request, server_id, request.body.metadata, replace=True)


async def _set(request: Request, server_id: str, metadata: dict[str, str], *, replace: bool) -> dict[str, Any]:
    command = SetServerMetadata(caller=request.caller, server_id=server_id, metadata=metadata, replace=replace)
    result = await request.command(command)
    return {"metadata": result.server.metadata}


@face.route("GET", METADATA + "/{key}", errors=(404,), policy="reader")
async def show_metadata(request: Request, server_id: str, key: str) -> dict[str, Any]:
    """One item."""
    with request.snapshot() as snapshot:
        server = visible_server(snapshot, request.caller, server_id)
    if key not in server.metadata:
        raise NotFound("Metadata item was not found", code="metadata_not_found")
    return {"meta": {key: server.metadata[key]}}


@face.route("PUT", METADATA + "/{key}", errors=(400, 403, 404, 409), policy="member", body=MetaBody)
async def put_metadata(request: Request, server_id: str, key: str) -> dict[str, Any]:
    """Set one item."""
    meta = request.body.meta
    if list(meta) != [key]:
        raise BadRequest("Request body and URI mismatch", field="meta")
    await _set(request, server_id, meta, replace=False)
    return {"meta": meta}


@face.route("DELETE", METADATA + "/{key}", ok=204, errors=(404, 409), policy="member")
async def delete_metadata(request: Request, server_id: str, key: str) -> None:
    """Remove one item."""
    await request.command(DeleteServerMetadata(caller=request.caller, server_id=server_id, key=key))


@face.route("GET", TAGS, errors=(404,), policy="reader", since="2.26")
async def list_tags(request: Request, server_id: str) -> dict[str, Any]:
    """All tags."""
    with request.snapshot() as snapshot:
        return {"tags": list(visible_server(snapshot, request.caller, server_id).tags)}


@face.route("PUT", TAGS, errors=(400, 404, 409), policy="member", body=TagsBody, since="2.26")
async def replace_tags(request: Request, server_id: str) -> dict[str, Any]:
    """Have these tags and no others."""
    command = SetServerTags(caller=request.caller, server_id=server_id, tags=tuple(request.body.tags))
    result = await request.command(command)
    return {"tags": list(result.server.tags)}


@face.route("DELETE", TAGS, ok=204, errors=(404, 409), policy="member", since="2.26")
async def delete_tags(request: Request, server_id: str) -> None:
    """Remove all tags."""
    await request.command(SetServerTags(caller=request.caller, server_id=server_id, tags=()))


@face.route("GET", TAGS + "/{tag}", ok=204, errors=(404,), policy="reader", since="2.26")
async def check_tag(request: Request, server_id: str, tag: str) -> None:
    """Whether a server has a tag."""
    with request.snapshot() as snapshot:
        server = visible_server(snapshot, request.caller, server_id)
    if tag not in server.tags:
        raise NotFound(f"Server {server_id} has no tag '{tag}'", code="tag_not_found")


@face.route("PUT", TAGS + "/{tag}", ok=204, errors=(400, 404, 409), policy="member", since="2.26")
async def add_tag(request: Request, server_id: str, tag: str) -> Answer:
    """Add one tag: 201 when it is new, 204 when it was there."""
    if len(tag) > TAG_CHARACTERS_MAX or "," in tag or "/" in tag:
        raise BadRequest(f"Invalid tag '{tag[:80]}'.", field="tag")
    command = ChangeServerTag(caller=request.caller, server_id=server_id, tag=tag, present=True)
    result = await request.command(command)
    if not result.created:
        return Answer(status=204)
    return Answer(status=201, headers={"location": f"{request.base_url}{request.path}"})


@face.route("DELETE", TAGS + "/{tag}", ok=204, errors=(404, 409), policy="member", since="2.26")
async def remove_tag(request: Request, server_id: str, tag: str) -> None:
    """Remove one tag."""
    await request.command(ChangeServerTag(caller=request.caller, server_id=server_id, tag=tag, present=False))
