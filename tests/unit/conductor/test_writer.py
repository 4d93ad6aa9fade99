"""The writer: batches, commands done once, a full disk, too much to do; and what is kept only for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from nova_fast.commands import registry
from nova_fast.conductor import dispatcher as dispatcher_module
from nova_fast.conductor import network_sync
from nova_fast.conductor import writer as writer_module
from nova_fast.conductor.trim import trim
from nova_fast.conductor.writer import Job, Outcome
from nova_fast.model.base import Message
from nova_fast.model.commands.servers import DeleteServer, ServersCreated
from nova_fast.model.errors import BadRequest, InternalError, Unavailable
from nova_fast.model.events import HostRemoved
from nova_fast.model.flavors import Flavor
from nova_fast.model.states import VmState
from nova_fast.model.tasks import (
    Done,
    SelectHosts,
    SpawnGuest,
)
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction, WriteFailed
from tests.unit.conductor.player import ALICE, Cloud
from tests.unit.conductor.rig import Hub, Rig


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


@pytest.fixture(autouse=True)
def _brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "AGAIN_S", 0.02)
    monkeypatch.setattr(network_sync, "RETRY_S", 0.02)
    monkeypatch.setattr(network_sync, "LOOK_S", 0.05)


# ---------------------------------------------------------------------- the writer
def test_servers_are_built_and_deleted_and_their_placements_asked_for_together(cloud: Cloud) -> None:
    async def story() -> None:
        async with Rig(cloud).running() as rig:
            ids = await asyncio.gather(*(rig.create(name=f"s{n}") for n in range(9)))
            for server_id in ids:
                await rig.state(server_id, VmState.ACTIVE)
            asked = [message for _, message in rig.hub.calls if isinstance(message, SelectHosts)]
            assert sum(1 + len(request.alike) for message in asked for request in message.requests) == 9
            await asyncio.gather(*(rig.do(DeleteServer(caller=ALICE, server_id=s)) for s in ids))
            await rig.until(lambda: not any(rig.server(s) for s in ids))

    asyncio.run(story())


def test_a_command_with_a_call_id_is_done_once(cloud: Cloud) -> None:
    async def story() -> None:
        async with Rig(cloud).running() as rig:
            call_id = "0f" * 16
            first, second = await asyncio.gather(*(rig.do(cloud.wish(), call_id) for _ in range(2)))
            third = await rig.do(cloud.wish(), call_id)
            assert isinstance(first, ServersCreated)
            assert first == second == third
            with pytest.raises(BadRequest):  # what failed was not done, so it is tried again
                await rig.do(cloud.wish(flavor_id="x"), "aa" * 16)
            assert isinstance(await rig.do(cloud.wish(), "aa" * 16), ServersCreated)
            assert cloud.store.read(lambda r: r.size(tables.SERVERS)) == 2

    asyncio.run(story())


def test_one_wrong_command_of_a_batch_does_not_touch_the_others(cloud: Cloud) -> None:
    def broken(tx: Transaction) -> Message:
        tx.put(tables.FLAVORS, Flavor(id="9", name="lost", vcpus=1, ram_mib=1, disk_gib=1))
        raise KeyError("secret")

    async def story() -> None:
        async with Rig(cloud).running() as rig:
            results = await asyncio.gather(
                rig.do(cloud.wish()), rig.writer.run(broken), rig.do(cloud.wish()), return_exceptions=True
            )
            assert [type(result) for result in results] == [ServersCreated, InternalError, ServersCreated]
            assert "secret" not in str(results[1])
            assert cloud.store.read(lambda r: r.get(tables.FLAVORS, "9")) is None

    asyncio.run(story())


def test_when_the_disk_is_full_the_whole_batch_is_refused_and_work_under_way_goes_on_after(cloud: Cloud) -> None:
    full = False

    def advance(tx: Transaction, commands: int) -> Any:
        if full:
            raise WriteFailed("MDB_MAP_FULL")
        return real(tx, commands)

    rig = Rig(cloud)
    real, rig.engine.advance_ready = rig.engine.advance_ready, advance  # type: ignore[method-assign,assignment]
    release = asyncio.Event()

    async def slow(message: Message) -> Message:
        await release.wait()
        return await Hub.compute(rig.hub, message)

    async def story() -> None:
        nonlocal full
        rig.hub.peers["compute@h1"] = slow
        async with rig.running():
            server_id = await rig.create()
            await rig.until(lambda: any(isinstance(message, SpawnGuest) for _, message in rig.hub.calls))
            full = True
            with pytest.raises(Unavailable):
                await rig.do(cloud.wish())
            release.set()
            await asyncio.sleep(0.1)
            assert cloud.server(server_id).vm_state is VmState.BUILDING
            full = False
            await rig.state(server_id, VmState.ACTIVE)
            assert cloud.store.read(lambda r: r.size(tables.SERVERS)) == 1

    asyncio.run(story())


def test_a_command_that_finds_the_disk_full_loses_the_whole_batch(cloud: Cloud) -> None:
    def full(_tx: Transaction) -> Message:
        raise WriteFailed("MDB_MAP_FULL")

    async def story() -> None:
        async with Rig(cloud).running() as rig:
            results = await asyncio.gather(rig.do(cloud.wish()), rig.writer.run(full), return_exceptions=True)
            assert isinstance(results[1], Unavailable)
            made = cloud.store.read(lambda r: r.size(tables.SERVERS))
            assert made == (0 if isinstance(results[0], Unavailable) else 1)

    asyncio.run(story())


def test_a_writer_with_too_much_to_do_refuses_requests_but_not_answers(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_MAX", 0)

    async def story() -> None:
        async with Rig(cloud).running() as rig:
            with pytest.raises(Unavailable, match="Too many"):
                await rig.do(cloud.wish())
            taken: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
            rig.writer.submit(Job(work=lambda tx: Done(), done=taken.set_result, must=True))
            assert await taken == Done()

    asyncio.run(story())


def test_one_who_cannot_be_told_does_not_keep_the_others_from_hearing(cloud: Cloud) -> None:
    def deaf(_outcome: Outcome) -> None:
        raise RuntimeError("gone")

    async def story() -> None:
        async with Rig(cloud).running() as rig:
            rig.writer.submit(Job(work=lambda tx: registry.run(tx, cloud.wish()), done=deaf))
            assert await rig.writer.run(lambda tx: Done()) == Done()
            await rig.until(lambda: cloud.store.read(lambda r: r.size(tables.TASKS)) == 0)

    asyncio.run(story())


# ---------------------------------------------------------------------- trimming
def test_old_rows_go_a_bounded_number_at_a_time(cloud: Cloud) -> None:
    def fill(tx: Transaction) -> Done:
        for number in range(50):
            tx.emit(HostRemoved(host=str(number)))
            tx.put(tables.DONE_COMMANDS, tables.DoneCommand(call_id=f"{number:032x}", at_us=tx.now_us, result=b""))
        return Done()

    cloud.commit(fill)
    newest = cloud.store.read(lambda r: r.generation())

    def passes() -> int:
        count = 1
        while cloud.store.run(lambda tx: trim(tx, events_max=10, done_age_us=0, rows_max=20)):
            count += 1
        return count

    assert passes() >= 3
    with cloud.store.store.snapshot() as reader:
        assert [row.generation for row in reader.scan(tables.EVENTS)] == list(range(newest - 9, newest + 1))
        assert reader.size(tables.DONE_COMMANDS) == 0
        assert reader.generation() == newest
    assert passes() == 1
