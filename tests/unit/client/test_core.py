"""How calls are packed into messages: reads as densely as may be, changes without waiting for each other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from nova_fast.client.core import CHANGES_MAX, SLOTS, AsyncCore
from nova_fast.client.settings import Settings
from nova_fast.model.base import Message
from nova_fast.model.errors import Unavailable
from nova_fast.model.sdk import Answer, Answers, Ask, Asks


class Line:
    """Answers each message after a turn of the loop, unless it is broken; what was under way at once."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.messages = self.messages_max = 0
        self.asks = self.asks_max = 0
        self.broken = False

    async def call(self, message: Message, timeout_s: float) -> Message:
        assert isinstance(message, Asks)
        count = len(message.asks)
        self.sizes.append(count)
        self.messages, self.asks = self.messages + 1, self.asks + count
        self.messages_max = max(self.messages_max, self.messages)
        self.asks_max = max(self.asks_max, self.asks)
        await asyncio.sleep(0.001)
        self.messages, self.asks = self.messages - 1, self.asks - count
        if self.broken:
            raise Unavailable("nobody is there")
        return Answers(answers=tuple(Answer(status=200, body=ask.target.encode()) for ask in message.asks))


def run(test: Any) -> Line:
    line = Line()

    async def bounded() -> None:
        core = AsyncCore(Settings(addresses=("ipc://nowhere",), token="t"))
        core._line = line  # type: ignore[assignment]
        core._loop = core._login._loop = asyncio.get_running_loop()
        async with asyncio.timeout(120):
            await test(core)
        assert (core._messages, core._changing, core._under_way) == (0, 0, 0)

    uvloop.run(bounded())
    return line


def asks(method: str, count: int) -> list[Ask]:
    return [Ask("compute", method, f"/{number}") for number in range(count)]


async def one_by_one(core: AsyncCore, many: list[Ask]) -> None:
    answers = await asyncio.gather(*(core.ask(one) for one in many))
    assert [answer.body.decode() for answer in answers] == [one.target for one in many]


async def together(core: AsyncCore, many: list[Ask]) -> None:
    answers = await core.ask_all(many)
    assert [answer.body.decode() for answer in answers] == [one.target for one in many]


def test_reads_share_messages() -> None:
    line = run(lambda core: one_by_one(core, asks("GET", 1000)))
    assert max(line.sizes) == 64 and len(line.sizes) == 16
    line = run(lambda core: together(core, asks("GET", 5000)))
    assert len(line.sizes) == 79 and line.messages_max == SLOTS


def test_a_few_changes_have_a_message_each() -> None:
    line = run(lambda core: one_by_one(core, asks("POST", 20)))
    assert line.sizes == [1] * 20


@pytest.mark.parametrize("way", [one_by_one, together])
def test_many_changes_wait_here_and_not_at_the_door(way: Any) -> None:
    line = run(lambda core: way(core, asks("DELETE", 3000)))
    assert line.asks_max == CHANGES_MAX and sum(line.sizes) == 3000


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_when_nobody_answers_each_call_fails_with_an_error_of_its_own(method: str) -> None:
    async def test(core: AsyncCore) -> None:
        core._line.broken = True  # type: ignore[attr-defined]
        found = await asyncio.gather(*(core.ask(one) for one in asks(method, 200)), return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in found) and len(set(map(id, found))) == 200
        with pytest.raises(Unavailable):
            await core.ask_all(asks(method, 2000))
        await asyncio.sleep(0.05)

    run(test)


def test_a_call_that_is_given_up_frees_its_place() -> None:
    async def test(core: AsyncCore) -> None:
        given_up = [asyncio.create_task(core.ask(one)) for one in asks("POST", 600)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # as many have been sent as may be under way
        for task in given_up[::2]:
            task.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        await together(core, asks("POST", 600))

    line = run(test)
    assert sum(line.sizes) == CHANGES_MAX + (600 - CHANGES_MAX) // 2 + 600, "what was given up was sent all the same"
