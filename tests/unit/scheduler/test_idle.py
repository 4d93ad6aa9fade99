"""Idle moments are used, end when there is nothing to do, and never come before what has arrived."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nova_fast.config import Config
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import SelectHosts
from nova_fast.scheduler.daemon import Daemon
from nova_fast.scheduler.idle import QUIET_S, IdleMoments

from .fleet import ask, make_host, unused


async def settled(idle: IdleMoments) -> None:
    """Wait until there is nothing to do, at most a minute."""
    end = asyncio.get_running_loop().time() + 60
    while idle._next is not None:
        assert asyncio.get_running_loop().time() < end, "it does not end"
        await asyncio.sleep(QUIET_S)


def test_work_waits_until_it_is_quiet_and_ends_when_there_is_none() -> None:
    done: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        idle = IdleMoments(lambda: done.append(loop.time()) or len(done) < 3)  # type: ignore[func-returns-value]
        end = loop.time() + 20 * QUIET_S
        heard = 0.0
        while loop.time() < end:
            idle.heard()
            heard = loop.time()
            await asyncio.sleep(0)
        assert not done, "not while something arrives"
        await settled(idle)
        assert len(done) == 3
        assert done[0] - heard >= QUIET_S / 2
        idle.heard()
        idle.close()
        await asyncio.sleep(5 * QUIET_S)
        assert len(done) == 3

    asyncio.run(run())


def test_what_arrives_while_there_is_work_comes_between_two_pieces() -> None:
    order: list[str] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def work() -> bool:
            order.append("work")
            if len(order) == 1:
                loop.call_soon(lambda: (order.append("asked"), idle.heard()))
            return len(order) < 6

        idle = IdleMoments(work)
        idle.heard()
        await settled(idle)

    asyncio.run(run())
    assert order.index("asked") <= 2
    assert order.count("work") == 5


def test_the_daemon_brings_indexes_up_to_date_that_nobody_asks_for(tmp_path: Path) -> None:
    async def run() -> None:
        daemon = Daemon(Config(state_dir=str(tmp_path)))
        scheduler = daemon._scheduler
        scheduler.load(unused(*(make_host(f"h{number:03}") for number in range(300))))
        seldom = scheduler.searches.make(ask("seldom", Claim(vcpus=2, ram_mib=2048, disk_gib=1))).hosts
        seldom.best(1)
        for number in range(50):
            daemon._select(SelectHosts(requests=(ask(f"s{number}"),)), b"")
        assert seldom.statistics["touches"] == 0
        await settled(daemon._idle)
        assert seldom.statistics["touches"] > 0
        before = dict(seldom.statistics)
        assert seldom.best(1) == seldom.scan(1)
        assert seldom.statistics["touches"] == before["touches"], "it had nothing left to hear"

    asyncio.run(run())
