"""How each workflow is started, in every condition that can be: derived from the recipes and from the rules of actions.

What nobody has told the drill how to start, or how to bring about, fails it: so nothing new goes without a drill.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from nova_fast.conductor.workflows import RECIPES
from nova_fast.model.commands.hosts import UpdateComputeService
from nova_fast.model.commands.ports import CreatePorts, NewPort
from nova_fast.model.commands.servers import RequestedNic, ResetServerState
from nova_fast.model.states import ACTION_RULES, HARD_REBOOT_REPLACES, Action, ActionRule, VmState
from tests.unit.conductor.drill.world import World
from tests.unit.conductor.player import ADMIN, ALICE


class Entry(msgspec.Struct, frozen=True):
    """One way into a workflow: what is there before, and what is asked."""

    name: str
    prepare: Callable[[World], str]  # → the server, or "" when it is asked for only then
    ask: Callable[[World, str], str | None]  # → the server; None: this condition cannot be brought about
    variation: bool = False  # of an entry before it: `make test` does not drill it with every trouble


# ---------------------------------------------------------------------- servers
def _with_a_port(world: World) -> dict[str, Any]:
    port = world.run(CreatePorts(caller=ALICE, ports=(NewPort(network_id=world.network_id),))).ports[0]
    return {"networks": (RequestedNic(port_id=port.id),)}


#: What a server may be made with.
SHAPES: dict[str, Callable[[World], dict[str, Any]]] = {
    "no card": lambda world: {"networks": "none"},
    "a card": lambda world: {},
    "a drive": lambda world: {"user_data": b"#!/bin/sh", "config_drive": True, "admin_password": "s3cret"},
    "its own port": _with_a_port,
}


def _acted(action: Action) -> Callable[[World, str], None]:
    def reach(world: World, server_id: str) -> None:
        world.act(server_id, action)
        finish(world)

    return reach


#: How a server that runs gets into a state in which it stays.
REACH: dict[VmState, Callable[[World, str], None]] = {
    VmState.ACTIVE: lambda world, server_id: None,
    VmState.STOPPED: _acted(Action.STOP),
    VmState.PAUSED: _acted(Action.PAUSE),
    VmState.SUSPENDED: _acted(Action.SUSPEND),
    VmState.ERROR: lambda world, server_id: world.run(
        ResetServerState(caller=ADMIN, server_id=server_id, vm_state=VmState.ERROR)
    ),
}


def finish(world: World) -> None:
    """Let every daemon do what it is asked, until nothing is asked any more."""
    while world.pending:
        task = world.pending.pop(0)
        world.take(task, world.tell(task))


def server(world: World, state: VmState, shape: str) -> str:
    """A server that is in a state and stays there."""
    assert state in REACH, f"nobody told the drill how a server gets to be {state}"
    server_id = world.create(**SHAPES[shape](world))
    finish(world)
    REACH[state](world, server_id)
    assert world.server(server_id).vm_state is state
    return server_id


# ---------------------------------------------------------------------- replacing what is under way
def _interrupted(world: World, where: _Where, told: bool) -> bool:
    """Go on to a task, perhaps let its daemon do it, but hear no answer: it comes when nobody waits any more."""
    task = world.walk_to(where.step, where.direction, where.failing)
    if task is None:
        return False
    if told:
        world.stale.append((task, world.tell(task)))
    world.pending.clear()
    return True


class _Where(msgspec.Struct, frozen=True):
    """A task of a workflow: of a step, or of its undo after another step has failed."""

    step: str
    direction: str = "forward"
    failing: str = ""

    @property
    def name(self) -> str:
        return f"{self.step} undone after {self.failing}" if self.failing else self.step


def _tasks_of(kind: str) -> Iterator[_Where]:
    asked = [step for step in RECIPES[kind].steps if step.message is not None]
    for number, step in enumerate(asked):
        yield _Where(step.name)
        for undone in asked[: number + 1]:
            if undone.undo_message is not None:
                yield _Where(undone.name, "unwind", step.name)


# ---------------------------------------------------------------------- create
def _create_entries() -> Iterator[Entry]:
    for shape in SHAPES:
        yield Entry(f"create, {shape}", lambda world: "", partial(_create, shape=shape), shape != "a card")


def _create(world: World, _server_id: str, *, shape: str) -> str:
    return world.create(**SHAPES[shape](world))


# ---------------------------------------------------------------------- power
def _power_entries() -> Iterator[Entry]:
    for (action, hard), rule in ACTION_RULES.items():
        name = f"hard {action}" if hard else action
        for state, shape in itertools.product(rule.allowed, ("a card", "no card")):
            prepare, ask = partial(server, state=state, shape=shape), partial(_act, action=action, hard=hard)
            yield Entry(f"{name} when {state}, {shape}", prepare, ask, (state, shape) != (rule.allowed[0], "a card"))
        if hard:
            yield from _replacing_entries(name, action)


def _act(world: World, server_id: str, *, action: Action, hard: bool) -> str:
    world.act(server_id, action, hard=hard)
    return server_id


def _rule_of(task_state: str) -> tuple[Action, bool, ActionRule]:
    for (action, hard), rule in ACTION_RULES.items():
        if rule.task_state == task_state:
            return action, hard, rule
    raise AssertionError(f"nobody told the drill how a server gets to be {task_state}")


def _replacing_entries(name: str, action: Action) -> Iterator[Entry]:
    for task_state in sorted(HARD_REBOOT_REPLACES):
        first, first_hard, rule = _rule_of(task_state)
        for where, told in itertools.product(_tasks_of("power_server"), (False, True)):

            def ask(
                world: World, server_id: str, where: _Where = where, told: bool = told, first: Any = (first, first_hard)
            ) -> str | None:
                _act(world, server_id, action=first[0], hard=first[1])
                if not _interrupted(world, where, told):
                    return None
                return _act(world, server_id, action=action, hard=True)

            yield Entry(
                f"{name} replaces {task_state} at {where.name}{' done' if told else ''}",
                partial(server, state=rule.allowed[0], shape="a card"),
                ask,
                variation=True,
            )


# ---------------------------------------------------------------------- delete
def _delete_entries() -> Iterator[Entry]:
    for state, shape in itertools.product(REACH, SHAPES):
        variation = (state, shape) not in ((VmState.ACTIVE, "a card"), (VmState.ERROR, "its own port"))
        yield Entry(f"delete when {state}, {shape}", partial(server, state=state, shape=shape), _delete, variation)
    yield Entry("delete what was never built", _never_built, _delete)
    for down in ("down", "forced down"):
        yield Entry(
            f"delete, host {down}", partial(server, state=VmState.ACTIVE, shape="a card"), partial(_hostless, down)
        )
    for shape, where, told in itertools.product(SHAPES, _tasks_of("create_server"), (False, True)):
        yield Entry(
            f"delete replaces create at {where.name}{' done' if told else ''}, {shape}",
            lambda world: "",
            partial(_delete_create, shape=shape, where=where, told=told),
            variation=shape != "a card",
        )
    for (action, hard), rule in ACTION_RULES.items():
        for where, told in itertools.product(_tasks_of("power_server"), (False, True)):
            yield Entry(
                f"delete replaces {'hard ' if hard else ''}{action} at {where.name}{' done' if told else ''}",
                partial(server, state=rule.allowed[0], shape="a card"),
                partial(_delete_power, action=(action, hard), where=where, told=told),
                variation=True,
            )


def _never_built(world: World) -> str:
    server_id = world.create()
    world.walk_to("nothing", failing="schedule")
    assert world.server(server_id).vm_state is VmState.ERROR
    return server_id


def _delete(world: World, server_id: str) -> str:
    world.delete(server_id)
    return server_id


def _hostless(down: str, world: World, server_id: str) -> str:
    if down == "down":
        world.host_up("h1", False)
    else:
        world.run(UpdateComputeService(caller=ADMIN, host="h1", forced_down=True))
    return _delete(world, server_id)


def _delete_create(world: World, _server_id: str, *, shape: str, where: _Where, told: bool) -> str | None:
    server_id = world.create(**SHAPES[shape](world))
    return _delete(world, server_id) if _interrupted(world, where, told) else None


def _delete_power(
    world: World, server_id: str, *, action: tuple[Action, bool], where: _Where, told: bool
) -> str | None:
    _act(world, server_id, action=action[0], hard=action[1])
    return _delete(world, server_id) if _interrupted(world, where, told) else None


#: kind of workflow → every way into it.
STARTERS: dict[str, Callable[[], Iterator[Entry]]] = {
    "create_server": _create_entries,
    "power_server": _power_entries,
    "delete_server": _delete_entries,
}


def entries_of(kind: str) -> list[Entry]:
    """Every way into a workflow. Raises AssertionError for one that nobody knows how to start."""
    assert kind in STARTERS, f"nobody told the drill how to start {kind}"
    return list(STARTERS[kind]())
