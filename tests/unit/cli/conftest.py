"""A store in the middle of things, for the commands that read or replace it whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from nova_fast.state.testing import MemoryStore
from tests.unit.cli.place import Place
from tests.unit.conductor.player import Cloud


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)

    def furnish(made: MemoryStore) -> None:
        cloud = Cloud(made)
        cloud.active()
        cloud.create()

    place.write(furnish)
    return place
