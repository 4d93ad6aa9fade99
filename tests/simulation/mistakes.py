"""Mistakes on purpose, put into production code one at a time, to see that the simulator finds each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from nova_fast.commands import aggregates, claims
from nova_fast.commands import ports as port_commands
from nova_fast.commands import servers as server_commands
from nova_fast.compute.reports import GuestReports
from nova_fast.conductor import engine, writer
from nova_fast.conductor.dispatcher import Dispatcher
from nova_fast.conductor.workflows import create_server, delete_server
from nova_fast.hub import events, incoming, outgoing
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

from .run import play

Patch = pytest.MonkeyPatch
Mistake = Callable[[Patch], None]
SEEDS_MAX = 200  # a mistake is found within so many, or not at all
KEEN = (0, 4, 5, 99, 106, 112, 21, 30)  # these found most of them when they were last looked for: they are asked first


def first_finding() -> str:
    """What the first seed that notices says; "" when none does."""
    for seed in dict.fromkeys((*KEEN, *range(SEEDS_MAX))):
        found = play(seed, closely=False).found
        if found:
            return found[0]
    return ""


def _step(patch: Patch, recipe: Any, name: str, **changes: Any) -> None:
    steps = tuple(msgspec.structs.replace(s, **changes) if s.name == name else s for s in recipe.steps)
    changed = msgspec.structs.replace(recipe, steps=steps)
    patch.setitem(engine.RECIPES, recipe.kind, changed)


def it_is_answered_before_it_is_committed(patch: Patch) -> None:
    do = writer.Writer._do

    def early(self: Any, tx: Transaction, job: Any) -> Any:
        outcome = do(self, tx, job)
        if job.call_id:
            self._call_soon(job.done, outcome)
        return outcome

    patch.setattr(writer.Writer, "_do", early)


def a_command_is_not_remembered(patch: Patch) -> None:
    def forgetful(write: Any) -> Any:
        return lambda tx, table, rows: None if table is tables.DONE_COMMANDS else write(tx, table, rows)

    for name in ("insert", "insert_all"):
        patch.setattr(Transaction, name, forgetful(getattr(Transaction, name)))


def an_answer_is_dropped(patch: Patch) -> None:
    patch.setattr(Dispatcher, "answer", lambda self, task, outcome: None)


def a_claim_is_not_given_back(patch: Patch) -> None:
    _step(patch, create_server.CREATE_SERVER, "schedule", undo=lambda tx, server, workflow: server)


def a_guest_too_many_is_left(patch: Patch) -> None:
    async def leave(self: Any, server_id: str) -> bool:
        return True

    _step(patch, create_server.CREATE_SERVER, "spawn", undo_message=None)
    patch.setattr(GuestReports, "_remove", leave)


def a_deletion_forgets_the_quota(patch: Patch) -> None:
    patch.setattr(delete_server.usage, "give_back", lambda *arguments, **amounts: None)


def a_deletion_forgets_the_ports(patch: Patch) -> None:
    patch.setattr(delete_server, "release_ports", lambda tx, server_id: None)


def a_host_is_counted_twice(patch: Patch) -> None:
    changed = claims._changed
    patch.setattr(
        claims, "_changed", lambda usage, claim, sign: changed(changed(usage, claim, sign), claim, max(sign, 0))
    )


def a_group_has_no_rule(patch: Patch) -> None:
    patch.setattr(claims.server_groups, "rule_of", lambda *arguments: None)
    patch.setattr(create_server, "rule_of", lambda *arguments: None)


def a_host_takes_its_servers_to_another_zone(patch: Patch) -> None:
    patch.setattr(aggregates, "_check_no_servers", lambda *arguments: None)


def a_port_is_bound_elsewhere(patch: Patch) -> None:
    bind = port_commands.bind_ports

    def elsewhere(tx: Transaction, server_id: str, host: str) -> None:
        bind(tx, server_id, "nowhere")

    patch.setattr(create_server, "bind_ports", elsewhere)


def tasks_are_not_sent_again_after_a_restart(patch: Patch) -> None:
    patch.setattr(Dispatcher, "resume", lambda self: None)
    patch.setattr(engine.Engine, "expire", lambda self, tx, before_us, limit=1000: 0)


def a_call_is_not_sent_again(patch: Patch) -> None:
    patch.setattr(outgoing.OutgoingCalls, "link_up", _first_link_only(outgoing.OutgoingCalls.link_up))


def _first_link_only(link_up: Any) -> Any:
    def once(self: Any, credits_now: int, hub_clock_us: int) -> None:
        flight, self._flight = self._flight, {}
        link_up(self, credits_now, hub_clock_us)
        self._flight.update(flight)
        for call in flight.values():
            call.resend_at_s = float("inf")

    return once


def a_call_that_runs_is_run_again(patch: Patch) -> None:
    receive = incoming.IncomingCalls.receive

    def again(self: Any, call_id: bytes, deadline_us: int, body: Any) -> None:
        self._running.discard(call_id)
        self._answers.pop(call_id, None)
        receive(self, call_id, deadline_us, body)

    patch.setattr(incoming.IncomingCalls, "receive", again)
    a_command_is_not_remembered(patch)


def lost_events_are_not_sent_again(patch: Patch) -> None:
    patch.setattr(events.EventReader, "beat", lambda self: None)


def an_event_is_swallowed(patch: Patch) -> None:
    emit = Transaction.emit

    def some(self: Transaction, event: Any) -> None:
        if type(event).__name__ != "Released":
            emit(self, event)

    patch.setattr(Transaction, "emit", some)


def an_action_never_ends(patch: Patch) -> None:
    patch.setattr(create_server, "finish_action", lambda *arguments: None)


def a_server_forgets_that_it_is_busy(patch: Patch) -> None:
    save = server_commands.save_server

    def idle(tx: Transaction, server: Any, **changes: Any) -> Any:
        return save(tx, server, **{**changes, "task_state": None})

    patch.setattr(server_commands, "save_server", idle)


def a_refused_command_is_half_done(patch: Patch) -> None:
    patch.setattr(Transaction, "rollback", lambda self, mark: None)


def a_refused_command_is_taken_back_in_name_only(patch: Patch) -> None:
    def forget(self: Transaction, mark: tuple[int, int, int]) -> None:
        del self._journal[mark[0] :]
        del self.events[mark[1] :]

    patch.setattr(Transaction, "rollback", forget)


MISTAKES: list[Mistake] = [
    it_is_answered_before_it_is_committed,
    a_command_is_not_remembered,
    an_answer_is_dropped,
    a_claim_is_not_given_back,
    a_guest_too_many_is_left,
    a_deletion_forgets_the_quota,
    a_deletion_forgets_the_ports,
    a_host_is_counted_twice,
    a_group_has_no_rule,
    a_host_takes_its_servers_to_another_zone,
    a_port_is_bound_elsewhere,
    tasks_are_not_sent_again_after_a_restart,
    a_call_is_not_sent_again,
    a_call_that_runs_is_run_again,
    lost_events_are_not_sent_again,
    an_event_is_swallowed,
    an_action_never_ends,
    a_server_forgets_that_it_is_busy,
    a_refused_command_is_half_done,
    a_refused_command_is_taken_back_in_name_only,
]
