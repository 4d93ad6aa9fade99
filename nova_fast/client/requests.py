"""From arguments to the targets and bodies of the REST API."""

from __future__ import annotations

import base64
import os
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from nova_fast.client.shapes import NewServer, id_of

_encode = msgspec.json.Encoder().encode


def new_key() -> str:
    """The Idempotency-Key of a change."""
    return os.urandom(16).hex()


def path_of(collection: str, thing_id: str) -> str:
    """The path of one thing; whatever its id holds, it is one segment."""
    # PERF: an id of the cloud needs no quoting, and most are.
    return f"{collection}/{thing_id if thing_id.replace('-', '').isalnum() else quote(thing_id, safe='')}"


def query_of(filters: dict[str, Any], marker: str = "") -> str:
    """The query of a list; True becomes true."""
    shown = {key: str(value).lower() if isinstance(value, bool) else value for key, value in filters.items()}
    if marker:
        shown["marker"] = marker
    return f"?{urlencode(shown, doseq=True)}" if shown else ""


def create_body(new: NewServer, count: int, *, all_or_nothing: bool) -> bytes:
    """The body of ``POST /servers`` for ``count`` servers, answered with all their ids."""
    server: dict[str, Any] = {
        "name": new.name,
        "flavorRef": id_of(new.flavor),
        "imageRef": id_of(new.image),
        "networks": new.networks if isinstance(new.networks, str) else [{"uuid": id_of(one)} for one in new.networks],
        "min_count": count if all_or_nothing else 1,
        "max_count": count,
    }
    given: dict[str, Any] = {
        "key_name": new.key_name,
        "user_data": base64.b64encode(new.user_data).decode(),
        "metadata": new.metadata,
        "tags": new.tags,
        "description": new.description,
        "availability_zone": new.zone,
        "security_groups": [{"name": name} for name in new.security_groups],
    }
    server |= {key: value for key, value in given.items() if value}
    body: dict[str, Any] = {"server": server}
    if new.hints:
        body["os:scheduler_hints"] = new.hints
    return _encode(body)
