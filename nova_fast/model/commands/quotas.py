"""What an admin can ask of the compute quotas of a project."""

from __future__ import annotations

from nova_fast.model.base import Message
from nova_fast.model.identity import Caller


class SetComputeQuota(Message, frozen=True):
    """Set some limits of a project; -1 = unlimited. → ComputeLimits.

    Raises BadRequest when a limit is below what the project has and ``force`` is not given.
    """

    caller: Caller
    project_id: str
    limits: dict[str, int]
    force: bool = False


class ResetComputeQuota(Message, frozen=True):
    """Give a project the default compute limits again; its network limits stay. → ComputeLimits."""

    caller: Caller
    project_id: str


class ComputeLimits(Message, frozen=True):
    """Every compute limit of the project, defaults filled in."""

    limits: dict[str, int]


COMMANDS = (SetComputeQuota, ResetComputeQuota)
RESULTS = (ComputeLimits,)
