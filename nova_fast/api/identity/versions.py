"""Which versions there are: asked before anybody logs in."""

from __future__ import annotations

from typing import Any

from nova_fast.api.framework.request import Request
from nova_fast.api.identity.face import face


def _version(request: Request) -> dict[str, Any]:
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{request.base_url}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }


@face.route("GET", "/", root=True, ok=300, policy="none")
async def list_versions(request: Request) -> dict[str, Any]:
    """All versions: there is one."""
    return {"versions": {"values": [_version(request)]}}


@face.route("GET", "/", policy="none")
async def show_version(request: Request) -> dict[str, Any]:
    """Version 3."""
    return {"version": _version(request)}
