"""Reads that come in one message are answered together, and as each would be alone."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from nova_fast.api.framework.endpoint import Endpoint
from nova_fast.api.framework.together import Moment, Reads
from nova_fast.client.core import AsyncCore
from nova_fast.model.sdk import Answer, Ask
from nova_fast.state.store import Store
from tests.api.sdk_world import OpenDoor
from tests.api.server_world import World
from tests.tries import least_of

if TYPE_CHECKING:
    from tests.api.conftest import Client as Rest


def ask_together(door: OpenDoor, who: Rest | None, targets: list[str]) -> list[Answer]:
    """GETs of compute in one message."""

    async def run() -> list[Answer]:
        core = AsyncCore(door.settings(who))
        await core.open()
        try:
            return await core.ask_all([Ask("compute", "GET", target) for target in targets])
        finally:
            await core.close()

    return uvloop.run(run())


def servers_of(world: World, count: int) -> list[str]:
    made = [world.active() for _ in range(count)]
    return [f"/v2.1/servers/{server_id}" for server_id in made]


def test_each_is_answered_as_alone(world: World, door: OpenDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    [server] = servers_of(world, 1)
    server_id = server.rpartition("/")[2]
    foreign = f"/v2.1/servers/{world.create(world.admin, networks='none')}"
    targets = [
        server, foreign, "/v2.1/servers/" + "0" * 36, "/v2.1/servers/x", "/v2.1/servers/detail", server + "/",
        f"/v2.1/{world.p1.id}/servers/{server_id}", f"/v2.1/{'a' * 32}/servers/{server_id}", f"/v2/servers/{server_id}",
        server + "?a=b", server.replace("-", "%2D"), "/v2.1/servers/" + "y" * 9000, "/v2.1/servers/" + "z" * 1200,
        "/v2.1/flavors/1", "/v2.1/flavors", "/v2.1/limits", "/v2.1/os-hypervisors", "/v2.1/os-quota-sets/defaults",
        f"{server}/os-interface", f"{server}/metadata", f"{server}/tags", f"{server}/ips", "/v2.1/", "/v2.1", "/",
        "/nothing", "/v2.1/servers//", f"{server}/../x", "no path", server + " ", server + "\n", server + "é", "",
    ]  # fmt: skip
    unscoped, service = world.cloud.client_for(world.member.user_id), world.cloud.user("s", world.p1.id, "service")
    whoever = [(world.member, [200, 404]), (world.p1.reader, [200, 404]), (world.admin, [200, 200]), (None, [401, 401])]
    for who, statuses in (*whoever, (unscoped, [403, 403]), (service, [403, 403])):
        together = ask_together(door, who, targets)
        with monkeypatch.context() as patch:
            patch.setattr(Reads, "body", lambda _reads, _target: None)
            alone = ask_together(door, who, targets)
        for target, one, other in zip(targets, together, alone, strict=True):
            said = {name: value for name, value in one.headers.items() if "request-id" not in name}
            expected = {name: value for name, value in other.headers.items() if "request-id" not in name}
            assert (one.status, one.body, said) == (other.status, other.body, expected), target
        assert [one.status for one in together[:2]] == statuses


def test_a_message_is_read_in_one_state_and_without_the_endpoint(
    world: World, door: OpenDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = servers_of(world, 3) * 20
    ask_together(door, world.member, targets)
    opened = 0

    def opened_by_all() -> int:
        nonlocal opened
        opened = 0
        assert {answer.status for answer in ask_together(door, world.member, targets)} == {200}
        assert opened
        return opened

    snapshot = Store.snapshot

    def counted(store: Store) -> Any:
        nonlocal opened
        opened += 1
        return snapshot(store)

    async def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the endpoint was asked")

    monkeypatch.setattr(Store, "snapshot", counted)
    monkeypatch.setattr(Endpoint, "respond", never)
    assert least_of(opened_by_all, 21) <= 20, "of 60 reads: one in each turn, of which a busy machine makes more"


def test_each_has_its_line_in_the_log(world: World, door: OpenDoor, caplog: pytest.LogCaptureFixture) -> None:
    targets = servers_of(world, 2)
    ask_together(door, world.member, targets)
    with caplog.at_level(logging.INFO, "nova_fast.api.access"):
        caplog.clear()
        ask_together(door, world.member, targets)
    form = (
        r"face=compute request=(req-[0-9a-f-]{36}) method=GET path=(\S+) status=200 ms=\d+\.\d user=\S+ project=(\S+)"
    )
    found = [match.groups() for line in caplog.messages if (match := re.match(form, line))]
    assert [(path, project) for _, path, project in found] == [(target, world.p1.id) for target in targets]
    assert len({request for request, _, _ in found}) == 2


def test_a_change_is_seen_by_whoever_asks_after_it(world: World, door: OpenDoor) -> None:
    [target] = servers_of(world, 1)
    server_id = target.rpartition("/")[2]
    for number in range(20):
        name = f"name-{number}"
        reply = world.member.put("compute", target, json={"server": {"name": name}}, microversion="2.96")
        assert reply.status == 200
        assert all(f'"{name}"'.encode() in answer.body for answer in ask_together(door, world.member, [target] * 3))
    assert door.door._inside.moment._open is None
    assert world.member.delete("compute", target).status == 204
    world.settle()
    assert [one.status for one in ask_together(door, world.member, [target])] == [404], server_id


def test_a_moment_is_one_state_for_a_turn_and_another_in_the_next(world: World) -> None:
    store = world.cloud.store
    moment = Moment(store)
    with moment:
        first = moment.snapshot().commit()
        world.create()
        assert moment.snapshot().commit() == first
    with moment:
        assert moment.snapshot().commit() > first
    assert moment._open is None


def test_a_token_that_ends_between_two_turns_counts_no_more(world: World, door: OpenDoor) -> None:
    """A message may be worked off in several turns."""
    [target] = servers_of(world, 1)
    ask = Ask("compute", "GET", target)
    inside = door.door._inside
    speaker = inside.speaker(world.member.token.encode())

    def status() -> int:
        answer = speaker.ask(ask)
        assert isinstance(answer, Answer)
        return answer.status

    with inside.moment:
        assert status() == 200
    reply = world.admin.patch("identity", f"/v3/users/{world.member.user_id}", json={"user": {"enabled": False}})
    assert reply.status == 200
    with inside.moment:
        assert status() == 401
