"""One watch for many: nobody misses an event, and nobody hears what was before they began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from nova_fast.client.shared_watch import Following, SharedWatch
from nova_fast.hub.contracts import ENCODER
from nova_fast.model.errors import Unauthorized, Unavailable
from nova_fast.model.sdk import NOW, Seen, ServerEvent


def event(generation: int, server_id: str = "a") -> msgspec.Raw:
    told = ServerEvent(generation=generation, server_id=server_id, project_id="p", status="ACTIVE")
    return msgspec.Raw(ENCODER.encode(told))


class Door:
    """Answers each question when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, asyncio.Future[Seen]]] = []

    async def watch(self, after: int, limit: int, wait_s: float) -> Seen:
        future: asyncio.Future[Seen] = asyncio.get_running_loop().create_future()
        self.asked.append((after, future))
        return await future

    async def answer(self, after: int, seen: Seen | Exception) -> None:
        """The first question with this place."""
        for _ in range(100):
            await asyncio.sleep(0)
            for number, (place, future) in enumerate(self.asked):
                if place == after:
                    del self.asked[number]
                    future.set_exception(seen) if isinstance(seen, Exception) else future.set_result(seen)
                    for _ in range(5):
                        await asyncio.sleep(0)
                    return
        raise AssertionError(f"nobody asks after {after}: {self.asked}")

    async def is_asked(self) -> None:
        for _ in range(100):
            if self.asked:
                return
            await asyncio.sleep(0)
        raise AssertionError("nobody asks")

    @property
    def places(self) -> list[int]:
        return [place for place, _ in self.asked]


def with_door(test: Callable[[Door, SharedWatch], Awaitable[None]]) -> None:
    async def run() -> None:
        door = Door()
        await test(door, SharedWatch(door.watch))

    asyncio.run(run())


def soon(work: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(work)


async def followed(door: Door, watch: SharedWatch, now: int, *ids: str) -> Following:
    task = asyncio.ensure_future(watch.follow(ids))
    await door.answer(NOW, Seen(position=now))
    return await task


async def heard(watch: SharedWatch, following: Following) -> list[int]:
    return [one.generation for one in (await watch.hear(following, 0)).events]


def test_each_hears_of_its_own_servers() -> None:
    async def test(door: Door, watch: SharedWatch) -> None:
        first = await followed(door, watch, 10, "a", "b")
        second = await followed(door, watch, 10, "b")
        await door.answer(10, Seen(position=13, events=(event(11, "a"), event(12, "b"), event(13, "c"))))
        assert door.places == [13], "one question for both"
        assert await heard(watch, first) == [11, 12]
        assert await heard(watch, second) == [12]
        watch.leave(first)
        await door.answer(13, Seen(position=14, events=(event(14, "b"),)))
        assert await heard(watch, second) == [14]
        assert first.news.events == []
        watch.leave(second)
        await door.answer(14, Seen(position=15, events=(event(15, "b"),)))
        assert door.places == [], "nobody follows"
        assert watch._of == {}

    with_door(test)


def test_what_is_told_before_now_is_known_is_kept_if_it_came_after() -> None:
    async def test(door: Door, watch: SharedWatch) -> None:
        await followed(door, watch, 10, "b")
        late = soon(watch.follow(["a"]))
        await door.answer(10, Seen(position=14, events=tuple(event(number) for number in (11, 12, 13, 14))))
        await door.answer(NOW, Seen(position=12))
        assert await heard(watch, await late) == [13, 14], "11 and 12 are in what is read after this"
        early = await followed(door, watch, 20, "a")
        await door.answer(14, Seen(position=21, events=(event(20), event(21))))
        assert await heard(watch, early) == [21], "the watch was behind"

    with_door(test)


def test_a_question_that_is_under_way_is_not_for_who_comes_later() -> None:
    async def test(door: Door, watch: SharedWatch) -> None:
        first = soon(watch.follow(["a"]))
        await door.is_asked()
        others = [soon(watch.follow(["a"])) for _ in range(5)]
        await door.answer(NOW, Seen(position=10))
        assert (await first).since == 10
        await door.answer(NOW, Seen(position=11))
        assert [(await one).since for one in others] == [11] * 5
        assert door.places == [10], "the five asked once, and the watch goes on"

    with_door(test)


def test_who_gave_up_does_not_keep_the_others_from_their_answer() -> None:
    async def test(door: Door, watch: SharedWatch) -> None:
        first, second = soon(watch.follow(["a"])), soon(watch.follow(["a"]))
        await door.is_asked()
        first.cancel()
        await door.answer(NOW, Seen(position=10))
        assert (await second).since == 10
        assert len(watch._followings) == 1

    with_door(test)


def test_an_error_is_told_to_all_and_the_next_begins_anew() -> None:
    async def test(door: Door, watch: SharedWatch) -> None:
        both = [await followed(door, watch, 10, "a"), await followed(door, watch, 10, "b")]
        waiting = [soon(watch.hear(one, 60)) for one in both]
        await door.answer(10, Unauthorized("the token has ended", code="expired_token"))
        for one in waiting:
            with pytest.raises(Unauthorized, match="has ended"):
                await one
        for following in both:
            watch.leave(following)
        refused = soon(watch.follow(["a"]))
        await door.answer(NOW, Unavailable("nobody answers", code="hub_closed"))
        with pytest.raises(Unavailable):
            await refused
        assert watch._of == {}
        again = await followed(door, watch, 30, "a")
        await door.answer(30, Seen(position=31, events=(event(31),)))
        assert await heard(watch, again) == [31]

    with_door(test)


def test_a_gap_is_told_to_all() -> None:
    async def test(door: Door, watch: SharedWatch) -> None:
        following = await followed(door, watch, 10, "a")
        await door.answer(10, Seen(position=500, gap=True))
        assert (await watch.hear(following, 0)).gap
        assert not (await watch.hear(following, 0)).gap, "once"
        await door.answer(500, Seen(position=3, gap=True))  # another store, whose generations begin anew
        assert (await watch.hear(following, 0)).gap
        await door.answer(3, Seen(position=4, events=(event(4),)))
        assert await heard(watch, following) == [4]

    with_door(test)
