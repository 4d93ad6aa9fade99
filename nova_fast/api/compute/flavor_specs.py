"""Extra specs of flavors. Since microversion 2.86 those that Nova knows are checked, see ``flavor_spec_rules``.

Source: Compute API v2.1, "Flavors extra-specs". A value may be sent as a number; it is kept, and shown later, as text.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nova_fast.api.compute.face import face
from nova_fast.api.compute.flavor_spec_rules import check_known
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.flavors import DeleteExtraSpec, FlavorResult, SetExtraSpecs
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.queries import flavors

TEXT_MAX = 255
SpecValue = str | int | float
_KEY = re.compile(r"[a-zA-Z0-9\-_:. ]{1,255}")


class SpecsBody(msgspec.Struct, forbid_unknown_fields=True):
    extra_specs: dict[str, SpecValue]


def check_spec(key: str, value: str, *, known_only: bool) -> None:
    """Raise BadRequest for a key or value no flavor may have; ``known_only`` since microversion 2.86."""
    if not _KEY.fullmatch(key):
        raise BadRequest(
            "Key Names can only contain alphanumeric characters, periods, dashes, underscores, colons and spaces.",
            field=f"extra_specs.{key[:80]}",
        )
    if len(value) > TEXT_MAX:
        raise BadRequest(f"The value of {key} has more than {TEXT_MAX} characters.", field=f"extra_specs.{key}")
    if known_only:
        check_known(key, value)


@face.route("GET", "/flavors/{flavor_id}/os-extra_specs", errors=(404,), policy="reader")
async def list_specs(request: Request, flavor_id: str) -> dict[str, Any]:
    """All extra specs of a flavor."""
    with request.snapshot() as snapshot:
        return {"extra_specs": flavors.get(snapshot, flavor_id, request.caller).extra_specs}


@face.route("POST", "/flavors/{flavor_id}/os-extra_specs", errors=(400, 404, 409), policy="admin", body=SpecsBody)
async def set_specs(request: Request, flavor_id: str) -> dict[str, Any]:
    """Merge some in."""
    specs: dict[str, SpecValue] = request.body.extra_specs
    await _set(request, flavor_id, specs)
    return {"extra_specs": specs}


@face.route("GET", "/flavors/{flavor_id}/os-extra_specs/{key}", errors=(404,), policy="reader")
async def show_spec(request: Request, flavor_id: str, key: str) -> dict[str, str]:
    """One of them."""
    with request.snapshot() as snapshot:
        flavor = flavors.get(snapshot, flavor_id, request.caller)
    if key not in flavor.extra_specs:
        raise NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")
    return {key: flavor.extra_specs[key]}


@face.route(
    "PUT",
    "/flavors/{flavor_id}/os-extra_specs/{key}",
    errors=(400, 404, 409),
    policy="admin",
    body=dict[str, SpecValue],
)
async def put_spec(request: Request, flavor_id: str, key: str) -> dict[str, SpecValue]:
    """Set one; the body names it again."""
    if list(request.body) != [key]:
        raise BadRequest("Invalid request body: it must have exactly the key that the URL names.")
    await _set(request, flavor_id, request.body)
    value: SpecValue = request.body[key]
    return {key: value}


@face.route("DELETE", "/flavors/{flavor_id}/os-extra_specs/{key}", errors=(404,), policy="admin")
async def delete_spec(request: Request, flavor_id: str, key: str) -> None:
    """Remove one."""
    await request.command(DeleteExtraSpec(caller=request.caller, flavor_id=flavor_id, key=key))


async def _set(request: Request, flavor_id: str, specs: dict[str, SpecValue]) -> None:
    texts = {key: str(value) for key, value in specs.items()}
    for key, value in texts.items():
        check_spec(key, value, known_only=request.at_least("2.86"))
    result = await request.command(SetExtraSpecs(caller=request.caller, flavor_id=flavor_id, extra_specs=texts))
    assert isinstance(result, FlavorResult)
