"""What the steps are measured on: one furnished store for all of them, and an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

import nova_fast
from bench.stand import Stand

HOSTS, SERVERS = 200, 1_000


@pytest.fixture(scope="session")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder: Path = tmp_path_factory.mktemp("stand")
    made = Stand(folder, HOSTS, SERVERS)
    yield made
    made.close()


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = uvloop.new_event_loop()
    yield made
    made.close()


def pytest_configure() -> None:
    """Two trees are compared by running each in its own folder: the code that is measured must be the folder's."""
    top = Path(__file__).resolve().parent.parent.parent
    found = Path(nova_fast.__file__).resolve()
    assert found.is_relative_to(top), f"{found} is not of {top}"
