"""The drill: every entry, with every trouble of every step, and every fault at every task of it.

It says what it found in words and goes on, so that one broken step does not hide the next.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import pytest

from nova_fast.conductor.workflows import RECIPES
from nova_fast.conductor.workflows.recipe import Recipe
from tests.lengths import TORTURE
from tests.unit.conductor.drill.entries import Entry
from tests.unit.conductor.drill.faults import FAULTS, UNDO_FAULTS, Fault, changes_nothing
from tests.unit.conductor.drill.promises import Course, assert_gone, assert_promises_kept
from tests.unit.conductor.drill.troubles import NONE, RAISED, Trouble, doubled, every_trouble
from tests.unit.conductor.drill.walk import EVERY_UNDO, EVERYWHERE, Asked, End, Walk, end_of
from tests.unit.conductor.drill.world import Moment, World

#: How many cases of which sort have run.
CASES: Counter[str] = Counter()


class Finding(msgspec.Struct, frozen=True):
    """A case that did not go as promised."""

    case: str
    what: str


class _NoSuchStep(Exception):
    """A trouble that never comes about here."""


class _Enough(Exception):
    """One finding is all that is wanted."""


class _Defects(logging.Handler):
    """Counts what the engine did not foresee."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(repr(record.exc_info[1]) if record.exc_info else record.getMessage())


class Drill:
    """One entry, drilled."""

    def __init__(self, world: World, entry: Entry, *, first_only: bool = False, unwinding: str = "") -> None:
        self.world = world
        self.entry = entry
        self.findings: list[Finding] = []
        self.asked: set[Asked] = set()
        self._first_only = first_only
        self._unwinding = unwinding  # only courses in which this step fails; "" = all
        self._prepared: Moment | None = None
        self._moment: Moment | None = None
        self._server_id = ""
        self._course: Course | None = None

    def begin(self) -> bool:
        """Start the workflow; False when this condition cannot be brought about."""
        world, entry = self.world, self.entry
        self._server_id = server_id = entry.prepare(world)
        before = world.find(server_id) if server_id else None
        self._prepared = world.save()
        asked = entry.ask(world, server_id)
        if asked is None:
            return False
        self._moment = world.save()
        self._course = Course(server_id=asked, before=before, workflow=world.workflow(asked), trouble=NONE)
        return True

    def kinds(self) -> list[str]:
        """The workflows that run in it."""
        assert self._course is not None
        workflow = self._course.workflow
        return [kind for kind in (workflow.kind, workflow.then) if kind] if workflow is not None else []

    @property
    def action(self) -> str:
        """The action that was asked for."""
        assert self._course is not None
        return self._course.workflow.action if self._course.workflow is not None else ""

    def walk_plainly(self) -> None:
        """Undisturbed, and with the usual trouble of each step: enough to see every task."""
        self._walk("looking", NONE)
        for trouble in self._troubles():
            if trouble.common:
                self._walk("looking", trouble)

    # ------------------------------------------------------------------ all of it
    def run(self) -> None:
        """Undisturbed, with every trouble, and with every fault in those of them that unwind each step."""
        if not self.begin():
            return
        undisturbed = self._walk("undisturbed", NONE)
        if undisturbed is None:
            return
        walked = [(NONE, *undisturbed)]
        whole = TORTURE or not self.entry.variation
        for trouble in self._troubles():
            if whole or trouble.common:
                ended = self._walk("troubles", trouble)
                if ended is not None and whole and trouble.common:
                    walked.append((trouble, *ended))
        for course in walked:
            if self._unwinding in ("", course[0].step):
                self._faults(*course)

    def _troubles(self) -> list[Trouble]:
        troubles = [trouble for kind in self.kinds() for trouble in every_trouble(kind)]
        return [trouble for trouble in troubles if self._unwinding in ("", trouble.step)]

    def _walk(self, sort: str, trouble: Trouble) -> tuple[End, list[Asked]] | None:
        """One course without a fault: its promise is kept, and its server can be deleted."""
        ended: list[tuple[End, list[Asked]]] = []
        with self._case(sort, trouble, ""):
            walk = self._walked(trouble, None, EVERYWHERE)
            if trouble is not NONE and not walk.ever_struck:
                raise _NoSuchStep
            self._no_orphans(trouble)  # and nobody had to come back for that
            end = end_of(self.world)
            assert self._course is not None
            assert_promises_kept(self.world, msgspec.structs.replace(self._course, trouble=trouble))
            self._delete_what_is_left()
            ended.append((end, walk.trace))
            self.asked.update(walk.trace)
        return ended[0] if ended else None

    def _faults(self, trouble: Trouble, end: End, trace: list[Asked]) -> None:
        """Every fault at every task, and at all of them: the end is the same."""
        with self._case("doubled", trouble, "every begin and every undo runs twice"), spoilt(doubled):
            self._same_end(end, self._walked(trouble, None, EVERYWHERE), events=False)
        if self.world.stale:
            with self._case("stale", trouble, "what was given up is answered late"):
                self._same_end(end, self._walked(trouble, None, EVERYWHERE, stale=True))
        if not trace:
            return
        undone = [at for at, asked in enumerate(trace) if asked.direction == "unwind"]
        for faults, where in ((FAULTS, [*range(len(trace)), EVERYWHERE]), (UNDO_FAULTS, [*undone, EVERY_UNDO])):
            for (name, fault), at in itertools.product(faults.items(), where if undone or faults is FAULTS else ()):
                self._fault(f"{name} at {_place(trace, at)}", trouble, end, (fault, at))

    def _fault(self, name: str, trouble: Trouble, end: End, fault: tuple[Fault, int]) -> None:
        with self._case("faults", trouble, name):
            walk = self._walked(trouble, *fault)
            assert walk.faults, "the fault never came about"
            loose = fault[0] in UNDO_FAULTS.values()
            if not loose:
                self._no_orphans(trouble)
            self._same_end(end, walk, loose=loose, events=not loose and "dies" not in name)

    def _no_orphans(self, trouble: Trouble) -> None:
        """A host that could not do what it was asked compares what it has until nothing is left."""
        if trouble.reply is not None:
            self.world.hosts_compare()
        self.world.assert_no_orphans()

    # ------------------------------------------------------------------ one case
    def _same_end(self, end: End, walk: Walk, *, loose: bool = False, events: bool = True) -> None:
        different = end.differs(end_of(walk.world), loose=loose, events=events)
        assert not different, different

    def _walked(self, trouble: Trouble, fault: Fault | None, at: int, *, stale: bool = False) -> Walk:
        assert self._moment is not None
        assert self._prepared is not None
        RAISED.clear()
        with spoilt(trouble.spoilt):
            if trouble.spoilt is None:
                self.world.put_back(self._moment)
            else:  # its first step begins when it is asked
                self.world.put_back(self._prepared)
                if self.entry.ask(self.world, self._server_id) is None:
                    raise _NoSuchStep
            walk = Walk(self.world, trouble, fault, at)
            if stale:
                walk.late += self.world.stale
                for task, reply in walk.late:
                    changes_nothing(walk, task, reply)
            walk.run()
        return walk

    def _delete_what_is_left(self) -> None:
        assert self._course is not None
        world, server_id = self.world, self._course.server_id
        if world.find(server_id) is not None:
            world.delete(server_id)
            Walk(world, NONE).run()
        end_of(world)
        assert_gone(world, server_id)

    @contextmanager
    def _case(self, sort: str, trouble: Trouble, fault: str) -> Iterator[None]:
        CASES[sort] += 1
        name = ", ".join(part for part in (self.entry.name, trouble.name, fault) if part)
        defects = _Defects()
        log = logging.getLogger("nova_fast.conductor.engine")
        log.addHandler(defects)
        log.propagate = False
        try:
            yield
            assert bool(defects.seen) == trouble.defect, f"the engine did not foresee {defects.seen}"
        except _NoSuchStep:
            CASES[sort] -= 1
        except Exception as error:
            self.findings.append(Finding(name, f"{type(error).__name__}: {error}"))
            if self._first_only:
                raise _Enough from error
        finally:
            log.propagate = True
            log.removeHandler(defects)


@contextmanager
def spoilt(change: object) -> Iterator[None]:
    """Every recipe changed, while it lasts."""
    if change is None:
        yield
        return
    assert callable(change)
    with pytest.MonkeyPatch.context() as patch:
        for kind, recipe in list(RECIPES.items()):
            changed = change(recipe)
            assert isinstance(changed, Recipe)
            patch.setitem(RECIPES, kind, changed)
        yield


def _place(trace: list[Asked], at: int) -> str:
    if at < 0:
        return "every undo" if at == EVERY_UNDO else "every task"
    asked = trace[at]
    return f"{asked.step} ({asked.kind}, {asked.direction}, task {at + 1})"


def drill(world: World, entry: Entry) -> list[Finding]:
    """Drill one entry of a workflow in a fresh world; what did not go as promised."""
    drilled = Drill(world, entry)
    drilled.run()
    return drilled.findings


def first_finding(world: World, entry: Entry, unwinding: str = "") -> str:
    """Drill until something is found, perhaps only where a certain step fails; "" = nothing."""
    drilled = Drill(world, entry, first_only=True, unwinding=unwinding)
    with suppress(_Enough):
        drilled.run()
    return " -> ".join(f"{finding.case}: {finding.what}" for finding in drilled.findings)


def asked_by(world: World, entry: Entry) -> tuple[set[Asked], str]:
    """Every task that an entry brings about, undisturbed and when a step fails, and the action that it shows."""
    looked = Drill(world, entry)
    if not looked.begin():
        return set(), ""
    looked.walk_plainly()
    return looked.asked, looked.action
