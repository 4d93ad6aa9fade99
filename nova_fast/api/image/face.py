"""The image face: its manners and its version documents.

Importing this module imports every collection, so that all routes are declared.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from nova_fast.api.framework.errors import GLANCE
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Face

face = Face("image", errors=GLANCE, prefix="/v2")

#: Newest first; the first is the current one.
_VERSIONS = (
    "v2.17", "v2.16", "v2.15", "v2.13", "v2.9", "v2.7", "v2.6", "v2.5", "v2.4", "v2.3", "v2.2", "v2.1", "v2.0",
)  # fmt: skip


def _versions(request: Request) -> dict[str, Any]:
    links = [{"rel": "self", "href": f"{request.base_url}/v2/"}]
    return {
        "versions": [
            {"id": version, "status": "SUPPORTED" if number else "CURRENT", "links": links}
            for number, version in enumerate(_VERSIONS)
        ]
    }


@face.route("GET", "/", ok=300, policy="none", root=True)
async def choose_version(request: Request) -> dict[str, Any]:
    """The versions, as a choice."""
    return _versions(request)


@face.route("GET", "/versions", policy="none", root=True)
async def list_versions(request: Request) -> dict[str, Any]:
    """The versions, as an answer."""
    return _versions(request)


@face.route("GET", "", ok=300, policy="none")
async def choose_minor_version(request: Request) -> dict[str, Any]:
    """The same below ``/v2``, where discovery may begin."""
    return _versions(request)


def _import_collections() -> None:
    package = importlib.import_module("nova_fast.api.image")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"nova_fast.api.image.{module.name}")


_import_collections()
