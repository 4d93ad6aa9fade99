"""A request leaves nothing to the garbage collector, which seldom comes: with a cycle its body would wait there too."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from nova_fast.api.framework.request import Request
from nova_fast.model.sdk import Ask
from tests.api.sdk_world import OpenDoor
from tests.api.server_world import World

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

BLANK = b" " * 1000  # no JSON
TIMES = 5
Send = Callable[[World, str], object]

OVER_HTTP: dict[str, Send] = {
    "get": lambda world, server: world.get(f"/servers/{server}"),
    "list": lambda world, _: world.get("/servers/detail"),
    "not found": lambda world, _: world.get("/servers/no-such"),
    "no route": lambda world, _: world.member.get("compute", "/no-such"),
    "malformed": lambda world, _: world.member.post("compute", "/v2.1/servers", body=BLANK),
    "create or quota": lambda world, _: world.post(),
    "conflict": lambda world, server: world.act(server, "os-start"),
}
OVER_THE_DOOR = {
    "get": Ask("compute", "GET", "/v2.1/servers/detail"),
    "not found": Ask("compute", "GET", "/v2.1/servers/no-such"),
    "malformed": Ask("compute", "POST", "/v2.1/servers", BLANK),
    "refused": Ask("compute", "POST", "/v2.1/servers/no-such/action", b'{"os-start": null}'),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def left_by(sending: Callable[[], object]) -> list[str]:
    """What of requests only the collector can remove."""
    sending()  # whatever is made once is made
    gc.collect()
    for _ in range(TIMES):
        sending()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = [type(one) for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    return [kind.__name__ for kind in kinds if kind is Request or kind.__module__.startswith("falcon")]


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("what", OVER_HTTP)
def test_over_http(world: World, what: str) -> None:
    server = world.create()
    assert left_by(lambda: OVER_HTTP[what](world, server)) == []


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("what", OVER_THE_DOOR)
def test_over_the_door(world: World, cloud: Cloud, what: str) -> None:
    door = OpenDoor(cloud)
    try:
        assert left_by(lambda: door.ask(world.member, OVER_THE_DOOR[what])) == []
    finally:
        door.close()
