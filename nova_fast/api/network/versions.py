"""The version documents. Source: Networking API v2.0, "API versions"."""

from __future__ import annotations

from typing import Any

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face

#: collection → one of it
_RESOURCES = {"networks": "network", "subnets": "subnet", "ports": "port", "extensions": "extension",
              "security-groups": "security-group", "security-group-rules": "security-group-rule",
              "quotas": "quota", "agents": "agent", "availability_zones": "availability_zone"}  # fmt: skip


@face.route("GET", "/", policy="none", root=True)
async def list_versions(request: Request) -> dict[str, Any]:
    """The one version there is."""
    link = {"rel": "self", "href": f"{request.base_url}/v2.0/"}
    return {"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]}


@face.route("GET", "", policy="none")
async def list_resources(request: Request) -> dict[str, Any]:
    """What can be found below this version."""
    root = f"{request.base_url}/v2.0"
    return {
        "resources": [
            {"name": name, "collection": collection, "links": [{"rel": "self", "href": f"{root}/{collection}"}]}
            for collection, name in _RESOURCES.items()
        ]
    }
