"""Images through the real HTTP server: making, changing, listing, sharing, and who may."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.api.framework.request import Services
from nova_fast.image.store import ImageStore

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud, Reply

PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
KEYS = {
    "id", "name", "status", "visibility", "owner", "protected", "os_hidden", "disk_format", "container_format", "size",
    "virtual_size", "min_disk", "min_ram", "checksum", "os_hash_algo", "os_hash_value", "tags", "created_at",
    "updated_at", "self", "file", "schema",
}  # fmt: skip


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("image",)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(ImageStore(tmp_path / "images", 1 << 20))


def make(client: Client, name: str = "one", **attributes: Any) -> str:
    reply = client.post("image", "/v2/images", json={"name": name, **attributes})
    assert reply.status == 201, reply.body
    found: str = reply.json["id"]
    return found


def patch(client: Client, image_id: str, *operations: dict[str, Any], headers: dict[str, str] = PATCH) -> Reply:
    return client.patch("image", f"/v2/images/{image_id}", body=json.dumps(operations).encode(), headers=headers)


def names(client: Client, query: str = "") -> list[str]:
    reply = client.get("image", f"/v2/images{query}")
    assert reply.status == 200, reply.body
    return [image["name"] for image in reply.json["images"]]


def activate(client: Client, image_id: str, data: bytes = b"x") -> None:
    headers = {"Content-Type": "application/octet-stream"}
    assert client.put("image", f"/v2/images/{image_id}/file", body=data, headers=headers).status == 204


@pytest.mark.parametrize(("path", "status"), [("/", 300), ("/versions", 200), ("/v2", 300), ("/v2/", 300)])
def test_the_version_documents_need_no_token(cloud: Cloud, path: str, status: int) -> None:
    reply = cloud.nobody.get("image", path)
    assert reply.status == status
    current = [version for version in reply.json["versions"] if version["status"] == "CURRENT"]
    assert [version["id"] for version in current] == ["v2.17"]


def test_a_new_image_is_queued_shared_and_has_exactly_the_keys_of_the_api(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    reply = client.post("image", "/v2/images", json={"name": "one", "architecture": "x86_64", "tags": ["a", "a"]})
    image = reply.json
    assert set(image) == KEYS | {"architecture"}
    assert (image["status"], image["visibility"], image["owner"]) == ("queued", "shared", client.project_id)
    assert image["tags"] == ["a"]
    assert reply.headers["location"].endswith(f"/v2/images/{image['id']}")
    assert client.get("image", f"/v2/images/{image['id']}").json == image


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": 5}, 400),
        ({"name": "x" * 256}, 400),
        ({"disk_format": "floppy"}, 400),
        ({"container_format": "box"}, 400),
        ({"min_disk": -1}, 400),
        ({"min_ram": "1"}, 400),
        ({"protected": "yes"}, 400),
        ({"visibility": "secret"}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"id": "not-a-uuid"}, 400),
        ({"a_property": 1}, 400),
        ({"a_property": {"x": "y"}}, 400),
        ({"p" * 256: "x"}, 400),
        ({"status": "active"}, 403),
        ({"checksum": "x"}, 403),
        ({"locations": "x"}, 403),
        ({"visibility": "public"}, 403),
        ({"owner": "somebody-else"}, 403),
        ([], 400),
        ("x", 400),
    ],
)
def test_a_wrong_new_image_is_refused_and_nothing_is_made(cloud: Cloud, body: Any, status: int) -> None:
    client = cloud.project("p1").member
    assert client.post("image", "/v2/images", json=body).status == status
    assert names(client) == []


def test_an_id_can_be_chosen_once(cloud: Cloud) -> None:
    client, image_id = cloud.project("p1").member, str(uuid.uuid4())
    assert make(client, id=image_id) == image_id
    assert client.post("image", "/v2/images", json={"id": image_id}).status == 409


def test_readers_may_look_but_not_change(cloud: Cloud) -> None:
    project = cloud.project("p1")
    image_id = make(project.member)
    assert project.reader.get("image", f"/v2/images/{image_id}").status == 200
    assert project.reader.post("image", "/v2/images", json={}).status == 403
    assert patch(project.reader, image_id, {"op": "replace", "path": "/name", "value": "x"}).status == 403
    assert project.reader.delete("image", f"/v2/images/{image_id}").status == 403
    assert cloud.nobody.get("image", "/v2/images").status == 401


def test_a_patch_changes_attributes_and_properties_together(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client, kept="1", gone="2")
    reply = patch(
        client,
        image_id,
        {"op": "replace", "path": "/name", "value": "two"},
        {"op": "add", "path": "/a.b~1c~0d", "value": "new"},
        {"op": "replace", "path": "/kept", "value": "11"},
        {"op": "remove", "path": "/gone"},
        {"op": "replace", "path": "/tags", "value": ["t"]},
        {"op": "replace", "path": "/min_disk", "value": 3},
        {"op": "replace", "path": "/disk_format", "value": "raw"},
    )
    assert reply.status == 200
    image = client.get("image", f"/v2/images/{image_id}").json
    assert image == reply.json
    assert (image["name"], image["a.b/c~d"], image["kept"], image["tags"]) == ("two", "new", "11", ["t"])
    assert (image["min_disk"], image["disk_format"]) == (3, "raw")
    assert "gone" not in image


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "add", "path": "/id", "value": "x"}, 403),
        ({"op": "remove", "path": "/min_disk"}, 403),
        ({"op": "replace", "path": "/owner", "value": "x"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "remove", "path": "/nothing"}, 409),
        ({"op": "replace", "path": "/nothing", "value": "x"}, 409),
        ({"op": "add", "path": "/number", "value": 5}, 400),
        ({"op": "replace", "path": "/protected", "value": "true"}, 400),
        ({"op": "replace", "path": "/min_ram", "value": -1}, 400),
        ({"op": "replace", "path": "/min_ram", "value": True}, 400),
        ({"op": "replace", "path": "/visibility", "value": "secret"}, 400),
        ({"op": "replace", "path": "/tags", "value": "t"}, 400),
        ({"op": "add", "path": "noslash", "value": "x"}, 400),
        ({"op": "add", "path": "/a/b", "value": "x"}, 400),
        ({"op": "move", "path": "/name", "from": "/x"}, 400),
        ({"path": "/name"}, 400),
    ],
)
def test_one_wrong_operation_undoes_the_whole_patch(cloud: Cloud, operation: dict[str, Any], status: int) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    assert patch(client, image_id, {"op": "replace", "path": "/name", "value": "changed"}, operation).status == status
    assert client.get("image", f"/v2/images/{image_id}").json["name"] == "one"


def test_a_patch_of_another_media_type_is_415(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    assert patch(client, image_id, headers={"Content-Type": "application/json"}).status == 415


def test_formats_cannot_change_once_there_are_bytes(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client, disk_format="raw", container_format="bare")
    activate(client, image_id)
    assert patch(client, image_id, {"op": "replace", "path": "/disk_format", "value": "qcow2"}).status == 403


def test_a_protected_image_cannot_be_deleted_until_it_is_unprotected(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client, protected=True)
    assert client.delete("image", f"/v2/images/{image_id}").status == 403
    patch(client, image_id, {"op": "replace", "path": "/protected", "value": False})
    assert client.delete("image", f"/v2/images/{image_id}").status == 204
    assert client.get("image", f"/v2/images/{image_id}").status == 404
    assert client.delete("image", f"/v2/images/{image_id}").status == 404


def test_another_projects_image_does_not_exist(cloud: Cloud) -> None:
    image_id, other = make(cloud.project("p1").member), cloud.project("p2").member
    path = f"/v2/images/{image_id}"
    assert other.get("image", path).status == 404
    assert other.delete("image", path).status == 404
    assert patch(other, image_id, {"op": "replace", "path": "/name", "value": "x"}).status == 404
    assert other.put("image", f"{path}/tags/t").status == 404
    assert other.post("image", f"{path}/actions/deactivate").status == 404
    assert other.get("image", f"{path}/members").status == 404
    assert names(other) == []
    assert names(cloud.admin) == ["one"]


def test_public_and_community_images_are_seen_and_not_changed_by_others(cloud: Cloud) -> None:
    owner, other = cloud.project("p1").member, cloud.project("p2").member
    public = make(cloud.admin, "public", visibility="public")
    community = make(owner, "community", visibility="community")
    for image_id in (public, community):
        assert other.get("image", f"/v2/images/{image_id}").status == 200
        assert other.delete("image", f"/v2/images/{image_id}").status == 403
        assert patch(other, image_id, {"op": "add", "path": "/x", "value": "y"}).status == 403
    assert names(other) == ["public"]
    assert names(other, "?visibility=community") == ["community"]
    assert names(other, "?visibility=all") == ["community", "public"]
    assert names(owner) == ["community", "public"]


def test_a_shared_image_is_listed_once_its_member_accepts(cloud: Cloud) -> None:
    owner, other = cloud.project("p1").member, cloud.project("p2").member
    image_id = make(owner)
    members = f"/v2/images/{image_id}/members"
    reply = owner.post("image", members, json={"member": other.project_id})
    assert (reply.status, reply.json["status"]) == (200, "pending")
    assert set(reply.json) == {"member_id", "image_id", "status", "created_at", "updated_at", "schema"}
    assert owner.post("image", members, json={"member": other.project_id}).status == 409
    assert other.get("image", f"/v2/images/{image_id}").status == 200
    assert names(other) == []
    assert names(other, "?member_status=pending&visibility=shared") == ["one"]
    mine = f"{members}/{other.project_id}"
    assert owner.put("image", mine, json={"status": "accepted"}).status == 403
    assert other.put("image", mine, json={"status": "perhaps"}).status == 400
    assert other.put("image", mine, json={"status": "accepted"}).json["status"] == "accepted"
    assert names(other) == ["one"]
    assert other.delete("image", mine).status == 403
    assert owner.delete("image", mine).status == 204
    assert owner.delete("image", mine).status == 404
    assert other.get("image", f"/v2/images/{image_id}").status == 404


def test_a_member_sees_only_its_own_membership(cloud: Cloud) -> None:
    owner, p2, p3 = (cloud.project(name).member for name in ("p1", "p2", "p3"))
    image_id = make(owner)
    members = f"/v2/images/{image_id}/members"
    for client in (p2, p3):
        owner.post("image", members, json={"member": client.project_id})
    assert len(owner.get("image", members).json["members"]) == 2
    assert [one["member_id"] for one in p2.get("image", members).json["members"]] == [p2.project_id]
    assert p2.get("image", f"{members}/{p3.project_id}").status == 404
    assert p2.put("image", f"{members}/{p3.project_id}", json={"status": "accepted"}).status == 404


def test_only_shared_images_have_members(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client, visibility="private")
    assert client.post("image", f"/v2/images/{image_id}/members", json={"member": "x"}).status == 403
    assert client.post("image", f"/v2/images/{image_id}/members", json={"tenant": "x"}).status == 400


def test_tags_are_added_once_and_removed_once(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    path = f"/v2/images/{make(client)}"
    assert client.put("image", f"{path}/tags/blue").status == 204
    assert client.put("image", f"{path}/tags/blue").status == 204
    assert client.get("image", path).json["tags"] == ["blue"]
    assert client.delete("image", f"{path}/tags/blue").status == 204
    assert client.delete("image", f"{path}/tags/blue").status == 404
    assert client.put("image", f"{path}/tags/{'x' * 256}").status == 400


def test_lists_are_newest_first_and_follow_their_links(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    for number in range(5):
        make(client, f"n{number}")
    path, found = "/v2/images?limit=2&status=queued", []
    while path:
        body = client.get("image", path).json
        found += [image["name"] for image in body["images"]]
        assert body["first"] == "/v2/images?limit=2&status=queued"
        path = body.get("next", "")
    assert found == ["n4", "n3", "n2", "n1", "n0"]


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("sort=name:asc", ["a", "b", "c"]),
        ("sort=name", ["c", "b", "a"]),
        ("sort_key=name&sort_dir=asc", ["a", "b", "c"]),
        ("sort_key=min_ram", None),
        ("sort_key=status&sort_key=name&sort_dir=desc&sort_dir=asc", ["a", "b", "c"]),
        ("sort=created_at:asc", ["b", "c", "a"]),
        ("sort=size:asc,name:asc", ["a", "b", "c"]),
        ("sort=name&sort_key=name", None),
        ("sort=name:up", None),
        ("sort=color", None),
    ],
)
def test_lists_can_be_sorted_and_paged_in_any_order(cloud: Cloud, sort: str, expected: list[str] | None) -> None:
    client = cloud.project("p1").member
    ids = {name: make(client, name) for name in ("b", "c", "a")}
    if expected is None:
        assert client.get("image", f"/v2/images?{sort}").status == 400
        return
    assert names(client, f"?{sort}") == expected
    assert names(client, f"?{sort}&marker={ids[expected[0]]}&limit=1") == [expected[1]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=a", ["a"]),
        ("name=in:a,b", ["b", "a"]),
        ('name=in:"a",c', ["c", "a"]),
        ("status=active", ["a"]),
        ("status=in:queued,active", ["c", "b", "a"]),
        ("disk_format=raw", ["a"]),
        ("color=red", ["b"]),
        ("color=blue", []),
        ("tag=x", ["c"]),
        ("tag=x&tag=y", []),
        ("protected=True", ["c"]),
        ("os_hidden=true", ["hidden"]),
        ("size_min=1&size_max=4", ["a"]),
        ("size_min=5", []),
        ("min_ram=64", ["b"]),
        ("created_at=gt:2020-01-01T00:00:00Z&limit=1", ["c"]),
        ("updated_at=lt:2020-01-01T00:00:00Z", []),
        ("visibility=private", ["b"]),
        ("limit=0", []),
        ("id=in:UNKNOWN", []),
    ],
)
def test_every_filter_of_a_list_works(cloud: Cloud, query: str, expected: list[str]) -> None:
    client = cloud.project("p1").member
    activate(client, make(client, "a", disk_format="raw", container_format="bare"), b"1234")
    make(client, "b", color="red", min_ram=64, visibility="private")
    make(client, "c", tags=["x"], protected=True)
    make(client, "hidden", os_hidden=True)
    assert names(client, "?" + query.replace('"', "%22")) == expected


def test_images_are_found_by_many_ids_as_server_lists_do(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    first, _second, third = (make(client, name) for name in ("a", "b", "c"))
    foreign = make(cloud.project("p2").member)
    assert sorted(names(client, f"?id=in:{first},{third},{foreign}")) == ["a", "c"]


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "marker=nothing", "visibility=x", "member_status=x", "protected=maybe", "size_min=a",
     "created_at=yesterday", "name=in:%22a", "sort_dir=asc&sort_dir=desc"],
)  # fmt: skip
def test_a_wrong_query_is_refused(cloud: Cloud, query: str) -> None:
    assert cloud.project("p1").member.get("image", f"/v2/images?{query}").status == 400


def test_another_projects_image_is_no_marker(cloud: Cloud) -> None:
    image_id = make(cloud.project("p1").member)
    assert cloud.project("p2").member.get("image", f"/v2/images?marker={image_id}").status == 400


def test_a_queued_image_is_neither_deactivated_nor_reactivated(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    path = f"/v2/images/{make(client)}/actions"
    assert client.post("image", f"{path}/deactivate").status == 403
    assert client.post("image", f"{path}/reactivate").status == 403


@pytest.mark.parametrize("name", ["image", "images", "member", "members"])
def test_schemas_describe_what_the_api_answers(cloud: Cloud, name: str) -> None:
    client = cloud.project("p1").member
    schema = client.get("image", f"/v2/schemas/{name}").json
    assert schema["name"] == name
    if name == "image":
        assert set(schema["properties"]) == KEYS
        assert schema["additionalProperties"] == {"type": "string"}


def test_what_the_service_cannot_do_is_said(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    assert client.get("image", "/v2/schemas/unknown").status == 404
    assert client.get("image", "/v2/info/import").json["import-methods"]["value"] == []
    assert client.get("image", "/v2/info/stores").status == 404
