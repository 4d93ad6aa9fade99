"""Setting the compute limits of a project. Network limits are in the same record and are left alone."""

from __future__ import annotations

import msgspec

from nova_fast.commands.registry import command
from nova_fast.model.commands.quotas import ComputeLimits, ResetComputeQuota, SetComputeQuota
from nova_fast.model.errors import BadRequest
from nova_fast.model.quotas import COMPUTE_DEFAULTS, UNLIMITED, Quota
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

LIMIT_MAX = (1 << 31) - 1


@command(SetComputeQuota)
def set_compute_quota(tx: Transaction, request: SetComputeQuota) -> ComputeLimits:
    """Set some limits.

    Raises BadRequest for an unknown project, an unknown resource, a limit out of range, or one below what is in use.
    """
    if tx.get(tables.PROJECTS, request.project_id) is None:
        raise BadRequest(f"Project ID {request.project_id} is not a valid project.", code="project_not_found")
    used = quotas.usage(tx, request.project_id)
    for resource, limit in request.limits.items():
        if resource not in COMPUTE_DEFAULTS:
            raise BadRequest(f"There is no compute quota {resource}.", field=resource)
        if not UNLIMITED <= limit <= LIMIT_MAX:
            raise BadRequest(
                f"Quota limit {limit} for {resource} must be in the range of -1 and {LIMIT_MAX}.", field=resource
            )
        in_use = getattr(used, resource, 0)
        if limit != UNLIMITED and limit < in_use and not request.force:
            raise BadRequest(
                f"Quota limit {limit} for {resource} must be greater than or equal to already used and reserved "
                f"{in_use}.",
                field=resource,
                hint="give force to set it all the same",
            )
    own = _own(tx, request.project_id)
    tx.put(tables.QUOTAS, msgspec.structs.replace(own, limits={**own.limits, **request.limits}))
    return _answer(tx, request.project_id)


@command(ResetComputeQuota)
def reset_compute_quota(tx: Transaction, request: ResetComputeQuota) -> ComputeLimits:
    """Take the project's own compute limits away. What has none is left as it is."""
    own = _own(tx, request.project_id)
    kept = {name: limit for name, limit in own.limits.items() if name not in COMPUTE_DEFAULTS}
    if kept != own.limits:
        if kept:
            tx.put(tables.QUOTAS, msgspec.structs.replace(own, limits=kept))
        else:
            tx.delete(tables.QUOTAS, request.project_id)
    return _answer(tx, request.project_id)


def _own(tx: Transaction, project_id: str) -> Quota:
    return tx.get(tables.QUOTAS, project_id) or Quota(project_id=project_id)


def _answer(tx: Transaction, project_id: str) -> ComputeLimits:
    limits = quotas.limits(tx, project_id)
    return ComputeLimits(limits={name: limits[name] for name in COMPUTE_DEFAULTS})
