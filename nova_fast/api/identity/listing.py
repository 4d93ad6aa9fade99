"""Lists: filters by attribute, exact and inexact, a limit and a marker, and the links every list has."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nova_fast.api.framework.paging import next_href
from nova_fast.api.framework.request import Request
from nova_fast.model.errors import BadRequest, NotFound

_INEXACT: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "icontains": lambda text, part: part.lower() in text.lower(),
    "startswith": lambda text, part: text.startswith(part),
    "istartswith": lambda text, part: text.lower().startswith(part.lower()),
    "endswith": lambda text, part: text.endswith(part),
    "iendswith": lambda text, part: text.lower().endswith(part.lower()),
}
_FALSE = ("false", "0", "no", "off")


def listing(request: Request, plural: str, rows: Iterable[dict[str, Any]], filters: Iterable[str]) -> dict[str, Any]:
    """The answer of a list route: rows that pass the filters of the query, one page of them."""
    kept = [row for row in rows if _passes(request, row, frozenset(filters))]
    page, more = _page(request, kept)
    links: dict[str, str | None] = {"next": None, "self": f"{request.base_url}{request.path}", "previous": None}
    answer: dict[str, Any] = {plural: page, "links": links}
    if more:
        links["next"] = next_href(request, page[-1]["id"])
        answer["truncated"] = True
    return answer


def is_true(text: str) -> bool:
    """What a boolean in a query means; a key without a value is true."""
    return text.lower() not in _FALSE


def _passes(request: Request, row: dict[str, Any], filters: frozenset[str]) -> bool:
    return all(_matches(row, key, value, filters) for key, value in request.query_pairs())


def _matches(row: dict[str, Any], key: str, value: str, filters: frozenset[str]) -> bool:
    name, _, operation = key.partition("__")
    if name not in filters:
        return True
    present = row.get(name)
    if isinstance(present, bool):
        return present == is_true(value)
    if operation:
        compare = _INEXACT.get(operation)
        return compare is None or compare(str(present or ""), value)
    return (present or "") == ("" if value == "null" else value)


def _page(request: Request, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], bool]:
    wanted = dict(request.query_pairs())
    start = 0
    if "marker" in wanted:
        places = [place for place, row in enumerate(rows) if row["id"] == wanted["marker"]]
        if not places:
            raise NotFound(f"Could not find marker: {wanted['marker']}.", code="marker_not_found")
        start = places[0] + 1
    limit = len(rows)
    if "limit" in wanted:
        if not wanted["limit"].isascii() or not wanted["limit"].isdigit():
            raise BadRequest("The limit must be a whole number.", field="limit")
        limit = min(int(wanted["limit"]), request.config.api.max_limit) or request.config.api.max_limit
    page = rows[start : start + limit]
    return page, bool(page) and start + limit < len(rows)
