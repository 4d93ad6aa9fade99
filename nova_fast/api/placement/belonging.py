"""What a provider is and where it belongs: its traits and its aggregates.

Source: Placement API, "Resource provider traits" and "Resource provider aggregates".
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import Generation, face, fresh, need, read_uuid
from nova_fast.model.commands.placement import ProviderResult, SetAggregates, SetTraits
from nova_fast.model.errors import BadRequest
from nova_fast.model.placement import Provider


class TraitsBody(msgspec.Struct, forbid_unknown_fields=True):
    traits: list[Annotated[str, Meta(min_length=1, max_length=255)]]
    resource_provider_generation: Generation


class AggregatesBody(msgspec.Struct, forbid_unknown_fields=True):
    aggregates: list[str]
    resource_provider_generation: Generation


def _traits(request: Request, provider: Provider) -> Answer:
    return fresh(request, {"traits": list(provider.traits), "resource_provider_generation": provider.generation})


def _aggregates(request: Request, provider: Provider) -> Answer:
    body: dict[str, Any] = {"aggregates": list(provider.aggregates)}
    if request.at_least("1.19"):
        body["resource_provider_generation"] = provider.generation
    return fresh(request, body)


@face.route("GET", "/resource_providers/{uuid}/traits", errors=(404,), policy="service", since="1.6")
async def list_traits(request: Request, uuid: str) -> Answer:
    """What it is and can do."""
    return _traits(request, need(request, uuid))


@face.route(
    "PUT", "/resource_providers/{uuid}/traits", errors=(400, 404, 409), policy="service", body=TraitsBody, since="1.6"
)
async def set_traits(request: Request, uuid: str) -> Answer:
    """Let it have these traits; what a host's driver vouches for stays."""
    command = SetTraits(
        caller=request.caller,
        uuid=uuid,
        generation=request.body.resource_provider_generation,
        traits=tuple(request.body.traits),
    )
    changed: ProviderResult = await request.command(command)
    return _traits(request, changed.provider)


@face.route("DELETE", "/resource_providers/{uuid}/traits", ok=204, errors=(404, 409), policy="service", since="1.6")
async def delete_traits(request: Request, uuid: str) -> None:
    """Take away all that it was given."""
    await request.command(SetTraits(caller=request.caller, uuid=uuid, generation=None, traits=()))


@face.route("GET", "/resource_providers/{uuid}/aggregates", errors=(404,), policy="service", since="1.1")
async def list_aggregates(request: Request, uuid: str) -> Answer:
    """The aggregates it is in; a host's are those of the Compute API, and what placement alone knows."""
    return _aggregates(request, need(request, uuid))


@face.route(
    "PUT",
    "/resource_providers/{uuid}/aggregates",
    errors=(400, 404, 409),
    policy="service",
    body={"1.1": list[str], "1.19": AggregatesBody},
    since="1.1",
)
async def set_aggregates(request: Request, uuid: str) -> Answer:
    """Put it into these aggregates and out of all others."""
    whole = isinstance(request.body, AggregatesBody)
    texts = request.body.aggregates if whole else request.body
    named = [read_uuid(text, "aggregates") for text in texts]
    if len(set(named)) != len(named):
        raise BadRequest("JSON does not validate: aggregates has non-unique elements")
    command = SetAggregates(
        caller=request.caller,
        uuid=uuid,
        generation=request.body.resource_provider_generation if whole else None,
        aggregates=tuple(named),
    )
    changed: ProviderResult = await request.command(command)
    return _aggregates(request, changed.provider)
