"""What happens to one server several times within one commit: under load an answer and a delete share a batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands.registry import run
from nova_fast.model.commands.servers import ActOnServer, DeleteServer
from nova_fast.model.errors import Conflict, Unavailable
from nova_fast.model.states import Action, VmState
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
def test_an_action_in_the_batch_of_an_answer_is_refused(
    cloud: Cloud, caplog: pytest.LogCaptureFixture, kind: str, hard: bool
) -> None:
    server_id = cloud.create()
    while (task := cloud.next()).step != "spawn":
        cloud.answer(task)
    if kind == "stop":
        cloud.answer(task)
        cloud.act(server_id, Action.STOP)
        task = cloud.next("power")
    refusals: list[str] = []

    def batch(tx: Transaction) -> Done:
        cloud.engine.take_answer(tx, task.id, cloud.good(task))
        action = Action.START if kind == "stop" and not hard else Action.REBOOT
        try:
            run(tx, ActOnServer(caller=ALICE, server_id=server_id, action=action, hard=hard))
        except Conflict as error:
            refusals.append(error.code)
        return Done()

    cloud.commit(batch)
    cloud.settle()
    assert refusals == ["instance_invalid_state"]
    assert cloud.server(server_id).vm_state is (VmState.STOPPED if kind == "stop" else VmState.ACTIVE)
    assert [action.message for action in cloud.actions(server_id).values()] == [None] * (1 + (kind == "stop"))
    assert caplog.records == []
