"""Pages of a list: how many rows, and the link to the next page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from nova_fast.api.framework.request import Request
from nova_fast.model.errors import BadRequest

R = TypeVar("R")


def clamp_limit(request: Request, limit: int | None) -> int:
    """Rows in this page: what was asked for, at most the configured maximum. Raises BadRequest for a negative one."""
    largest = request.config.api.max_limit
    if limit is None:
        return largest
    if limit < 0:
        raise BadRequest("Invalid input for field/attribute limit. It must not be negative.", field="limit")
    return min(limit, largest)


def next_href(request: Request, marker: str) -> str:
    """The same request with another marker."""
    kept = [(key, value) for key, value in request.query_pairs() if key != "marker"]
    return f"{request.base_url}{request.path}?{urlencode([*kept, ('marker', marker)])}"


def page(request: Request, rows: Sequence[R], limit: int, collection: str, key: Callable[[R], str]) -> dict[str, Any]:
    """``{"servers_links": [{"rel": "next", …}]}`` when more rows may exist (the page is full), else ``{}``."""
    if not rows or len(rows) < limit:
        return {}
    return {f"{collection}_links": [{"rel": "next", "href": next_href(request, key(rows[-1]))}]}
