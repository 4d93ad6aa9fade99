"""Whatever happens in whatever order: nothing leaks after any commit, and in the end everything can be deleted.

Each history is made from a seed: creates, deletes, power actions, answers, failures, late and repeated answers, guests
that change by themselves, hosts that go and come back, and conductors that die.
"""

from __future__ import annotations

import random

import pytest

from nova_fast.commands.guests import record_guest_state
from nova_fast.model.errors import NovaFastError
from nova_fast.model.states import Action, PowerState
from nova_fast.model.tasks import Done, GuestChanged
from nova_fast.model.workflows import Task
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import ADMIN, Cloud
from tests.unit.recount import assert_nothing_left

STEPS = 150
_POWER = [action for action in Action if action not in (Action.CREATE, Action.DELETE, Action.LOCK, Action.UNLOCK)]


class History:
    def __init__(self, cloud: Cloud, seed: int) -> None:
        self.cloud = cloud
        self.random = random.Random(seed)
        self.ids: list[str] = []
        self.old: list[Task] = []

    def step(self) -> None:
        what = self.random.choices(
            (
                self.answer,
                self.fail,
                self.create,
                self.delete,
                self.act,
                self.late,
                self.guest,
                self.host,
                self.restart,
            ),
            (10, 3, 2, 2, 4, 1, 2, 1, 1),
        )[0]
        what()

    def take(self) -> Task | None:
        if not self.cloud.pending:
            return None
        task = self.cloud.pending.pop(self.random.randrange(len(self.cloud.pending)))
        self.old.append(task)
        return task if self.cloud.waits(task) else None

    def answer(self) -> None:
        if (task := self.take()) is not None:
            self.cloud.answer(task)

    def fail(self) -> None:
        if (task := self.take()) is not None:
            self.cloud.fail(task)

    def late(self) -> None:
        """An answer, or a failure, of a task that was answered before."""
        if self.old:
            task = self.random.choice(self.old)
            if not self.cloud.waits(task):
                (self.cloud.fail if self.random.random() < 0.5 else lambda t: self.cloud.answer(t, Done()))(task)

    def create(self) -> None:
        try:
            self.ids.append(self.cloud.create(config_drive=True, user_data=b"x"))
        except NovaFastError as error:
            assert error.code == "quota_exceeded"  # noqa: PT017 - a full quota is as good as any

    def chosen(self) -> str:
        there = [server_id for server_id in self.ids if self.cloud.find(server_id) is not None]
        return self.random.choice(there) if there else ""

    def delete(self) -> None:
        if server_id := self.chosen():
            self.cloud.delete(server_id)

    def act(self) -> None:
        if server_id := self.chosen():
            action = self.random.choice(_POWER)
            try:
                self.cloud.act(
                    server_id, action, hard=action is Action.REBOOT and self.random.random() < 0.5, caller=ADMIN
                )
            except NovaFastError as error:
                assert error.code.startswith("instance_")  # noqa: PT017 - the wrong state

    def guest(self) -> None:
        if server_id := self.chosen():
            host, state = self.cloud.server(server_id).host, self.random.choice(list(PowerState))
            message = GuestChanged(host=host, server_id=server_id, power_state=state)
            self.cloud.commit(lambda tx: (record_guest_state(tx, message), Done())[1])

    def host(self) -> None:
        self.cloud.host_up(self.random.choice(("h1", "h2")), self.random.random() < 0.6)

    def restart(self) -> None:
        self.cloud.restart()


@pytest.mark.parametrize("seed", range(12))
def test_nothing_leaks_in_any_history(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    with memory_store() as store:
        cloud = Cloud(store)
        history = History(cloud, seed)
        for _ in range(STEPS):
            history.step()
        for host in ("h1", "h2"):
            cloud.host_up(host, True)
        cloud.restart()
        cloud.settle()
        for server_id in history.ids:
            if cloud.find(server_id) is not None:
                cloud.delete(server_id)
        cloud.settle()
        cloud.store.read(assert_nothing_left)
        assert "nobody foresaw" not in caplog.text
