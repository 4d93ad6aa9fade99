"""What several collections of the compute face share: links, times, and values that may come as numbers or as text.

Source: the parameter types of Nova's request schemas (``nova/api/validation/parameter_types.py``).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from nova_fast.api.framework.request import Request
from nova_fast.model.errors import BadRequest

NUMBER_MAX = 0x7FFFFFFF
_WHOLE = re.compile(r"-?[0-9]{1,20}")
_TRUE = frozenset({"True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes"})
_FALSE = frozenset({"False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no"})


def links(request: Request, collection: str, identity: str) -> list[dict[str, str]]:
    """The self and bookmark links of a resource, in the form of URL the client used."""
    prefix = request.project_prefix
    return [
        {"rel": "self", "href": f"{request.base_url}/v2.1{prefix}/{collection}/{identity}"},
        {"rel": "bookmark", "href": f"{request.base_url}{prefix}/{collection}/{identity}"},
    ]


def zulu(at_us: int) -> str:
    """``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micros(at_us: int) -> str:
    """``2026-01-31T12:00:00.000000``: UTC without saying so, as services, actions and usages show times."""
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")


def whole_number(value: int | str, field: str, least: int = 0, most: int = NUMBER_MAX) -> int:
    """A number that may have come as text. Raises BadRequest that names the field."""
    if isinstance(value, str):
        if not _WHOLE.fullmatch(value):
            raise BadRequest(f"Invalid input for field/attribute {field}. '{value[:80]}' is not a number.", field=field)
        value = int(value)
    if not least <= value <= most:
        raise BadRequest(
            f"Invalid input for field/attribute {field}. {value} is not in the range of {least} to {most}.", field=field
        )
    return value


def truth(value: bool | int | str, field: str) -> bool:
    """A truth value in one of the spellings the API takes. Raises BadRequest that names the field."""
    text = str(int(value)) if isinstance(value, bool | int) else value
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise BadRequest(f"Invalid input for field/attribute {field}. '{text[:80]}' is not a boolean.", field=field)


def printable_name(value: str, field: str, longest: int = 255) -> str:
    """A name of 1 to ``longest`` printable characters without spaces at its ends. Raises BadRequest."""
    if not 1 <= len(value) <= longest or value != value.strip() or not value.isprintable():
        raise BadRequest(
            f"Invalid input for field/attribute {field}. It must have 1 to {longest} printable characters and neither "
            f"begin nor end with a space.",
            field=field,
        )
    return value
