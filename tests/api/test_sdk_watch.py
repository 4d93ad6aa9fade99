"""Watching: events in order, each once, from any place that is kept, and of nobody else's servers."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import uvloop

from nova_fast.client import AsyncClient, Client, Gap, HostEvent, HostGone, ServerEvent
from nova_fast.client.line import Line
from nova_fast.client.watching import events_of
from nova_fast.commands.hosts import record_host_report
from nova_fast.conductor.trim import trim
from nova_fast.hub.contracts import ENCODER
from nova_fast.identity.tokens import unseal
from nova_fast.model.commands.hosts import RemoveHost
from nova_fast.model.commands.identity import RevokeToken
from nova_fast.model.errors import Conflict, Forbidden, Unauthorized, Unavailable
from nova_fast.model.sdk import EVENTS_VERSION, Seen, Watch
from nova_fast.model.tasks import HostReport
from nova_fast.queries.identity import TOKEN_KEY, secret
from tests.api.sdk_world import OpenDoor, new
from tests.api.server_world import _RESOURCES, World

if TYPE_CHECKING:
    pass


@pytest.fixture
def member(world: World, door: OpenDoor) -> Iterator[Client]:
    with door.client(world.member) as client:
        yield client


def drain(watch: Any) -> list[Any]:
    """All there is now."""
    found = []
    while (event := watch.next(0)) is not None:
        found.append(event)
    return found


def test_a_life_is_told_in_order(world: World, member: Client) -> None:
    watch = member.watch()
    watch.start()
    server_id = member.servers.create(new(world)).id
    world.settle()
    member.servers.delete(server_id)
    world.settle()
    events = drain(watch)
    assert {type(event) for event in events} == {ServerEvent}
    assert {event.server_id for event in events} == {server_id}
    assert all(before.generation < after.generation for before, after in pairwise(events))
    statuses = [event.status for event in events]
    assert list(dict.fromkeys(statuses)) == ["BUILD", "ACTIVE", "DELETED"]
    assert {event.host for event in events} == {""}, "the host of a server is for admins"
    again = drain(member.watch(since=events[0].generation))
    assert again == events[1:]


def test_a_place_that_was_kept_goes_on_where_it_stopped(world: World, door: OpenDoor, member: Client) -> None:
    watch = member.watch()
    watch.start()
    ids = member.servers.create(new(world), count=5).ids
    first = watch.next(60)
    place = watch.position
    with door.client(world.member) as other:
        rest = drain(other.watch(since=place))
    assert [event.server_id for event in (first, *rest)] == list(ids)


def test_nobody_hears_of_others(world: World, door: OpenDoor, member: Client) -> None:
    other = world.cloud.project("p2").member
    with door.client(other) as stranger, door.client(world.admin) as admin:
        watches = [client.watch() for client in (stranger, admin)]
        for watch in watches:
            watch.start()
        server_id = member.servers.create(new(world)).id
        world.settle()
        none, everything = (drain(watch) for watch in watches)
        assert none == []
        assert watches[0].position == watches[1].position, "others' events are passed over, not waited at"
        assert {event.server_id for event in everything} == {server_id}
        assert "h1" in {event.host for event in everything}
        unscoped = world.cloud.client_for(world.member.user_id)
        with door.client(unscoped) as nowhere, pytest.raises(Forbidden):
            nowhere.watch().start()


def test_admins_hear_of_hosts(world: World, door: OpenDoor) -> None:
    with door.client(world.admin) as admin, door.client(world.member) as member:
        watch, deaf = admin.watch(), member.watch()
        watch.start(), deaf.start()
        with world.cloud.store.transaction(time.time_ns() // 1000) as tx:
            record_host_report(tx, HostReport(host="h2", zone="nova", resources=_RESOURCES))
        world.cloud.run(RemoveHost(caller=world.cloud.root, host="h2"))
        events = drain(watch)
        assert [(type(event), event.host) for event in events] == [(HostEvent, "h2"), (HostGone, "h2")]
        assert events[0].up and events[0].enabled
        assert drain(deaf) == []


def test_a_gap_is_told_and_the_stream_goes_on(world: World, member: Client) -> None:
    watch = member.watch()
    begin = watch.start()
    ids = member.servers.create(new(world), count=4).ids
    with world.cloud.store.transaction(time.time_ns() // 1000) as tx:
        trim(tx, events_max=2)
    gap, *kept = drain(watch)
    assert isinstance(gap, Gap) and gap.generation > begin
    assert [event.server_id for event in kept] == list(ids[-2:])
    ahead = member.watch(since=10_000_000)
    assert isinstance(ahead.next(60), Gap), "a place of another cloud's life"


def test_a_watcher_is_told_at_once(world: World, member: Client) -> None:
    watch = member.watch()
    watch.start()
    waited: list[float] = []

    def wait() -> None:
        for _ in range(5):
            event = watch.next(60)
            assert isinstance(event, ServerEvent)
            waited.append(time.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    told: list[float] = []
    for number in range(5):
        time.sleep(0.1)
        told.append(time.monotonic())
        world.post(name=f"vm{number}")
    thread.join(60)
    assert len(waited) == 5
    assert sorted(after - before for before, after in zip(told, waited, strict=True))[2] < 1.0


def test_a_revoked_token_ends_the_watch(world: World, member: Client) -> None:
    watch = member.watch()
    watch.start()
    with world.cloud.store.snapshot() as snapshot:
        key = secret(snapshot, TOKEN_KEY)
        assert key is not None
        facts = unseal(key.value, world.member.token)
    revocation = RevokeToken(caller=world.cloud.root, audit_id=facts.audit_id, expires_at_us=facts.expires_at_us)
    threading.Timer(0.3, lambda: world.cloud.run(revocation)).start()
    began_s = time.monotonic()
    with pytest.raises(Unauthorized):
        watch.next(90)
    assert time.monotonic() - began_s < 45


@contextlib.contextmanager
def soon(work: Callable[[], object]) -> Iterator[None]:
    """Something is done while the block waits, and is over after it: else it would do what comes then, too."""
    doing = threading.Timer(0.3, work)
    doing.start()
    yield
    doing.join()


def test_waiting_is_told_of_success_of_failure_and_of_the_end(world: World, member: Client) -> None:
    ids = member.servers.create(new(world), count=3).ids
    with soon(world.settle):
        assert [server.status for server in member.servers.wait(ids, timeout_s=60)] == ["ACTIVE"] * 3
    member.servers.delete_many(ids)
    with soon(world.settle):
        assert member.servers.wait(ids, "DELETED", timeout_s=60) == []
    failed = member.servers.create(new(world)).id
    with soon(lambda: world.settle(host="")):
        with pytest.raises(Conflict, match="is ERROR and will not be ACTIVE: No valid host"):
            member.servers.wait(failed, timeout_s=60)
    with pytest.raises(Conflict, match="is ERROR"):
        member.servers.wait(failed, timeout_s=60)
    slow = member.servers.create(new(world)).id
    with pytest.raises(Unavailable, match="1 servers are not ACTIVE in time"):
        member.servers.wait(slow, timeout_s=0.3)


def test_many_wait_at_once_and_share_a_watch(world: World, door: OpenDoor) -> None:
    ids = [world.create() for _ in range(3)]
    most = 0

    async def run() -> list[Any]:
        nonlocal most
        async with await AsyncClient.connect(door.settings(world.member)) as client:
            waits = [asyncio.ensure_future(client.servers.wait(ids[n % 3], timeout_s=60)) for n in range(100)]
            doomed = asyncio.ensure_future(client.servers.wait(ids[0], "SHUTOFF", timeout_s=0.5))
            end_s = time.monotonic() + 60
            while not most and time.monotonic() < end_s:
                await asyncio.sleep(0.05)
                most = max(most, *door.door._watching._running.values(), 0)
            with pytest.raises(Unavailable, match="not SHUTOFF in time"):
                await doomed
            await asyncio.to_thread(world.settle)
            found = await asyncio.gather(*waits)
            assert (await client.servers.wait(ids[1], timeout_s=60))[0].status == "ACTIVE", (
                "what is there needs no event"
            )
            return found

    found = uvloop.run(run())
    assert [(server.id, server.status) for [server] in found] == [(ids[n % 3], "ACTIVE") for n in range(100)]
    assert 1 <= most <= 2, "one, and where it begins"


def test_who_waits_hears_that_the_client_is_closed(world: World, door: OpenDoor) -> None:
    async def run() -> None:
        client = await AsyncClient.connect(door.settings(world.member))
        waits = [asyncio.ensure_future(client.servers.wait(made, timeout_s=300)) for _ in range(3)]
        for _ in range(6000):
            if door.door._watching._running:
                break
            await asyncio.sleep(0.01)
        await client.close()
        for one in waits:
            with pytest.raises(Unavailable):
                await asyncio.wait_for(one, 30)

    made = world.create()
    uvloop.run(run())


def test_too_many_watches_of_one_client(world: World, door: OpenDoor, member: Client) -> None:
    place = member.watch().start()
    heard: list[Any] = []
    threads = [threading.Thread(target=lambda: heard.append(member.watch(since=place).next(60))) for _ in range(16)]
    for thread in threads:
        thread.start()
    end_s = time.monotonic() + 60
    while sum(door.door._watching._running.values()) < 16 and time.monotonic() < end_s:
        time.sleep(0.01)
    with pytest.raises(Unavailable, match="more than 16 watches"):
        member.watch(since=place).next(60)
    made = world.create()
    for thread in threads:
        thread.join(60)
    assert [event.server_id for event in heard] == [made] * 16
    assert member.watch(since=place).next(0) is not None


@pytest.mark.parametrize("odd", [{"wait_s": float("nan")}, {"wait_s": -1.0}, {"limit": -5}, {"limit": 1 << 60}])
def test_odd_wishes_are_understood(world: World, door: OpenDoor, odd: dict[str, Any]) -> None:
    async def run() -> Any:
        line = Line(door.settings(world.member))
        await line.open()
        try:
            return await line.call(Watch(after=0, token=world.member.token, **odd), 10)
        finally:
            await line.close()

    world.create()
    seen = uvloop.run(run())
    assert isinstance(seen, Seen) and seen.events


def test_an_event_of_a_newer_release_is_passed_over() -> None:
    known = ServerEvent(generation=7, server_id="s", project_id="p", status="ACTIVE")
    newer = {"type": "volume.changed", "generation": 6, "volume_id": "v"}
    longer = {**msgspec.to_builtins(known), "color": "red"}
    raws = tuple(msgspec.Raw(ENCODER.encode(event)) for event in (newer, known, longer))
    assert EVENTS_VERSION == 1
    assert events_of(Seen(position=7, events=raws)) == [known, known]
