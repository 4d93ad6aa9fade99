"""Machines for tests: a pytest fixture that makes them, waits for them, and leaves nothing behind.

Run it with ``pytest examples/ci_fixture.py``; in a project of your own the fixtures go into ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from nova_fast.client import Client, NewServer, Server


@pytest.fixture(scope="session")
def cloud() -> Iterator[Client]:
    """One link for the whole run; it may be shared by threads."""
    with Client.connect() as client:
        yield client


@pytest.fixture(scope="session")
def image_id(cloud: Client) -> str:
    """Whatever your tests boot from."""
    return cloud.images.create("ci", bytes(65536)).id


@pytest.fixture
def machines(cloud: Client, image_id: str) -> Iterator[Callable[[int], list[Server]]]:
    """Ask for as many as you need; all of them run when you get them."""
    ids: list[str] = []

    def make(count: int) -> list[Server]:
        wanted = NewServer(name="ci", flavor="1", image=image_id, networks="none")
        made = cloud.servers.create(wanted, count=count)
        ids.extend(made.ids)
        return cloud.servers.wait(made.ids, timeout_s=60)

    yield make
    cloud.servers.delete_many(ids)
    cloud.servers.wait(ids, "DELETED", timeout_s=60)


def test_three_machines_have_three_names(machines: Callable[[int], list[Server]]) -> None:
    assert {server.name for server in machines(3)} == {"ci-1", "ci-2", "ci-3"}


def test_a_machine_stops_and_starts(cloud: Client, machines: Callable[[int], list[Server]]) -> None:
    [server] = machines(1)
    cloud.servers.stop(server.id)
    cloud.servers.wait(server.id, "SHUTOFF", timeout_s=60)
    cloud.servers.start(server.id)
    cloud.servers.wait(server.id, "ACTIVE", timeout_s=60)
