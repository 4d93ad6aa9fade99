"""The hub with both ends in one process: sixty-four calls at once, and a thousand events to a watcher."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.bench_hub import ANSWER, EVENT, REQUEST
from nova_fast.config import HubConfig
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer
from nova_fast.model.tasks import MetadataRequest

EVENTS = 1_000


class Log:
    """An event log that grows when it is told to."""

    def __init__(self) -> None:
        self.newest = 0

    def read(self, after_generation: int, limit: int) -> list[tuple[int, bytes]]:
        last = min(after_generation + limit, self.newest)
        return [(number, EVENT) for number in range(after_generation + 1, last + 1)]

    def oldest(self) -> int:
        return 1


class Meeting:
    """A hub and a peer that watches."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: str) -> None:
        self.loop = loop
        self.log = Log()
        self._seen = 0
        self._all_seen = asyncio.Event()
        source: Any = self.log
        self.server = HubServer(address, config=HubConfig(), events=source)
        self.server.handle(MetadataRequest, lambda _peer, _message, _call_id: ANSWER)
        self.peer = Peer("api.0", address, config=HubConfig())
        self.peer.subscribe(0, self._event, lambda: None)

    def _event(self, generation: int, _event: Any) -> None:
        self._seen = generation
        if generation == self.log.newest:
            self._all_seen.set()

    async def start(self) -> None:
        await self.server.start()
        await self.peer.start()
        await self.peer.connected(10)

    async def close(self) -> None:
        await self.peer.close()
        await self.server.close()

    async def calls(self, count: int) -> int:
        answers = await asyncio.gather(*(self.peer.call(REQUEST, timeout_s=10) for _ in range(count)))
        return len(answers)

    async def events(self) -> int:
        self._all_seen.clear()
        self.log.newest += EVENTS
        self.server.notify_events(self.log.newest)
        async with asyncio.timeout(20):
            await self._all_seen.wait()
        return self._seen


@pytest.fixture
def meeting(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Iterator[Meeting]:
    async def make() -> Meeting:
        made = Meeting(loop, f"ipc://{tmp_path / 'hub.sock'}")
        await made.start()
        return made

    found = loop.run_until_complete(make())
    yield found
    loop.run_until_complete(found.close())


def test_64_calls(benchmark: Any, meeting: Meeting) -> None:
    assert benchmark(lambda: meeting.loop.run_until_complete(meeting.calls(64))) == 64


def test_1000_events(benchmark: Any, meeting: Meeting) -> None:
    assert benchmark(lambda: meeting.loop.run_until_complete(meeting.events())) == meeting.log.newest
