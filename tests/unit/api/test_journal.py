"""Who waits for events is woken soon, and many who wait together do not take the worker for themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, cast

import pytest
import uvloop

from nova_fast.api.zmq.journal import LOOK_EACH_S, Journal
from nova_fast.queries.reading import Snapshots


class Busy:
    """A store in which something is committed between any two looks."""

    def __init__(self) -> None:
        self.looks = 0
        self.broken = False

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Any]:
        if self.broken:
            raise OSError("no store")
        self.looks += 1
        yield self

    def commit(self) -> int:
        return self.looks


@pytest.mark.parametrize("waiters", [1, 500])
def test_the_more_wait_the_more_rarely_they_are_woken(waiters: int) -> None:
    async def test() -> None:
        store = Busy()
        journal = Journal(cast(Snapshots, store))
        woken = 0

        async def wait() -> None:
            nonlocal woken
            while True:
                await journal.changed(30)
                woken += 1

        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        waiting = [asyncio.create_task(wait()) for _ in range(waiters)]
        async with asyncio.timeout(60):
            while woken < waiters or loop.time() - begin_s < 1.0:  # noqa: ASYNC110 - time is what is waited for
                await asyncio.sleep(0.02)
        took_s = loop.time() - begin_s
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        journal.close()
        assert woken <= took_s / LOOK_EACH_S + 2 * waiters

    uvloop.run(test())


def test_a_store_that_cannot_be_read_for_a_while_loses_no_waiter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nova_fast.api.zmq.journal.LOOK_AGAIN_S", 0.05)

    async def test() -> None:
        store = Busy()
        store.broken = True
        journal = Journal(cast(Snapshots, store))
        waiting = asyncio.create_task(journal.changed(30))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        store.broken = False
        async with asyncio.timeout(60):
            await waiting
        await journal.changed(0.01)
        journal.close()

    uvloop.run(test())
