"""A commit waits for those who have just been answered, as long as that is shorter than to miss it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nova_fast.commands import registry
from nova_fast.conductor.commit_delay import CROWD_ENOUGH, CROWD_S, MOST_S, SHARE, CommitDelay
from nova_fast.conductor.engine import Engine
from nova_fast.conductor.writer import Committed, Job, Writer
from nova_fast.hub.contracts import decoder_of
from nova_fast.model.commands import RESULTS
from nova_fast.model.tasks import Done
from nova_fast.state.store import Store
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction

FAST_S, SLOW_S = 0.0002, 0.02
WAITING = 17  # pieces of work of any kind


def delay_of(*commits_s: float) -> CommitDelay:
    delay = CommitDelay(lambda: WAITING)
    for commit_s in commits_s:
        delay.committed(commit_s)
    return delay


def test_on_a_fast_disk_nobody_waits_except_behind_a_crowd() -> None:
    assert delay_of(FAST_S).behind(5, crowd=False) is None
    pause = delay_of(FAST_S).behind(5, crowd=True)
    assert pause is not None and pause[:2] == (CROWD_S, CROWD_ENOUGH) and pause.there() == WAITING


@pytest.mark.parametrize("crowd", [True, False])
def test_on_a_slow_disk_as_many_commands_are_waited_for_as_were_answered(crowd: bool) -> None:
    delay = delay_of(SLOW_S)
    for _ in range(3):
        delay.came()
    pause = delay.behind(3, crowd=crowd)
    assert pause is not None and pause[:2] == (pytest.approx(SHARE * SLOW_S), 3) and pause.there() == 0
    delay.came()
    assert pause.there() == 1


def test_behind_what_nobody_waited_for_nothing_waits() -> None:
    assert delay_of(SLOW_S).behind(0, crowd=False) is None
    assert delay_of().behind(1, crowd=False) is None


def test_a_commit_that_was_held_up_says_nothing_of_the_disk() -> None:
    assert delay_of(FAST_S, *[SLOW_S] * 7).behind(1, crowd=False) is None
    assert delay_of(FAST_S, *[SLOW_S] * 8).behind(1, crowd=False) is not None


def test_a_sick_disk_is_not_made_worse() -> None:
    pause = delay_of(2.0).behind(1, crowd=False)
    assert pause is not None and pause.seconds == MOST_S


def slow(store: Store) -> Callable[..., contextlib.AbstractContextManager[Transaction]]:
    """The store's transactions, on a disk that takes its time."""
    begin = store.transaction

    @contextlib.contextmanager
    def transaction(*arguments: Any, **named: Any) -> Iterator[Transaction]:
        with begin(*arguments, **named) as tx:
            yield tx
        time.sleep(0.005)
        tx.commit_s = 1.0

    return transaction


def test_who_waits_for_answers_shares_commits_with_what_the_engine_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without the delay each command waits for a commit that has only what followed from the command before."""
    rounds, commits = 10, 0
    registry.load_all()

    async def story(writer: Writer) -> None:
        def committed(_committed: Committed) -> None:
            nonlocal commits
            commits += 1
            if commits <= rounds:
                writer.submit(Job(work=lambda _tx: Done(), done=lambda _outcome: None))

        writer.on_commit = committed
        writer.start()
        for number in range(rounds):
            await writer.run(lambda _tx: Done(), f"{number:032x}")
        writer.stop()

    with memory_store() as memory:
        store = memory.store
        monkeypatch.setattr(store, "transaction", slow(store))
        asyncio.run(story(Writer(store, Engine(60.0), decoder_of(RESULTS).decode)))
    assert rounds <= commits < rounds * 1.5
