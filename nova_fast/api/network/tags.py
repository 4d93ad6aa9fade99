"""``/v2.0/<collection>/{id}/tags`` of the four collections that have tags.

Source: Networking API v2.0, "Standard attributes tag extension".
"""

from __future__ import annotations

from typing import Any

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.shapes import Body
from nova_fast.model.commands.networks import SetNetworkTags
from nova_fast.model.errors import NotFound
from nova_fast.queries import networks
from nova_fast.queries.reading import Reader
from nova_fast.queries.security_groups import need_group

COLLECTIONS = ("networks", "subnets", "ports", "security-groups")


class TagsBody(Body, frozen=True):
    tags: list[str]


def _tags(reader: Reader, request: Request, collection: str, identity: str) -> list[str]:
    if collection == "networks":
        return list(networks.need_network(reader, request.caller, identity).tags)
    if collection == "subnets":
        return list(networks.need_subnet(reader, request.caller, identity).tags)
    if collection == "ports":
        return list(networks.need_port(reader, request.caller, identity).tags)
    return list(need_group(reader, request.caller, identity).tags)


def _declare(collection: str) -> None:
    path = f"/{collection}/{{resource_id}}/tags"

    def read(request: Request, identity: str) -> list[str]:
        with request.snapshot() as snapshot:
            return _tags(snapshot, request, collection, identity)

    async def write(request: Request, identity: str, tags: list[str]) -> list[str]:
        command = SetNetworkTags(caller=request.caller, collection=collection, id=identity, tags=tuple(tags))
        return list((await request.command(command)).tags)

    @face.route("GET", path, policy="reader", errors=(404,))
    async def list_tags(request: Request, resource_id: str) -> dict[str, Any]:
        return {"tags": read(request, resource_id)}

    @face.route("PUT", path, policy="member", errors=(400, 403, 404), body=TagsBody)
    async def replace_tags(request: Request, resource_id: str) -> dict[str, Any]:
        return {"tags": await write(request, resource_id, request.body.tags)}

    @face.route("DELETE", path, ok=204, policy="member", errors=(403, 404))
    async def delete_tags(request: Request, resource_id: str) -> None:
        await write(request, resource_id, [])

    @face.route("GET", path + "/{tag}", ok=204, policy="reader", errors=(404,))
    async def has_tag(request: Request, resource_id: str, tag: str) -> None:
        if tag not in read(request, resource_id):
            raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")

    @face.route("PUT", path + "/{tag}", ok=201, policy="member", errors=(400, 403, 404))
    async def add_tag(request: Request, resource_id: str, tag: str) -> None:
        await write(request, resource_id, [*read(request, resource_id), tag])

    @face.route("DELETE", path + "/{tag}", ok=204, policy="member", errors=(403, 404))
    async def delete_tag(request: Request, resource_id: str, tag: str) -> None:
        tags = read(request, resource_id)
        if tag not in tags:
            raise NotFound(f"Tag {tag} could not be found.", code="TagNotFound")
        await write(request, resource_id, [other for other in tags if other != tag])


for _collection in COLLECTIONS:
    _declare(_collection)
