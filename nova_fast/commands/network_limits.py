"""Quotas and ownership as the network API words them."""

from __future__ import annotations

import msgspec

from nova_fast.commands import usage
from nova_fast.commands.registry import command
from nova_fast.model.commands.networks import NetworkQuotaResult, SetNetworkQuota
from nova_fast.model.errors import BadRequest, Forbidden, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.quotas import NETWORK_DEFAULTS, UNLIMITED, Quota
from nova_fast.queries import quotas
from nova_fast.queries.network_admin import network_used
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

PROJECT_BYTES_MAX = 255


def take(tx: Transaction, project_id: str, **amounts: int) -> None:
    """Count more of something of the network API. Raises OverQuota (``OverQuota``)."""
    try:
        usage.take(tx, project_id, **amounts)
    except OverQuota as e:
        over = e.details["resources"].split(",")
        raise OverQuota(
            f"Quota exceeded for resources: {over}.", code="OverQuota", details=e.details, hint=e.hint
        ) from e


def owner_of(caller: Caller, project_id: str) -> str:
    """The project a new thing belongs to. Raises BadRequest when the caller may not choose it, or has none."""
    if not project_id and not caller.project_id:
        raise BadRequest(
            "The token is not scoped to a project, so project_id must be given.",
            code="HTTPBadRequest",
            field="project_id",
        )
    if project_id and project_id != caller.project_id and not caller.is_admin:
        raise BadRequest(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin "
            "privileges",
            code="HTTPBadRequest",
            field="project_id",
        )
    return project_id or caller.project_id


def only_admin(caller: Caller, what: str) -> None:
    """Raises Forbidden for anybody but an admin."""
    if not caller.is_admin:
        raise Forbidden(f"Only an admin may {what}.", code="PolicyNotAuthorized")


def only_owner(caller: Caller, project_id: str, what: str) -> None:
    """Raises Forbidden for a caller to whom the thing exists but does not belong."""
    if not caller.may_see(project_id):
        raise Forbidden(f"Only the owner may {what}.", code="PolicyNotAuthorized")


def _check_used(tx: Transaction, project_id: str, wanted: dict[str, int]) -> None:
    used = network_used(tx, project_id)
    for name, limit in wanted.items():
        if UNLIMITED < limit < used[name]:
            raise BadRequest(
                f"Quota limit {limit} of {name} is lower than the {used[name]} in use.",
                code="QuotaLimitTooLow",
                field=name,
            )


@command(SetNetworkQuota)
def set_network_quota(tx: Transaction, request: SetNetworkQuota) -> NetworkQuotaResult:
    """Set limits of a project, or give it the default ones again; its compute limits stay."""
    only_admin(request.caller, "change quotas")
    if not 1 <= len(request.project_id.encode()) <= PROJECT_BYTES_MAX or "\0" in request.project_id:
        raise BadRequest("This cannot be the id of a project.", code="HTTPBadRequest", field="project_id")
    own = tx.get(tables.QUOTAS, request.project_id) or Quota(project_id=request.project_id)
    wanted = request.limits
    if wanted is None:
        limits = {name: limit for name, limit in own.limits.items() if name not in NETWORK_DEFAULTS}
    else:
        for name, limit in wanted.items():
            if name not in NETWORK_DEFAULTS:
                raise BadRequest(f"{name} is not a resource of the network service.", code="HTTPBadRequest", field=name)
            if limit < UNLIMITED or limit > 2**31 - 1:
                raise BadRequest(f"Invalid input for {name}: {limit}.", code="HTTPBadRequest", field=name)
        if request.check_limit:
            _check_used(tx, request.project_id, wanted)
        limits = {**own.limits, **wanted}
    tx.put(tables.QUOTAS, msgspec.structs.replace(own, limits=limits))
    return NetworkQuotaResult(limits={name: quotas.limits(tx, request.project_id)[name] for name in NETWORK_DEFAULTS})
