"""Much work at once holds up nobody for longer than one piece of it: heavy commands, and many workflows to move on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nova_fast.commands import workflows as commands
from nova_fast.conductor import daemon, turns
from nova_fast.conductor import writer as writer_module
from nova_fast.conductor.writer import Job, Outcome
from nova_fast.model.base import Message
from nova_fast.model.commands.keyed import KeyedCommand
from nova_fast.model.commands.servers import DeleteServer
from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.states import VmState
from nova_fast.model.tasks import Done, SelectHosts
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.player import ALICE, Cloud, unlimited_cloud
from tests.unit.conductor.rig import Rig


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with unlimited_cloud() as made:
        yield made


class Order:
    """Jobs that say when they were done, and in which transaction."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.done: list[tuple[str, int]] = []
        self.answers: dict[str, Outcome] = {}

    def job(self, name: str, *then: Job, heavy: bool = False) -> Job:
        def work(tx: Transaction) -> Message:
            self.done.append((name, tx.commit()))
            for job in then:  # arrives while this one is done
                self.rig.writer._batches.put(job)
            return Done()

        return Job(work=work, done=lambda outcome: self.answers.update({name: outcome}), heavy=heavy)

    def submit(self, *jobs: Job) -> None:
        for job in jobs:
            self.rig.writer.submit(job)

    def names(self) -> str:
        return " ".join(name for name, _ in self.done)

    def alone(self, name: str) -> bool:
        commits = [commit for _, commit in self.done]
        return commits.count(dict(self.done)[name]) == 1


def test_heavy_work_is_done_alone_and_one_piece_between_what_is_light(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)
        order = Order(rig)
        late, later = order.job("late"), order.job("later")
        heavy = [order.job("H1", late, heavy=True), order.job("H2", heavy=True), order.job("H3", later, heavy=True)]
        order.submit(heavy[0], order.job("a"), heavy[1], heavy[2], order.job("b"))
        async with rig.running():
            await rig.until(lambda: len(order.answers) == 7)
        assert order.names() == "a b H1 late H2 H3 later"
        assert all(order.alone(name) for name in ("H1", "H2", "H3"))
        assert not order.alone("a")

    asyncio.run(story())


def test_heavy_work_that_was_given_is_done_before_the_end(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)
        order = Order(rig)
        order.submit(*(order.job(f"H{number}", heavy=True) for number in range(5)))
        rig.writer._batches._queue.put(None)  # type: ignore[attr-defined]
        async with rig.running():
            pass
        assert order.names() == "H0 H1 H2 H3 H4"

    asyncio.run(story())


def test_too_much_heavy_work_is_refused_and_light_work_is_not(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "HEAVY_MAX", 2)

    async def story() -> None:
        rig = Rig(cloud)
        order = Order(rig)
        more: list[NovaFastError] = []

        def refused(outcome: Any) -> None:
            more.append(outcome)

        def one_more(_tx: Transaction) -> Message:
            rig.writer.submit(Job(work=lambda _: Done(), done=refused, heavy=True))
            return Done()

        first = Job(work=one_more, done=lambda _: None, heavy=True)
        order.submit(first, order.job("H2", heavy=True), order.job("H3", heavy=True), order.job("a"))
        async with rig.running():
            await rig.until(lambda: len(order.answers) == 3)
        assert [type(error) for error in more] == [Unavailable]
        assert order.names() == "a H2 H3"

    asyncio.run(story())


@pytest.mark.parametrize(("count", "heavy"), [(1, False), (256, False), (257, True)])
def test_a_request_for_many_servers_is_heavy(cloud: Cloud, count: int, heavy: bool) -> None:
    wish = cloud.wish(max_count=count)
    under_key = KeyedCommand(id="k", owner="o", fingerprint=b"", sealed=b"", command=msgspec.msgpack.encode(wish))
    for message in (wish, under_key):
        call: Any = SimpleNamespace(message=message, call_id=b"x" * 16)
        assert daemon._job(call).heavy is heavy


def test_no_other_command_is_heavy(cloud: Cloud) -> None:
    """Whatever it is, also under a key."""
    other = DeleteServer(caller=ALICE, server_id="x" * 999)
    under_key = KeyedCommand(id="k", owner="o", fingerprint=b"", sealed=b"", command=msgspec.msgpack.encode(other))
    unreadable = msgspec.structs.replace(under_key, command=b"\xc1")
    assert [daemon.servers_asked(message) for message in (other, under_key, unreadable)] == [0, 1, 0]


# ---------------------------------------------------------------------- workflows
@pytest.fixture
def _queued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "QUEUED_AT_ONCE", 4)
    monkeypatch.setattr(commands, "QUEUED_FROM", 8)


def many(cloud: Cloud, count: int) -> Any:
    return cloud.wish(min_count=count, max_count=count, networks="none", multi_name=True)


def steps(cloud: Cloud, server_ids: tuple[str, ...]) -> str:
    """``b`` for each that has begun, ``.`` for each that has not."""
    workflows = [cloud.workflow(server_id) for server_id in server_ids]
    return "".join("b" if workflow and workflow.task_id else "." for workflow in workflows)


@pytest.mark.usefixtures("_queued")
def test_many_are_begun_in_turn_and_others_do_not_wait_for_them(cloud: Cloud) -> None:
    first = cloud.run(many(cloud, 10)).server_ids
    assert (steps(cloud, first), cloud.engine.behind) == ("bbbb......", True)
    second = cloud.run(many(cloud, 9)).server_ids
    assert steps(cloud, first + second) == "bbbbbbbb..........."
    few = cloud.run(many(cloud, 8)).server_ids
    assert steps(cloud, few) == "b" * 8, "few are not queued"
    assert steps(cloud, first + second) == "b" * 12 + "." * 7
    for begun in (16, 19):
        cloud.commit(lambda tx: None)
        assert steps(cloud, first + second) == "b" * begun + "." * (19 - begun)
    assert not cloud.engine.behind
    cloud.settle()
    assert {cloud.server(server_id).vm_state for server_id in first + second + few} == {"active"}


@pytest.mark.usefixtures("_queued")
def test_one_that_is_queued_is_deleted_like_any_other(cloud: Cloud) -> None:
    made = cloud.run(many(cloud, 20)).server_ids
    cloud.delete(made[-1])
    assert cloud.find(made[-1]) is None, "it had not begun, so nothing is to be undone"
    for server_id in made[:-1]:
        cloud.delete(server_id)
        cloud.settle()
    cloud.assert_gone(made[0])


@pytest.mark.usefixtures("_queued")
def test_all_that_are_queued_come_to_their_end_without_another_request(cloud: Cloud) -> None:
    async def story() -> None:
        rig = Rig(cloud)
        scheduler = rig.hub.peers.pop("scheduler")
        async with rig.running():
            made = (await rig.do(many(cloud, 30))).server_ids
            await rig.until(lambda: steps(cloud, made) == "b" * 30)
            rig.hub.peers["scheduler"] = scheduler
            for server_id in made:
                await rig.state(server_id, VmState.ACTIVE)

    asyncio.run(story())


@pytest.mark.usefixtures("_queued")
def test_what_was_queued_goes_on_after_a_restart(cloud: Cloud) -> None:
    made = cloud.run(many(cloud, 20)).server_ids
    for _ in range(4):
        cloud.restart()
    assert steps(cloud, made) == "b" * 20
    cloud.settle()
    assert {cloud.server(server_id).vm_state for server_id in made} == {"active"}


@pytest.mark.usefixtures("_queued")
def test_what_begins_while_the_conductor_starts_is_asked_for_once(cloud: Cloud) -> None:
    made = cloud.run(many(cloud, 20)).server_ids

    async def story() -> None:
        rig = Rig(cloud)
        rig.writer.on_commit = rig.dispatcher.committed
        rig.writer.start()
        await rig.writer.run(lambda _tx: Done())  # some begin before the rows are read, and are there then
        async with rig.running_on():
            for server_id in made:
                await rig.state(server_id, VmState.ACTIVE)
        asked = [m for _, m in rig.hub.calls if isinstance(m, SelectHosts)]
        servers = [i for m in asked for request in m.requests for i in (request.server_id, *request.alike)]
        assert sorted(servers) == sorted(made)

    asyncio.run(story())
