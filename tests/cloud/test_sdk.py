"""The SDK while workers and the conductor are killed: what is created is created once, and every event comes once."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
import uvloop

from nova_fast.client import AsyncClient, Client, Gap, NewServer, ServerEvent
from nova_fast.model.events import Event, ServerChanged
from nova_fast.state import schema as tables
from nova_fast.state.store import Store
from tests.lengths import repeats

from .conftest import Cloud
from .sdk_cloud import furnish, sdk_cloud, settings

pytestmark = pytest.mark.slow

CREATES_MIN = 200
USERS = 32
PAUSE_S = 0.1  # of a user between two servers
KILLS = repeats(4, 60)
APIS = ("api-0", "api-1")
DOOMED = ("conductor", *APIS)
PATIENCE_S = 120


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with sdk_cloud(fake_delay_s=0.02) as cloud:
        yield cloud


@pytest.fixture(scope="module")
def wanted(cloud: Cloud) -> NewServer:
    with Client.connect(settings(cloud)) as client:
        return furnish(client)


async def kill(cloud: Cloud, name: str) -> None:
    """Kill a daemon as a crash would, and wait until it is back."""
    old = cloud.daemons()[name]
    os.kill(old, signal.SIGKILL)
    async with asyncio.timeout(60):
        while cloud.daemons().get(name) in (None, old):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)


def test_what_is_created_while_workers_die_is_created_once(cloud: Cloud, wanted: NewServer) -> None:
    async def run() -> tuple[list[str], int]:
        patient = msgspec.structs.replace(settings(cloud), timeout_s=float(PATIENCE_S), max_in_flight=32)
        async with await AsyncClient.connect(patient) as client:
            ids: list[str] = []
            asked, killing = itertools.count(), True

            async def create() -> None:
                """One user after the other, until there is nobody left to kill."""
                while killing or len(ids) < CREATES_MIN:
                    made = await client.servers.create(msgspec.structs.replace(wanted, name=f"once{next(asked)}"))
                    ids.append(made.id)
                    await asyncio.sleep(PAUSE_S)

            users = [asyncio.create_task(create()) for _ in range(USERS)]
            for number in range(KILLS):
                await asyncio.sleep(0.1)
                await kill(cloud, DOOMED[number % 3])
            killing = False
            await asyncio.gather(*users)
            return ids, client._core.workers_met

    ids, met = uvloop.run(run())
    assert met > 1, "nothing was disturbed"
    with Client.connect(settings(cloud)) as client:
        names = Counter(server.name for server in client.servers.list() if server.name.startswith("once"))
        assert names == dict.fromkeys((f"once{number}" for number in range(len(ids))), 1)
        assert {server.name for server in client.servers.get_many(ids)} == set(names)
        client.servers.delete_many(ids)
        assert client.servers.wait(ids, "DELETED", timeout_s=PATIENCE_S) == []


def logged(cloud: Cloud, after: int, until: int) -> list[tuple[int, str, str]]:
    """What the conductor's own log says of servers."""
    store = Store.open(cloud.state / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            rows = [row for row in snapshot.scan(tables.EVENTS, after=(after,)) if row.generation <= until]
    finally:
        store.close()
    events = [(row.generation, msgspec.msgpack.decode(row.body, type=Event)) for row in rows]
    return [
        (generation, event.server_id, event.status) for generation, event in events if isinstance(event, ServerChanged)
    ]


def test_every_event_comes_once_whatever_is_restarted(cloud: Cloud, wanted: NewServer) -> None:
    async def run() -> tuple[int, int, list[tuple[int, str, str]]]:
        patient = msgspec.structs.replace(settings(cloud), timeout_s=float(PATIENCE_S))
        async with await AsyncClient.connect(patient) as client, await AsyncClient.connect(patient) as other:
            watch = client.watch()
            begin = await watch.start()
            seen: list[tuple[int, str, str]] = []
            done = asyncio.Event()

            async def look() -> None:
                nonlocal watch
                while not done.is_set() or watch.position is None or watch.position < end:
                    event = await watch.next(1)
                    assert not isinstance(event, Gap)
                    if isinstance(event, ServerEvent):
                        seen.append((event.generation, event.server_id, event.status))
                    if len(seen) % 50 == 49:  # a program that is restarted goes on from the place it kept
                        watch = client.watch(since=watch.position)

            end = 0
            looking = asyncio.create_task(look())
            for number in range(KILLS):
                made = await other.servers.create(wanted, count=10)
                await kill(cloud, DOOMED[number % 3])
                await other.servers.delete_many(made.ids)
            end = await other.watch().start()
            done.set()
            async with asyncio.timeout(PATIENCE_S):
                await looking
            return begin, watch.position or 0, seen

    begin, end, seen = uvloop.run(run())
    assert len(seen) > 10 * KILLS
    assert [one for one in seen if one[0] <= end] == logged(cloud, begin, end)
