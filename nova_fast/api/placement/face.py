"""The placement face: its manners, its root document, and what its answers share.

Importing this module imports every collection, so that all routes are declared.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import uuid as uuids
from email.utils import formatdate
from typing import Annotated, Any

from msgspec import Meta

from nova_fast.api.framework.errors import PLACEMENT
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer, Face
from nova_fast.api.framework.versions import Microversions
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.placement import CUSTOM, Provider
from nova_fast.queries import placement

MINIMUM_VERSION = "1.0"
MAXIMUM_VERSION = "1.39"
NAME_PATTERN = "^[A-Z0-9_]+$"
CUSTOM_PATTERN = "^CUSTOM_[A-Z0-9_]+$"
NAME_CHARACTERS_MAX = 255
#: What a client says a provider's or consumer's generation is: compared, never counted with.
Generation = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

face = Face("placement", errors=PLACEMENT, microversions=Microversions("placement", MINIMUM_VERSION, MAXIMUM_VERSION))


@face.route("GET", "/", policy="none")
async def show_versions(request: Request) -> Answer:
    """What this service is, for clients that look before they log in."""
    version = {
        "id": "v1.0",
        "status": "CURRENT",
        "min_version": MINIMUM_VERSION,
        "max_version": MAXIMUM_VERSION,
        "links": [{"rel": "self", "href": ""}],
    }
    return fresh(request, {"versions": [version]})


def fresh(request: Request, body: dict[str, Any] | None, status: int | None = None) -> Answer:
    """A body that is true now: since microversion 1.15 answers say so."""
    if not request.at_least("1.15"):
        return Answer(body=body, status=status)
    headers = {"last-modified": formatdate(usegmt=True), "cache-control": "no-cache"}
    return Answer(body=body, status=status, headers=headers)


def located(request: Request, answer: Answer, path: str) -> Answer:
    """The answer with the place of what was made."""
    answer.headers["location"] = f"{request.base_url}{path}"
    return answer


def need(request: Request, uuid: str) -> Provider:
    """A provider by its UUID. Raises NotFound."""
    with request.snapshot() as snapshot:
        return placement.need(snapshot, uuid)


def read_uuid(text: str, field: str) -> str:
    """A UUID in its usual form. Raises BadRequest."""
    try:
        return str(uuids.UUID(text))
    except ValueError:
        raise BadRequest(f"Invalid input for field/attribute {field}: '{text[:80]}' is not a UUID.") from None


def is_custom(name: str) -> bool:
    """Whether operators may make a trait or class of this name."""
    return len(name) <= NAME_CHARACTERS_MAX and re.fullmatch(CUSTOM_PATTERN, name) is not None and name != CUSTOM


def no_inventory(uuid: str, resource_class: str) -> NotFound:
    """What is said when a provider has nothing of a class."""
    return NotFound(f"No inventory of class {resource_class} for {uuid}", code="inventory_not_found")


def _import_collections() -> None:
    package = importlib.import_module("nova_fast.api.placement")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nova_fast.api.placement.{module.name}")


_import_collections()
