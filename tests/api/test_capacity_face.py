"""How many more servers fit, through the API: what is asked becomes one question to the scheduler."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.api.framework.request import Services
from nova_fast.hub.peer import Peer
from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.tasks import AskCapacity, Capacity, FilterCount
from nova_fast.queries.capacity import request_of
from tests.api.server_world import IMAGE_ID, World

if TYPE_CHECKING:
    from tests.api.conftest import Cloud


class Asked(Peer):
    """A conductor that checks what is asked as the real one does, and answers what the test says."""

    def __init__(self) -> None:
        """Without a socket."""
        self.cloud: Cloud | None = None
        self.asked: list[AskCapacity] = []
        self.answer: Capacity | NovaFastError = Capacity(servers=5, hosts=2, first="h1", last="h2")

    async def call(self, message: Any, *args: Any, **kwargs: Any) -> Any:
        assert self.cloud is not None
        self.asked.append(message)
        with self.cloud.store.snapshot() as snapshot:
            request_of(snapshot, message)
        if isinstance(self.answer, NovaFastError):
            raise self.answer
        return self.answer


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute", "identity")


@pytest.fixture
def peer() -> Asked:
    return Asked()


@pytest.fixture
def services(tmp_path: Path, peer: Asked) -> Services:
    return Services(peer)


@pytest.fixture
def world(cloud: Cloud, peer: Asked) -> World:
    peer.cloud = cloud
    return World(cloud)


def test_an_admin_is_told_how_many_fit_and_where(world: World, peer: Asked) -> None:
    query = f"flavor=m1.tiny&zone=nova&group_policy=anti-affinity&max_server_per_host=2&image={IMAGE_ID}"
    reply = world.get(f"/os-capacity?{query}", client=world.admin)
    assert reply.json == {
        "capacity": {
            "servers": 5, "hosts": 2, "first_host": "h1", "last_host": "h2", "hint": None, "filters": [],
        }
    }  # fmt: skip
    assert peer.asked == [
        AskCapacity(flavor="m1.tiny", zone="nova", image=IMAGE_ID, group_policy="anti-affinity", max_servers_per_host=2)
    ]


def test_when_none_fits_the_filters_and_the_hint_say_why(world: World, peer: Asked) -> None:
    counts = (FilterCount(filter="RamFilter", before=3, after=0),)
    peer.answer = Capacity(servers=0, hosts=0, hint="with 1 MiB less RAM: 3 hosts would fit", filters=counts)
    shown = world.get("/os-capacity?flavor=1", client=world.admin).json["capacity"]
    assert (shown["servers"], shown["first_host"], shown["last_host"]) == (0, None, None)
    assert shown["hint"] == "with 1 MiB less RAM: 3 hosts would fit"
    assert shown["filters"] == [{"filter": "RamFilter", "before": 3, "after": 0}]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("flavor=", 400),
        ("flavor=1&zone=west", 400),
        ("flavor=1&group_policy=near", 400),
        ("flavor=1&group_policy=anti-affinity&max_server_per_host=0", 400),
        ("flavor=1&max_server_per_host=many", 400),
        ("flavor=1&colour=blue", 400),
        ("flavor=nobody", 404),
        ("flavor=1&image=nothing", 404),
        ("flavor=1&image=tiny", 404),  # two have this name
    ],
)
def test_what_makes_no_sense_is_refused(world: World, query: str, status: int) -> None:
    assert world.get(f"/os-capacity?{query}", client=world.admin).status == status


def test_a_scheduler_that_is_away_is_said(world: World, peer: Asked) -> None:
    peer.answer = Unavailable("scheduler did not answer in time", code="deadline_passed")
    assert world.get("/os-capacity?flavor=1", client=world.admin).status == 503


def test_only_an_admin_may_ask(world: World, peer: Asked) -> None:
    assert world.get("/os-capacity?flavor=1").status == 403
    assert world.get("/os-capacity?flavor=1", client=world.cloud.nobody).status == 401
    assert peer.asked == []
