"""A site's own filters and weighers: classes that an installed package offers as entry points.

    [project.entry-points."nova_fast.scheduler.filters"]
    RackFilter = "ourcloud.filters:RackFilter"

``enabled_filters`` (or ``weight_classes``) then names it. The class is one of the kinds of ``scheduler.filters.kinds``
or ``scheduler.weighers.kinds``, and what it costs is the cost of its kind: a FactsFilter nothing per host, a
StateFilter a call of Python for each host that all other filters have left, for each request. So a filter on what an
operator says of hosts should look at aggregates or traits (facts), and not at the host's state.

It runs in the scheduler's process: it must not wait for anything, and an error of it refuses the request.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TypeVar

from nova_fast.model.errors import BadRequest

FILTERS_GROUP = "nova_fast.scheduler.filters"
WEIGHERS_GROUP = "nova_fast.scheduler.weighers"

Kind = TypeVar("Kind")


def load(group: str, name: str, kind: type[Kind], field: str) -> type[Kind]:
    """The class behind an entry point. Raises BadRequest, with the option named, when there is none of this kind."""
    found = entry_points(group=group, name=name)
    if not found:
        raise BadRequest(
            f"There is no {kind.__name__.lower()} {name!r}.",
            field=field,
            hint=f"one of Nova's, or an entry point of the group {group}",
        )
    cls = next(iter(found)).load()
    if not (isinstance(cls, type) and issubclass(cls, kind)):
        raise BadRequest(f"{name} is no class of {kind.__module__}.", field=field)
    return cls
