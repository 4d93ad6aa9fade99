"""Filters that name hosts by who is there."""

from __future__ import annotations

from typing import Any

import pytest

from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import GroupRule
from tests.unit.scheduler.filters.asking import host, lets_pass, request
from tests.unit.scheduler.reference import ReferenceFleet

STATES = [
    host(name="a", host_ip="10.0.0.5"),
    host(name="b", host_ip="10.0.1.5"),
    host(name="c", host_ip="fd00::5"),
    host(name="d"),
]
FLEET = ReferenceFleet(
    STATES, servers={"1": "a", "2": "a", "3": "b", "4": "c"}, groups={"g": {"1", "2", "3"}, "new": set()}
)


def passing(name: str, **wishes: Any) -> str:
    return "".join(state.name for state in STATES if lets_pass(name, state, request(**wishes), FLEET))


@pytest.mark.parametrize(
    ("hint", "same", "different"),
    [
        ("1", "a", "bcd"),
        (["1"], "a", "bcd"),
        (["1", "4", "nobody"], "ac", "bd"),
        ("nobody", "", "abcd"),
        ([], "abcd", "abcd"),
        ("", "abcd", "abcd"),
    ],
)
def test_servers_may_be_sought_and_fled(hint: str | list[str], same: str, different: str) -> None:
    assert passing("SameHostFilter", hints={"same_host": hint}) == same
    assert passing("DifferentHostFilter", hints={"different_host": hint}) == different


@pytest.mark.parametrize(
    ("hints", "names"),
    [
        ({}, "abcd"),
        ({"cidr": "/24"}, "abcd"),
        ({"build_near_host_ip": "10.0.0.77"}, "a"),
        ({"build_near_host_ip": ["10.0.0.77"], "cidr": ["/16"]}, "ab"),
        ({"build_near_host_ip": "fd00::1", "cidr": "/64"}, "c"),
    ],
)
def test_hosts_near_an_address(hints: dict[str, str | list[str]], names: str) -> None:
    assert passing("SimpleCIDRAffinityFilter", hints=hints) == names


@pytest.mark.parametrize("hints", [{"build_near_host_ip": "here"}, {"build_near_host_ip": "10.0.0.1", "cidr": "/99"}])
def test_what_makes_no_network_is_refused(hints: dict[str, str | list[str]]) -> None:
    with pytest.raises(BadRequest, match="make no network"):
        passing("SimpleCIDRAffinityFilter", hints=hints)


def group(policy: str, name: str = "g", most: int = 1) -> GroupRule:
    return GroupRule(id=name, policy=policy, max_servers_per_host=most)


def test_an_affinity_group_stays_together_once_it_has_a_host() -> None:
    name = "ServerGroupAffinityFilter"
    assert passing(name, group=group("affinity")) == "ab"
    assert passing(name, group=group("affinity", "new")) == "abcd"
    assert passing(name, group=group("anti-affinity")) == passing(name) == "abcd"


def test_an_anti_affinity_group_keeps_apart() -> None:
    name = "ServerGroupAntiAffinityFilter"
    assert passing(name, group=group("anti-affinity")) == "cd"
    assert passing(name, group=group("anti-affinity", most=2)) == "bcd"
    assert passing(name, group=group("anti-affinity", most=3)) == "abcd"
    assert passing(name, group=group("anti-affinity", "new")) == "abcd"
    assert passing(name, group=group("affinity")) == passing(name) == "abcd"
    assert passing(name, server_id="1", group=group("anti-affinity")) == "acd", "a move may end where it began"
