"""The placement face: its manners, its root document, and what its answers share.

Importing this module imports every collection, so that all routes are declared.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from email.utils import formatdate
from typing import Any

from nova_fast.api.framework.errors import PLACEMENT
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer, Face
from nova_fast.api.framework.versions import Microversions
from nova_fast.model.errors import BadRequest

MINIMUM_VERSION = "1.0"
MAXIMUM_VERSION = "1.39"
_NAME = re.compile(r"[A-Z0-9_]{1,255}")

face = Face("placement", errors=PLACEMENT, microversions=Microversions("placement", MINIMUM_VERSION, MAXIMUM_VERSION))


@face.route("GET", "/", policy="none")
async def show_versions(request: Request) -> dict[str, Any]:
    """What this service is, for clients that look before they log in."""
    return {
        "versions": [
            {
                "id": "v1.0",
                "status": "CURRENT",
                "min_version": MINIMUM_VERSION,
                "max_version": MAXIMUM_VERSION,
                "links": [{"rel": "self", "href": ""}],
            }
        ]
    }


def fresh(request: Request, body: dict[str, Any]) -> Answer:
    """A body that is true now: since microversion 1.15 answers say so."""
    if not request.at_least("1.15"):
        return Answer(body=body)
    return Answer(body=body, headers={"last-modified": formatdate(usegmt=True), "cache-control": "no-cache"})


def read_resources(text: str) -> dict[str, int]:
    """``VCPU:1,MEMORY_MB:512`` → amounts. Raises BadRequest."""
    found: dict[str, int] = {}
    for part in text.split(","):
        name, colon, amount = part.partition(":")
        whole = amount.isascii() and amount.isdecimal() and 0 < len(amount) < 19 and int(amount) > 0
        if not colon or not _NAME.fullmatch(name) or not whole or name in found:
            raise BadRequest(
                f"Badly formed resources parameter. Expected resources query string parameter in form: "
                f"?resources=VCPU:2,MEMORY_MB:1024. Got: {text[:200]}.",
                field="resources",
            )
        found[name] = int(amount)
    return found


def read_required(values: list[str], *, any_of: bool) -> tuple[tuple[frozenset[str], ...], frozenset[str]]:
    """``HW_ARCH_X86_64,!COMPUTE_STATUS_DISABLED`` or ``in:A,B`` → (sets of which one must be there, forbidden).

    Raises BadRequest; ``any_of`` since microversion 1.39.
    """
    required: list[frozenset[str]] = []
    forbidden: set[str] = set()
    for value in values:
        if value.startswith("in:"):
            if not any_of:
                raise BadRequest(f"Invalid traits specification {value[:200]}.", field="required")
            required.append(frozenset(_trait(name) for name in value.removeprefix("in:").split(",")))
            continue
        for name in value.split(","):
            if name.startswith("!"):
                forbidden.add(_trait(name[1:]))
            else:
                required.append(frozenset((_trait(name),)))
    return tuple(required), frozenset(forbidden)


def _trait(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadRequest(f"Invalid query string parameters: '{name[:80]}' is no trait.", field="required")
    return name


def _import_collections() -> None:
    package = importlib.import_module("nova_fast.api.placement")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nova_fast.api.placement.{module.name}")


_import_collections()
