"""Workflows that are answered together move on together, and nobody can tell: each ends as it would alone."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from nova_fast.commands import registry
from nova_fast.conductor import engine, together
from nova_fast.model.base import Message
from nova_fast.model.commands.server_groups import CreateServerGroup
from nova_fast.model.commands.servers import ActOnServer, DeleteServer
from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.events import Claimed, Released, ServerChanged
from nova_fast.model.flavors import Flavor
from nova_fast.model.states import Action
from nova_fast.model.tasks import Done, GuestState, Placement
from nova_fast.model.workflows import Task
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction
from tests.lengths import repeats
from tests.unit.conductor.player import ALICE, BOB, Cloud

BIG = Flavor(id="2", name="big", vcpus=60, ram_mib=512, disk_gib=1)  # of which two fill a host


class Story:
    """Random things happen to a cloud; the same for a seed, whichever way they are done."""

    def __init__(self, cloud: Cloud, rng: random.Random) -> None:
        self.cloud, self.rng = cloud, rng
        self.late: list[tuple[Task, Message]] = []
        cloud.store.run(lambda tx: tx.put(tables.FLAVORS, BIG))
        group = CreateServerGroup(caller=ALICE, name="g", policy="anti-affinity", max_servers_per_host=2)
        self.group_id = cloud.run(group).group.id

    def number(self, server_id: str) -> int:
        server = self.cloud.find(server_id)
        return server.number if server else 0

    def commands(self) -> None:
        cloud, rng = self.cloud, self.rng
        requests: list[Message] = []
        for _ in range(rng.randint(1, 4)):
            kinds: tuple[dict[str, Any], ...] = ({"networks": "none"}, {"networks": "none"}, {}, {"flavor_id": "2"})
            fields = {**rng.choice(kinds), "config_drive": rng.random() < 0.2}
            count = rng.choice((1, 3, 5))
            caller = rng.choice((ALICE, BOB))
            if caller is ALICE and rng.random() < 0.2:
                fields["group_id"] = self.group_id
            requests.append(cloud.wish(caller, **fields, min_count=count, max_count=count))
        servers = sorted(cloud.store.read(lambda r: list(r.scan(tables.SERVERS))), key=lambda server: server.number)
        for server in rng.sample(servers, min(len(servers), rng.randint(0, 8))):
            caller = ALICE if server.user_id == "alice" else BOB
            if rng.random() < 0.5:
                requests.append(DeleteServer(caller=caller, server_id=server.id))
            else:
                action = rng.choice((Action.STOP, Action.START, Action.REBOOT))
                hard = action is Action.REBOOT and rng.random() < 0.5
                requests.append(ActOnServer(caller=caller, server_id=server.id, action=action, hard=hard))
        if rng.random() < 0.3:
            cloud.host_up(rng.choice(("h1", "h2")), rng.random() < 0.6)
        cloud.commit(lambda tx: [_attempt(tx, request) for request in requests])

    def answer(self, task: Task) -> Message:
        cloud, rng = self.cloud, self.rng
        chance = rng.random()
        if chance < 0.08:
            return Unavailable(f"{task.step} did not work").failure()
        if not cloud.waits(task):
            return Placement(server_id=task.server_id, host="h1") if task.peer == "scheduler" else Done()
        good = cloud.good(task)
        if isinstance(good, Placement):
            host = good.host and rng.choice(("h1", "h2", "h2", "gone" if chance < 0.12 else "h1"))
            good = msgspec.structs.replace(good, host="" if chance > 0.97 else host)
        return good

    def answers(self) -> None:
        """Some of the tasks that wait are answered in one transaction; a few twice, or when nobody waits any more."""
        cloud, rng = self.cloud, self.rng
        cloud.pending.sort(key=lambda task: (self.number(task.server_id), task.step, task.deadline_us))
        some = cloud.pending[: rng.randint(1, 12)]
        del cloud.pending[: len(some)]
        told = [(task, self.answer(task)) for task in some]
        if self.late and rng.random() < 0.2:
            told.insert(0, self.late.pop())
        if rng.random() < 0.2:
            told.append(told[0])
        self.late = told[-2:]
        answers = [(task.id, answer) for task, answer in told]

        def work(tx: Transaction) -> Done:
            cloud.engine.take_all(tx, answers)
            return Done()

        cloud.commit(work)

    def picture(self) -> Any:
        """All that it has come to, with the random parts of it named by what they belong to."""
        return self.cloud.store.read(lambda reader: _picture(reader, self.cloud.events))


def _attempt(tx: Transaction, request: Message) -> None:
    """A command of a batch, as the writer does it."""
    mark = tx.savepoint()
    try:
        registry.run(tx, request)
    except NovaFastError:
        tx.rollback(mark)


def _picture(reader: Reader, events: list[Any]) -> Any:
    servers = sorted(reader.scan(tables.SERVERS), key=lambda server: server.number)
    names = {server.id: server.number for server in servers}
    bare = msgspec.structs.replace
    told: dict[int, list[Any]] = {}
    for event in events:
        told.setdefault(names.get(getattr(event, "server_id", ""), 0), []).append(
            bare(event, server_id="") if isinstance(event, (Claimed, ServerChanged)) else type(event)
        )
    del told[0][:]  # of servers that are gone, in the order of all of them
    return (
        [bare(s, id="", reservation_id="") for s in servers],
        [
            [
                bare(found, server_id="", task_id="", request_id="", then_request_id="")
                for found in (reader.get(tables.WORKFLOWS, s.id),)
                if found is not None
            ]
            for s in servers
        ],
        sorted((names[t.server_id], t.peer, t.step, t.deadline_us, t.generation) for t in reader.scan(tables.TASKS)),
        [
            bare(found, server_id="")
            for s in servers
            if (found := reader.get(tables.PLACEMENT_DECISIONS, s.id)) is not None
        ],
        [
            sorted(repr((a.action, a.message, a.events)) for a in reader.scan(tables.SERVER_ACTIONS, s.id))
            for s in servers
        ],
        [
            [(p.host, p.status, p.device_owner, p.revision) for p in reader.select(tables.PORTS_BY_DEVICE, s.id)]
            for s in servers
        ],
        told, list(reader.scan(tables.USAGES)), list(reader.scan(tables.HOST_USAGE)), list(reader.scan(tables.HOSTS)),
        list(reader.scan(tables.HOST_NETWORKS)), reader.counters(),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(repeats(20, 2000)))
def test_what_moves_together_ends_as_each_would_alone(
    seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = []
    for least in (together.TOGETHER_MIN, 1_000_000):
        monkeypatch.setattr(together, "TOGETHER_MIN", least)
        with memory_store() as store:
            story = Story(Cloud(store), random.Random(seed))
            drawn = []
            for _ in range(12):
                story.commands()
                for _ in range(story.rng.randint(1, 4)):
                    if story.cloud.pending:
                        story.answers()
                drawn.append(story.picture())
            pictures.append(drawn)
    for step, (one, other) in enumerate(zip(*pictures, strict=True)):
        assert one == other, step
    assert not [record for record in caplog.records if record.exc_info]


def test_they_are_really_moved_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command to ACTIVE nothing is looked at alone."""
    monkeypatch.setattr(engine.Engine, "_run", lambda *_: pytest.fail("one by one"))
    with memory_store() as store:
        cloud = Cloud(store)
        wish = cloud.wish(min_count=4, max_count=4)
        ids = cloud.run(wish).server_ids
        for step in ("schedule", "network", "spawn"):
            tasks, cloud.pending = cloud.pending, []
            assert [task.step for task in tasks] == [step] * 4
            answers = [(task.id, cloud.good(task)) for task in tasks]
            cloud.commit(lambda tx, answers=answers: (cloud.engine.take_all(tx, answers), Done())[1])
        assert [cloud.server(server_id).vm_state for server_id in ids] == ["active"] * 4


def test_an_answer_that_is_told_twice_is_taken_once_and_the_scheduler_hears_of_the_other() -> None:
    with memory_store() as store:
        cloud = Cloud(store)
        cloud.run(cloud.wish(networks="none", min_count=4, max_count=4))
        tasks, cloud.pending, cloud.events = cloud.pending, [], []
        answers = [(task.id, cloud.good(task)) for task in tasks]
        twice = [answers[2], *answers]
        cloud.commit(lambda tx: (cloud.engine.take_all(tx, twice), Done())[1])
        assert [task.step for task in cloud.pending] == ["spawn"] * 4
        released = [event.server_id for event in cloud.events if isinstance(event, Released)]
        assert released == [tasks[2].server_id]


def test_a_defect_of_one_is_not_the_others(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with memory_store() as store:
        cloud = Cloud(store)
        ids = cloud.run(cloud.wish(networks="none", min_count=4, max_count=4)).server_ids
        for _ in ("schedule", "spawn"):
            tasks, cloud.pending = cloud.pending, []
            answers = [(task.id, cloud.good(task)) for task in tasks]
            if tasks[0].step == "spawn":  # an answer that is none
                answers[1] = (answers[1][0], GuestState(server_id=ids[1], power_state=77))  # type: ignore[arg-type]
            cloud.commit(lambda tx, answers=answers: (cloud.engine.take_all(tx, answers), Done())[1])
        states = {server_id: cloud.server(server_id).vm_state for server_id in ids}
        bad = tasks[1].server_id
        assert states.pop(bad) == "error"
        assert set(states.values()) == {"active"}
        assert len(caplog.records) == 2
