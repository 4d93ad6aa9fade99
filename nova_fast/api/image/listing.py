"""The query of an image list: filters, order, page.

Source: Image API v2, "List images". What is no parameter is a custom property that must have this value.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from nova_fast.model.errors import BadRequest
from nova_fast.queries.images import COMPARISONS, NEWEST_FIRST, SORT_KEYS, ImageFilter

LIMIT_DEFAULT = 25
_LISTS = frozenset({"id", "name", "status", "container_format", "disk_format"})
_TEXTS = _LISTS | {"owner", "checksum", "os_hash_algo", "os_hash_value"}
_NUMBERS = frozenset({"min_disk", "min_ram", "size", "virtual_size"})
_VISIBILITIES = frozenset({"public", "private", "shared", "community", "all"})
_MEMBER_STATUSES = frozenset({"pending", "accepted", "rejected", "all"})
_DIRECTIONS = {"asc": False, "desc": True}

Pairs = list[tuple[str, str]]


def read(pairs: Pairs, limit_max: int) -> tuple[ImageFilter, Pairs]:
    """What a query asks for, and the pairs that a link to another page repeats. Raises BadRequest."""
    fields: dict[str, Any] = {"one_of": {}, "numbers": {}, "times": (), "properties": {}, "tags": ()}
    sort_keys: list[str] = []
    sort_dirs: list[str] = []
    for key, value in pairs:
        if key == "sort_key":
            sort_keys.append(value)
        elif key == "sort_dir":
            sort_dirs.append(value)
        else:
            _read_one(fields, key, value)
    sort = fields.pop("sort", None)
    if sort is not None and (sort_keys or sort_dirs):
        raise BadRequest("Old and new sorting syntax cannot be combined", field="sort")
    if sort is None:
        sort = _paired(sort_keys, sort_dirs)
    limit = min(fields.pop("limit", LIMIT_DEFAULT), limit_max)
    wanted = ImageFilter(**fields, sort=_checked(sort), limit=limit)
    return wanted, [(key, value) for key, value in pairs if key != "marker"]


def href(pairs: Pairs) -> str:
    """A link to a page of the list."""
    return f"/v2/images?{urlencode(pairs)}" if pairs else "/v2/images"


def _read_one(fields: dict[str, Any], key: str, value: str) -> None:
    reader = _READERS.get(key)
    if reader is not None:
        reader(fields, value)
    elif key in _TEXTS:
        fields["one_of"][key] = _values(value) if key in _LISTS and value.startswith("in:") else (value,)
    elif key in _NUMBERS:
        fields["numbers"][key] = _number(key, value)
    elif key in ("created_at", "updated_at"):
        fields["times"] += (_time(key, value),)
    else:
        fields["properties"][key] = value


def _values(text: str) -> tuple[str, ...]:
    """``in:a,"b,c"`` → its values."""
    try:
        [row] = csv.reader([text.removeprefix("in:")], strict=True)
    except (csv.Error, ValueError):
        raise BadRequest(f"Invalid filter value {text[:200]}: the quotes do not match.") from None
    return tuple(row)


def _number(key: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadRequest(f"{key} must be a whole number that is not negative.", field=key)
    return int(text)


def _truth(key: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise BadRequest(f"{key} must be 'True' or 'False'.", field=key)
    return text.lower() == "true"


def _one_of(key: str, text: str, allowed: frozenset[str]) -> str:
    if text not in allowed:
        raise BadRequest(f"Invalid {key} value: {text[:80]}.", field=key)
    return text


def _time(key: str, text: str) -> tuple[str, str, int]:
    how, colon, rest = text.partition(":")
    if not colon or how not in COMPARISONS:
        how, rest = "eq", text
    try:
        at = datetime.fromisoformat(rest.replace("Z", "+00:00"))
    except ValueError:
        raise BadRequest(f"{key} must be a time like gt:2026-01-31T12:00:00Z.", field=key) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return key, how, int(at.timestamp() * 1_000_000)


def _paired(keys: list[str], directions: list[str]) -> tuple[tuple[str, str], ...]:
    if len(directions) > 1 and len(directions) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys", field="sort_dir")
    if not keys:
        keys = ["created_at"]
    if len(directions) <= 1:
        directions = (directions or ["desc"]) * len(keys)
    return tuple(zip(keys, directions, strict=True))


def _sort(text: str) -> tuple[tuple[str, str], ...]:
    """``name:asc,size`` → pairs; descending where nothing is said."""
    parts = [part.strip().partition(":") for part in text.split(",")]
    return tuple((key, direction or "desc") for key, _colon, direction in parts)


def _checked(sort: tuple[tuple[str, str], ...]) -> tuple[tuple[str, bool], ...]:
    for key, direction in sort:
        if key not in SORT_KEYS:
            raise BadRequest(f"Invalid sort key: {key[:80]}. It must be one of {', '.join(sorted(SORT_KEYS))}.")
        if direction not in _DIRECTIONS:
            raise BadRequest(f"Invalid sort direction: {direction[:80]}.", field="sort_dir")
    if len({key for key, _ in sort}) != len(sort):
        raise BadRequest("A sort key may be given once.", field="sort_key")
    return tuple((key, _DIRECTIONS[direction]) for key, direction in sort) or NEWEST_FIRST


def _set(name: str, convert: Callable[[str], Any]) -> Callable[[dict[str, Any], str], None]:
    def reader(fields: dict[str, Any], value: str) -> None:
        fields[name] = convert(value)

    return reader


def _add_tag(fields: dict[str, Any], value: str) -> None:
    fields["tags"] += (value,)


_READERS: dict[str, Callable[[dict[str, Any], str], None]] = {
    "limit": _set("limit", lambda text: _number("limit", text)),
    "marker": _set("marker", str),
    "sort": _set("sort", _sort),
    "visibility": _set("visibility", lambda text: _one_of("visibility", text, _VISIBILITIES)),
    "member_status": _set("member_status", lambda text: _one_of("member_status", text, _MEMBER_STATUSES)),
    "tag": _add_tag,
    "protected": _set("protected", lambda text: _truth("protected", text)),
    "os_hidden": _set("hidden", lambda text: _truth("os_hidden", text)),
    "size_min": _set("size_min", lambda text: _number("size_min", text)),
    "size_max": _set("size_max", lambda text: _number("size_max", text)),
}
