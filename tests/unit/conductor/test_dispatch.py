"""The dispatcher and the network synchronisation: peers that are away, late, wrong, or replaced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nova_fast.conductor import dispatcher as dispatcher_module
from nova_fast.conductor import network_sync, together
from nova_fast.conductor.engine import Engine
from nova_fast.model.base import Message
from nova_fast.model.commands.hosts import RemoveHost
from nova_fast.model.commands.networks import SubnetChanges, UpdateSubnet
from nova_fast.model.errors import BadRequest, Unavailable
from nova_fast.model.states import VmState
from nova_fast.model.tasks import (
    ApplyNetworks,
    DestroyGuest,
    NetworksApplied,
    Placement,
    SelectHosts,
    Selection,
    SpawnGuest,
)
from nova_fast.queries.host_networks import dirty_hosts
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction
from tests.tries import least
from tests.unit.conductor.player import ADMIN, ALICE, Cloud
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


# ---------------------------------------------------------------------- peers that are away or wrong
@pytest.mark.parametrize("away", ["scheduler", "network@h1", "compute@h1"])
def test_a_task_of_a_peer_that_is_away_fails_at_its_deadline(cloud: Cloud, away: str) -> None:
    async def story() -> None:
        rig = Rig(cloud, task_timeout_s=0.6)
        del rig.hub.peers[away]
        if away != "scheduler":  # no other host to try
            cloud.run(RemoveHost(caller=ADMIN, host="h2"))
        async with rig.running():

            async def took_s() -> float:
                server_id = await rig.create()
                took_s = await rig.state(server_id, VmState.ERROR)
                assert cloud.server(server_id).fault is not None
                return took_s

            assert await least(took_s, 4) < 4

    asyncio.run(story())


def test_a_network_daemon_that_comes_back_in_time_is_enough(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)
        network = rig.hub.peers.pop("network@h1")
        async with rig.running():
            server_id = await rig.create()
            await asyncio.sleep(0.2)
            rig.hub.peers["network@h1"] = network
            rig.dispatcher.networks.renew("h1")
            await rig.state(server_id, VmState.ACTIVE)

    asyncio.run(story())


def test_a_network_that_fails_again_and_again_is_logged_once(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    broken = True

    async def story() -> None:
        rig = Rig(cloud)

        async def network(message: Message) -> Message:
            assert isinstance(message, ApplyNetworks)
            failed = {spec.id: "no bridge" for spec in message.networks} if broken else {}
            return NetworksApplied(host=message.host, generation=message.generation, failed=failed)

        nonlocal broken
        rig.hub.peers["network@h1"] = network
        async with rig.running():
            server_id = await rig.create()
            await rig.state(server_id, VmState.ERROR)
            fault = cloud.server(server_id).fault
            assert fault is not None
            assert "no bridge" in fault.message
            tried = len(rig.hub.calls)
            await rig.until(lambda: len(rig.hub.calls) > tried)  # it is tried on
            broken = False
            await rig.until(lambda: "as they should be again" in caplog.text)

    caplog.set_level("INFO")
    asyncio.run(story())
    assert 1 <= sum("no bridge" in record.getMessage() for record in caplog.records) <= 3


def listening(rig: Rig, first: Callable[[], None]) -> list[int]:
    """The generations that a network daemon is told, which does something special when it is told the first."""
    told: list[int] = []

    async def network(message: Message) -> Message:
        assert isinstance(message, ApplyNetworks)
        told.append(message.generation)
        if len(told) == 1:
            first()
        return await Hub.network(rig.hub, message)

    rig.hub.peers["network@h1"] = network
    return told


def test_a_network_daemon_that_came_back_and_fails_is_told_again_though_nothing_has_changed(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)

        def fail() -> None:
            raise Unavailable("The bridges could not be changed.", code="network_backend")

        async with rig.running():
            await rig.state(await rig.create(), VmState.ACTIVE)
            told = listening(rig, fail)
            rig.dispatcher.networks.renew("h1")  # its machine has lost its power and all bridges
            await rig.until(lambda: len(told) == 2)
            assert told[0] == told[1]

    asyncio.run(story())


def test_the_answer_of_a_network_daemon_that_is_gone_does_not_count_for_the_new_one(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)
        told = listening(rig, lambda: rig.dispatcher.networks.renew("h1"))  # a new process says hello meanwhile
        async with rig.running():
            await rig.state(await rig.create(), VmState.ACTIVE)
            assert len(told) >= 2
            assert told[0] == told[1]

    asyncio.run(story())


def test_a_request_that_the_scheduler_cannot_take_does_not_spoil_the_others(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)
        spoiled = ""

        async def scheduler(message: Message) -> Message:
            assert isinstance(message, SelectHosts)
            if any(spoiled in (request.server_id, *request.alike) for request in message.requests):
                raise BadRequest("less than nothing")
            return await Hub.scheduler(rig.hub, message)

        rig.hub.peers.pop("scheduler")
        async with rig.running():
            ids = await asyncio.gather(*(rig.create() for _ in range(4)))
            spoiled = ids[2]
            rig.hub.peers["scheduler"] = scheduler
            for server_id in ids:
                await rig.state(server_id, VmState.ERROR if server_id == spoiled else VmState.ACTIVE)

    asyncio.run(story())


@pytest.mark.parametrize("code", ["queue_full", "hub_closed"])
def test_trouble_at_our_own_end_of_the_hub_is_not_held_against_the_host(cloud: Cloud, code: str) -> None:
    async def story() -> None:
        rig = Rig(cloud)
        left = 3

        async def compute(message: Message) -> Message:
            nonlocal left
            left -= 1
            if left >= 0:
                raise Unavailable("no", code=code)
            return await Hub.compute(rig.hub, message)

        rig.hub.peers["compute@h1"] = compute
        async with rig.running():
            await rig.state(await rig.create(), VmState.ACTIVE)
        assert sum(isinstance(message, SelectHosts) for _, message in rig.hub.calls) == 1
        assert not any(isinstance(message, DestroyGuest) for _, message in rig.hub.calls)

    asyncio.run(story())


def test_a_conductor_that_ends_gives_nothing_up_and_the_next_one_goes_on(cloud: Cloud) -> None:
    async def first() -> str:
        rig = Rig(cloud)
        rig.hub.peers.pop("compute@h1")
        async with rig.running():
            server_id = await rig.create()
            await rig.until(lambda: any(isinstance(message, SpawnGuest) for _, message in rig.hub.calls))
        return server_id

    async def second(server_id: str) -> None:
        assert cloud.server(server_id).vm_state is VmState.BUILDING
        async with Rig(cloud).running() as rig:
            await rig.state(server_id, VmState.ACTIVE)

    asyncio.run(second(asyncio.run(first())))


def test_a_scheduler_that_answers_nonsense_fails_only_what_it_was_asked(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)

        async def scheduler(_message: Message) -> Message:
            return Selection(placements=(Placement(server_id="somebody", host="h1"),))

        rig.hub.peers["scheduler"] = scheduler
        async with rig.running():
            await rig.state(await rig.create(), VmState.ERROR)

    asyncio.run(story())


def test_a_host_on_which_nothing_waits_is_told_of_many_changes_at_once(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_sync, "UNHURRIED_S", 0.4)

    async def story() -> None:
        rig = Rig(cloud)
        async with rig.running():
            await rig.state(await rig.create(), VmState.ACTIVE)
            subnet_id = cloud.store.read(lambda r: next(r.scan(tables.SUBNETS))).id
            told = sum(isinstance(message, ApplyNetworks) for _, message in rig.hub.calls)
            begin_s = time.monotonic()
            for number in range(20):
                changes = SubnetChanges(dns_nameservers=(f"9.9.9.{number}",))
                await rig.do(UpdateSubnet(caller=ALICE, subnet_id=subnet_id, changes=changes))
            await rig.until(lambda: not cloud.store.read(dirty_hosts))
            took_s = time.monotonic() - begin_s
        states = [message for _, message in rig.hub.calls if isinstance(message, ApplyNetworks)]
        assert states[-1].networks[0].subnets[0].dns_nameservers == ("9.9.9.19",)
        assert len(states) - told <= 2 + took_s / 0.4

    asyncio.run(story())


def test_a_server_that_waits_for_its_network_is_not_kept_waiting_by_what_was_told_before(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_sync, "UNHURRIED_S", 600.0)

    async def story() -> None:
        rig = Rig(cloud)
        async with rig.running():
            for _ in range(3):
                await rig.state(await rig.create(), VmState.ACTIVE)  # not after that time

    asyncio.run(story())


def test_making_the_states_of_hosts_leaves_most_of_the_loop_to_others(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_sync, "UNHURRIED_S", 0.0)  # as if somebody waited on every host
    real, made_s = network_sync.wanted_networks, 0.02
    made: list[float] = []

    def slow(*arguments: Any) -> ApplyNetworks:
        time.sleep(made_s)
        made.append(time.monotonic())
        return real(*arguments)

    monkeypatch.setattr(network_sync, "wanted_networks", slow)

    async def story() -> float:
        rig = Rig(cloud)
        async with rig.running():
            await rig.state(await rig.create(), VmState.ACTIVE)
            subnet_id = cloud.store.read(lambda r: next(r.scan(tables.SUBNETS))).id
            begin_s, number = time.monotonic(), 0
            while time.monotonic() < begin_s + 3:
                number += 1
                changes = SubnetChanges(dns_nameservers=(f"9.9.{number // 250}.{number % 250}",))
                await rig.do(UpdateSubnet(caller=ALICE, subnet_id=subnet_id, changes=changes))
            await rig.until(lambda: not cloud.store.read(dirty_hosts))
        return sum(at >= begin_s + 2 for at in made) * made_s

    share = asyncio.run(story())
    assert share < 0.5  # of the last second
    monkeypatch.setattr(network_sync, "MAKING_SHARE", 1000.0)
    made.clear()
    assert asyncio.run(story()) > share, "there was nothing to leave"


def test_an_answer_that_cannot_be_recorded_does_not_hold_up_those_that_came_with_it(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, spoilt = Engine._take, ""

    def broken(self: Engine, tx: Transaction, task_id: str, answer: Message) -> None:
        task = tx.get(tables.TASKS, task_id)
        if task is not None and task.server_id == spoilt and task.step == "spawn":
            raise AssertionError("it has no owner")
        take(self, tx, task_id, answer)

    monkeypatch.setattr(Engine, "_take", broken)
    monkeypatch.setattr(together, "take", lambda *_: None)  # so that each goes through it

    async def story() -> None:
        nonlocal spoilt
        rig = Rig(cloud)
        go = asyncio.Event()

        async def compute(message: Message) -> Message:
            await go.wait()
            return await Hub.compute(rig.hub, message)

        rig.hub.peers["compute@h1"] = compute
        async with rig.running():
            ids = (await rig.do(cloud.wish(min_count=4, max_count=4))).server_ids
            await rig.until(lambda: sum(isinstance(message, SpawnGuest) for _, message in rig.hub.calls) == 4)
            spoilt = ids[1]
            go.set()
            for server_id in ids:
                if server_id != spoilt:
                    await rig.state(server_id, VmState.ACTIVE)
            assert cloud.server(spoilt).vm_state is VmState.BUILDING
            spoilt = ""
            await rig.state(ids[1], VmState.ACTIVE)

    asyncio.run(story())
