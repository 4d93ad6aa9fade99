"""What the SDK does is what REST does: the same objects, rules and errors. Real sockets, the real application."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from nova_fast.api.app import FACES, load_face
from nova_fast.client import AsyncClient, Client, Password, Settings
from nova_fast.config import ApiConfig
from nova_fast.model.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    NotFound,
    NovaFastError,
    OverQuota,
    Unauthorized,
    Unavailable,
)
from nova_fast.model.sdk import Ask
from tests.api.sdk_world import OpenDoor, new
from tests.api.server_world import IMAGE_ID, World, message

if TYPE_CHECKING:
    from tests.api.conftest import Cloud


@pytest.fixture
def api_config() -> ApiConfig:
    return ApiConfig(token_lifetime_s=2)


@pytest.fixture
def member(world: World, door: OpenDoor) -> Iterator[Client]:
    with door.client(world.member) as client:
        yield client


@pytest.fixture
def admin(world: World, door: OpenDoor) -> Iterator[Client]:
    with door.client(world.admin) as client:
        yield client


def test_a_server_lives_and_dies(world: World, member: Client) -> None:
    made = member.servers.create(new(world))
    assert made.id == made.ids[0] and made.admin_password
    assert member.servers.get(made.id).status == "BUILD"
    world.settle()
    server = member.servers.get(made.id)
    assert (server.status, server.flavor.name, server.ips, server.project_id) == (
        "ACTIVE", "m1.tiny", ["10.0.0.2"], world.p1.id,
    )  # fmt: skip
    for act, status in (
        (member.servers.stop, "SHUTOFF"),
        (member.servers.start, "ACTIVE"),
        (member.servers.pause, "PAUSED"),
        (member.servers.unpause, "ACTIVE"),
        (member.servers.suspend, "SUSPENDED"),
        (member.servers.resume, "ACTIVE"),
        (member.servers.reboot, "ACTIVE"),
    ):
        act(made.id)
        world.settle()
        assert member.servers.get(made.id).status == status
    assert member.servers.rename(made.id, "other").name == "other"
    assert [one.name for one in member.servers.list()] == ["other"]
    member.servers.delete(made.id)
    world.settle()
    with pytest.raises(NotFound) as caught:
        member.servers.get(made.id)
    assert caught.value.status == 404


def test_the_other_nouns(world: World, admin: Client) -> None:
    flavor = admin.flavors.create("big", vcpus=8, ram_mib=1024, disk_gib=1)
    assert admin.flavors.get(flavor.id) == admin.flavors.find("big") == flavor
    admin.flavors.delete(flavor.id)
    with pytest.raises(NotFound):
        admin.flavors.find("big")
    assert "tiny" in [image.name for image in admin.images.list()]
    network = admin.networks.create("green", cidr="10.1.0.0/24")
    assert admin.networks.get(network.id).subnet_ids and network in list(admin.networks.list())
    admin.networks.delete(network.id)
    [host] = admin.hosts.list()
    assert (host.name, host.state, host.vcpus) == ("h1", "up", 64)
    assert admin.hosts.get(host.id) == host


@pytest.mark.parametrize("count", [1, 3, 120])
def test_many_are_made_in_one_call(world: World, member: Client, admin: Client, count: int) -> None:
    allow(world, instances=-1, cores=-1, ram=-1)
    made = member.servers.create(new(world), count=count)
    assert len(set(made.ids)) == count == world.count()
    names = {server.name for server in member.servers.get_many(made.ids)}
    assert names == ({"vm"} if count == 1 else {f"vm-{number}" for number in range(1, count + 1)})
    assert [one.id for one in member.servers.get_many(reversed(made.ids))] == list(reversed(made.ids))


def allow(world: World, **limits: int) -> None:
    body = {"quota_set": limits}
    path = f"/v2.1/os-quota-sets/{world.p1.id}"
    assert world.admin.put("compute", path, json=body, microversion="2.96").status == 200


def test_all_or_nothing_and_best_effort(world: World, member: Client) -> None:
    allow(world, instances=5, cores=-1, ram=-1)
    with pytest.raises(NovaFastError, match="Quota exceeded for instances") as caught:
        member.servers.create(new(world), count=6)
    assert (caught.value.status, world.count()) == (403, 0)
    assert isinstance(caught.value, OverQuota)
    made = member.servers.create(new(world), count=6, all_or_nothing=False)
    assert len(made.ids) == 5 == world.count()


def test_what_is_refused_is_refused_as_over_rest(world: World, member: Client) -> None:
    server_id = member.servers.create(new(world)).id
    cases: list[tuple[type[NovaFastError], Any, Any]] = [
        (NotFound, lambda: member.servers.get("nothing"), world.get("/servers/nothing")),
        (Conflict, lambda: member.servers.stop(server_id), world.act(server_id, "os-stop")),
        (BadRequest, lambda: member.servers.create(new(world, name=" a")), world.post(name=" a")),
        (BadRequest, lambda: list(member.servers.list(status="odd")), world.get("/servers/detail?status=odd")),
        (Forbidden, lambda: list(member.hosts.list()), world.get("/os-hypervisors/detail", version="2.87")),
        (Forbidden, lambda: member.hosts.capacity("1"), world.get("/os-capacity?flavor=1")),
    ]
    for kind, call, reply in cases:
        with pytest.raises(kind) as caught:
            call()
        assert caught.value.status == reply.status
        assert caught.value.message in message(reply)
        assert caught.value.request_id.startswith("req-")


def test_what_has_no_route_is_refused_as_over_rest(world: World, door: OpenDoor) -> None:
    wrong = [("GET", "/v2.1/nothing"), ("DELETE", "/v2.1/flavors"), ("GET", "/v2.1/servers/a/b/c"), ("PUT", "/")]
    answers = door.ask(world.member, *(Ask("compute", method, path) for method, path in wrong))
    for (method, path), answer in zip(wrong, answers, strict=True):
        reply = world.member.request(method, "compute", path, microversion="latest")
        assert (answer.status, answer.body) == (reply.status, reply.body)


def test_who_asks_is_who_the_token_says(world: World, door: OpenDoor, member: Client) -> None:
    server_id = member.servers.create(new(world)).id
    other, reader = world.cloud.project("p2").member, world.p1.reader
    with door.client(other) as stranger, door.client(None) as nobody, door.client(reader) as looker:
        with pytest.raises(NotFound):
            stranger.servers.get(server_id)
        with pytest.raises(NotFound):
            stranger.servers.delete(server_id)
        assert list(stranger.servers.list()) == []
        with pytest.raises(Unauthorized) as caught:
            nobody.servers.get(server_id)
        assert caught.value.status == 401
        assert looker.servers.get(server_id).id == server_id
        with pytest.raises(Forbidden):
            looker.servers.delete(server_id)
        forged = Ask("compute", "GET", "/v2.1/servers", headers={"x-auth-token": world.member.token})
        [answer] = door.ask(None, forged)
        assert answer.status == 400, "a token beside the message's own"


def test_a_page_follows_the_other(world: World, member: Client) -> None:
    made = member.servers.create(new(world), count=5)
    listed = [server.id for server in member.servers.list(limit=2)]
    assert sorted(listed) == sorted(made.ids)
    assert [one.name for one in member.servers.list(name="vm-3")] == ["vm-3"]


def test_missing_ones_of_many(world: World, member: Client) -> None:
    made = member.servers.create(new(world), count=2)
    with pytest.raises(NotFound):
        member.servers.get_many([*made.ids, "nothing"])
    assert [one.id for one in member.servers.get_many([*made.ids, "nothing"], missing_ok=True)] == list(made.ids)
    member.servers.delete_many([*made.ids, "nothing"])
    world.settle()
    assert list(member.servers.list()) == []


def test_a_key_makes_one_server(world: World, door: OpenDoor) -> None:
    image = IMAGE_ID.encode()
    body = b'{"server":{"name":"vm","flavorRef":"1","imageRef":"%s","networks":"none"}}' % image
    ask = Ask("compute", "POST", "/v2.1/servers", body, "a-key")
    first, again = door.ask(world.member, ask, ask)
    assert first.status == again.status == 202
    assert first.body == again.body
    assert (world.count(), again.headers["idempotency-replayed"]) == (1, "true")


def test_a_password_gives_a_token_and_the_next_one(world: World, door: OpenDoor) -> None:
    """Tokens of this cloud live for two seconds."""
    who = Password(username="p1-member", password=world.cloud.password, project="p1")
    with Client.connect(Settings(addresses=(door.address,), credentials=who)) as client:
        server_id = client.servers.create(new(world)).id
        done = threading.Event()
        threading.Timer(5, done.set).start()
        while not done.wait(0.1):
            assert client.servers.get(server_id).id == server_id
            assert client.servers.get_many([server_id] * 3)
    with pytest.raises(Unauthorized):
        Client.connect(
            Settings(addresses=(door.address,), credentials=Password(username="p1-member", password="x", project="p1"))
        )


def test_a_token_that_is_given_ends(world: World, door: OpenDoor) -> None:
    for lifetime_s in (1.5, 6.0, 30.0):
        short = world.cloud.client_for(world.member.user_id, world.p1.id, lifetime_s)
        with door.client(short) as client:
            watch = client.watch()
            try:
                watch.start()
                client.flavors.get("1")
            except Unauthorized:
                continue  # it has ended before it was used: the machine is busy
            with pytest.raises(Unauthorized):
                watch.next(lifetime_s + 5)
            with pytest.raises(Unauthorized):
                client.flavors.get("1")
            return
    pytest.fail("no token was good for as long as it lives")


def test_many_threads_share_a_client(world: World, member: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = [made.id for made in pool.map(lambda n: member.servers.create(new(world, f"vm{n}")), range(8))]
        found = list(pool.map(member.servers.get, ids * 20))
    assert [server.id for server in found] == ids * 20


def test_who_makes_too_many_calls_waits(world: World, door: OpenDoor) -> None:
    async def run() -> None:
        settings = door.settings(world.member, max_in_flight=10)
        async with await AsyncClient.connect(settings) as client:
            made = await client.servers.create(new(world))
            under_way: list[int] = []

            async def get() -> None:
                await client.servers.get(made.id)
                under_way.append(client._core._under_way)

            await asyncio.gather(*(get() for _ in range(500)))
            assert len(under_way) == 500 and max(under_way) <= 10

    uvloop.run(run())


def test_nobody_at_the_door(world: World, door: OpenDoor) -> None:
    door.close()
    with pytest.raises(Unavailable, match="does not answer at"):
        door.client(world.member, connect_timeout_s=0.3)


def test_every_read_of_every_face_goes_through_the_door(world: World, door: OpenDoor, cloud: Cloud) -> None:
    """As over HTTP, byte for byte: GETs are driven by hand, and one that is not may not be driven so."""
    asked = [
        (face, path)
        for face in FACES
        for path in sorted({route.path for route in load_face(face).routes if route.method == "GET"})
    ]
    assert len(asked) > 80
    targets = [(face, path.replace("{", "").replace("}", "")) for face, path in asked if path != "/v2.1/os-capacity"]
    answers = door.ask(world.admin, *(Ask(face, "GET", path) for face, path in targets))
    for (face, path), answer in zip(targets, answers, strict=True):
        version = {"microversion": "latest"} if face in ("compute", "placement") else {}
        reply = world.admin.get(face, path, **version)
        assert answer.status == reply.status, (face, path, answer.body, reply.body)
        if b"req-" not in reply.body and "tenant-usage" not in path:  # which says how many hours it is by now
            assert answer.body == reply.body, (face, path)
