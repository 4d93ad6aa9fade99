"""The load generators of the SDK, in a process of their own: the client is the product's, nothing is cut short.

python -m bench.sdk_load < job.json
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench import closed_loop
from bench.arrivals import Pacer, offsets
from bench.journeys import MIXES
from bench.machine import ROOT
from bench.open_loop import Job, Run, encoded, paced
from nova_fast.client import AsyncClient, NewServer, read_file

MANY_AT_ONCE, GETS_AT_ONCE, CREATES_AT_ONCE = 4, 256, 64


class ClosedJob(msgspec.Struct, frozen=True, kw_only=True):
    """So many callers that wait for their answers."""

    file: str  # sdk.json
    way: str  # many, gets, creates, bulk
    seconds: float
    ids: list[str] = []
    create: dict[str, Any] = {}
    count: int = 0  # servers of a bulk call


def run_closed(job: ClosedJob) -> closed_loop.Run:
    """Run a closed job in a process of its own; an error ends the benchmark."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.sdk_load"], input=msgspec.json.encode(job), capture_output=True, check=False,
        cwd=ROOT, timeout=job.seconds + 120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return msgspec.json.decode(done.stdout, type=closed_loop.Run)


def _new(create: dict[str, Any]) -> NewServer:
    server = create["server"]
    return NewServer(name=server["name"], flavor=server["flavorRef"], image=server["imageRef"], networks="none")


async def closed(job: ClosedJob) -> closed_loop.Run:
    """Callers that wait, until the time is over."""
    async with await AsyncClient.connect(read_file(Path(job.file))) as cloud:
        latencies_s: list[float] = []
        done = 0
        numbers = itertools.count()

        async def many() -> int:
            return len(await cloud.servers.get_many(job.ids))

        async def one() -> int:
            server_id = job.ids[next(numbers) % len(job.ids)]
            assert (await cloud.servers.get(server_id)).id == server_id
            return 1

        async def create() -> int:
            return len((await cloud.servers.create(_new(job.create))).ids)

        async def bulk() -> int:
            return len((await cloud.servers.create(_new(job.create), count=job.count)).ids)

        ways = {"many": (many, MANY_AT_ONCE), "gets": (one, GETS_AT_ONCE), "creates": (create, CREATES_AT_ONCE)}
        way, callers = {**ways, "bulk": (bulk, 1)}[job.way]
        begin, cpu_s = time.perf_counter(), time.process_time()

        async def caller() -> None:
            nonlocal done
            while True:
                start = time.perf_counter()
                count = await way()  # not in one step: `done` would be read before the wait
                done += count
                latencies_s.append(time.perf_counter() - start)
                if time.perf_counter() - begin >= job.seconds:
                    return

        await asyncio.gather(*(caller() for _ in range(callers)))
        seconds = time.perf_counter() - begin
        in_one_call = {"many": len(job.ids), "bulk": job.count}.get(job.way, 1)
        assert done == len(latencies_s) * in_one_call, f"{done} in {len(latencies_s)} calls"
        share = (time.process_time() - cpu_s) / seconds
        return closed_loop.Run(done, 0, seconds, encoded(latencies_s), share)


class _Opened:
    """The mixes of ``bench/journeys.py`` as calls of the SDK."""

    def __init__(self, job: Job, cloud: AsyncClient) -> None:
        self._job = job
        self._cloud = cloud
        self._rng = random.Random(job.seed)
        self._made: deque[str] = deque()
        self._running: set[asyncio.Task[None]] = set()
        times = offsets(job.rate, job.warm_up_s + job.seconds, job.arrivals, self._rng)
        self._pacer = Pacer(times, job.warm_up_s, self._launch)
        mix = MIXES[job.mix]
        self._kinds, self._shares = list(mix), list(mix.values())
        self._of_kind: dict[str, list[float]] = {kind: [] for kind in mix}
        self._calls: dict[str, Callable[[], Awaitable[None]]] = {
            "read": self._read, "list": self._list, "create_delete": self._create_or_delete,
            "lifecycle": self._lifecycle,
        }  # fmt: skip

    async def run(self) -> Run:
        return await paced(self._job, self._pacer, self._of_kind)

    def _launch(self, intended_s: float) -> None:
        [kind] = self._rng.choices(self._kinds, self._shares)
        task = asyncio.ensure_future(self._one(intended_s, kind))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _one(self, intended_s: float, kind: str) -> None:
        ok = True
        try:
            await self._calls[kind]()
        except Exception as error:  # noqa: BLE001 - counted, and said where the run is read
            print(f"{kind}: {error}", file=sys.stderr)
            ok = False
        before = len(self._pacer.latencies_s)
        self._pacer.finished(intended_s, ok)
        if len(self._pacer.latencies_s) > before:
            self._of_kind[kind].append(self._pacer.latencies_s[-1])

    async def _read(self) -> None:
        await self._cloud.servers.get(self._rng.choice(self._job.ids))

    async def _list(self) -> None:
        rows = 0
        async for _ in self._cloud.servers.list(limit=100):
            rows += 1
            if rows == 100:
                return

    async def _create_or_delete(self) -> None:
        if len(self._made) > 50:
            await self._cloud.servers.delete(self._made.popleft())
        else:
            self._made.extend((await self._cloud.servers.create(_new(self._job.create))).ids)

    async def _lifecycle(self) -> None:
        made = await self._cloud.servers.create(_new(self._job.create))
        await self._cloud.servers.wait(made.ids)
        await self._cloud.servers.delete(made.ids[0])
        await self._cloud.servers.wait(made.ids, "DELETED")


async def opened(job: Job) -> Run:
    async with await AsyncClient.connect(read_file(Path(job.headers["file"]))) as cloud:
        return await _Opened(job, cloud).run()


def main() -> None:
    raw = sys.stdin.buffer.read()
    if b'"way"' in raw:
        found: Any = uvloop.run(closed(msgspec.json.decode(raw, type=ClosedJob)))
    else:
        found = uvloop.run(opened(msgspec.json.decode(raw, type=Job)))
    print(json.dumps(msgspec.to_builtins(found)))


if __name__ == "__main__":
    main()
