"""One seed from its first step to its verdict."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from unittest.mock import patch

import msgspec

from nova_fast.commands import workflows
from nova_fast.conductor import daemon, turns
from nova_fast.state import schema as tables

from .checker import Checker
from .cloud import Cloud
from .faults import Faults
from .loop import Livelock
from .users import CALL_TIMEOUT_S, Users

SETTLE_S = 200.0  # of virtual time, from the end of the faults until everything is at rest
EMPTY_S = 120.0  # from the deletion of everything until nothing is left
LOG_LINES = 80


class Verdict(msgspec.Struct):
    """What came of a seed."""

    seed: int
    found: list[str]  # violations, in the order in which they were seen
    digest: int  # of every step, with its time: equal for equal runs; 0 when nobody looked closely
    steps: int
    virtual_s: float
    commits: int
    checked: int
    answered: int
    settled_s: float
    log: list[str]


class Story:
    """A seed being played."""

    def __init__(self, seed: int, closely: bool) -> None:
        self.cloud = Cloud(seed, traced=closely)
        self.users = Users(self.cloud)
        self.faults = Faults(self.cloud)
        self.checker = Checker(self.cloud, self.users.ledger)
        self.settled_s = 0.0

    async def play(self) -> None:
        """A cloud comes up, lives through faults, comes to rest, and is emptied."""
        cloud, faults, users = self.cloud, self.faults, self.users
        for name in cloud.programs:
            cloud.start(name)
        await asyncio.sleep(5)
        living = [asyncio.ensure_future(users.live()) for _ in range(1 + users.rng.randrange(4))]
        striking = asyncio.ensure_future(faults.strike())
        await self._watch(15 + 90 * faults.rng.random(), lambda: False)
        faults.end()
        users.going = False
        await asyncio.gather(striking, *living)
        await users.open_hosts()
        if users.under_way():  # what was asked of a worker that stood still begins when it goes on
            over = await self._watch(CALL_TIMEOUT_S + 2, lambda: not users.under_way())
            self._demand(over, ["a call outlived its deadline"])
        start_s = cloud.loop.time()
        self._demand(await self._watch(SETTLE_S, lambda: not self.checker.unsettled()), self.checker.unsettled())
        self.settled_s = cloud.loop.time() - start_s
        await self._delete_all()
        self._demand(await self._watch(EMPTY_S, lambda: not self._left()), self._left())

    async def _delete_all(self) -> None:
        """An admin deletes what is there: locked servers too, and those whose creator never heard of them."""
        with self.cloud.disk.store.snapshot() as snapshot:
            servers = [server.id for server in snapshot.scan(tables.SERVERS)]
        for server_id in servers:
            await self.users.delete(server_id, "", tries=5)

    def _left(self) -> list[str]:
        return self.checker.empty() + self.checker.unsettled()

    async def _watch(self, longest_s: float, done: Callable[[], bool]) -> bool:
        """Look every second; whether it was done in time. Ends at once when something is wrong."""
        end_s = self.cloud.loop.time() + longest_s
        while self.cloud.loop.time() < end_s:
            await asyncio.sleep(1)
            self.checker.timely()
            self._stop_if_wrong()
            if done():
                return True
        return False

    def _stop_if_wrong(self) -> None:
        found = self.checker.found
        found += self.users.ledger.troubles
        found += [f"nobody foresaw: {line}" for line in self.cloud.notes.unforeseen]
        found += [f"nobody caught: {trouble}" for trouble in self.cloud.loop.troubles]
        if found:
            raise _Wrong

    def _demand(self, met: bool, why: list[str]) -> None:
        if not met:
            self.checker.found += [f"not at rest: {line}" for line in why[:10]]
            raise _Wrong


class _Wrong(Exception):
    """Enough has been seen."""


@contextlib.contextmanager
def few_at_once() -> Iterator[None]:
    """What a large cloud does with hundreds this one does with two: they queue, and are heavy."""
    with (
        patch.object(workflows, "QUEUED_FROM", 1),
        patch.object(workflows, "QUEUED_TOGETHER_FROM", 1),
        patch.object(turns, "QUEUED_AT_ONCE", 1),
        patch.object(turns, "CROWD", 2),
        patch.object(turns, "GROUP", 1),
        patch.object(daemon, "HEAVY_SERVERS", 1),
    ):
        yield


def play(seed: int, *, closely: bool = True) -> Verdict:
    """Play a seed. The same seed gives the same verdict, to the last step, where PYTHONHASHSEED is the same.

    ``closely``: with its log and its digest.
    """
    story = Story(seed, closely)
    cloud = story.cloud
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    root.handlers[:] = [cloud.notes]
    root.setLevel(logging.INFO if closely else logging.ERROR)  # an error is a finding
    found = story.checker.found
    try:
        with few_at_once():
            cloud.loop.run(story.play())
    except _Wrong:
        pass
    except Livelock as error:
        found.append(str(error))
    except Exception:
        found.append("the simulator failed: " + traceback.format_exc())
    finally:
        root.handlers[:] = kept[0]
        root.setLevel(kept[1])
        loop = cloud.loop
        verdict = Verdict(
            seed=seed,
            found=found,
            digest=loop.digest,
            steps=loop.steps,
            virtual_s=loop.time(),
            commits=cloud.disk.commits,
            checked=story.checker.checked,
            answered=story.users.ledger.answered,
            settled_s=story.settled_s,
            log=cloud.notes.lines[-LOG_LINES:],
        )
        cloud.close()
    return verdict
