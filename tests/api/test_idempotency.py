"""Idempotency-Key in detail: whose a key is, what is kept of secrets, hostile keys, and two at the same moment."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nova_fast.api.compute import keypair_keys
from nova_fast.api.framework.once import read_key
from nova_fast.model.errors import BadRequest
from nova_fast.state import schema as tables
from tests.api.server_world import World

if TYPE_CHECKING:
    from tests.api.conftest import Client, Reply

KEY = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'
SERVERS = "/v2.1/servers"


def create(world: World, key: str = KEY, client: Client | None = None, **fields: Any) -> Reply:
    headers = {"Idempotency-Key": key}
    body = world.body(**fields)
    return (client or world.member).post("compute", SERVERS, json=body, headers=headers, microversion="2.90")


def network(client: Client, key: str, name: str = "n") -> Reply:
    headers = {"Idempotency-Key": key}
    return client.post("network", "/v2.0/networks", json={"network": {"name": name}}, headers=headers)


# ---------------------------------------------------------------------- the same answer
def test_a_repeated_creation_gives_the_first_server_and_its_password(world: World) -> None:
    first, again = create(world), create(world)
    assert (first.status, again.status, world.count()) == (202, 202, 1)
    assert again.body == first.body and again.json["server"]["adminPass"]
    assert again.headers["location"] == first.headers["location"]
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert again.headers["x-openstack-request-id"] != first.headers["x-openstack-request-id"]


def test_the_answer_stays_when_what_was_made_is_gone(world: World) -> None:
    first = create(world)
    server_id = first.json["server"]["id"]
    world.settle()
    assert world.member.delete("compute", f"{SERVERS}/{server_id}").status == 204
    world.settle()
    assert create(world).body == first.body
    assert world.count() == 0


def test_secrets_are_repeated_and_not_kept_in_clear(world: World) -> None:
    me, headers = world.member, {"Idempotency-Key": KEY}
    key_pair = {"keypair": {"name": "made"}}
    credential = {"application_credential": {"name": "made"}}
    credentials = f"/v3/users/{me.user_id}/application_credentials"
    secrets = []
    for face, path, body, field in (
        ("compute", SERVERS, world.body(), "adminPass"),
        ("compute", "/v2.1/os-keypairs", key_pair, "private_key"),
        ("identity", credentials, credential, "secret"),
    ):
        replies = [me.post(face, path, json=body, headers=headers, microversion="2.90") for _ in range(3)]
        shown = {next(iter(reply.json.values()))[field] for reply in replies}
        assert len(shown) == 1 and {reply.body for reply in replies} == {replies[0].body}
        secrets.append(shown.pop())
    with world.cloud.store.snapshot() as snapshot:
        kept = b"".join(msgspec.msgpack.encode(row) for row in snapshot.scan(tables.KEYED_ANSWERS))
        assert snapshot.size(tables.KEYED_ANSWERS) == 3
    assert KEY.strip('"').encode() not in kept
    for secret in secrets:
        assert secret.encode() not in kept
        assert secret.split("\n")[-3 if "\n" in secret else 0].encode() not in kept


def test_a_refusal_is_not_kept(world: World) -> None:
    missing = "12345678-0000-4000-8000-00000000ffff"
    refused = create(world, imageRef=missing)
    assert refused.status == 400
    with world.cloud.store.transaction(1) as tx:
        image = next(iter(tx.scan(tables.IMAGES)))
        tx.put(tables.IMAGES, msgspec.structs.replace(image, id=missing))
    assert (create(world, imageRef=missing).status, world.count()) == (202, 1)


def test_a_role_that_was_lost_is_asked_for_again(world: World) -> None:
    assert create(world).status == 202
    assert create(world, client=world.p1.reader).status == 403


# ---------------------------------------------------------------------- whose a key is
def test_a_key_means_nothing_to_another_user_project_or_path(world: World) -> None:
    cloud = world.cloud
    other_project = cloud.project("p2")
    both = cloud.user("both", other_project.id, "member")
    made = [network(client, KEY) for client in (world.member, world.p1.manager, other_project.member, both)]
    assert len({reply.json["network"]["id"] for reply in made}) == 4
    group = world.member.post(
        "network", "/v2.0/security-groups", json={"security_group": {"name": "n"}}, headers={"Idempotency-Key": KEY}
    )
    assert group.status == 201 and "security_group" in group.json
    assert network(world.member, KEY, "foreign").status == 422
    assert {network(client, KEY).json["network"]["id"] for client in (world.member, both)} == {
        made[0].json["network"]["id"],
        made[3].json["network"]["id"],
    }


def test_another_microversion_or_query_is_another_request(world: World) -> None:
    assert create(world).status == 202
    headers = {"Idempotency-Key": KEY}
    post = world.member.post
    assert post("compute", SERVERS, json=world.body(), headers=headers, microversion="2.89").status == 422
    assert post("compute", f"{SERVERS}?a=b", json=world.body(), headers=headers, microversion="2.90").status == 422
    assert world.count() == 1


def test_a_request_id_of_the_caller_is_no_key(world: World) -> None:
    headers = {"X-OpenStack-Request-ID": "req-8e03978e-40d5-43dd-bc93-6894a57f9324"}
    for _ in range(2):
        assert world.member.post("compute", SERVERS, json=world.body(), headers=headers).status == 202
    assert world.count() == 2


# ---------------------------------------------------------------------- two at once
def test_of_two_at_the_same_moment_one_is_done_and_both_hear_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    commander = world.cloud.commander
    run, started = commander.run, []

    async def slow(command: Any, request_id: str) -> Any:
        started.append(request_id)
        for _ in range(6000):  # until both have found nothing under the key
            if len(started) > 1:
                break
            await asyncio.sleep(0.01)
        return await run(command, request_id)

    monkeypatch.setattr(commander, "run", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: create(world), range(2))
    assert len(started) == 2, "the two did not meet"
    assert (first.status, second.status, world.count()) == (202, 202, 1)
    assert first.body == second.body
    assert sorted("idempotency-replayed" in reply.headers for reply in (first, second)) == [False, True]


def test_one_that_is_overtaken_while_it_makes_its_secret_shows_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate, overtaken, calls = keypair_keys.generate, threading.Event(), []

    def slow() -> keypair_keys.NewPair:
        calls.append(1)
        if len(calls) == 1:
            assert overtaken.wait(60)
        return generate()

    def ask() -> Reply:
        headers, body = {"Idempotency-Key": KEY}, {"keypair": {"name": "made"}}
        return world.member.post("compute", "/v2.1/os-keypairs", json=body, headers=headers)

    monkeypatch.setattr(keypair_keys, "generate", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask)
        deadline = time.monotonic() + 60
        while not calls and time.monotonic() < deadline:
            time.sleep(0.01)
        second = ask()
        overtaken.set()
        assert (first.result().status, second.status, len(calls)) == (200, 200, 2)
        assert first.result().body == second.body


# ---------------------------------------------------------------------- hostile keys
@pytest.mark.parametrize(
    "value",
    [b"", b" ", b'""', b"a b", b'"unfinished', b'un"quoted', b'"a"b', b"a,b", b'"a";p=1', b"\xff", b'"\xc3\xa9"',
     b"\x7f", b'"a\tb"', b"k" * 256, b'"' + b"k" * 256 + b'"', b'"a\\b"', b"\x00"],
)  # fmt: skip
def test_a_malformed_key_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest):
        read_key([(b"idempotency-key", value)])


def test_a_quoted_key_is_the_bare_one_and_any_visible_character_may_be_in_it() -> None:
    def read(value: bytes) -> bytes:
        return read_key([(b"accept", b"x"), (b"idempotency-key", value)])

    assert read(b'"abc"') == read(b"abc") == read(b"  abc\t") == b"abc"
    assert read(b'"a\\"b\\\\c d,e"') == b'a"b\\c d,e'
    assert read(b"k" * 255) == b"k" * 255
    with pytest.raises(BadRequest):
        read_key([(b"idempotency-key", b"a"), (b"idempotency-key", b"a")])


@pytest.mark.parametrize("value", [b"", b"\xff\xfe", b"a b", b"k" * 5000, b"a\r\nIdempotency-Key: b", b"a\x00b"])
def test_over_the_wire_a_malformed_key_is_400_and_nothing_is_done(world: World, value: bytes) -> None:
    body = b'{"network": {"name": "n"}}'
    head = (
        b"POST /v2.0/networks HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"X-Auth-Token: %s\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n\r\n"
    ) % (world.member.token.encode(), value, len(body))
    with world.cloud.store.snapshot() as snapshot:
        before = snapshot.size(tables.NETWORKS)
    with socket.create_connection(("127.0.0.1", world.cloud.ports["network"]), timeout=60) as wire:
        wire.sendall(head + body)
        answer = b""
        while piece := wire.recv(65536):
            answer += piece
    assert answer.split(b" ", 2)[1] == b"400", answer
    with world.cloud.store.snapshot() as snapshot:
        assert snapshot.size(tables.NETWORKS) == before
        assert snapshot.size(tables.KEYED_ANSWERS) == 0


def test_a_key_on_a_request_that_is_repeatable_by_nature_changes_nothing(world: World) -> None:
    server_id = create(world).json["server"]["id"]
    headers = {"Idempotency-Key": "not a key"}
    path = f"{SERVERS}/{server_id}"
    assert world.member.get("compute", path, headers=headers).status == 200
    for name in ("one", "two"):
        body = {"server": {"name": name}}
        reply = world.member.put("compute", path, json=body, headers={"Idempotency-Key": KEY})
        assert reply.json["server"]["name"] == name
    assert world.member.put("compute", path, json={"server": {"name": "x"}}, headers=headers).status == 200
