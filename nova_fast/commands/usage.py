"""Counting what projects have, in the transaction that changes it: usage cannot drift, no quota can be overrun."""

from __future__ import annotations

import msgspec

from nova_fast.model.errors import OverQuota
from nova_fast.queries import quotas
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction


def take(tx: Transaction, project_id: str, **amounts: int) -> None:
    """Count more of something (fields of Usage) for a project.

    Raises OverQuota that names every resource whose limit would be passed; then nothing is counted.
    """
    used = quotas.usage(tx, project_id)
    limits = quotas.limits(tx, project_id)
    over = [
        name
        for name, more in amounts.items()
        if quotas.exceeded(limits[quotas.QUOTA_OF_USAGE[name]], getattr(used, name), more)
    ]
    if over:
        resources = [quotas.QUOTA_OF_USAGE[name] for name in over]
        raise OverQuota(
            f"Quota exceeded for {','.join(resources)}: Requested {','.join(str(amounts[name]) for name in over)}, "
            f"but already used {','.join(str(getattr(used, name)) for name in over)} of "
            f"{','.join(str(limits[resource]) for resource in resources)} {','.join(resources)}",
            code="quota_exceeded",
            details={"resources": ",".join(resources)},
            hint="delete something, or ask an admin for a larger quota",
        )
    _add(tx, project_id, amounts)


def give_back(tx: Transaction, project_id: str, **amounts: int) -> None:
    """Count less of something for a project."""
    _add(tx, project_id, {name: -amount for name, amount in amounts.items()})


def _add(tx: Transaction, project_id: str, amounts: dict[str, int]) -> None:
    used = quotas.usage(tx, project_id)
    changed = msgspec.structs.replace(used, **{name: getattr(used, name) + n for name, n in amounts.items()})
    for name in amounts:
        assert getattr(changed, name) >= 0, f"{project_id} would have less than no {name}"
    tx.put(tables.USAGES, changed)
