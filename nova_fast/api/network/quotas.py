"""``/v2.0/quotas``. Source: Networking API v2.0, "Quotas extension" and "quota_details"."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from nova_fast.api.framework.request import Request
from nova_fast.api.network.face import face
from nova_fast.api.network.shapes import Body, Boolean, Identifier, Number, boolean, number
from nova_fast.model.commands.networks import SetNetworkQuota
from nova_fast.model.errors import Forbidden
from nova_fast.model.quotas import NETWORK_DEFAULTS
from nova_fast.queries import network_admin as queries


class QuotaFields(Body, frozen=True):
    """New limits; a limit below what is used is refused only with ``check_limit``."""

    network: Number | msgspec.UnsetType = UNSET
    subnet: Number | msgspec.UnsetType = UNSET
    port: Number | msgspec.UnsetType = UNSET
    router: Number | msgspec.UnsetType = UNSET
    floatingip: Number | msgspec.UnsetType = UNSET
    security_group: Number | msgspec.UnsetType = UNSET
    security_group_rule: Number | msgspec.UnsetType = UNSET
    rbac_policy: Number | msgspec.UnsetType = UNSET
    subnetpool: Number | msgspec.UnsetType = UNSET
    trunk: Number | msgspec.UnsetType = UNSET
    project_id: Identifier = ""
    tenant_id: Identifier = ""
    force: Boolean = False
    check_limit: Boolean = False


class QuotaBody(Body, frozen=True):
    quota: QuotaFields


def _check_project(request: Request, project_id: str) -> None:
    if not request.caller.may_see(project_id):
        raise Forbidden("Only an admin may see the quotas of another project.", code="PolicyNotAuthorized")


@face.route("GET", "/quotas", policy="manager")
async def list_quotas(request: Request) -> dict[str, Any]:
    """The projects whose limits are not the default ones, as far as the caller may see them."""
    with request.snapshot() as snapshot:
        rows = [
            {**queries.network_limits(snapshot, project_id), "project_id": project_id, "tenant_id": project_id}
            for project_id in queries.projects_with_network_limits(snapshot)
            if request.caller.may_see(project_id)
        ]
    return {"quotas": rows}


@face.route("GET", "/quotas/{project_id}", policy="reader", errors=(403,))
async def show_quota(request: Request, project_id: str) -> dict[str, Any]:
    """The limits of a project."""
    _check_project(request, project_id)
    with request.snapshot() as snapshot:
        limits = queries.network_limits(snapshot, project_id)
    return {"quota": {**limits, "project_id": project_id, "tenant_id": project_id}}


@face.route("GET", "/quotas/{project_id}/default", policy="reader", errors=(403,))
async def show_default_quota(request: Request, project_id: str) -> dict[str, Any]:
    """The limits of a project for which none were set."""
    _check_project(request, project_id)
    return {"quota": {**NETWORK_DEFAULTS, "project_id": project_id, "tenant_id": project_id}}


@face.route("GET", "/quotas/{project_id}/details", policy="reader", errors=(403,))
async def show_quota_details(request: Request, project_id: str) -> dict[str, Any]:
    """Limits and use of a project. Nothing is ever reserved: things are counted when they are made."""
    _check_project(request, project_id)
    with request.snapshot() as snapshot:
        limits = queries.network_limits(snapshot, project_id)
        used = queries.network_used(snapshot, project_id)
    return {"quota": {name: {"limit": limits[name], "used": used[name], "reserved": 0} for name in limits}}


@face.route("PUT", "/quotas/{project_id}", policy="admin", errors=(400, 403), body=QuotaBody)
async def update_quota(request: Request, project_id: str) -> dict[str, Any]:
    """Set limits of a project."""
    fields: QuotaFields = request.body.quota
    given = {name: value for name in NETWORK_DEFAULTS if (value := getattr(fields, name)) is not UNSET}
    limits = {name: number(value, name) for name, value in given.items()}
    check = boolean(fields.check_limit, "check_limit") and not boolean(fields.force, "force")
    command = SetNetworkQuota(caller=request.caller, project_id=project_id, limits=limits, check_limit=check)
    result = await request.command(command)
    return {"quota": {**result.limits, "project_id": project_id, "tenant_id": project_id}}


@face.route("DELETE", "/quotas/{project_id}", ok=204, policy="admin", errors=(403,))
async def delete_quota(request: Request, project_id: str) -> None:
    """Give a project the default limits again."""
    await request.command(SetNetworkQuota(caller=request.caller, project_id=project_id, limits=None))
