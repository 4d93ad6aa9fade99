"""Lists: exact filters that may be repeated, chosen fields, sorting, and pages in both directions.

A key given several times matches any of its values; different keys must all match. Keys nobody knows are refused
(extension ``filter-validation``). Source: Networking API v2.0, "Filtering and Column Selection", "Pagination".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlencode

import msgspec

from nova_fast.api.framework.request import Request
from nova_fast.api.network.shapes import bad_value, boolean, number
from nova_fast.api.network.views import View
from nova_fast.model.errors import BadRequest, NotFound

_CONTROLS = ("fields", "sort_key", "sort_dir")
_SINGLE = ("limit", "marker", "page_reverse")
_TAGS = ("tags", "tags-any", "not-tags", "not-tags-any")
_STANDARD = ("project_id", "tenant_id", "description", "revision_number", "created_at", "updated_at")


def query_type(name: str, *filters: str, tags: bool = True) -> type[msgspec.Struct]:
    """A query Struct for a collection with these filters besides what every list takes."""
    keys = dict.fromkeys((*filters, *_STANDARD, *(_TAGS if tags else ())))
    names = {key.replace(":", "__").replace("-", "_"): key for key in (*keys, *_CONTROLS)}
    fields: list[tuple[str, Any, Any]] = [(field, list[str], msgspec.field(default_factory=list)) for field in names]
    fields += [(single, str, "") for single in _SINGLE]
    return msgspec.defstruct(name, fields, rename=names, kw_only=True, forbid_unknown_fields=True, frozen=True)


def given(request: Request, key: str) -> list[str]:
    """The values of one query key."""
    field = key.replace(":", "__").replace("-", "_")
    return cast(list[str], getattr(request.query, field))


def only(request: Request, key: str) -> str:
    """The value of a filter given exactly once, for reads that can use an index; else ""."""
    values = given(request, key)
    return values[0] if len(values) == 1 else ""


def answer_list(
    request: Request, collection: str, rows: Iterable[View], hidden: dict[str, View] | None = None
) -> dict[str, Any]:
    """The body of a list. ``hidden`` holds, by id, values that can be filtered by but are not shown."""
    conditions = _conditions(request)
    found = [row for row in rows if _matches({**row, **hidden[row["id"]]} if hidden else row, conditions)]
    found = _sorted(request, found)
    found, links = _page(request, found)
    fields = set(given(request, "fields"))
    if fields:
        found = [{key: value for key, value in row.items() if key in fields} for row in found]
    body: dict[str, Any] = {collection: found}
    if links:
        body[f"{collection}_links"] = links
    return body


def choose_fields(request: Request, view: View) -> View:
    """One thing with only the fields asked for with ``fields=``."""
    wanted = {value for key, value in request.query_pairs() if key == "fields"}
    return {key: value for key, value in view.items() if key in wanted} if wanted else view


def _conditions(request: Request) -> dict[str, list[str]]:
    asked: dict[str, list[str]] = {}
    for field in msgspec.structs.fields(request.query):
        if field.encode_name not in _CONTROLS and field.encode_name not in _SINGLE:
            values = getattr(request.query, field.name)
            if values:
                asked[field.encode_name] = values
    return asked


def _matches(row: View, conditions: dict[str, list[str]]) -> bool:
    return all(_match(row, key, wanted) for key, wanted in conditions.items())


def _match(row: View, key: str, wanted: list[str]) -> bool:
    if key in _TAGS:
        return _match_tags(set(row["tags"]), key, wanted)
    if key == "fixed_ips":
        return _match_fixed_ips(row["fixed_ips"], wanted)
    value = row.get(key)
    if isinstance(value, bool):
        return value in {boolean(text, key) for text in wanted}
    if isinstance(value, int):
        return value in {number(text, key) for text in wanted}
    if isinstance(value, list):
        return any(text in value for text in wanted)
    if value is None:
        return any(text in ("", "null", "None") for text in wanted)
    return str(value) in wanted


def _match_tags(tags: set[str], key: str, wanted: list[str]) -> bool:
    asked = {tag for text in wanted for tag in text.split(",") if tag}
    if key == "tags":
        return asked <= tags
    if key == "tags-any":
        return bool(asked & tags)
    if key == "not-tags":
        return not asked <= tags
    return not asked & tags


def _match_fixed_ips(addresses: list[dict[str, str]], wanted: list[str]) -> bool:
    """``subnet_id=…``, ``ip_address=…``, ``ip_address_substr=…``: all kinds given must hold, any value of each."""
    kinds: dict[str, list[str]] = {}
    for text in wanted:
        kind, sign, value = text.partition("=")
        if not sign or kind not in ("subnet_id", "subnet", "ip_address", "ip_address_substr"):
            raise bad_value("fixed_ips", f"'{text[:60]}' is not subnet_id=, ip_address= or ip_address_substr=.")
        kinds.setdefault("subnet_id" if kind == "subnet" else kind, []).append(value)
    for kind, values in kinds.items():
        if kind == "ip_address_substr":
            if not any(value in ip["ip_address"] for ip in addresses for value in values):
                return False
        elif not any(ip[kind] in values for ip in addresses):
            return False
    return True


def _sorted(request: Request, rows: list[View]) -> list[View]:
    """Sorted by the keys asked for, then by id, so that pages neither repeat nor miss anything."""
    keys, directions = given(request, "sort_key"), given(request, "sort_dir")
    if len(keys) != len(directions) and directions:
        raise BadRequest("The number of sort_keys and sort_dirs must be same", code="HTTPBadRequest", field="sort_dir")
    rows = sorted(rows, key=lambda row: str(row["id"]))
    for position in reversed(range(len(keys))):
        direction = directions[position] if directions else "asc"
        if direction not in ("asc", "desc"):
            raise bad_value("sort_dir", f"'{direction}' is not asc or desc.")
        key = keys[position]
        if rows and (key not in rows[0] or isinstance(rows[0][key], list | dict)):
            raise BadRequest(f"['{key}'] is invalid attribute for sort_key", code="HTTPBadRequest", field="sort_key")
        rows.sort(key=lambda row: (row[key] is not None, row[key] if row[key] is not None else ""),
                  reverse=direction == "desc")  # fmt: skip
    return rows


def _page(request: Request, rows: list[View]) -> tuple[list[View], list[dict[str, str]]]:
    query = request.query
    limit = number(query.limit, "limit") if query.limit else 0
    if limit < 0:
        raise bad_value("limit", f"'{limit}' should be an integer value and equal or greater to 0.")
    reverse = boolean(query.page_reverse, "page_reverse") if query.page_reverse else False
    if query.marker:
        place = next((index for index, row in enumerate(rows) if row["id"] == query.marker), None)
        if place is None:
            raise NotFound(f"Marker {query.marker[:64]} could not be found.", code="HTTPNotFound", field="marker")
        rows = rows[:place] if reverse else rows[place + 1 :]
    largest = request.config.api.max_limit
    size = min(limit, largest) if limit else largest
    more = len(rows) > size
    rows = (rows[-size:] if reverse else rows[:size]) if more else rows
    if not rows or not (limit or more):
        return rows, []
    full = len(rows) == size  # then, as in Neutron, there may be more
    links = []
    if full or reverse:
        links.append({"rel": "next", "href": _href(request, rows[-1]["id"], reverse=False)})
    if full or not reverse:
        links.append({"rel": "previous", "href": _href(request, rows[0]["id"], reverse=True)})
    return rows, links


def _href(request: Request, marker: str, *, reverse: bool) -> str:
    kept = [(key, value) for key, value in request.query_pairs() if key not in ("marker", "page_reverse")]
    kept += [("marker", marker)] + ([("page_reverse", "True")] if reverse else [])
    return f"{request.base_url}{request.path}?{urlencode(kept)}"
