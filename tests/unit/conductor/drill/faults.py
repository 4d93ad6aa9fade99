"""What must make no difference: said twice, answered twice, lost, late, and a conductor or daemon that dies meanwhile.

Each fault handles one task in place of the undisturbed way. Afterwards all must end as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from nova_fast.model.events import Released
from nova_fast.model.tasks import Done
from nova_fast.model.workflows import Task
from tests.unit.conductor.drill.troubles import UNAVAILABLE
from tests.unit.conductor.drill.world import Reply
from tests.unit.conductor.player import CommitLost

if TYPE_CHECKING:
    from tests.unit.conductor.drill.walk import Walk

Fault = Callable[["Walk", Task], None]


def changes_nothing(walk: Walk, task: Task, reply: Reply) -> None:
    """Tell it again: the rows stay as they are, and nobody hears of anything but a choice that is given back."""
    world = walk.world
    rows, events, pending = world.dump(), len(world.events), list(world.pending)
    world.take(task, reply)
    del rows["events"]
    now = world.dump()
    changed = [name for name, before in rows.items() if now[name] != before]
    assert changed == [], f"a second or late {reply.how} of {task.step} changed {changed}"
    told = world.events[events:]
    assert all(isinstance(event, Released) and not event.host for event in told), f"it was told of {told}"
    del world.events[events:]
    assert world.pending == pending, f"a second or late {reply.how} of {task.step} asked for more"


def told_twice(walk: Walk, task: Task) -> None:
    first, second = walk.reply(task), walk.reply(task)
    assert first.like(second), f"{task.peer} answers {first} to {task.step}, and {second} when it is told again"
    walk.world.take(task, second)


def answered_twice(walk: Walk, task: Task) -> None:
    reply = walk.reply(task)
    walk.world.take(task, reply)
    changes_nothing(walk, task, reply)


def crash_before_it_was_sent(walk: Walk, task: Task) -> None:
    walk.restart(task)
    walk.world.take(task, walk.reply(task))


def crash_when_it_was_sent(walk: Walk, task: Task) -> None:
    """The old message still lies somewhere, and arrives behind the new one, when the workflow has gone on."""
    sent = walk.world.message(task)
    walk.restart(task)
    walk.world.take(task, walk.reply(task))
    if not walk.struck:
        walk.world.tell(task, sent)


def crash_when_it_was_done(walk: Walk, task: Task) -> None:
    walk.reply(task)
    walk.restart(task)
    walk.world.take(task, walk.reply(task))


def commit_lost(walk: Walk, task: Task) -> None:
    """The disk did not take it; the dispatcher records it again."""
    walk.lose(task, walk.reply(task))
    walk.world.take(task, walk.last)


def crash_in_the_commit(walk: Walk, task: Task) -> None:
    walk.lose(task, walk.reply(task))
    walk.restart(task)
    walk.world.take(task, walk.reply(task))


def crash_between_answer_and_next_step(walk: Walk, task: Task) -> None:
    """The answer alone is durable: whoever starts next moves the workflow on."""
    world = walk.world
    work, events = world.recording(task, walk.reply(task)), []

    def alone(tx: object) -> Done:
        work(tx)  # type: ignore[arg-type]
        events.extend(event for _, event in tx.events)  # type: ignore[attr-defined]
        return Done()

    world.store.run(alone)
    world.heard(events)
    world.restart()


def daemon_dies_in_the_middle(walk: Walk, task: Task) -> None:
    walk.world.dies_doing(task)
    walk.world.take(task, walk.reply(task))


def everything_dies_in_the_middle(walk: Walk, task: Task) -> None:
    walk.world.dies_doing(task)
    walk.restart(task)
    walk.lose(task, walk.reply(task))
    walk.restart(task)
    walk.world.take(task, walk.reply(task))


def late_again(walk: Walk, task: Task) -> None:
    """Its answer comes again after every later step, and so does word that it failed."""
    reply = walk.reply(task)
    walk.world.take(task, reply)
    walk.late += [(task, reply), (task, UNAVAILABLE)]


def undo_failing(reply: Reply, effect: str) -> Fault:
    """A task of an undo that ends badly: it counts as done, and the host finds out when it is back."""

    def fault(walk: Walk, task: Task) -> None:
        if effect == "done":
            walk.world.tell(task)
        elif effect == "half":
            walk.world.dies_doing(task)
        walk.world.take(task, reply)

    return fault


#: What may happen to any task.
FAULTS: dict[str, Fault] = {
    fault.__name__.replace("_", " "): fault
    for fault in (
        told_twice,
        answered_twice,
        crash_before_it_was_sent,
        crash_when_it_was_sent,
        crash_when_it_was_done,
        commit_lost,
        crash_in_the_commit,
        crash_between_answer_and_next_step,
        daemon_dies_in_the_middle,
        everything_dies_in_the_middle,
        late_again,
    )
}

#: What may happen to the task of an undo besides.
UNDO_FAULTS: dict[str, Fault] = {
    f"undo: {reply.how}, {effect} was done": undo_failing(reply, effect)
    for reply in (UNAVAILABLE, Reply("deadline"), Reply("host down"), Reply("forced down"))
    for effect in ("none", "half", "done")
}


def losing(walk: Walk, task: Task, reply: Reply) -> None:
    """Record it in a transaction that is lost: nothing has changed."""
    rows = walk.world.dump()
    with pytest.raises(CommitLost):
        walk.world.take(task, reply, lost=True)
    assert walk.world.dump() == rows, "a lost commit left something"
