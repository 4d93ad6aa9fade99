"""Allocations: what each consumer takes of which provider.

Source: Placement API, "Allocations".
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import NAME_PATTERN, Generation, face, fresh, read_uuid
from nova_fast.model.commands.placement import RemoveAllocations, SetAllocations, WantedConsumer
from nova_fast.model.errors import BadRequest
from nova_fast.model.placement import AMOUNT_MAX, ProviderShare
from nova_fast.queries import placement

_UUID = re.compile(r"[0-9a-fA-F-]{36}")
_Text = Annotated[str, Meta(min_length=1, max_length=255)]
_Resources = Annotated[dict[str, Annotated[int, Meta(ge=1, le=AMOUNT_MAX)]], Meta(min_length=1)]
_Mappings = Annotated[dict[str, Annotated[list[str], Meta(min_length=1)]], Meta(min_length=1)]


class Named(msgspec.Struct, forbid_unknown_fields=True):
    uuid: str


class Entry(msgspec.Struct, forbid_unknown_fields=True):
    """Before microversion 1.12."""

    resource_provider: Named
    resources: _Resources


class Share(msgspec.Struct, forbid_unknown_fields=True):
    resources: _Resources
    generation: Generation | UnsetType = UNSET


class Put10(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    allocations: Annotated[list[Entry], Meta(min_length=1)]


class Put18(Put10, forbid_unknown_fields=True, kw_only=True):
    project_id: _Text
    user_id: _Text


class Put112(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    allocations: Annotated[dict[str, Share], Meta(min_length=1)]
    project_id: _Text
    user_id: _Text


class Post113(Put112, forbid_unknown_fields=True, kw_only=True):
    allocations: dict[str, Share]


class Put128(Post113, forbid_unknown_fields=True, kw_only=True):
    consumer_generation: Generation | None


class Put134(Put128, forbid_unknown_fields=True, kw_only=True):
    mappings: _Mappings | UnsetType = UNSET  # accepted, so that a candidate can be sent back, and ignored


class Put138(Put134, forbid_unknown_fields=True, kw_only=True):
    consumer_type: Annotated[str, Meta(pattern=NAME_PATTERN, min_length=1, max_length=255)]


def _several(shape: Any) -> Any:
    return Annotated[dict[str, shape], Meta(min_length=1)]


_PUT = {"1.0": Put10, "1.8": Put18, "1.12": Put112, "1.28": Put128, "1.34": Put134, "1.38": Put138}
_POST = {
    "1.13": _several(Post113),
    "1.28": _several(Put128),
    "1.34": _several(Put134),
    "1.38": _several(Put138),
}


@face.route("POST", "/allocations", ok=204, errors=(400, 409), policy="service", body=_POST, since="1.13")
async def set_allocations(request: Request) -> None:
    """Let several consumers take what is said, all of them or none."""
    wanted = tuple(_wanted(_checked(uuid), body) for uuid, body in request.body.items())
    await _set(request, wanted)


@face.route("GET", "/allocations/{consumer_uuid}", policy="service")
async def show_allocations(request: Request, consumer_uuid: str) -> Answer:
    """What a consumer takes; nothing for one that is not known."""
    with request.snapshot() as snapshot:
        consumer = placement.consumer(snapshot, consumer_uuid)
        shares = () if consumer is None else consumer.shares
        found = [(share, placement.need(snapshot, share.provider)) for share in shares]
    if consumer is None:
        return fresh(request, {"allocations": {}})
    allocations = {one.uuid: {"resources": share.resources, "generation": one.generation} for share, one in found}
    body: dict[str, Any] = {"allocations": allocations}
    if request.at_least("1.12"):
        body |= {"project_id": consumer.project_id, "user_id": consumer.user_id}
    if request.at_least("1.28"):
        body["consumer_generation"] = consumer.generation
    if request.at_least("1.38"):
        body["consumer_type"] = consumer.type
    return fresh(request, body)


@face.route("PUT", "/allocations/{consumer_uuid}", ok=204, errors=(400, 409), policy="service", body=_PUT)
async def set_consumer_allocations(request: Request, consumer_uuid: str) -> None:
    """Let a consumer take what is said. What a server takes follows from the server."""
    await _set(request, (_wanted(read_uuid(consumer_uuid, "consumer_uuid"), request.body),))


@face.route("DELETE", "/allocations/{consumer_uuid}", ok=204, errors=(404, 409), policy="service")
async def delete_allocations(request: Request, consumer_uuid: str) -> None:
    """A consumer takes nothing any more."""
    await request.command(RemoveAllocations(caller=request.caller, consumer=consumer_uuid))


async def _set(request: Request, wanted: tuple[WantedConsumer, ...]) -> None:
    compared = request.at_least("1.28")
    await request.command(SetAllocations(caller=request.caller, consumers=wanted, compare_generations=compared))


def _wanted(uuid: str, body: Any) -> WantedConsumer:
    if isinstance(body.allocations, list):
        shares = {read_uuid(one.resource_provider.uuid, "uuid"): one.resources for one in body.allocations}
    else:
        shares = {_checked(provider): share.resources for provider, share in body.allocations.items()}
    for resources in shares.values():
        for name in resources:
            if not re.fullmatch(NAME_PATTERN, name):
                raise BadRequest(f"JSON does not validate: '{name[:80]}' is no resource class.")
    return WantedConsumer(
        uuid=uuid,
        shares=tuple(ProviderShare(provider=provider, resources=own) for provider, own in shares.items()),
        project_id=getattr(body, "project_id", None),
        user_id=getattr(body, "user_id", None),
        type=getattr(body, "consumer_type", None),
        generation=getattr(body, "consumer_generation", None),
    )


def _checked(text: str) -> str:
    if not _UUID.fullmatch(text):
        raise BadRequest(f"JSON does not validate: '{text[:80]}' is not a UUID.")
    return read_uuid(text, "uuid")
