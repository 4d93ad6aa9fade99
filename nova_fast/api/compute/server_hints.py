"""Scheduler hints of a create request: which values the known ones may have, and how they are kept.

Source: the schema of ``os:scheduler_hints`` in ``POST /servers`` (Nova 2.1 to 2.96). Hints that are not in it are the
site's own and may be anything; the scheduler is given text and lists of text, so an object is kept as JSON.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable
from typing import Any

from nova_fast.api.compute import shapes
from nova_fast.model.errors import BadRequest

Hints = dict[str, str | list[str]]

_FIELD = "os:scheduler_hints"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_CIDR = re.compile(r"/[0-9a-f.:]+")


def read_hints(given: dict[str, Any]) -> Hints:
    """The hints as they are kept. Raises BadRequest that names the hint."""
    return {key: _KNOWN.get(key, _anything)(key, value) for key, value in given.items()}


def group_of(hints: Hints) -> str:
    """The server group that is asked for; "" = none. Raises BadRequest for several."""
    asked = hints.get("group") or ""
    groups = [asked] if isinstance(asked, str) else asked
    if len(groups) > 1:
        raise _wrong("group", "A server is in one group at most")
    return groups[0]


def _wrong(key: str, why: str) -> BadRequest:
    return BadRequest(f"Invalid input for field/attribute {_FIELD}.{key}. {why}.", field=_FIELD)


def _uuid(key: str, value: Any) -> str:
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise _wrong(key, f"{str(value)[:80]!r} is not a UUID")
    return value


def _uuid_or_list(key: str, value: Any) -> str | list[str]:
    return [_uuid(key, one) for one in value] if isinstance(value, list) else _uuid(key, value)


def _text_or_uuids(key: str, value: Any) -> str | list[str]:
    return value if isinstance(value, str) else _uuid_or_list(key, value)


def _text_or_list(key: str, value: Any) -> str | list[str]:
    if isinstance(value, str) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return value
    raise _wrong(key, "It must be text or a list of text")


def _query(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    if not isinstance(value, str):
        raise _wrong(key, "It must be text or an object")
    return value


def _name(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _wrong(key, "It must be text")
    return shapes.printable_name(value, f"{_FIELD}.{key}")


def _address(key: str, value: Any) -> str:
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise _wrong(key, f"{str(value)[:80]!r} is not an IP address") from None


def _cidr(key: str, value: Any) -> str:
    if not isinstance(value, str) or not _CIDR.fullmatch(value):
        raise _wrong(key, f"{str(value)[:80]!r} is not the end of a CIDR, like /24")
    return value


def _anything(key: str, value: Any) -> str | list[str]:
    if isinstance(value, list):
        return [_text(one) for one in value]
    if value is None:
        raise _wrong(key, "It must not be null")
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


_KNOWN: dict[str, Callable[[str, Any], str | list[str]]] = {
    "group": _uuid_or_list,
    "different_host": _uuid_or_list,
    "same_host": _text_or_uuids,
    "query": _query,
    "target_cell": _name,
    "different_cell": _text_or_list,
    "build_near_host_ip": _address,
    "cidr": _cidr,
}
