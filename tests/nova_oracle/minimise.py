"""The smallest case that still shows a difference: everything that can be left out is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

Case = dict[str, Any]
Shows = Callable[[Case], bool]

TRIALS_MAX = 2_000


def minimise(case: Case, shows: Shows) -> Case:
    """Leave out and simplify, one thing at a time, as long as ``shows`` says that the difference is still there."""
    trials = 0
    smaller = True
    while smaller and trials < TRIALS_MAX:
        smaller = False
        for simpler in _simpler(case):
            trials += 1
            if trials > TRIALS_MAX:
                break
            if shows(simpler):
                case, smaller = simpler, True
                break
    return case


def _simpler(case: Case) -> Iterator[Case]:
    """Cases with one thing less, the largest things first."""
    for key in ("hosts", "servers", "aggregates", "filters"):
        least = 1 if key == "hosts" else 0
        size = len(case[key])
        if size > least + 3:
            yield _with(case, (key,), case[key][: size // 2])
            yield _with(case, (key,), case[key][size // 2 :])
        for index in range(size if size > least else 0):
            yield _with(case, (key,), case[key][:index] + case[key][index + 1 :])
    for path in _dictionaries(case):
        inner = _at(case, path)
        for key in inner:
            yield _with(case, path, {name: value for name, value in inner.items() if name != key})
    for path, plain in _plain(case):
        if _at(case, path) != plain:
            yield _with(case, path, plain)


def _dictionaries(case: Case) -> Iterator[tuple[Any, ...]]:
    yield ("options",)
    yield ("request", "hints")
    yield ("request", "flavor", "extra_specs")
    if case["request"]["image"]:
        yield ("request", "image", "properties")
    for index in range(len(case["aggregates"])):
        yield ("aggregates", index, "metadata")
    for index in range(len(case["servers"])):
        yield ("servers", index, "properties")
    for index in range(len(case["hosts"])):
        yield ("hosts", index, "metrics")
        yield ("hosts", index, "used")


PLAIN_HOST = {
    "up": True,
    "enabled": True,
    "forced_down": False,
    "vcpus_used": 0,
    "ram_used_mib": 0,
    "disk_used_gib": 0,
    "reserved_vcpus": 0,
    "reserved_ram_mib": 0,
    "reserved_disk_gib": 0,
    "cpu_ratio": 1.0,
    "ram_ratio": 1.0,
    "disk_ratio": 1.0,
    "vcpus": 64,
    "ram_mib": 65536,
    "disk_gib": 500,
    "servers": 0,
    "io_ops": 0,
    "failed_builds": 0,
    "hypervisor_version": 0,
    "traits": [],
    "inventories": [],
    "numa": None,
    "pci": [],
}
PLAIN_REQUEST = {"group": None, "zone": "", "requested_host": "", "excluded_hosts": []}
PLAIN_FLAVOR = {"vcpus": 1, "ram_mib": 1, "disk_gib": 0, "ephemeral_gib": 0, "swap_mib": 0}


def _plain(case: Case) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Places and the dullest value that may be there."""
    for key, value in PLAIN_REQUEST.items():
        yield ("request", key), value
    for key, value in PLAIN_FLAVOR.items():
        yield ("request", "flavor", key), value
    for index in range(len(case["hosts"])):
        for key, value in PLAIN_HOST.items():
            yield ("hosts", index, key), value


def _at(case: Case, path: tuple[Any, ...]) -> Any:
    inner: Any = case
    for step in path:
        inner = inner[step]
    return inner


def _with(case: Case, path: tuple[Any, ...], value: Any) -> Case:
    changed = copy.deepcopy(case)
    inner = _at(changed, path[:-1])
    inner[path[-1]] = value
    if path[0] == "hosts":
        _drop_the_homeless(changed)
    _forget_the_moved(changed)
    zones = [aggregate["metadata"].get("availability_zone") for aggregate in changed["aggregates"]]
    if changed["request"]["zone"] not in zones:
        changed["request"]["zone"] = ""
    return changed


def _forget_the_moved(case: Case) -> None:
    """A server that moves is in the group that the request names, or the request names none."""
    request = case["request"]
    own = [server["group"] for server in case["servers"] if server["id"] == request["server_id"]]
    if own and request["group"] and own != [request["group"]["id"]]:
        request["group"] = None


def _drop_the_homeless(case: Case) -> None:
    """Servers and aggregate members whose host is gone go with it."""
    names = {host["name"] for host in case["hosts"]}
    case["servers"] = [server for server in case["servers"] if server["host"] in names]
    for aggregate in case["aggregates"]:
        aggregate["hosts"] = [name for name in aggregate["hosts"] if name in names]


def told(case: Case) -> Case:
    """A small case for a person: without what is as dull as can be."""
    request = case["request"]
    flavor = {**request["flavor"]}
    return {
        **{key: value for key, value in case.items() if value and key not in ("seed", "asked", "hosts", "request")},
        "hosts": [_without_dull(host, PLAIN_HOST) for host in case["hosts"]],
        "request": {**_without_dull(request, PLAIN_REQUEST), "flavor": _without_dull(flavor, PLAIN_FLAVOR)},
    }


def _without_dull(entry: Case, dull: Case) -> Case:
    return {
        key: value for key, value in entry.items() if value not in ({}, []) and not (key in dull and dull[key] == value)
    }
