"""The query of ``GET /servers``: which parameters exist from which version on, who may use them, and what they mean."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from nova_fast.api.compute.server_bodies import boolean, last_segment
from nova_fast.api.framework.request import Request
from nova_fast.model.errors import BadRequest, Forbidden
from nova_fast.model.states import VM_STATES_BY_STATUS
from nova_fast.queries.servers import DEFAULT_ORDER, SORT_KEYS, ServerFilter

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"[0-9]{1,18}")

#: Everybody's parameters.
_OPEN = (
    "reservation_id", "name", "status", "image", "flavor", "ip", "changes-since", "all_tenants", "limit", "marker",
    "sort_key", "sort_dir", "deleted",
)  # fmt: skip
#: Everybody's from 2.83 on, an admin's before.
_OPEN_FROM_2_83 = (
    "availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at", "power_state",
    "task_state", "vm_state", "progress", "user_id",
)  # fmt: skip
_ADMIN = (
    "project_id", "tenant_id", "launch_index", "image_ref", "kernel_id", "ramdisk_id", "hostname", "host", "node",
    "display_name", "description", "display_description", "locked_by", "uuid", "root_device_name", "access_ip_v4",
    "access_ip_v6", "auto_disk_config", "soft_deleted", "block_device_mapping", "services", "metadata",
    "system_metadata", "info_cache", "security_groups", "pci_devices",
)  # fmt: skip
#: parameter → the version from which it exists for everybody.
_LATER = {
    "ip6": "2.5",
    "tags": "2.26",
    "tags-any": "2.26",
    "not-tags": "2.26",
    "not-tags-any": "2.26",
    "changes-before": "2.66",
    "locked": "2.73",
}


def _query_struct(names: tuple[str, ...], *, strict: bool) -> type[msgspec.Struct]:
    fields: list[Any] = [
        (name.replace("-", "_"), list[str], msgspec.field(default_factory=list, name=name)) for name in names
    ]
    return msgspec.defstruct(
        f"ServerQuery{'Strict' if strict else ''}", fields, forbid_unknown_fields=strict, kw_only=True
    )


_ALL = (*_OPEN, *_OPEN_FROM_2_83, *_ADMIN, *_LATER)
#: The declared query of both lists: unknown parameters are refused from 2.75 on.
LIST_QUERY: dict[str, Any] = {"2.1": _query_struct(_ALL, strict=False), "2.75": _query_struct(_ALL, strict=True)}


class Asked(msgspec.Struct, frozen=True):
    """A list request, understood."""

    where: ServerFilter
    order: tuple[tuple[str, str], ...]
    limit: int | None
    marker: str
    nothing: bool  # the answer is empty without a look


def understand(request: Request) -> Asked:
    """Read the query of a list. Raises BadRequest, or Forbidden for another project's servers."""
    given = _allowed(request)
    project = _last(given, "project_id") or _last(given, "tenant_id")
    everyone = _everyone(request, given, project)
    statuses = frozenset(text.upper() for text in given.get("status", []))
    unknown = statuses - VM_STATES_BY_STATUS.keys()
    if unknown and request.at_least("2.38"):
        raise BadRequest(f"Invalid filter status: {sorted(unknown)[0]}", field="status")
    deleted = _flag(given, "deleted") if request.caller.is_admin else False
    where = ServerFilter(
        project_id=project if everyone else request.caller.project_id,
        name=_last(given, "name") or _last(given, "display_name"),
        hostname=_last(given, "hostname"),
        ids=frozenset(given.get("uuid", [])),
        statuses=statuses,
        vm_states=frozenset(given.get("vm_state", [])),
        task_states=frozenset(given.get("task_state", [])),
        power_states=_power_states(given),
        host=_last(given, "host") or _last(given, "node"),
        flavor_id=_reference(given, "flavor"),
        image_id=_reference(given, "image") or _reference(given, "image_ref"),
        key_name=_last(given, "key_name"),
        user_id=_last(given, "user_id"),
        zone=_last(given, "availability_zone"),
        reservation_id=_last(given, "reservation_id"),
        description=_last(given, "description") or _last(given, "display_description"),
        ip=_last(given, "ip"),
        ip6=_last(given, "ip6"),
        config_drive=_flag(given, "config_drive"),
        locked=_flag(given, "locked"),
        changed_since_us=_time(given, "changes-since"),
        changed_before_us=_time(given, "changes-before"),
        tags=_tags(given, "tags"),
        tags_any=_tags(given, "tags-any"),
        not_tags=_tags(given, "not-tags"),
        not_tags_any=_tags(given, "not-tags-any"),
    )
    return Asked(
        where=where,
        order=_order(given),
        limit=_limit(given),
        marker=_last(given, "marker") or "",
        nothing=bool(deleted) or (bool(statuses) and statuses <= unknown) or statuses == {"DELETED"},
    )


def _everyone(request: Request, given: dict[str, list[str]], project: str | None) -> bool:
    """Whether all projects are meant; an admin who names another project means it without saying so."""
    wanted = _last(given, "all_tenants")
    if wanted is None:
        return project not in (None, request.caller.project_id)  # only an admin's is not ignored
    everyone = boolean(wanted or "1", "all_tenants")
    if everyone and not request.caller.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:servers:detail:get_all_tenants to be performed.")
    return everyone


def _allowed(request: Request) -> dict[str, list[str]]:
    """The parameters this caller may use at this version; the others count as not given, as in Nova."""
    names = set(_OPEN)
    if request.at_least("2.83"):
        names.update(_OPEN_FROM_2_83)
    names.update(name for name, since in _LATER.items() if request.at_least(since))
    if request.caller.is_admin:
        names.update(_ADMIN, _OPEN_FROM_2_83, ("ip6",))
    given: dict[str, list[str]] = {}
    for key, value in request.query_pairs():
        if key in names:
            given.setdefault(key, []).append(value)
    return given


def _last(given: dict[str, list[str]], name: str) -> str | None:
    values = given.get(name)
    return values[-1] if values else None


def _flag(given: dict[str, list[str]], name: str) -> bool | None:
    value = _last(given, name)
    return None if value is None else boolean(value, name)


def _reference(given: dict[str, list[str]], name: str) -> str | None:
    value = _last(given, name)
    return None if value is None else last_segment(value)


def _tags(given: dict[str, list[str]], name: str) -> frozenset[str]:
    return frozenset(tag for value in given.get(name, []) for tag in value.split(",") if tag)


def _power_states(given: dict[str, list[str]]) -> frozenset[int]:
    values = given.get("power_state", [])
    if not all(_NUMBER.fullmatch(value) for value in values):
        raise BadRequest(f"Invalid filter power_state: {values[0][:40]}", field="power_state")
    return frozenset(int(value) for value in values)


def _limit(given: dict[str, list[str]]) -> int | None:
    value = _last(given, "limit")
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise BadRequest(f"Invalid input for query parameters limit. Value: {value[:40]}", field="limit")
    return int(value)


def _time(given: dict[str, list[str]], name: str) -> int | None:
    value = _last(given, name)
    return None if value is None else instant(value, name)


def instant(value: str, name: str) -> int:
    """A time of a query in Unix microseconds; a zone's ``+`` may have come as a space. Raises BadRequest."""
    for text in (value, value.replace(" ", "+")):
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            continue
        aware = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        return (aware - _EPOCH) // timedelta(microseconds=1)
    raise BadRequest(f"Invalid input for query parameters {name}. Value: {value[:64]}", field=name)


def _order(given: dict[str, list[str]]) -> tuple[tuple[str, str], ...]:
    keys, directions = given.get("sort_key", []), given.get("sort_dir", [])
    if not keys and not directions:
        return DEFAULT_ORDER
    for key in keys:
        if key not in SORT_KEYS:
            raise BadRequest(f"Invalid input for query parameters sort_key. Value: {key[:64]}", field="sort_key")
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise BadRequest(f"Invalid input for query parameters sort_dir. Value: {direction[:64]}", field="sort_dir")
    if len(directions) > len(keys):
        raise BadRequest("Sort direction size exceeds sort key size", field="sort_dir")
    fallback = directions[0] if directions else "desc"
    order = tuple((key, directions[i] if i < len(directions) else fallback) for i, key in enumerate(keys))
    return order if "created_at" in keys else (*order, ("created_at", "desc"))
