"""Decisions a second through the hub: the conductor's end asks, the scheduler's daemon chooses and claims.

The scheduler runs in its own process with its handlers over a fleet of 10,000 hosts; this process is the conductor's
end. A message asks for 256 servers of twenty flavors, as the dispatcher puts waiting servers together: those with the
same wishes as one request. Every choice is given back by a message of its own, so the fleet stays as full as it was,
and its cost counts.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import tempfile
import time
from pathlib import Path

import uvloop

from bench.results import report
from nova_fast.conductor.dispatcher import PLACEMENTS_MAX, alike
from nova_fast.config import HubConfig, SchedulerConfig
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer
from nova_fast.model.hosts import Claim, Host, HostUsage
from nova_fast.model.tasks import Done, PlacementRequest, ReleaseClaims, SelectHosts, Selection
from nova_fast.scheduler.select import Scheduler

IN_FLIGHT = 4  # messages
SECONDS, SECONDS_QUICK = 3.0, 0.5
TARGET = 30_000  # decisions/s


def serve(address: str, fleet: list[tuple[Host, HostUsage]]) -> None:
    """The scheduler, until killed."""

    async def run() -> None:
        scheduler = Scheduler(SchedulerConfig(), random.Random(1))
        scheduler.load(fleet)

        def release(message: ReleaseClaims, _call_id: bytes) -> Done:
            scheduler.release(message)
            return Done()

        peer = Peer("scheduler", address, config=HubConfig())
        peer.handle(SelectHosts, lambda message, _call_id: scheduler.select(message))
        peer.handle(ReleaseClaims, release)
        await peer.start()
        await asyncio.Event().wait()

    uvloop.run(run())


async def ask(hub: HubServer, flavors: tuple[Claim, ...], *, together: bool, seconds: float) -> float:
    """Decisions a second with several messages under way."""
    placed, number, end = 0, 0, time.perf_counter() + seconds

    async def go_on() -> None:
        nonlocal placed, number
        while time.perf_counter() < end:
            requests = []
            for _ in range(PLACEMENTS_MAX):
                number += 1
                flavor = flavors[number % len(flavors)]
                requests.append(PlacementRequest(server_id=f"server-{number:09}", claim=flavor))
            message = SelectHosts(requests=alike(requests) if together else tuple(requests))
            selection = await hub.call("scheduler", message, timeout_s=30)
            assert isinstance(selection, Selection)
            chosen = tuple([placement.server_id for placement in selection.placements if placement.host])
            placed += len(chosen)
            await hub.call("scheduler", ReleaseClaims(server_ids=chosen), timeout_s=30)

    begin = time.perf_counter()
    await asyncio.gather(*(go_on() for _ in range(IN_FLIGHT)))
    return placed / (time.perf_counter() - begin)


async def measure(address: str, flavors: tuple[Claim, ...], seconds: float) -> None:
    """Ask, with servers of the same wishes together and each alone, in turns."""
    hub = HubServer(address, config=HubConfig())
    await hub.start()
    while "scheduler" not in hub.peers():  # noqa: ASYNC110 - a look now and then will do
        await asyncio.sleep(0.05)
    rates: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(7):
        for together in (True, False):
            rate = await ask(hub, flavors, together=together, seconds=seconds / 6)
            if turn:  # the first warms up
                rates[together].append(rate)
    report("scheduler_through_hub_10k", sorted(rates[True])[3], "decisions/s", TARGET)
    report("scheduler_through_hub_10k_each_alone", sorted(rates[False])[3], "decisions/s", None)
    await hub.close()


def main(fleet: list[tuple[Host, HostUsage]], flavors: tuple[Claim, ...], *, quick: bool = False) -> None:
    """Run the measure and print RESULT lines."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"ipc://{Path(folder) / 'hub'}"
        process = multiprocessing.get_context("fork").Process(target=serve, args=(address, fleet), daemon=True)
        process.start()
        try:
            uvloop.run(measure(address, flavors, SECONDS_QUICK if quick else SECONDS))
        finally:
            process.kill()
            process.join()
