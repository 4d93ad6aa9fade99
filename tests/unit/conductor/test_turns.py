"""A crowd of requests is accepted before what it brought begins; yet all of it begins, and nothing waits for long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from nova_fast.commands import registry
from nova_fast.conductor import turns
from nova_fast.conductor.turns import CROWD, GROUP, QUEUED_AT_ONCE, SHARE, WAIT_US_MAX, Turns
from nova_fast.conductor.writer import Job
from nova_fast.model.commands.servers import CreateServers, ServersCreated
from nova_fast.model.states import VmState
from nova_fast.model.tasks import Done, SelectHosts
from nova_fast.state import schema as tables
from tests.unit.conductor.player import Cloud, unlimited_cloud
from tests.unit.conductor.rig import Rig
from tests.unit.conductor.test_together import Scribe


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with unlimited_cloud() as made:
        yield made


# ---------------------------------------------------------------------- how many
def test_without_a_crowd_all_begin() -> None:
    ours = Turns()
    for commands in (0, 1, CROWD - 1, 0):
        ours.taken(commands)
        assert not ours.crowded
        assert ours.begin_max(0) == QUEUED_AT_ONCE


def test_in_a_crowd_a_few_begin_in_groups() -> None:
    ours = Turns()
    begun = []
    for _ in range(180):
        ours.taken(32)
        begun.append(ours.begin_max(1000))
    assert set(begun) <= {0, *range(GROUP, GROUP + 32)}
    assert 180 * 32 // SHARE - 2 * GROUP < sum(begun) <= 180 * 32 // SHARE


def test_a_crowd_that_ends_is_forgotten_after_a_few_transactions() -> None:
    ours = Turns()
    ours.taken(64)
    waited = 0
    while ours.crowded and waited < 9:
        ours.taken(0)
        waited += 1
    assert 1 <= waited <= 4
    assert ours.begin_max(0) == QUEUED_AT_ONCE
    ours.taken(CROWD)
    assert ours.begin_max(0) == 0, "what was earned before is spent"


def test_what_has_waited_begins_faster_than_more_comes() -> None:
    ours = Turns()
    for commands in (CROWD, 32, 32):
        ours.taken(commands)
        assert ours.begin_max(WAIT_US_MAX + 1) == 2 * commands
        assert ours.begin_max(WAIT_US_MAX + 1) == 0, "once for each command"


def test_never_more_than_one_transaction_should_hold() -> None:
    ours = Turns()
    for _ in range(9):
        ours.taken(5000)
    assert ours.begin_max(0) == QUEUED_AT_ONCE
    ours.taken(5000)
    assert ours.begin_max(WAIT_US_MAX + 1) == QUEUED_AT_ONCE


# ---------------------------------------------------------------------- in the store
def _crowd(cloud: Cloud, count: int) -> list[CreateServers]:
    return [cloud.wish(networks="none", name=f"s{number}") for number in range(count)]


def _begun(cloud: Cloud) -> int:
    return cloud.store.read(lambda reader: reader.size(tables.TASKS))


def _do(cloud: Cloud, count: int) -> list[str]:
    outcomes = Scribe(cloud).do([*_crowd(cloud, count)], [""] * count, alone=False)
    assert all(isinstance(one, ServersCreated) for one in outcomes), outcomes
    return [one.server_ids[0] for one in outcomes if isinstance(one, ServersCreated)]


def test_few_that_come_together_begin_in_their_own_transaction(cloud: Cloud) -> None:
    _do(cloud, CROWD - 1)
    assert _begun(cloud) == CROWD - 1
    assert not cloud.engine.behind


def test_a_crowd_is_accepted_and_begins_when_it_is_over(cloud: Cloud) -> None:
    _do(cloud, CROWD)
    assert _begun(cloud) == 0
    assert cloud.engine.crowded
    cloud.commit(lambda _tx: Done())
    assert _begun(cloud) == CROWD
    assert not cloud.engine.behind


def test_the_oldest_begin_first(cloud: Cloud) -> None:
    made = [server_id for _ in range(6) for server_id in _do(cloud, 64)]
    begun = [server_id for server_id in made if (one := cloud.workflow(server_id)) and one.task_id]
    assert begun == made[: len(begun)]
    assert GROUP <= len(begun) <= len(made) // SHARE


def test_what_has_waited_too_long_begins_though_the_crowd_goes_on(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _do(cloud, 20)
    monkeypatch.setattr(turns, "WAIT_US_MAX", -1)
    _do(cloud, 20)
    assert all(one and one.task_id for one in map(cloud.workflow, made))


def test_one_that_waits_for_a_crowd_is_deleted_like_any_other(cloud: Cloud) -> None:
    made = _do(cloud, 20)
    cloud.delete(made[3])
    assert cloud.find(made[3]) is None, "it had not begun, so nothing is to be undone"
    cloud.settle()
    for _ in range(4):
        cloud.commit(lambda _tx: Done())
    assert not cloud.engine.behind
    cloud.settle()
    assert {cloud.server(one).vm_state for one in made if one != made[3]} == {VmState.ACTIVE}


def test_a_crowd_comes_to_its_end_by_itself_and_is_placed_in_groups(cloud: Cloud) -> None:
    """With the writer's own thread: nobody asks anything behind the last of the crowd."""

    async def story() -> None:
        rig = Rig(cloud)
        made: list[str] = []

        def job(wish: CreateServers) -> Job:
            def done(outcome: Any) -> None:
                made.append(outcome.server_ids[0])

            return Job(work=lambda tx: registry.run(tx, wish), done=done, request=wish)

        for wish in _crowd(cloud, 24):
            rig.writer.submit(job(wish))
        async with rig.running():
            await rig.until(lambda: len(made) == 24)
            for server_id in made:
                await rig.state(server_id, VmState.ACTIVE)
        asked = [message for _, message in rig.hub.calls if isinstance(message, SelectHosts)]
        assert len(asked) == 1, "they were placed together"

    asyncio.run(story())
