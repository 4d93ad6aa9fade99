"""What the users of a mix do: whole journeys, and a fault in any of their steps is an error."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from bench.crowd import Crowd, Heard
from bench.journeys import FAILED, KINDS, MIXES, OVER, PAUSE_S, Lifecycle, World, chooser
from bench.results import Refused

CREATED = json.dumps({"server": {"id": "s1"}}).encode()


@pytest.fixture
def world() -> World:
    return World({"X-Auth-Token": "t"}, {"server": {"name": "a"}}, ["r1", "r2"], random.Random(1))


def shows(status: str) -> bytes:
    return json.dumps({"server": {"id": "s1", "status": status}}).encode()


def test_a_lifecycle_ends_when_the_server_is_gone(world: World) -> None:
    journey = Lifecycle(world)
    assert journey.begin().startswith(b"POST /v2.1/servers ")
    look = journey.answered(202, CREATED)
    assert look.request is not None
    assert look.request.startswith(b"GET /v2.1/servers/s1 ")
    assert look.pause_s == PAUSE_S
    assert journey.answered(200, shows("BUILD")) == look
    delete = journey.answered(200, shows("ACTIVE"))
    assert delete.request is not None
    assert delete.request.startswith(b"DELETE /v2.1/servers/s1 ")
    assert journey.answered(204, b"") == look
    assert journey.answered(200, shows("ACTIVE")) == look  # being deleted
    assert journey.answered(404, b"{}") == OVER


@pytest.mark.parametrize(
    "answers", [[(409, b"{}")], [(202, CREATED), (404, b"{}")], [(202, CREATED), (200, shows("ERROR"))]]
)
def test_a_lifecycle_that_goes_wrong_is_an_error(world: World, answers: list[tuple[int, bytes]]) -> None:
    journey = Lifecycle(world)
    journey.begin()
    *earlier, last = answers
    for status, body in earlier:
        assert journey.answered(status, body).request is not None
    assert journey.answered(*last) == FAILED


def test_as_many_are_deleted_as_created_and_each_once(world: World) -> None:
    methods: Counter[bytes] = Counter()
    deleted = []
    for number in range(400):
        journey = KINDS["create_delete"](world)
        method, path, _ = journey.begin().split(b" ", 2)
        methods[method] += 1
        if method == b"DELETE":
            deleted.append(path)
            assert journey.answered(204, b"") == OVER
        else:
            assert journey.answered(202, json.dumps({"server": {"id": f"n{number}"}}).encode()) == OVER
    assert len(set(deleted)) == len(deleted)
    assert abs(methods[b"POST"] - methods[b"DELETE"]) <= 51


def test_mixes_are_shares_of_kinds_that_exist(world: World) -> None:
    for name, mix in MIXES.items():
        assert sum(mix.values()) == pytest.approx(1), name
        assert set(mix) <= set(KINDS), name
    choose = chooser(world, MIXES["mixed"])
    drawn = Counter(choose()[0] for _ in range(5000))
    assert drawn["read"] / 5000 == pytest.approx(0.8, abs=0.03)


def test_a_crowd_that_did_not_keep_its_rhythm_gives_no_figure() -> None:
    crowd = Crowd.__new__(Crowd)
    crowd.hosts = 10_000
    before = Heard(0, 0.0)
    crowd.check_rhythm(before, Heard(59_000, 1.0), seconds=30, every_s=5)
    with pytest.raises(Refused, match="50000 heartbeats were answered in 30 s, 60000 were due"):
        crowd.check_rhythm(before, Heard(50_000, 1.0), seconds=30, every_s=5)
