"""What may go wrong with a step, so that its workflow unwinds or is given up: made for every step of every recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from nova_fast.conductor.workflows import RECIPES
from nova_fast.conductor.workflows.recipe import Recipe, Step, ignore, nothing
from nova_fast.model.base import Message
from nova_fast.model.errors import Conflict, Kind, NovaFastError, Unavailable, from_failure
from nova_fast.model.errors import Failure as Wire
from nova_fast.model.workflows import Task
from tests.unit.conductor.drill.world import Reply, World

SENTENCE = "It does not work."
#: What a spoilt recipe has raised since it was cleared.
RAISED: list[Exception] = []


class Nonsense(Message, frozen=True):
    """Not what any daemon answers."""


class Trouble(msgspec.Struct, frozen=True):
    """A step that fails."""

    name: str
    step: str = ""
    reply: Reply | None = None  # in place of the daemon's; None = the recipe itself is spoilt
    effect: str = "none"  # what the daemon does all the same: none, half, done
    once: bool = False
    spoilt: Callable[[Recipe], Recipe] | None = None
    defect: bool = False  # nobody foresaw it: the server is given up

    @property
    def common(self) -> bool:
        """The usual one: the daemon did it, and yet it failed, every time. The undo has everything to undo."""
        return self.reply is UNAVAILABLE and self.effect == "done" and not self.once

    def strikes(self, task: Task, direction: str, times: int) -> bool:
        """Whether this task of a step is the one that fails."""
        return (
            self.reply is not None and task.step == self.step and direction == "forward" and not (self.once and times)
        )

    def strike(self, world: World, task: Task) -> Reply:
        """Let it fail; how the task ends."""
        assert self.reply is not None
        host = task.peer.partition("@")[2]
        if host and not world.is_up(host):
            return Reply("deadline")
        if self.effect == "done":
            world.tell(task)
        elif self.effect == "half":
            world.dies_doing(task)
        return self.reply if host or "down" not in self.reply.how else Reply("deadline")


NONE = Trouble("undisturbed")


def failure(kind: Kind) -> Reply:
    """A failure of a kind, as it comes through the hub."""
    error = from_failure(Wire(kind=kind, code=kind.value, message=SENTENCE))
    assert type(error) is not NovaFastError
    return Reply("failure", error.failure())


UNAVAILABLE = failure(Kind.UNAVAILABLE)


def every_trouble(kind: str) -> Iterator[Trouble]:
    """All that may happen to each step of a recipe."""
    for step in RECIPES[kind].steps:
        if step.message is not None:
            yield from _daemon_troubles(step)
        yield from _spoilt_steps(kind, step)
    for hook in ("ended", "failed"):
        spoilt = _spoilt_recipe(hook)
        yield Trouble(f"{hook} is defective", spoilt=spoilt, defect=True)
        for step in RECIPES[kind].steps:
            if step.message is not None:
                yield Trouble(
                    f"{step.name} fails and {hook} is defective", step.name, UNAVAILABLE, spoilt=spoilt, defect=True
                )


def _daemon_troubles(step: Step) -> Iterator[Trouble]:
    for kind in Kind:
        yield Trouble(f"{step.name} fails ({kind})", step.name, failure(kind))
    for effect in ("half", "done"):
        yield Trouble(f"{step.name} fails when {effect}", step.name, UNAVAILABLE, effect)
    for how in ("deadline", "host down", "forced down"):
        for effect in ("none", "half", "done"):
            yield Trouble(f"{step.name}: {how}, {effect} was done", step.name, Reply(how), effect)
    yield Trouble(f"{step.name} fails once", step.name, UNAVAILABLE, once=True)
    yield Trouble(f"{step.name}: deadline once", step.name, Reply("deadline"), "done", once=True)
    if step.done is not ignore:
        yield Trouble(f"{step.name} is answered with nonsense", step.name, Reply("answer", Nonsense()), defect=True)


def _spoilt_steps(kind: str, step: Step) -> Iterator[Trouble]:
    hooks = ["begin", "done"] if step.message is not None else ["begin", "finish"]
    for hook in hooks:
        refusing = _spoilt_step(step.name, hook, Conflict(SENTENCE))
        yield Trouble(f"{hook} of {step.name} refuses", step.name, spoilt=refusing)
        defect = _spoilt_step(step.name, hook, RuntimeError(SENTENCE))
        yield Trouble(f"{hook} of {step.name} is defective", step.name, spoilt=defect, defect=True)
    asked = [other for other in RECIPES[kind].steps[RECIPES[kind].steps.index(step) :] if other.message is not None]
    if step.undo is not nothing and asked:
        for error in (RuntimeError(SENTENCE), Conflict(SENTENCE)):
            yield Trouble(
                f"undo of {step.name} is defective ({type(error).__name__})",
                asked[-1].name,
                UNAVAILABLE,
                spoilt=_spoilt_step(step.name, "undo", error),
                defect=True,
            )


def _raising(error: Exception, then: Callable[..., Any]) -> Callable[..., Any]:
    """Do it all, and then fail: what was written must be taken back."""

    def hook(*arguments: Any) -> Any:
        then(*arguments)
        RAISED.append(error)
        raise error

    return hook


def _spoilt_step(name: str, hook: str, error: Exception) -> Callable[[Recipe], Recipe]:
    def spoil(step: Step) -> Step:
        return (
            msgspec.structs.replace(step, **{hook: _raising(error, getattr(step, hook))}) if step.name == name else step
        )

    return lambda recipe: msgspec.structs.replace(recipe, steps=tuple(spoil(step) for step in recipe.steps))


def _spoilt_recipe(hook: str) -> Callable[[Recipe], Recipe]:
    return lambda recipe: msgspec.structs.replace(
        recipe, **{hook: _raising(RuntimeError(SENTENCE), getattr(recipe, hook))}
    )


def doubled(recipe: Recipe) -> Recipe:
    """The same recipe, in which every begin and every undo runs twice."""

    def twice(change: Callable[..., Any]) -> Callable[..., Any]:
        return (
            change
            if change is nothing
            else lambda tx, server, workflow: change(tx, change(tx, server, workflow), workflow)
        )

    steps = tuple(
        msgspec.structs.replace(step, begin=twice(step.begin), undo=twice(step.undo)) for step in recipe.steps
    )
    return msgspec.structs.replace(recipe, steps=steps)


assert UNAVAILABLE.message == Unavailable(SENTENCE).failure()
