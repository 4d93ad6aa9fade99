"""Allocation candidates: in which ways something of a given size could be had.

Source: Placement API, "Allocation candidates".
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer
from nova_fast.api.placement.conditions import BAD_VALUE, check_names, read_conditions, read_traits
from nova_fast.api.placement.face import face, fresh
from nova_fast.model.errors import BadRequest
from nova_fast.model.placement import Provider, capacity_of
from nova_fast.queries import placement_search
from nova_fast.queries.placement_search import Amounts, Conditions, Search

_LIMIT_MAX = 1000
_LIMIT = re.compile(r"[1-9]\d{0,17}")
_GROUP = "(resources|required|member_of|in_tree)"
_NUMBERED = re.compile(_GROUP + r"((?:[1-9]\d{0,17})?)")
_NAMED = re.compile(_GROUP + r"([a-zA-Z0-9_-]{0,64})")


class Query(msgspec.Struct):
    """Every parameter may come with a suffix of its group, so they are read one by one; this is for documents."""

    resources: list[str] = []


class Query116(Query):
    limit: list[str] = []


class Query117(Query116):
    required: list[str] = []


class Query121(Query117):
    member_of: list[str] = []


class Query125(Query121):
    group_policy: list[str] = []


class Query131(Query125):
    in_tree: list[str] = []


class Query135(Query131):
    root_required: list[str] = []


class Query136(Query135):
    same_subtree: list[str] = []


_QUERY = {
    "1.10": Query, "1.16": Query116, "1.17": Query117, "1.21": Query121, "1.25": Query125, "1.31": Query131,
    "1.35": Query135, "1.36": Query136,
}  # fmt: skip
_WHOLE = {"limit": "1.16", "group_policy": "1.25", "root_required": "1.35", "same_subtree": "1.36"}
_GROUPED = {"resources": "1.10", "required": "1.17", "member_of": "1.21", "in_tree": "1.31"}


@face.route("GET", "/allocation_candidates", errors=(400,), policy="service", query=_QUERY, since="1.10")
async def list_candidates(request: Request) -> Answer:
    """Ways to have what is asked for, and what the providers that give have and are."""
    values: dict[str, list[str]] = {}
    suffixes: dict[str, None] = {}
    for key, value in request.query_pairs():
        suffix = _check_key(request, key)
        values.setdefault(key, []).append(value)
        if suffix is not None:
            suffixes[suffix] = None
    search = _read_search(request, values, list(suffixes))
    with request.snapshot() as snapshot:
        check_names(snapshot, (*search.groups.values(), search.root))
        found = placement_search.candidates(snapshot, search)
    asked = {name for group in search.groups.values() for name in group.resources}
    return fresh(
        request,
        {
            "allocation_requests": [_request(request, one.amounts, one.mappings) for one in found.candidates],
            "provider_summaries": {one.uuid: _summary(request, one, asked) for one in found.providers},
        },
    )


def _check_key(request: Request, key: str) -> str | None:
    """The suffix of the group that a parameter belongs to; None when it is the whole request's. Raises BadRequest."""
    if key in _WHOLE and request.at_least(_WHOLE[key]):
        return None
    pattern = _NAMED if request.at_least("1.33") else _NUMBERED
    match = pattern.fullmatch(key)
    if match is not None and request.at_least(_GROUPED[match[1]]) and (not match[2] or request.at_least("1.25")):
        return match[2]
    raise BadRequest(
        f"Invalid query string parameters: Additional properties are not allowed ('{key[:80]}' was unexpected)"
    )


def _read_search(request: Request, values: dict[str, list[str]], suffixes: list[str]) -> Search:
    policy = values.get("group_policy", [None])[0]
    if policy not in (None, "none", "isolate"):
        raise BadRequest("Invalid query string parameters: group_policy must be none or isolate.")
    limit = values.get("limit", [str(_LIMIT_MAX)])[0]
    if not _LIMIT.fullmatch(limit):
        raise BadRequest("Invalid query string parameters: limit must be a positive number.")
    root = _read_root(values.get("root_required", []))
    subtrees = tuple(frozenset(name.strip() for name in text.split(",")) for text in values.get("same_subtree", []))
    if any("" in names for names in subtrees):
        raise BadRequest("Empty string (unsuffixed group) can not be specified in `same_subtree`", code=BAD_VALUE)
    groups = {suffix: read_conditions(request, values, suffix) for suffix in suffixes}
    _check_groups(request, groups, subtrees)
    if policy is None and sum(bool(suffix) for suffix in groups) > 1:
        raise BadRequest(
            'The "group_policy" parameter is required when specifying more than one "resources{N}" parameter.'
        )
    return Search(
        groups=groups,
        isolate=policy == "isolate",
        root=root,
        same_subtrees=subtrees,
        nested=request.at_least("1.29"),
        limit=int(limit),
    )


def _read_root(texts: list[str]) -> Conditions:
    if not texts:
        return Conditions()
    if len(texts) > 1:
        raise BadRequest(
            "Query parameter 'root_required' may be specified only once.", code="placement.query.duplicate_key"
        )
    required, forbidden = read_traits(texts[0], forbidden_too=True)
    conflicts = forbidden & frozenset[str]().union(*required)
    if conflicts:
        raise BadRequest(
            f"Conflicting required and forbidden traits found in root_required: {', '.join(sorted(conflicts))}",
            code=BAD_VALUE,
        )
    return Conditions(required=required, forbidden=forbidden)


def _check_groups(request: Request, groups: dict[str, Conditions], subtrees: tuple[frozenset[str], ...]) -> None:
    """Whether the groups make a request together. Raises BadRequest."""
    empty = [suffix for suffix, group in groups.items() if not group.resources]
    if request.at_least("1.36"):
        named = frozenset[str]().union(*subtrees)
        if len(empty) == len(groups):
            raise BadRequest(
                "There must be at least one resources or resources[$S] parameter.",
                code="placement.query.missing_value",
            )
        lonely = [suffix for suffix in empty if suffix not in named]
        if lonely:
            raise BadRequest(
                "Resourceless suffixed group request should be specified in `same_subtree` query param: bad group(s) - "
                f"{lonely}.",
                code=BAD_VALUE,
            )
        unknown = sorted(named - groups.keys())
        if unknown:
            raise BadRequest(
                f"Real suffixes should be specified in `same_subtree`: {unknown} not found in {list(groups)}.",
                code=BAD_VALUE,
            )
    else:
        _check_orphans(groups, empty)
    conflicts = [
        f"required{suffix}: ({', '.join(sorted(any_of))})"
        for suffix, group in groups.items()
        for any_of in group.required
        if any_of <= group.forbidden
    ]
    if conflicts:
        raise BadRequest(
            "Conflicting required and forbidden traits found in the following traits keys: "
            f"{', '.join(sorted(conflicts))}"
        )


def _check_orphans(groups: dict[str, Conditions], empty: list[str]) -> None:
    if not groups:
        raise BadRequest(
            "Invalid query string parameters: At least one request group (`resources` or `resources{$S}`) is required."
        )
    orphans = [f"required{suffix}" for suffix in empty if groups[suffix].required]
    if orphans:
        raise BadRequest(
            "All traits parameters must be associated with resources.  Found the following orphaned traits keys: "
            f"{', '.join(orphans)}"
        )
    orphans = [f"member_of{suffix}" for suffix in empty if groups[suffix].member_of or groups[suffix].not_in]
    if orphans:
        raise BadRequest(
            "All member_of parameters must be associated with resources. Found the following orphaned member_of keys: "
            f"{', '.join(orphans)}"
        )
    if empty:
        raise BadRequest("All request groups must specify resources.")


def _request(request: Request, amounts: Amounts, mappings: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    if not request.at_least("1.12"):
        entries = [{"resource_provider": {"uuid": uuid}, "resources": resources} for uuid, resources in amounts.items()]
        return {"allocations": entries}
    body: dict[str, Any] = {"allocations": {uuid: {"resources": own} for uuid, own in amounts.items()}}
    if request.at_least("1.34"):
        body["mappings"] = mappings
    return body


def _summary(request: Request, one: Provider, asked: set[str]) -> dict[str, Any]:
    resources = {
        name: {"capacity": capacity_of(own), "used": one.used.get(name, 0)}
        for name, own in one.inventories.items()
        if name in asked or request.at_least("1.27")
    }
    body: dict[str, Any] = {"resources": resources}
    if request.at_least("1.17"):
        body["traits"] = list(one.traits)
    if request.at_least("1.29"):
        body |= {"parent_provider_uuid": one.parent or None, "root_provider_uuid": one.root}
    return body
