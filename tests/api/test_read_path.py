"""What makes reading fast may not show: answers are never of an older commit, and no line of the access log is lost."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nova_fast.api.app import load_face
from nova_fast.api.compute.server_view import microseconds, seconds
from nova_fast.api.framework import auth
from nova_fast.api.framework import log as log_module
from nova_fast.api.framework.endpoint import new_request_id
from nova_fast.api.framework.log import FLUSH_AFTER_S, LINES_MAX, AccessLog
from nova_fast.api.framework.request import FACTS_MAX, Request, Runtime, Services
from nova_fast.state import schema as tables
from tests.api.server_world import HOST, World

if TYPE_CHECKING:
    from tests.api.conftest import Cloud


def change(world: World, table: Any, key: str, **fields: Any) -> None:
    with world.cloud.store.transaction(1) as tx:
        tx.put(table, msgspec.structs.replace(tx.need(table, key, "Row"), **fields))


def test_what_servers_share_is_shown_as_of_the_last_commit(world: World) -> None:
    server_id = world.active()
    with world.cloud.store.snapshot() as snapshot:
        [port] = snapshot.select(tables.PORTS_BY_DEVICE, server_id)
    [group_id] = port.security_groups
    for path in (f"/servers/{server_id}", "/servers/detail?all_tenants=1"):

        def shown(path: str = path) -> dict[str, Any]:
            body = world.get(path, world.admin).json
            server: dict[str, Any] = body["server"] if "server" in body else body["servers"][0]
            return server

        change(world, tables.NETWORKS, world.network_id, name="blue")
        change(world, tables.HOSTS, HOST, up=True, zone="nova")
        change(world, tables.SECURITY_GROUPS, group_id, name="default")
        before = shown()
        assert (list(before["addresses"]), before["host_status"]) == (["blue"], "UP")
        change(world, tables.NETWORKS, world.network_id, name="red")
        assert list(shown()["addresses"]) == ["red"]
        change(world, tables.HOSTS, HOST, up=False, zone="west")
        assert (shown()["host_status"], shown()["OS-EXT-AZ:availability_zone"]) == ("DOWN", "west")
        change(world, tables.SECURITY_GROUPS, group_id, name="wall")
        assert shown()["security_groups"] == [{"name": "wall"}]


@pytest.mark.parametrize(
    ("at_us", "second", "microsecond"),
    [
        (1, "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000001"),
        (951_782_399_999_999, "2000-02-28T23:59:59Z", "2000-02-28T23:59:59.999999"),
        (951_782_400_000_000, "2000-02-29T00:00:00Z", "2000-02-29T00:00:00.000000"),
        (1_795_424_400_000_100, "2026-11-23T09:00:00Z", "2026-11-23T09:00:00.000100"),
    ],
)
def test_times_are_written_as_the_api_writes_them(at_us: int, second: str, microsecond: str) -> None:
    assert (seconds(at_us), microseconds(at_us)) == (second, microsecond)


# ------------------------------------------------------------------------------------------------ access log
@pytest.fixture
def lines() -> Iterator[tuple[AccessLog, io.StringIO]]:
    found, stream = AccessLog(), io.StringIO()
    found.open(stream)
    yield found, stream
    found.close()


def test_lines_are_written_together_and_soon(lines: tuple[AccessLog, io.StringIO]) -> None:
    found, stream = lines

    async def run() -> None:
        found.add("face=compute first")
        found.add("face=compute second")
        assert stream.getvalue() == ""
        await asyncio.sleep(FLUSH_AFTER_S + 0.1)
        assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
            "INFO nova_fast.api.access face=compute first",
            "INFO nova_fast.api.access face=compute second",
        ]
        for number in range(LINES_MAX):
            found.add(str(number))
        assert len(stream.getvalue().splitlines()) == 2 + LINES_MAX

    asyncio.run(run())


def test_nothing_waits_behind_a_fault_or_the_end(
    lines: tuple[AccessLog, io.StringIO], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found, stream = lines
    monkeypatch.setattr(log_module, "access_log", found)

    async def run() -> None:
        found.add("before the fault")
        log_module.log_fault("it %s", "broke", error=ValueError("so"))
        assert "before the fault" in stream.getvalue()
        assert [(r.levelno, r.getMessage(), bool(r.exc_info)) for r in caplog.records] == [
            (logging.ERROR, "it broke", True)
        ]
        found.add("at the end")
        found.close()
        assert "at the end" in stream.getvalue()

    asyncio.run(run())


def test_request_ids_are_never_given_twice_not_even_after_a_fork() -> None:
    own = {new_request_id() for _ in range(1000)}
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_request_id().encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    theirs = os.read(reader, 100).decode()
    os.close(reader)
    assert len(own) == 1000
    assert theirs not in own | {new_request_id() for _ in range(1000)}
    assert all(re.fullmatch(r"req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}", i) for i in own)


# ------------------------------------------------------------------------------------------------ what is kept
def test_tokens_are_kept_in_a_bounded_number_of_bytes(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_BYTES_MAX", 10 * auth.TOKEN_BYTES)
    keeper = auth.Authenticator()
    with cloud.store.snapshot() as snapshot:
        for _ in range(50):
            token = cloud.admin.token.encode()
            assert keeper.verify(snapshot, token) is keeper.verify(snapshot, token)
            assert keeper._size == sum(map(auth._size, keeper._entries.values())) <= auth.CACHE_BYTES_MAX
        assert len(keeper._entries) > 1


def test_headers_of_any_length_fill_no_memory(world: World) -> None:
    for number in range(3):
        headers = {
            "Host": f"h{number}" * 2000,
            "OpenStack-API-Version": f"compute 2.1,{'x' * 2000} {number}",
        }
        reply = world.member.get("compute", "/v2.1/servers", headers=headers)
        assert reply.status == 200
    assert all(len(value) <= 100 for value in load_face("compute").microversions._asked)  # type: ignore[union-attr]
    with world.cloud.store.snapshot() as snapshot:
        request = Request(
            Runtime(world.cloud.config, world.cloud.store, world.cloud.commander, Services()),
            {"method": "GET", "server": ("a", 1)},
            {b"host": b"h" * 300},
            "",
        )
        assert request.base_url == "http://a:1"
        assert b"h" * 300 not in request.link_facts
        facts = request.facts(snapshot, "names")
        facts.update((str(number), number) for number in range(FACTS_MAX + 1))
        assert not request.facts(snapshot, "names")
