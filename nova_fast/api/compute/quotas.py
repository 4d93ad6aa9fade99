"""Quota sets, the default quota class, and the limits a project works under.

Source: Compute API v2.1, "Quota sets", "Quota class sets", "Limits". Network quotas belong to the Network API; the keys
that stood for them up to 2.35 are unlimited here, as they are in Nova since it has no network of its own.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from nova_fast.api.compute import shapes
from nova_fast.api.compute.face import face
from nova_fast.api.framework.request import Request
from nova_fast.model.commands.quotas import ComputeLimits, ResetComputeQuota, SetComputeQuota
from nova_fast.model.errors import BadRequest, Forbidden
from nova_fast.model.quotas import COMPUTE_DEFAULTS, UNLIMITED
from nova_fast.queries import quotas

V = TypeVar("V")

_NETWORK_KEYS = ("fixed_ips", "floating_ips", "security_groups", "security_group_rules")
_FILE_KEYS = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
_GROUP_KEYS = ("server_groups", "server_group_members")
_CORE_KEYS = ("instances", "cores", "ram", "metadata_items", "key_pairs", *_GROUP_KEYS)

Limit = int | Annotated[str, Meta(max_length=20)] | None


class QuotaSet257(msgspec.Struct, forbid_unknown_fields=True):
    """Since microversion 2.57."""

    instances: Limit = None
    cores: Limit = None
    ram: Limit = None
    metadata_items: Limit = None
    key_pairs: Limit = None
    server_groups: Limit = None
    server_group_members: Limit = None
    force: bool | str = False


class QuotaSet236(QuotaSet257, forbid_unknown_fields=True):
    """With injected files."""

    injected_files: Limit = None
    injected_file_content_bytes: Limit = None
    injected_file_path_bytes: Limit = None


class QuotaSet(QuotaSet236, forbid_unknown_fields=True):
    """With what was the network's."""

    fixed_ips: Limit = None
    floating_ips: Limit = None
    security_groups: Limit = None
    security_group_rules: Limit = None


class UpdateBody(msgspec.Struct, forbid_unknown_fields=True):
    quota_set: QuotaSet


class UpdateBody236(msgspec.Struct, forbid_unknown_fields=True):
    quota_set: QuotaSet236


class UpdateBody257(msgspec.Struct, forbid_unknown_fields=True):
    quota_set: QuotaSet257


class UserQuery(msgspec.Struct):
    user_id: str | None = None


class StrictUserQuery(UserQuery, forbid_unknown_fields=True):
    pass


class TenantQuery(msgspec.Struct):
    tenant_id: str | None = None


class StrictTenantQuery(TenantQuery, forbid_unknown_fields=True):
    reserved: str | None = None  # the CLI always sends it


_QUERY = {"2.1": UserQuery, "2.75": StrictUserQuery}


def _keys(request: Request, network_until: str = "2.36") -> tuple[str, ...]:
    keys: tuple[str, ...] = _CORE_KEYS
    if not request.at_least("2.57"):
        keys += _FILE_KEYS
    if not request.at_least(network_until):
        keys += _NETWORK_KEYS
    return keys


def _shown(request: Request, limits: dict[str, V], network: V) -> dict[str, V]:
    return {key: limits.get(key, network) for key in _keys(request)}


@face.route("GET", "/os-quota-sets/{project_id}", errors=(400,), policy="reader", query=_QUERY)
async def show_quota(request: Request, project_id: str) -> dict[str, Any]:
    """The limits of a project."""
    _check_project(request, project_id)
    with request.snapshot() as snapshot:
        limits = quotas.limits(snapshot, project_id)
    return {"quota_set": {"id": project_id, **_shown(request, _compute(limits), UNLIMITED)}}


@face.route("GET", "/os-quota-sets/{project_id}/detail", errors=(400,), policy="reader", query=_QUERY)
async def show_quota_in_detail(request: Request, project_id: str) -> dict[str, Any]:
    """The limits, and what is in use of them."""
    _check_project(request, project_id)
    with request.snapshot() as snapshot:
        limits = quotas.limits(snapshot, project_id)
        used = quotas.usage(snapshot, project_id)
    counted = {"instances": used.instances, "cores": used.cores, "ram": used.ram, "server_groups": used.server_groups}
    detail = {
        key: {"limit": limit, "in_use": counted.get(key, 0), "reserved": 0} for key, limit in _compute(limits).items()
    }
    network = {"limit": UNLIMITED, "in_use": 0, "reserved": 0}
    return {"quota_set": {"id": project_id, **_shown(request, detail, network)}}


@face.route("GET", "/os-quota-sets/{project_id}/defaults", errors=(400,))
async def show_default_quota(request: Request, project_id: str) -> dict[str, Any]:
    """What a project has that nothing was set for."""
    return {"quota_set": {"id": project_id, **_shown(request, COMPUTE_DEFAULTS, UNLIMITED)}}


@face.route(
    "PUT",
    "/os-quota-sets/{project_id}",
    errors=(400,),
    policy="admin",
    body={"2.1": UpdateBody, "2.36": UpdateBody236, "2.57": UpdateBody257},
    query=_QUERY,
)
async def update_quota(request: Request, project_id: str) -> dict[str, Any]:
    """Set some limits."""
    if request.query.user_id is not None:
        raise BadRequest("There are no quotas of single users here.", code="user_quota", field="user_id")
    asked: QuotaSet257 = request.body.quota_set
    limits: dict[str, int] = {}
    for field in msgspec.structs.fields(asked):
        value = getattr(asked, field.name)
        if field.name == "force" or value is None:
            continue
        limit = shapes.whole_number(value, field.name, UNLIMITED)
        if field.name in COMPUTE_DEFAULTS:
            limits[field.name] = limit
        elif limit != UNLIMITED:
            raise BadRequest(
                f"{field.name} is limited by the Network API, not here.", code="network_quota", field=field.name
            )
    result: ComputeLimits = await request.command(
        SetComputeQuota(
            caller=request.caller,
            project_id=project_id,
            limits=limits,
            force=shapes.truth(asked.force, "force"),
        )
    )
    return {"quota_set": _shown(request, result.limits, UNLIMITED)}


@face.route("DELETE", "/os-quota-sets/{project_id}", ok=202, policy="admin", query=_QUERY)
async def reset_quota(request: Request, project_id: str) -> None:
    """Give a project the defaults again."""
    if request.query.user_id is None:
        await request.command(ResetComputeQuota(caller=request.caller, project_id=project_id))


@face.route("GET", "/os-quota-class-sets/{name}", policy="admin")
async def show_quota_class(request: Request, name: str) -> dict[str, Any]:
    """The defaults under their older name; every class has them."""
    groups = request.at_least("2.50")
    keys = [key for key in _keys(request, network_until="2.50") if groups or key not in _GROUP_KEYS]
    return {"quota_class_set": {"id": name, **{key: COMPUTE_DEFAULTS.get(key, UNLIMITED) for key in keys}}}


@face.route("GET", "/limits", query={"2.1": TenantQuery, "2.75": StrictTenantQuery})
async def show_limits(request: Request) -> dict[str, Any]:
    """What the caller's project may have, and has. Another project's for an admin."""
    project_id = request.query.tenant_id or request.caller.project_id
    if project_id != request.caller.project_id and not request.caller.is_admin:
        raise Forbidden("Only an admin may see the limits of another project.", code="policy")
    with request.snapshot() as snapshot:
        limits = quotas.limits(snapshot, project_id)
        used = quotas.usage(snapshot, project_id)
    absolute = {
        "maxServerMeta": limits["metadata_items"],
        "maxTotalInstances": limits["instances"],
        "maxTotalCores": limits["cores"],
        "maxTotalRAMSize": limits["ram"],
        "maxTotalKeypairs": limits["key_pairs"],
        "maxServerGroups": limits["server_groups"],
        "maxServerGroupMembers": limits["server_group_members"],
        "totalInstancesUsed": used.instances,
        "totalCoresUsed": used.cores,
        "totalRAMUsed": used.ram,
        "totalServerGroupsUsed": used.server_groups,
    }
    if not request.at_least("2.57"):
        absolute["maxPersonality"] = limits["injected_files"]
        absolute["maxPersonalitySize"] = limits["injected_file_content_bytes"]
    if not request.at_least("2.39"):
        absolute["maxImageMeta"] = limits["metadata_items"]
    if not request.at_least("2.36"):
        absolute |= dict.fromkeys(("maxSecurityGroups", "maxSecurityGroupRules", "maxTotalFloatingIps"), UNLIMITED)
        absolute |= {"totalSecurityGroupsUsed": used.security_groups, "totalFloatingIpsUsed": 0}
    return {"limits": {"rate": [], "absolute": absolute}}


def _compute(limits: dict[str, int]) -> dict[str, int]:
    return {key: limits[key] for key in COMPUTE_DEFAULTS}


def _check_project(request: Request, project_id: str) -> None:
    if not request.caller.may_see(project_id):
        raise Forbidden("Only an admin may see the quota of another project.", code="policy")
