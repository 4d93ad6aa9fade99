"""What happens to one server several times within one commit: under load an answer and a delete share a batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands.registry import run
from nova_fast.model.commands.servers import ActOnServer, DeleteServer
from nova_fast.model.errors import Unavailable
from nova_fast.model.events import ServerChanged
from nova_fast.model.states import Action, TaskState, VmState
from nova_fast.model.tasks import Done
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.player import ALICE, Cloud

STEPS = 3  # the tasks that a create asks


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


@pytest.mark.parametrize("works", [True, False], ids=["answered", "failed"])
@pytest.mark.parametrize("first", ["the answer", "the delete"])
@pytest.mark.parametrize("answered_before", range(STEPS))
def test_a_delete_in_the_batch_of_an_answer_leaves_nothing(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, answered_before: int, first: str, works: bool
) -> None:
    server_id = cloud.create()
    for _ in range(answered_before):
        cloud.answer(cloud.next())
    task = cloud.next()
    answer = cloud.good(task)

    def tell(tx: Transaction) -> None:
        if works:
            cloud.engine.take_answer(tx, task.id, answer)
        else:
            cloud.engine.take_failure(tx, task.id, Unavailable("it did not work").failure())

    def batch(tx: Transaction) -> Done:
        delete = DeleteServer(caller=ALICE, server_id=server_id)
        for one in (tell, lambda tx: run(tx, delete)) if first == "the answer" else (lambda tx: run(tx, delete), tell):
            one(tx)
        return Done()

    cloud.commit(batch)
    cloud.settle()
    cloud.assert_gone(server_id)
    assert caplog.records == []


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
@pytest.mark.parametrize("kind", ["create", "stop"])
def test_an_action_in_the_batch_of_an_answer_comes_behind_it(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, kind: str, hard: bool
) -> None:
    server_id = cloud.create()
    while (task := cloud.next()).step != "spawn":
        cloud.answer(task)
    if kind == "stop":
        cloud.answer(task)
        cloud.act(server_id, Action.STOP)
        task = cloud.next("power")
    action = Action.START if kind == "stop" and not hard else Action.REBOOT

    def batch(tx: Transaction) -> Done:
        cloud.engine.take_answer(tx, task.id, cloud.good(task))
        run(tx, ActOnServer(caller=ALICE, server_id=server_id, action=action, hard=hard))
        return Done()

    cloud.commit(batch)
    cloud.settle()
    assert cloud.server(server_id).vm_state is VmState.ACTIVE
    done = cloud.actions(server_id)
    assert list(done) == ["create", *(["stop"] if kind == "stop" else []), action.value]
    assert [row.message for row in done.values()] == [None] * len(done)
    assert all(event.result == "Success" for row in done.values() for event in row.events)
    assert caplog.records == []


def test_a_step_that_begins_and_ends_in_one_commit_is_written_and_told_once(cloud: Cloud) -> None:
    server_id = cloud.create(networks=())
    before = len(cloud.events)
    cloud.answer(cloud.next("schedule"))  # there is no network to wait for
    told = [event.task_state for event in cloud.events[before:] if isinstance(event, ServerChanged)]
    assert told == [TaskState.SPAWNING]
    assert cloud.server(server_id).task_state is TaskState.SPAWNING


@pytest.mark.parametrize("step", ["schedule", "network", "spawn"])
def test_every_step_that_lasts_is_seen(cloud: Cloud, step: str) -> None:
    server_id = cloud.create()
    while (task := cloud.next()).step != step:
        cloud.answer(task)
    shown = {"schedule": TaskState.SCHEDULING, "network": TaskState.NETWORKING, "spawn": TaskState.SPAWNING}[step]
    assert cloud.server(server_id).task_state is shown
    assert [event.task_state for event in cloud.events if isinstance(event, ServerChanged)][-1] == shown
