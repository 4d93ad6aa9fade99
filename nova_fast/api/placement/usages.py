"""What projects take.

Source: Placement API, "Usages".
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.face import NAME_PATTERN, face, fresh
from nova_fast.model.errors import BadRequest, Forbidden
from nova_fast.model.placement import UNKNOWN_TYPE
from nova_fast.queries import placement

_Text = Annotated[str, Meta(min_length=1, max_length=255)]
_ALL = "all"


class UsageQuery(msgspec.Struct, forbid_unknown_fields=True):
    project_id: _Text
    user_id: _Text | None = None


class TypedUsageQuery(UsageQuery, forbid_unknown_fields=True):
    consumer_type: _Text | None = None


@face.route(
    "GET", "/usages", errors=(400,), policy="reader", query={"1.9": UsageQuery, "1.38": TypedUsageQuery}, since="1.9"
)
async def show_usages(request: Request) -> Answer:
    """What a project takes, or one user of it. Anybody may ask for the own project."""
    query: UsageQuery = request.query
    if not request.caller.may_see(query.project_id):
        raise Forbidden("Only an admin may see the usage of another project.", code="policy")
    kind = query.consumer_type if isinstance(query, TypedUsageQuery) else _ALL
    if kind not in (None, _ALL, UNKNOWN_TYPE) and not re.fullmatch(NAME_PATTERN, kind):
        raise BadRequest(f"Invalid query string parameters: invalid consumer type {kind[:80]}.")
    sums: dict[str, Counter[str]] = {}
    with request.snapshot() as snapshot:
        for consumer in placement.consumers_of_project(snapshot, query.project_id, query.user_id):
            if kind not in (None, _ALL, consumer.type):
                continue
            own = sums.setdefault(_ALL if kind == _ALL else consumer.type, Counter())
            own["consumer_count"] += 1
            for share in consumer.shares:
                own.update(share.resources)
    if request.at_least("1.38"):
        return fresh(request, {"usages": sums})
    total: dict[str, Any] = dict(sums.get(_ALL, {}))
    total.pop("consumer_count", None)
    return fresh(request, {"usages": total})
