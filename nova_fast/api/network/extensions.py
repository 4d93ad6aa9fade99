"""``/v2.0/extensions``: what this service can do.

Clients and Tempest switch on it, so nothing stands here that is not true.
"""

from __future__ import annotations

from typing import Any

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.model.errors import NotFound

_UPDATED = "2026-01-01T00:00:00-00:00"

#: alias → (name, what it brings)
EXTENSIONS = {
    "agent": ("agent", "The daemons that do the networking."),
    "allowed-address-pairs": ("Allowed Address Pairs", "Addresses a port may use besides its own."),
    "availability_zone": ("Availability Zone", "Zones of the network daemons."),
    "binding": ("Port Binding", "Which host a port is bound to."),
    "empty-string-filtering": ("Empty String Filtering Extension", "Filters for empty values."),
    "external-net": ("Neutron external network", "The attribute router:external of networks."),
    "filter-validation": ("Filter parameters validation", "Filters that are not known are refused."),
    "ip-substring-filtering": ("IP address substring filtering", "Ports by a part of an address."),
    "net-mtu": ("Network MTU", "The MTU of a network."),
    "net-mtu-writable": ("Network MTU (writable)", "The MTU of a network can be set."),
    "pagination": ("Pagination support", "Lists in pages."),
    "port-security": ("Port Security", "Whether a port is protected."),
    "project-id": ("project_id field enabled", "project_id beside tenant_id."),
    "provider": ("Provider Network", "How a network is made."),
    "quota-check-limit": ("Quota engine limit check", "A limit below what is used can be refused."),
    "quota_details": ("Quota details management support", "Limits together with use."),
    "quotas": ("Quota management support", "Limits of projects."),
    "security-group": ("security-group", "Security groups and their rules."),
    "security-groups-normalized-cidr": ("Normalized CIDR field for security group rules", "normalized_cidr in rules."),
    "security-groups-shared-filtering": ("Security group filtering on the shared field", "The filter shared."),
    "sorting": ("Sorting support", "Lists in a wished order."),
    "standard-attr-description": ("standard-attr-description", "The attribute description."),
    "standard-attr-revisions": ("Resource revision numbers", "The attribute revision_number."),
    "standard-attr-tag": ("Tag support for resources with standard attribute", "Tags."),
    "standard-attr-timestamp": ("Resource timestamps", "The attributes created_at and updated_at."),
}


def _view(alias: str) -> dict[str, Any]:
    name, description = EXTENSIONS[alias]
    return {"alias": alias, "name": name, "description": description, "updated": _UPDATED, "links": []}


@face.route("GET", "/extensions")
async def list_extensions(request: Request) -> dict[str, Any]:
    """Every extension that is there."""
    return {"extensions": [_view(alias) for alias in EXTENSIONS]}


@face.route("GET", "/extensions/{alias}", errors=(404,))
async def show_extension(request: Request, alias: str) -> dict[str, Any]:
    """One extension."""
    if alias not in EXTENSIONS:
        raise NotFound(f"Extension with alias {alias} does not exist", code="ExtensionNotFound")
    return {"extension": _view(alias)}
