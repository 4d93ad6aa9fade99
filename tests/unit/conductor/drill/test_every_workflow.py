"""The saga drill: every workflow there is, by every way into it.

Every step fails in every way and is unwound whole; every task is said twice, answered twice and answered late; the
conductor and the daemons die before, within and behind each; every undo runs twice, and fails. Nothing here names a
step: a new one is drilled the day it is written, and a workflow that nobody told the drill how to start fails it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nova_fast.commands.workflows import EVENT_NAMES
from nova_fast.conductor.workflows import RECIPES
from tests.unit.conductor.drill.drill import asked_by, drill
from tests.unit.conductor.drill.entries import STARTERS, Entry, entries_of
from tests.unit.conductor.drill.promises import PROMISES
from tests.unit.conductor.drill.walk import Asked
from tests.unit.conductor.drill.world import World

ENTRIES = [entry for kind in STARTERS for entry in entries_of(kind)]

Fresh = Callable[[], World]


@pytest.mark.torture
@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.name for entry in ENTRIES])
def test_whatever_happens_it_ends_as_promised(fresh_world: Fresh, entry: Entry) -> None:
    findings = drill(fresh_world(), entry)
    assert findings == [], "\n".join(f"{finding.case}\n    {finding.what}" for finding in findings)


@pytest.mark.parametrize("kind", list(RECIPES))
def test_the_drill_knows_how_to_start_every_workflow_and_what_it_promises(kind: str) -> None:
    assert entries_of(kind)
    assert kind in PROMISES, f"nobody told the drill what {kind} promises"


def test_no_step_no_undo_and_no_action_goes_without_a_drill(fresh_world: Fresh) -> None:
    asked: set[Asked] = set()
    actions: set[str] = set()
    for entry in ENTRIES:
        if not entry.variation:
            tasks, action = asked_by(fresh_world(), entry)
            asked |= tasks
            actions.add(action)
    for kind, recipe in RECIPES.items():
        for step in recipe.steps:
            if step.message is not None:
                assert Asked(kind, step.name, "forward") in asked, f"nothing makes {kind} ask for {step.name}"
            if step.undo_message is not None:
                assert Asked(kind, step.name, "unwind") in asked, f"nothing makes {kind} undo {step.name}"
    assert set(EVENT_NAMES) <= actions, f"nobody told the drill how to start {set(EVENT_NAMES) - actions}"
