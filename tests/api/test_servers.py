"""``/servers`` through the real HTTP stack: wrong input, creating, and lists."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.model.commands.networks import CreateNetworks, NewNetwork
from nova_fast.model.commands.ports import CreatePorts, NewPort
from nova_fast.model.identity import Caller
from tests.api.server_world import IMAGE_ID, LARGE_IMAGE_ID, World, message

if TYPE_CHECKING:
    pass

UNKNOWN = "99999999-0000-4000-8000-000000000000"


# ---------------------------------------------------------------------- wrong input
@pytest.mark.parametrize(
    ("status", "fields"),
    [
        (400, {"name": ...}),
        (400, {"return_reservation_id": "perhaps"}),
        (400, {"name": ""}),
        (400, {"name": " vm"}),
        (400, {"name": "x" * 256}),
        (400, {"name": 7}),
        (400, {"name": "a\nb"}),
        (400, {"flavorRef": ...}),
        (400, {"flavorRef": "no-such"}),
        (400, {"flavorRef": "x" * 1000}),
        (400, {"flavorRef": []}),
        (400, {"imageRef": ...}),
        (400, {"imageRef": UNKNOWN}),
        (400, {"imageRef": 5}),
        (400, {"imageRef": LARGE_IMAGE_ID}),
        (400, {"networks": ...}),
        (400, {"networks": "some"}),
        (400, {"networks": [{"uuid": UNKNOWN}]}),
        (400, {"networks": [{"uuid": "not-a-uuid"}]}),
        (400, {"networks": [{"port": UNKNOWN}]}),
        (400, {"networks": [{"what": "x"}]}),
        (400, {"networks": [7]}),
        (400, {"fixed": "10.0.0.300"}),
        (400, {"fixed": "10.9.9.9"}),
        (400, {"fixed": "10.0.0.1"}),  # the gateway's
        (400, {"fixed": "10.0.0.7", "max_count": 2}),
        (400, {"security_groups": [{"name": "no-such"}]}),
        (400, {"security_groups": ["default"]}),
        (400, {"key_name": "no-such"}),
        (400, {"availability_zone": "no-such"}),
        (403, {"availability_zone": "nova:h1"}),
        (403, {"host": "h1"}),
        (400, {"user_data": "not base64!"}),
        (400, {"user_data": "A" * 65536}),
        (400, {"metadata": {"": "x"}}),
        (400, {"metadata": {"k": "x" * 256}}),
        (400, {"metadata": {"k": 5}}),
        (403, {"metadata": {str(n): "x" for n in range(129)}}),
        (400, {"tags": ["a,b"]}),
        (400, {"tags": ["a/b"]}),
        (400, {"tags": ["x" * 61]}),
        (400, {"tags": [str(n) for n in range(51)]}),
        (400, {"min_count": 0}),
        (400, {"min_count": 3, "max_count": 2}),
        (400, {"max_count": "many"}),
        (400, {"max_count": True}),
        (400, {"config_drive": "perhaps"}),
        (400, {"accessIPv4": "::1"}),
        (400, {"accessIPv6": "10.0.0.1"}),
        (400, {"hostname": "-bad-"}),
        (400, {"OS-DCF:diskConfig": "SOME"}),
        (400, {"block_device_mapping_v2": [{"source_type": "volume", "uuid": UNKNOWN, "boot_index": 0}]}),
        (400, {"personality": []}),  # gone since 2.57
        (400, {"no_such_field": 1}),
        (403, {"min_count": 11}),  # the quota of instances
    ],
)
def test_a_wrong_request_names_the_fault_and_changes_nothing(world: World, status: int, fields: dict[str, Any]) -> None:
    fields = dict(fields)
    if "fixed" in fields:
        fields["networks"] = [{"uuid": world.network_id, "fixed_ip": fields.pop("fixed")}]
    reply = world.post(**fields)
    assert reply.status == status, reply.body
    assert message(reply)
    assert world.count() == 0


@pytest.mark.parametrize(
    ("version", "field", "value"),
    [
        ("2.18", "description", "d"),
        ("2.51", "tags", ["a"]),
        ("2.62", "trusted_image_certificates", []),
        ("2.73", "host", "h1"),
        ("2.89", "hostname", "h"),
    ],
)
def test_a_field_is_unknown_before_its_microversion(world: World, version: str, field: str, value: Any) -> None:
    reply = world.post(version=version, **{field: value})
    assert reply.status == 400
    assert field in message(reply)


def test_bodies_that_are_no_request_are_refused(world: World) -> None:
    for body, status in ((b"{", 400), (b"", 400), (b"[]", 400), (b'{"server": null}', 400), (b'{"server": {}}', 400)):
        reply = world.member.post(
            "compute", "/v2.1/servers", body=body, headers={"Content-Type": "application/json"}, microversion="2.96"
        )
        assert reply.status == status, body
    large = world.post(adminPass="x" * (2 << 20))
    assert large.status == 413
    assert (
        world.member.post("compute", "/v2.1/servers", body=b"a=b", headers={"Content-Type": "text/plain"}).status == 415
    )
    assert world.count() == 0


def test_who_may_not_create(world: World) -> None:
    assert world.post(world.cloud.nobody).status == 401
    expired = world.cloud.client_for(world.member.user_id, world.p1.id, lifetime_s=-1)
    assert world.post(expired).status == 401
    assert world.post(world.p1.reader).status == 403
    path = f"/v2.1/{'f' * 32}/servers"
    assert world.member.post("compute", path, json=world.body(), microversion="2.96").status == 400
    assert world.count() == 0


def test_the_quota_message_says_what_is_used_and_what_is_asked(world: World) -> None:
    reply = world.post(min_count=11)
    assert reply.status == 403
    assert message(reply).startswith("Quota exceeded for instances: Requested 11, but already used 0 of 10 instances")


def test_a_port_in_use_is_a_conflict_and_one_port_goes_to_one_server(world: World) -> None:
    caller = Caller(user_id=world.member.user_id, project_id=world.p1.id, roles=("member", "reader"))
    port = world.cloud.run(CreatePorts(caller=caller, ports=(NewPort(network_id=world.network_id),))).ports[0]
    assert world.post(networks=[{"port": port.id}], max_count=2).status == 400
    assert world.post(networks=[{"port": port.id, "fixed_ip": "10.0.0.9"}]).status == 400
    world.create(networks=[{"port": port.id}])
    reply = world.post(networks=[{"port": port.id}])
    assert reply.status == 409
    assert port.id in message(reply)
    assert world.count() == 1


def test_an_address_in_use_is_refused(world: World) -> None:
    wish = [{"uuid": world.network_id, "fixed_ip": "10.0.0.9"}]
    world.create(networks=wish)
    assert world.post(networks=wish).status == 400
    assert world.count() == 1


def test_several_networks_are_ambiguous_and_none_cannot_be_allocated(world: World) -> None:
    other = world.cloud.project("p2").member
    assert world.post(other, networks="auto").status == 400
    world.create(networks="auto")
    caller = Caller(user_id=world.member.user_id, project_id=world.p1.id, roles=("member", "reader"))
    world.cloud.run(CreateNetworks(caller=caller, networks=(NewNetwork(name="green"),)))
    assert world.post(networks="auto").status == 409


# ---------------------------------------------------------------------- creating
def test_several_servers_get_numbers_only_when_several_are_made(world: World) -> None:
    reply = world.post(name="a", min_count=2, max_count=3, return_reservation_id=True)
    assert reply.json.keys() == {"reservation_id"}
    rows = world.get(f"/servers?reservation_id={reply.json['reservation_id']}").json["servers"]
    assert sorted(row["name"] for row in rows) == ["a-1", "a-2", "a-3"]
    world.post(name="b", min_count=1, max_count=7)  # the quota is 10
    world.settle()
    names = {row["name"] for row in world.get("/servers").json["servers"]}
    assert names == {"a-1", "a-2", "a-3", *(f"b-{n}" for n in range(1, 8))}
    gone = next(row["id"] for row in world.get("/servers?name=b-1").json["servers"])
    world.member.delete("compute", f"/v2.1/servers/{gone}")
    world.settle()
    world.post(name="c", min_count=1, max_count=5)  # the quota lets one
    assert "c" in {row["name"] for row in world.get("/servers").json["servers"]}


def test_an_admin_may_choose_the_host_and_user_data_comes_back(world: World) -> None:
    data = base64.b64encode(b"#!/bin/sh").decode()
    server_id = world.create(world.admin, availability_zone="nova:h1", networks="none", user_data=data)
    server = world.get(f"/servers/{server_id}", world.admin).json["server"]
    assert server["OS-EXT-SRV-ATTR:user_data"] == data
    assert world.post(world.admin, availability_zone="nova:no-such", networks="none").status == 400


# ---------------------------------------------------------------------- lists
def names(world: World, query: str, **kwargs: Any) -> list[str]:
    reply = world.get(f"/servers?{query}", **kwargs)
    assert reply.status == 200, reply.body
    return [row["name"] for row in reply.json["servers"]]


def test_lists_are_paged_by_marker_in_every_order(world: World) -> None:
    for name in ("b", "a", "c", "d", "e"):
        world.create(name=name, networks="none")
    for query, wanted in (
        ("", "edcab"),
        ("sort_key=display_name&sort_dir=asc", "abcde"),
        ("sort_key=created_at&sort_dir=asc", "bacde"),
    ):
        found, path = "", f"/servers?limit=2&{query}"
        for _ in range(5):
            page = world.get(path).json
            found += "".join(row["name"] for row in page["servers"])
            links = page.get("servers_links", [])
            if not links:
                break
            path = links[0]["href"].split("/v2.1")[1]
        assert found == wanted
    assert names(world, "limit=0") == []


def test_a_marker_of_nobody_or_of_another_project_is_refused(world: World) -> None:
    server_id = world.create(networks="none")
    other = world.cloud.project("p2").member
    assert world.get(f"/servers?marker={UNKNOWN}").status == 400
    assert world.get(f"/servers?marker={server_id}", other).status == 400
    assert world.get(f"/servers?marker={server_id}", world.admin).status == 400  # not among the admin's own
    assert world.get(f"/servers?marker={server_id}&all_tenants=1", world.admin).status == 200


def test_filters(world: World) -> None:
    web = world.active(name="web-1", tags=["x", "y"], metadata={"k": "v"})
    world.create(name="web-2", tags=["y"], networks="none")
    world.create(name="db.1", networks="none")
    for query, wanted in (
        ("name=web", "web-1 web-2"),
        ("name=^web-[13]$", "web-1"),
        ("name=(web|db).1", "web-1 db.1"),
        ("status=ACTIVE", "web-1"),
        ("status=build", "web-2 db.1"),
        ("status=ACTIVE&status=BUILD", "web-1 web-2 db.1"),
        ("status=DELETED", ""),
        ("flavor=1", "web-1 web-2 db.1"),
        ("flavor=2", ""),
        (f"image={IMAGE_ID}", "web-1 web-2 db.1"),
        ("ip=10.0.0", "web-1"),
        ("ip=192", ""),
        ("tags=x,y", "web-1"),
        ("tags-any=x,y", "web-1 web-2"),
        ("not-tags=x,y", "web-2 db.1"),
        ("not-tags-any=y", "db.1"),
        ("locked=false", "web-1 web-2 db.1"),
        ("power_state=1", "web-1"),
        ("vm_state=active", "web-1"),
        ("changes-since=2020-01-01T00:00:00Z", "web-1 web-2 db.1"),
        ("changes-since=2020-01-01T00:00:00%2B02:00", "web-1 web-2 db.1"),
        ("changes-before=2020-01-01T00:00:00Z", ""),
        ("availability_zone=mars", ""),
        (f"uuid={web}", "web-1 web-2 db.1"),  # an admin's, ignored for others
    ):
        assert set(names(world, query)) == set(wanted.split()), query
    assert names(world, f"uuid={web}&all_tenants=1", client=world.admin) == ["web-1"]
    assert names(world, "host=h1&all_tenants=1", client=world.admin) == ["web-1"]
    assert set(names(world, f"project_id={world.p1.id}", client=world.admin)) == {"web-1", "web-2", "db.1"}
    assert names(world, "", client=world.admin) == []


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1", "limit=x", "limit=" + "9" * 5000, "sort_key=no_such", "sort_dir=up",
        "sort_key=uuid&sort_dir=asc&sort_dir=asc", "status=no_such", "power_state=" + "9" * 5000, "power_state=x",
        "changes-since=yesterday", "no_such=1", "name=(", "name=(?=a)", "locked=perhaps",
    ],
)  # fmt: skip
def test_wrong_queries_are_refused(world: World, query: str) -> None:
    reply = world.get(f"/servers?{query}")
    assert reply.status == 400
    assert message(reply)


def test_only_an_admin_lists_every_project(world: World) -> None:
    assert world.get("/servers?all_tenants=1").status == 403
    assert world.get("/servers?all_tenants=0").status == 200
