"""``/os-aggregates`` and ``/os-availability-zone`` as operators' clients use them.

Source of shapes and statuses: Compute API v2.1, "Host aggregates", "Availability zones".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.api.framework.request import Services
from nova_fast.hub.peer import Peer
from nova_fast.model.base import Message
from nova_fast.model.tasks import CacheAggregateImages, Done
from tests.api.host_world import add_host, add_scheduler, add_server
from tests.api.server_world import IMAGE_ID, LARGE_IMAGE_ID, World, message

if TYPE_CHECKING:
    from tests.api.conftest import Cloud, Reply

KEYS = {"id", "name", "availability_zone", "hosts", "metadata", "created_at", "updated_at", "deleted", "deleted_at"}
PATH = "/v2.1/os-aggregates"


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute",)


class Conductor(Peer):
    """A link to the conductor that keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Message] = []

    async def call(self, message: Message, *, timeout_s: float = 0, call_id: bytes | None = None) -> Message:
        self.heard.append(message)
        return Done()


@pytest.fixture
def conductor() -> Conductor:
    return Conductor()


@pytest.fixture
def services(conductor: Conductor) -> Services:
    return Services(conductor)


def make(cloud: Cloud, name: str, version: str = "2.96", **fields: Any) -> Reply:
    body = {"aggregate": {"name": name, **fields}}
    return cloud.admin.post("compute", PATH, json=body, microversion=version)


def act(cloud: Cloud, number: int | str, action: str, **fields: Any) -> Reply:
    return cloud.admin.post("compute", f"{PATH}/{number}/action", json={action: fields}, microversion="2.96")


def zones(cloud: Cloud) -> list[str]:
    reply = cloud.project("p1").reader.get("compute", "/v2.1/os-availability-zone")
    return [zone["zoneName"] for zone in reply.json["availabilityZoneInfo"]]


def test_an_aggregate_is_made_shown_changed_and_removed(cloud: Cloud) -> None:
    made = make(cloud, "rack", availability_zone="east")
    assert made.status == 200
    created = made.json["aggregate"]
    assert set(created) == KEYS - {"hosts", "metadata"} | {"uuid"}
    assert (created["id"], created["name"], created["availability_zone"]) == (1, "rack", "east")
    assert (created["updated_at"], created["deleted"], created["deleted_at"]) == (None, False, None)
    shown = cloud.admin.get("compute", f"{PATH}/1", microversion="2.40").json["aggregate"]
    assert set(shown) == KEYS
    assert (shown["hosts"], shown["metadata"]) == ([], {"availability_zone": "east"})
    body = {"aggregate": {"name": " shelf ", "availability_zone": "west"}}
    changed = cloud.admin.put("compute", f"{PATH}/1", json=body, microversion="2.41").json["aggregate"]
    assert (changed["name"], changed["availability_zone"], changed["uuid"]) == ("shelf", "west", created["uuid"])
    assert changed["updated_at"] is not None
    assert [row["name"] for row in cloud.admin.get("compute", PATH).json["aggregates"]] == ["shelf"]
    assert cloud.admin.delete("compute", f"{PATH}/1").status == 200
    assert cloud.admin.get("compute", f"{PATH}/1").status == 404


def test_hosts_come_and_go_and_take_their_zone_with_them(cloud: Cloud) -> None:
    world = World(cloud)
    server_id = world.active()
    add_host(cloud, "h2")
    make(cloud, "rack", availability_zone="east")
    added = act(cloud, 1, "add_host", host="h2")
    assert (added.status, added.json["aggregate"]["hosts"]) == (200, ["h2"])
    assert zones(cloud) == ["east", "nova"]
    services = cloud.admin.get("compute", "/v2.1/os-services?host=h2").json["services"]
    assert [row["zone"] for row in services] == ["east"]
    again = act(cloud, 1, "add_host", host="h2")
    assert (again.status, message(again)) == (409, "Aggregate 1 already has host h2.")
    full = act(cloud, 1, "add_host", host="h1")
    assert full.status == 409
    assert "would change from 'nova' to 'east'" in message(full)
    assert world.get(f"/servers/{server_id}").json["server"]["OS-EXT-AZ:availability_zone"] == "nova"
    assert world.post(availability_zone="west").status == 400
    in_east = world.create(availability_zone="east")
    world.settle("h2")
    assert world.get(f"/servers/{in_east}").json["server"]["OS-EXT-AZ:availability_zone"] == "east"
    for zone, found in (("east", [in_east]), ("nova", [server_id]), ("west", [])):
        rows = world.get(f"/servers?availability_zone={zone}").json["servers"]
        assert [row["id"] for row in rows] == found
    assert act(cloud, 1, "remove_host", host="h2").status == 409
    assert cloud.admin.delete("compute", f"{PATH}/1").status == 400


def test_a_host_is_taken_out_and_forgotten(cloud: Cloud) -> None:
    add_host(cloud, "h1")
    number = add_host(cloud, "h2").number
    make(cloud, "rack", availability_zone="east")
    for host in ("h1", "h2"):
        act(cloud, 1, "add_host", host=host)
    assert zones(cloud) == ["east"]
    assert act(cloud, 1, "remove_host", host="h1").json["aggregate"]["hosts"] == ["h2"]
    assert zones(cloud) == ["east", "nova"]
    missing = act(cloud, 1, "remove_host", host="h1")
    assert (missing.status, message(missing)) == (404, "Cannot remove host h1 in aggregate 1")
    assert cloud.admin.delete("compute", f"/v2.1/os-services/{number}").status == 204
    assert cloud.admin.get("compute", f"{PATH}/1").json["aggregate"]["hosts"] == []


def test_metadata_is_merged_and_null_removes(cloud: Cloud) -> None:
    make(cloud, "rack")
    assert act(cloud, 1, "set_metadata", metadata={"ssd": "true", "cpu": "fast"}).status == 200
    changed = act(cloud, 1, "set_metadata", metadata={"ssd": None, "availability_zone": "east"}).json["aggregate"]
    assert changed["metadata"] == {"cpu": "fast", "availability_zone": "east"}
    assert changed["availability_zone"] == "east"
    refused = act(cloud, 1, "set_metadata", metadata={"availability_zone": None})
    assert refused.status == 400
    assert "empty named availability zone" in message(refused)


#: Asked in this order of a cloud with the host h1 and the aggregates 1 (rack) and 2 (other).
WRONG: list[tuple[str, str, Any, int]] = [
    ("POST", "", {"aggregate": {}}, 400),
    ("POST", "", {"aggregate": {"name": ""}}, 400),
    ("POST", "", {"aggregate": {"name": " rack"}}, 400),
    ("POST", "", {"aggregate": {"name": "x" * 256}}, 400),
    ("POST", "", {"aggregate": {"name": "x", "availability_zone": ""}}, 400),
    ("POST", "", {"aggregate": {"name": "x", "availability_zone": "a:b"}}, 400),
    ("POST", "", {"aggregate": {"name": "x", "hosts": []}}, 400),
    ("POST", "", {"aggregate": {"name": "x", "availability_zone": None}}, 200),
    ("POST", "", {"aggregate": {"name": "rack"}}, 409),
    ("PUT", "/1", {"aggregate": {}}, 400),
    ("PUT", "/1", {"aggregate": {"name": "  "}}, 400),
    ("PUT", "/1", {"aggregate": {"availability_zone": None}}, 400),
    ("PUT", "/2", {"aggregate": {"name": "rack"}}, 409),
    ("PUT", "/9", {"aggregate": {"name": "x"}}, 404),
    ("PUT", "/x", {"aggregate": {"name": "x"}}, 400),
    ("GET", "/x", None, 400),
    ("GET", "/-1", None, 400),
    ("DELETE", "/9", None, 404),
    ("POST", "/1/action", {"add_host": {"host": "nobody"}}, 404),
    ("POST", "/9/action", {"add_host": {"host": "h1"}}, 404),
    ("POST", "/1/action", {"add_host": {"host": "no host"}}, 400),
    ("POST", "/1/action", {"add_host": {}}, 400),
    ("POST", "/1/action", {"remove_host": {"host": "h1"}}, 404),
    ("POST", "/1/action", {"set_metadata": {"metadata": {"a/b": "c"}}}, 400),
    ("POST", "/1/action", {"set_metadata": {"metadata": {"a": 1}}}, 400),
    ("POST", "/1/action", {"set_metadata": {"metadata": {"a": "x" * 256}}}, 400),
    ("POST", "/1/action", {"set_metadata": {}}, 400),
    ("POST", "/9/action", {"set_metadata": {"metadata": {}}}, 404),
    ("POST", "/1/action", {"explode": {}}, 400),
]


def test_what_is_wrong_is_refused(cloud: Cloud) -> None:
    add_host(cloud, "h1")
    make(cloud, "rack")
    make(cloud, "other")
    found = [(m, p, b, cloud.admin.request(m, "compute", PATH + p, json=b).status) for m, p, b, _status in WRONG]
    assert found == WRONG


def test_only_an_admin_sees_aggregates(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    make(cloud, "rack")
    assert member.get("compute", PATH).status == 403
    assert member.post("compute", f"{PATH}/1/action", json={"add_host": {"host": "h1"}}).status == 403


def test_zones_are_shown_with_hosts_to_an_admin(cloud: Cloud) -> None:
    add_host(cloud, "h1", "attic")
    add_host(cloud, "h2")
    add_scheduler(cloud, "h1")
    make(cloud, "rack", availability_zone="east")
    act(cloud, 1, "add_host", host="h2")
    detail = cloud.admin.get("compute", "/v2.1/os-availability-zone/detail").json["availabilityZoneInfo"]
    assert {zone["zoneName"]: list(zone["hosts"]) for zone in detail} == {
        "internal": ["h1"], "attic": ["h1"], "east": ["h2"],
    }  # fmt: skip
    add_server(cloud, cloud.project("p1").member, "h2")
    assert act(cloud, 1, "remove_host", host="h2").status == 409
    cloud.made_up_usage = True


def test_images_are_fetched_before_servers_need_them(cloud: Cloud, conductor: Conductor) -> None:
    World(cloud)
    make(cloud, "rack")

    def ask(*ids: str, number: int = 1, version: str = "2.81") -> int:
        body = {"cache": [{"id": one} for one in ids]}
        return cloud.admin.post("compute", f"{PATH}/{number}/images", json=body, microversion=version).status

    assert ask(IMAGE_ID, LARGE_IMAGE_ID) == 202
    assert conductor.heard == [CacheAggregateImages(number=1, image_ids=(IMAGE_ID, LARGE_IMAGE_ID))]
    assert ask(IMAGE_ID, IMAGE_ID) == 400
    assert ask() == 400
    assert ask("disk") == 400
    assert ask("99999999-0000-4000-8000-000000000000") == 400
    assert ask(IMAGE_ID, number=9) == 404
    assert ask(IMAGE_ID, version="2.80") == 404
    assert len(conductor.heard) == 1
