"""A world for the drill, and how many cases it ran."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nova_fast.state.testing import memory_store
from tests.unit.conductor.drill.drill import CASES
from tests.unit.conductor.drill.world import World


@pytest.fixture(scope="module")
def fresh_world() -> Iterator[Callable[[], World]]:
    """Gives the same world again and again, as it was when it began."""
    with memory_store() as store:
        world = World(store)
        beginning = world.save()

        def fresh() -> World:
            world.put_back(beginning)
            return world

        yield fresh


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if CASES:
        sorts = ", ".join(f"{count} {sort}" for sort, count in sorted(CASES.items()))
        terminalreporter.write_line(f"saga drill: {CASES.total()} cases ({sorts})")
