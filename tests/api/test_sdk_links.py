"""Workers come and go: calls go on at another, or at the same when it is back; nothing hangs when there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest

from nova_fast.client import Client, Settings
from nova_fast.config import SdkConfig
from nova_fast.model.errors import Unavailable
from tests.api.sdk_world import OpenDoor, new
from tests.api.server_world import World
from tests.tries import least_of

if TYPE_CHECKING:
    from tests.api.conftest import Cloud


@pytest.fixture
def doors(cloud: Cloud) -> Iterator[list[OpenDoor]]:
    opened = [OpenDoor(cloud, worker) for worker in range(2)]
    yield opened
    for door in opened:
        door.close()


def both(world: World, doors: list[OpenDoor], timeout_s: float = 60) -> Settings:
    return Settings(addresses=tuple(door.address for door in doors), token=world.member.token, timeout_s=timeout_s)


def served(client: Client, doors: list[OpenDoor]) -> OpenDoor:
    """The door a client is at."""
    return next(door for door in doors if client._core._core._line._peer.address == door.address)


def test_another_worker_goes_on(world: World, doors: list[OpenDoor]) -> None:
    with Client.connect(both(world, doors)) as client:
        ids = client.servers.create(new(world), count=3).ids
        watch = client.watch()
        watch.start()
        gone = served(client, doors)
        gone.close()
        assert [server.id for server in client.servers.get_many(ids * 100)] == list(ids) * 100
        assert served(client, doors) is not gone
        made = client.servers.create(new(world))
        event = watch.next(60)
        assert event is not None and getattr(event, "server_id", "") == made.id
        assert world.count() == 4


def test_the_same_worker_is_back(world: World, cloud: Cloud, doors: list[OpenDoor]) -> None:
    only = doors[0]
    with Client.connect(Settings(addresses=(only.address,), token=world.member.token, timeout_s=60)) as client:
        server_id = client.servers.create(new(world)).id
        only.close()
        found: list[str] = []
        asking = threading.Thread(target=lambda: found.append(client.servers.get(server_id).id))
        asking.start()
        time.sleep(0.3)
        assert found == []
        doors[0] = OpenDoor(cloud, 0)
        asking.join(60)
        assert found == [server_id]


def test_without_any_worker_calls_fail_in_time(world: World, doors: list[OpenDoor]) -> None:
    with Client.connect(both(world, doors, timeout_s=1)) as client:
        server_id = client.servers.create(new(world)).id
        for door in doors:
            door.close()
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            client.servers.get(server_id)
        with pytest.raises(Unavailable):
            client.servers.get_many([server_id] * 200)
        with pytest.raises(Unavailable):
            client.watch().start()
        assert time.monotonic() - began_s < 40, "of a second each"


def test_calls_of_a_client_that_is_closed_fail(world: World, doors: list[OpenDoor]) -> None:
    client = Client.connect(both(world, doors))
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            client.watch().next(90)
        except Unavailable as error:
            failed.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.5)
    client.close()
    waiting.join(60)
    assert len(failed) == 1 and not waiting.is_alive()
    client.close()


def test_many_come_and_go_though_few_may_be_there_at_once(world: World, cloud: Cloud) -> None:
    config = msgspec.structs.replace(cloud.config, sdk=SdkConfig(clients_max=3))
    door = OpenDoor(cloud, 7, config)
    try:

        def took_s() -> float:
            began_s = time.monotonic()
            for _ in range(12):
                with door.client(world.member, connect_timeout_s=60) as client:
                    client.flavors.get("1")
            return time.monotonic() - began_s

        assert least_of(took_s, 15) < 15
        inside = [door.client(world.member, connect_timeout_s=60) for _ in range(3)]
        with pytest.raises(Unavailable):
            door.client(world.member, connect_timeout_s=1)
        for client in inside:
            client.close()
    finally:
        door.close()
