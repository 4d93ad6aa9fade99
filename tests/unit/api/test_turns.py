"""Who asks for much waits for himself: turns are shared among clients, and with the rest of the loop."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from typing import Any, cast

import pytest
import uvloop

from nova_fast.api.zmq import turns
from nova_fast.api.zmq.turns import Batch, Turns
from nova_fast.hub.server import Incoming
from nova_fast.model.errors import InternalError, Unavailable
from nova_fast.model.sdk import Answer, Answers, Ask

OK = Answer(status=200, body=b"")
ASK = Ask("compute", "GET", "/")


class Call:
    """A call that remembers its answer."""

    deadline_s = 0.0

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.answers: list[Any] = []

    def reply(self, answer: Any) -> None:
        self.answers.append(answer)


def batch(call: Call, count: int, work: Any) -> Batch:
    return Batch(cast(Incoming, call), (ASK,) * count, work)


def run(test: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await test()

    uvloop.run(bounded())


def new_turns(stuck: set[str] | None = None) -> Turns:
    return Turns(lambda _: Answer(status=413, body=b""), lambda name: name in (stuck or set()))


async def until(condition: Any) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is not ours to make an Event of
        await asyncio.sleep(0)


def test_one_ask_of_each_in_turn() -> None:
    async def test() -> None:
        order: list[str] = []
        shared = new_turns()
        calls = [Call("client.a"), Call("client.a"), Call("client.b")]
        for call, count in zip(calls, (5, 5, 2), strict=True):
            name = call.peer[-1]
            shared.add(batch(call, count, lambda _, name=name: order.append(name) or OK))
        await until(lambda: all(call.answers for call in calls))
        assert "".join(order) == "abab" + "a" * 8
        assert [len(call.answers[0].answers) for call in calls] == [5, 5, 2]

    run(test)


def test_the_loop_has_its_turn_after_two_milliseconds() -> None:
    async def test() -> None:
        shared, call, looks = new_turns(), Call("client.a"), 0

        def work(_: Ask) -> Answer:
            time.sleep(0.001)
            return OK

        shared.add(batch(call, 50, work))
        while not call.answers:
            looks += 1
            await asyncio.sleep(0)
        assert looks >= 20

    run(test)


def test_only_so_many_of_a_client_wait_and_the_others_go_on() -> None:
    async def test() -> None:
        shared, begun, gate = new_turns(), 0, asyncio.Event()

        async def wait() -> Answer:
            await gate.wait()
            return OK

        def work(_: Ask) -> Coroutine[Any, Any, Answer]:
            nonlocal begun
            begun += 1
            return wait()

        many, other = [Call("client.a") for _ in range(3)], Call("client.b")
        for call in many:
            shared.add(batch(call, 64, work))
        shared.add(batch(other, 1, lambda _: OK))
        await until(lambda: other.answers and begun == turns.WAITING_MAX)
        await asyncio.sleep(0.05)
        assert begun == turns.WAITING_MAX
        gate.set()
        await until(lambda: all(call.answers for call in many))
        assert begun == 3 * 64
        await until(lambda: not shared._clients and not shared._waiting)

    run(test)


def test_who_does_not_read_is_not_served_until_he_does() -> None:
    async def test() -> None:
        stuck = {"client.a"}
        shared, call, other = new_turns(stuck), Call("client.a"), Call("client.b")
        shared.add(batch(call, 3, lambda _: OK))
        shared.add(batch(other, 1, lambda _: OK))
        await until(lambda: other.answers)
        await asyncio.sleep(0.1)
        assert not call.answers
        stuck.clear()
        await until(lambda: call.answers)
        assert len(call.answers[0].answers) == 3

    run(test)


def test_who_does_not_read_is_looked_at_soon_and_then_less_and_less_often() -> None:
    async def test() -> None:
        looks: list[float] = []

        def is_stuck(_: str) -> bool:
            looks.append(time.monotonic())
            return time.monotonic() < begin_s + 0.5

        shared, call = Turns(lambda _: Answer(status=413, body=b""), is_stuck), Call("client.a")
        begin_s = time.monotonic()
        shared.add(batch(call, 1, lambda _: OK))
        await until(lambda: call.answers)
        pauses = [after - before for before, after in itertools.pairwise(looks)]
        assert turns.STUCK_LOOK_S_MIN / 2 < min(pauses[:4]) < turns.STUCK_LOOK_S_MAX / 2  # timers may be 1 ms early
        assert len(looks) < 5 + 0.5 / turns.STUCK_LOOK_S_MAX + 5

    run(test)


def test_a_queue_has_a_bound_of_bytes() -> None:
    async def test() -> None:
        shared, call = new_turns({"client.a"}), Call("client.a")
        body = Ask("image", "PUT", "/", b" " * (16 << 20))
        for _ in range(turns.QUEUED_BYTES_MAX // (16 << 20)):
            shared.add(Batch(cast(Incoming, call), (body,), lambda _: OK))
        with pytest.raises(Unavailable, match="Too many bytes"):
            shared.add(Batch(cast(Incoming, call), (body,), lambda _: OK))
        await shared.close()

    run(test)


def test_answers_that_are_too_large_together_are_refused_one_by_one() -> None:
    async def test() -> None:
        shared, call = new_turns(), Call("client.a")
        large = Answer(status=200, body=b" " * (3 << 20))
        shared.add(batch(call, 5, lambda _: large))
        await until(lambda: call.answers)
        answered = call.answers[0]
        assert isinstance(answered, Answers)
        assert [one.status for one in answered.answers] == [200, 200, 200, 413, 413]

    run(test)


def test_one_that_fails_fails_its_message_only() -> None:
    async def test() -> None:
        shared, call, other = new_turns(), Call("client.a"), Call("client.b")

        def work(_: Ask) -> Answer:
            raise ValueError("broken")

        shared.add(batch(call, 2, work))
        shared.add(batch(other, 1, lambda _: OK))
        await until(lambda: call.answers and other.answers)
        assert isinstance(call.answers[0], InternalError) and "broken" not in call.answers[0].message
        await until(lambda: not shared._clients)

    run(test)


def test_what_nobody_waits_for_any_more_is_not_done() -> None:
    async def test() -> None:
        shared, call, done = new_turns(), Call("client.a"), []
        call.deadline_s = asyncio.get_running_loop().time() - 1
        shared.add(batch(call, 5, lambda ask: done.append(ask) or OK))
        await until(lambda: call.answers)
        assert isinstance(call.answers[0], Unavailable) and done == []

    run(test)
