"""The drill can fail: each of these mistakes, made in production code, is reported, and in words that name it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nova_fast.commands.servers import save_server
from nova_fast.compute.drivers.fake import FakeDriver
from nova_fast.conductor import engine, together
from nova_fast.conductor.workflows import RECIPES, create_server, delete_server, power_server
from nova_fast.conductor.workflows.recipe import Recipe, Step, compute_of, nothing
from nova_fast.model.errors import Conflict
from nova_fast.model.hosts import HostUsage
from nova_fast.model.states import ACTION_RULES, Action, PowerState, TaskState, VmState
from nova_fast.model.tasks import DestroyGuest, GuestState
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction
from tests.unit.conductor.drill.drill import first_finding
from tests.unit.conductor.drill.entries import Entry, entries_of
from tests.unit.conductor.drill.world import World

Patch = pytest.MonkeyPatch
Mutate = Callable[[Patch], None]
Fresh = Callable[[], World]


def entry_named(name: str) -> Entry:
    found = {entry.name: entry for kind in RECIPES for entry in entries_of(kind)}
    return found[name]


def with_step(patch: Patch, kind: str, name: str, **hooks: Any) -> None:
    """Change a step of a recipe."""
    recipe = RECIPES[kind]
    steps = tuple(msgspec.structs.replace(step, **hooks) if step.name == name else step for step in recipe.steps)
    patch.setitem(RECIPES, kind, msgspec.structs.replace(recipe, steps=steps))


def with_new_step(patch: Patch, kind: str, step: Step) -> None:
    """Put a step before the last."""
    recipe = RECIPES[kind]
    patch.setitem(RECIPES, kind, msgspec.structs.replace(recipe, steps=(*recipe.steps[:-1], step, recipe.steps[-1])))


# ---------------------------------------------------------------------- undoing too little, or too much
def a_claim_is_not_given_back(patch: Patch) -> None:
    patch.setattr(create_server, "leave_host", lambda tx, server: msgspec.structs.replace(server, host=""))


def a_host_is_not_left(patch: Patch) -> None:
    patch.setattr(create_server, "leave_host", lambda tx, server: server)


def ports_stay_bound(patch: Patch) -> None:
    patch.setattr(create_server, "unbind_ports", lambda tx, server_id: None)


def ports_are_not_released(patch: Patch) -> None:
    patch.setattr(create_server, "release_ports", lambda tx, server_id: None)


def a_quota_is_given_back_twice(patch: Patch) -> None:
    give_back = delete_server.usage.give_back

    def twice(tx: Transaction, project_id: str, **amounts: int) -> None:
        for _ in range(2 if "instances" in amounts else 1):
            give_back(tx, project_id, **amounts)

    patch.setattr(delete_server.usage, "give_back", twice)


def a_failed_spawn_is_not_destroyed(patch: Patch) -> None:
    with_step(patch, "create_server", "spawn", undo_message=None)


def a_delete_forgets_the_guest(patch: Patch) -> None:
    with_step(patch, "delete_server", "destroy", message=None)


def a_choice_is_not_given_back(patch: Patch) -> None:
    patch.setattr(engine, "_no_choice", lambda tx, server_id: None)


def a_failed_step_is_not_undone_itself(patch: Patch) -> None:
    unwinding = engine._unwinding

    def skipping(*arguments: Any) -> Any:
        workflow = unwinding(*arguments)
        return msgspec.structs.replace(workflow, step=workflow.step - 1)

    patch.setattr(engine, "_unwinding", skipping)


def what_a_refused_answer_wrote_stays(patch: Patch) -> None:
    patch.setattr(Transaction, "rollback", lambda self, mark: None)


# ---------------------------------------------------------------------- saying too little
def an_action_never_ends(patch: Patch) -> None:
    finish = create_server.finish_action
    patch.setattr(
        create_server, "finish_action", lambda tx, workflow, host, failure=None: failure or finish(tx, workflow, host)
    )


def an_action_that_failed_says_success(patch: Patch) -> None:
    finish = power_server.finish_action
    patch.setattr(power_server, "finish_action", lambda tx, workflow, host, failure=None: finish(tx, workflow, host))


def a_failed_stop_ends_in_error(patch: Patch) -> None:
    patch.setattr(
        power_server,
        "save_server",
        lambda tx, server, **changes: save_server(tx, server, vm_state=VmState.ERROR, **changes),
    )


def a_defect_leaves_the_action_open(patch: Patch) -> None:
    patch.setattr(engine, "finish_action", lambda *arguments: None)


# ---------------------------------------------------------------------- said or done twice
def any_answer_is_taken(patch: Patch) -> None:
    waiting = together.waiting

    def careless(reader: Any, task_id: str) -> Any:
        found = waiting(reader, task_id)
        others = list(reader.scan(tables.TASKS)) if found is None else []
        return waiting(reader, others[0].id) if others else found

    patch.setattr(together, "waiting", careless)


def a_spawn_is_not_idempotent(patch: Patch) -> None:
    spawn = FakeDriver.spawn

    async def strict(self: FakeDriver, guest: Any) -> GuestState:
        if guest.server_id in self._guests:
            raise Conflict("It exists already.")
        return await spawn(self, guest)

    patch.setattr(FakeDriver, "spawn", strict)


def a_stop_is_not_idempotent(patch: Patch) -> None:
    power = FakeDriver.power

    async def strict(self: FakeDriver, message: Any) -> GuestState:
        if message.action is Action.STOP and self._guests[message.guest.server_id] is PowerState.SHUTDOWN:
            raise Conflict("It is off already.")
        return await power(self, message)

    patch.setattr(FakeDriver, "power", strict)


def a_begin_is_not_idempotent(patch: Patch) -> None:
    with_step(
        patch, "create_server", "network", begin=lambda tx, server, _: save_server(tx, server, name=server.name + "!")
    )


def an_undo_is_not_idempotent(patch: Patch) -> None:
    with_step(
        patch, "create_server", "spawn", undo=lambda tx, server, _: save_server(tx, server, name=server.name + "!")
    )


def an_undo_that_fails_is_asked_for_ever(patch: Patch) -> None:
    failed = engine._failed

    def stubborn(tx: Any, workflow: Any, server: Any, step: Any, failure: Any) -> Any:
        if workflow.direction == "unwind":
            tx.delete(tables.TASKS, workflow.task_id)
            return msgspec.structs.replace(workflow, task_id=""), server
        return failed(tx, workflow, server, step, failure)

    patch.setattr(engine, "_failed", stubborn)


# ---------------------------------------------------------------------- kept in memory
def answers_are_remembered_before_they_are_durable(patch: Patch) -> None:
    take = engine.Engine.take_answer

    def once(self: engine.Engine, tx: Transaction, task_id: str, answer: Any) -> None:
        seen = vars(self).setdefault("seen", set())
        if task_id not in seen:
            seen.add(task_id)
            take(self, tx, task_id, answer)

    patch.setattr(engine.Engine, "take_answer", once)


def a_message_is_another_each_time(patch: Patch) -> None:
    """The conductor that has died knew something that the rows do not say."""
    spawn, sent = create_server._spawn, itertools.count()

    def counting(reader: Any, server: Any, workflow: Any) -> Any:
        message = spawn(reader, server, workflow)
        return msgspec.structs.replace(message, guest=msgspec.structs.replace(message.guest, name=f"vm{next(sent)}"))

    with_step(patch, "create_server", "spawn", message=counting)


def a_workflow_that_is_answered_is_left(patch: Patch) -> None:
    """Only what is begun in a transaction is moved on in it."""
    run = engine.Engine._run

    def leave(self: engine.Engine, tx: Transaction, workflow: Any, server: Any, stored: Any) -> None:
        if workflow.step:
            tx.put(tables.WORKFLOWS, workflow)
        else:
            run(self, tx, workflow, server, stored)

    patch.setattr(engine.Engine, "_run", leave)


# ---------------------------------------------------------------------- hosts and deadlines
def a_host_that_is_down_is_waited_for(patch: Patch) -> None:
    patch.setattr(engine.Engine, "host_down", lambda self, tx, host: None)
    patch.setattr(engine, "host_down", lambda reader, server: False)


def a_lost_task_is_never_given_up(patch: Patch) -> None:
    patch.setattr(engine.Engine, "expire", lambda self, tx, before_us, limit=1000: 0)


# ---------------------------------------------------------------------- what is new
def _taking(tx: Transaction, server: Any, _workflow: Any) -> Any:
    usage = tx.get(tables.HOST_USAGE, server.host) or HostUsage(host=server.host)
    tx.put(tables.HOST_USAGE, msgspec.structs.replace(usage, vcpus=usage.vcpus + 1))
    return server


def a_new_step_takes_what_nobody_counts(patch: Patch) -> None:
    with_new_step(patch, "create_server", Step(name="volume", finish=_taking))


def a_new_step_has_no_undo(patch: Patch) -> None:
    """It labels the server, and nothing takes the label off when the last step fails."""
    label = Step(name="label", finish=lambda tx, server, _: save_server(tx, server, task_state=None))
    with_new_step(patch, "create_server", label)


def a_new_step_asks_somebody_unknown(patch: Patch) -> None:
    step = Step(name="volume", peer=lambda *_: "volume@h1", message=lambda _reader, server, _workflow: GuestState(
        server_id=server.id, power_state=PowerState.NOSTATE))  # fmt: skip
    with_new_step(patch, "create_server", step)


def a_new_step_destroys_the_guest(patch: Patch) -> None:
    step = Step(name="check", peer=compute_of, message=lambda _reader, server, _workflow: DestroyGuest(
        server_id=server.id, domain_name=server.domain_name))  # fmt: skip
    with_new_step(patch, "power_server", step)


CREATE, STOP, DELETE = "create, a card", "stop when active, a card", "delete when active, a card"
HARD = "hard reboot when active, a card"

#: the mistake, an entry that meets it, what the finding says
MISTAKES: list[tuple[Mutate, str, str]] = [
    (a_claim_is_not_given_back, CREATE, "1 vcpus are counted as taken of host h1, its servers take 0"),
    (a_host_is_not_left, CREATE, "is bound to host '', but its server .* is on 'h1'"),
    (ports_stay_bound, CREATE, "is bound to host 'h1', but its server .* is on ''"),
    (ports_are_not_released, CREATE, "it holds ports"),
    (a_quota_is_given_back_twice, DELETE, "undisturbed: AssertionError"),
    (a_failed_spawn_is_not_destroyed, CREATE, "h1 has (files of )?guests that belong elsewhere"),
    (a_delete_forgets_the_guest, DELETE, "h1 has guests that belong elsewhere"),
    (a_choice_is_not_given_back, CREATE, "the scheduler holds a host for nobody"),
    (a_failed_step_is_not_undone_itself, CREATE, "schedule fails|guests that belong elsewhere"),
    (what_a_refused_answer_wrote_stays, CREATE, "refuses"),
    (an_action_never_ends, CREATE, "has not ended, but nothing carries it on"),
    (an_action_that_failed_says_success, STOP, "the action ended as None"),
    (a_failed_stop_ends_in_error, STOP, "it is shown error|vm_state|AssertionError"),
    (a_defect_leaves_the_action_open, CREATE, "has not ended, but nothing carries it on"),
    (any_answer_is_taken, CREATE, "a second or late answer|did not foresee"),
    (a_spawn_is_not_idempotent, CREATE, "told twice.* answers .* when it is told again"),
    (a_stop_is_not_idempotent, STOP, "told twice.* answers .* when it is told again"),
    (a_begin_is_not_idempotent, CREATE, "every begin and every undo runs twice.*vm!!"),
    (an_undo_is_not_idempotent, CREATE, "every begin and every undo runs twice.*vm!!"),
    (an_undo_that_fails_is_asked_for_ever, CREATE, "undo: .* at every undo.*it does not end"),
    (answers_are_remembered_before_they_are_durable, CREATE, "commit lost"),
    (a_message_is_another_each_time, CREATE, "says something else"),
    (a_workflow_that_is_answered_is_left, CREATE, "waits for nothing"),
    (a_host_that_is_down_is_waited_for, "delete, host down", "is waited for"),
    (a_lost_task_is_never_given_up, STOP, "it does not end|deadline"),
    (a_new_step_takes_what_nobody_counts, CREATE, "2 vcpus are counted as taken of host h1"),
    (a_new_step_has_no_undo, CREATE, "has a workflow, but shows no task state"),
    (a_new_step_asks_somebody_unknown, CREATE, "nobody told the drill how to play volume"),
    (a_new_step_destroys_the_guest, HARD, "."),
]


@pytest.mark.parametrize(("mutate", "name", "words"), MISTAKES, ids=[mistake[0].__name__ for mistake in MISTAKES])
def test_a_mistake_is_found(fresh_world: Fresh, monkeypatch: Patch, mutate: Mutate, name: str, words: str) -> None:
    entry = entry_named(name)
    world = fresh_world()
    mutate(monkeypatch)
    found = first_finding(world, entry, "spawn" if "undo" in mutate.__name__ else "")
    assert found, f"nobody found that {mutate.__name__.replace('_', ' ')}"
    assert re.search(words, found, re.DOTALL), found


# ---------------------------------------------------------------------- what nobody has told the drill of
def test_a_workflow_that_the_drill_cannot_start_fails_it(monkeypatch: Patch) -> None:
    resize = Recipe(kind="resize_server", steps=(), ended=nothing, failed=lambda *_: None)  # type: ignore[arg-type]
    monkeypatch.setitem(RECIPES, "resize_server", resize)
    with pytest.raises(AssertionError, match="nobody told the drill how to start resize_server"):
        entries_of("resize_server")


def test_an_action_in_a_state_that_the_drill_cannot_reach_fails_it(fresh_world: Fresh, monkeypatch: Patch) -> None:
    rule = ACTION_RULES[Action.STOP, False]
    rescued = msgspec.structs.replace(rule, allowed=(VmState.BUILDING,))
    monkeypatch.setitem(ACTION_RULES, (Action.STOP, False), rescued)
    with pytest.raises(AssertionError, match="nobody told the drill how a server gets to be building"):
        first_finding(fresh_world(), entry_named("stop when building, a card"))


def test_a_state_that_a_hard_reboot_replaces_and_no_action_shows_fails_it(monkeypatch: Patch) -> None:
    from tests.unit.conductor.drill import entries

    monkeypatch.setattr(entries, "HARD_REBOOT_REPLACES", frozenset({TaskState.DELETING}))
    with pytest.raises(AssertionError, match="nobody told the drill how a server gets to be deleting"):
        entries_of("power_server")
