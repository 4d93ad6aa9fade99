"""What is done with a server that is there: labels, actions, its parts; and that another project's does not exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.api.server_world import World, message

if TYPE_CHECKING:
    pass

UNKNOWN = "99999999-0000-4000-8000-000000000000"


# ---------------------------------------------------------------------- labels
def test_metadata(world: World) -> None:
    server_id = world.active(metadata={"a": "1"})
    path = f"/v2.1/servers/{server_id}/metadata"
    client = world.member
    assert client.post("compute", path, json={"metadata": {"b": "2"}}).json == {"metadata": {"a": "1", "b": "2"}}
    assert client.put("compute", path, json={"metadata": {"c": "3"}}).json == {"metadata": {"c": "3"}}
    assert client.get("compute", f"{path}/c").json == {"meta": {"c": "3"}}
    assert client.put("compute", f"{path}/d", json={"meta": {"d": "4"}}).json == {"meta": {"d": "4"}}
    assert client.put("compute", f"{path}/d", json={"meta": {"e": "4"}}).status == 400
    assert client.put("compute", f"{path}/d", json={"meta": {"d": "4", "e": "5"}}).status == 400
    assert client.delete("compute", f"{path}/c").status == 204
    assert client.delete("compute", f"{path}/c").status == 404
    assert client.get("compute", f"{path}/c").status == 404
    assert client.get("compute", path).json == {"metadata": {"d": "4"}}
    assert client.post("compute", path, json={"metadata": {str(n): "x" for n in range(200)}}).status == 403
    assert world.p1.reader.put("compute", path, json={"metadata": {}}).status == 403
    building = world.create(networks="none")
    assert client.put("compute", f"/v2.1/servers/{building}/metadata", json={"metadata": {}}).status == 409


def test_tags(world: World) -> None:
    server_id = world.active()
    path, client, version = f"/v2.1/servers/{server_id}/tags", world.member, {"microversion": "2.96"}
    assert client.put("compute", path, json={"tags": ["a", "b"]}, **version).json == {"tags": ["a", "b"]}
    added = client.put("compute", f"{path}/c", **version)
    assert (added.status, added.headers["location"].endswith(f"{server_id}/tags/c")) == (201, True)
    assert client.put("compute", f"{path}/c", **version).status == 204
    assert client.get("compute", f"{path}/c", **version).status == 204
    assert client.get("compute", f"{path}/d", **version).status == 404
    assert client.delete("compute", f"{path}/a", **version).status == 204
    assert client.delete("compute", f"{path}/a", **version).status == 404
    assert client.put("compute", f"{path}/{'x' * 61}", **version).status == 400
    assert client.put("compute", path, json={"tags": [str(n) for n in range(51)]}, **version).status == 400
    assert client.get("compute", path, **version).json == {"tags": ["b", "c"]}
    assert client.delete("compute", path, **version).status == 204
    assert client.get("compute", path, **version).json == {"tags": []}
    assert client.get("compute", path, microversion="2.25").status == 404


def test_update(world: World) -> None:
    server_id = world.active()
    path = f"/v2.1/servers/{server_id}"

    def put(**fields: Any) -> Any:
        return world.member.put("compute", path, json={"server": fields}, microversion="2.96")

    server = put(name="new", description=None, accessIPv4="10.1.1.1", hostname="h.example.org").json["server"]
    assert (server["name"], server["accessIPv4"], server["OS-EXT-SRV-ATTR:hostname"]) == (
        "new",
        "10.1.1.1",
        "h.example.org",
    )
    assert put(accessIPv4="").json["server"]["accessIPv4"] == ""
    for wrong in ({"name": ""}, {"name": None}, {"no_such": 1}, {"hostname": "a b"}, {"accessIPv6": "x"}):
        assert put(**wrong).status == 400, wrong


# ---------------------------------------------------------------------- actions
def test_power_actions_and_their_entries(world: World) -> None:
    server_id = world.active()
    for action, value, status in (
        ("os-stop", None, "SHUTOFF"),
        ("os-start", None, "ACTIVE"),
        ("pause", None, "PAUSED"),
        ("unpause", None, "ACTIVE"),
        ("suspend", None, "SUSPENDED"),
        ("resume", None, "ACTIVE"),
        ("reboot", {"type": "SOFT"}, "ACTIVE"),
        ("reboot", {"type": "HARD"}, "ACTIVE"),
    ):
        assert world.act(server_id, action, value).status == 202, action
        world.settle()
        assert world.get(f"/servers/{server_id}").json["server"]["status"] == status
    rows = world.get(f"/servers/{server_id}/os-instance-actions").json["instanceActions"]
    assert [row["action"] for row in rows] == [
        "reboot",
        "reboot",
        "resume",
        "suspend",
        "unpause",
        "pause",
        "start",
        "stop",
        "create",
    ]
    path = f"/servers/{server_id}/os-instance-actions/{rows[-1]['request_id']}"
    shown = world.get(path).json["instanceAction"]
    assert shown.keys() == {
        "action", "instance_uuid", "request_id", "user_id", "project_id", "start_time", "message", "updated_at",
        "events", }  # fmt: skip
    assert shown["events"][0].keys() == {"event", "start_time", "finish_time", "result", "hostId", "details"}
    assert world.get(path, world.admin).json["instanceAction"]["events"][0].keys() - shown["events"][0].keys() == {
        "host",
        "traceback",
    }
    assert "events" not in world.get(path, version="2.50").json["instanceAction"]
    assert "updated_at" not in world.get(path, version="2.57").json["instanceAction"]
    page = world.get(f"/servers/{server_id}/os-instance-actions?limit=4").json
    assert len(page["instanceActions"]) == 4
    following = world.get(page["links"][0]["href"].split("/v2.1")[1]).json
    assert [row["request_id"] for row in following["instanceActions"]] == [row["request_id"] for row in rows[4:8]]
    since = "changes-since=2100-01-01T00:00:00Z"
    assert world.get(f"/servers/{server_id}/os-instance-actions?{since}").json["instanceActions"] == []
    assert world.get(f"/servers/{server_id}/os-instance-actions?changes-since=x").status == 400
    assert world.get(f"/servers/{server_id}/os-instance-actions/req-no-such").status == 404


def test_actions_in_the_wrong_state_are_conflicts(world: World) -> None:
    server_id = world.active()
    for action in ("os-start", "unpause", "resume"):
        reply = world.act(server_id, action)
        assert reply.status == 409
        assert "while it is in vm_state active" in message(reply)
    assert world.act(server_id, "os-stop").status == 202
    reply = world.act(server_id, "pause")
    assert reply.status == 409
    assert "task_state powering-off" in message(reply)
    building = world.create(networks="none")
    assert world.act(building, "os-getConsoleOutput", {}).status == 409
    assert world.act(building, "reboot", {"type": "HARD"}).status == 409


@pytest.mark.parametrize(
    ("action", "value"),
    [
        ("no-such", None), ("reboot", None), ("reboot", {"type": "WARM"}), ("reboot", {"type": "HARD", "x": 1}),
        ("os-getConsoleOutput", {"length": "x"}), ("os-getConsoleOutput", {"length": -2}),
        ("os-getConsoleOutput", {"length": 10**30}), ("lock", {"locked_reason": "x" * 256}), ("lock", {"why": "x"}),
    ],
)  # fmt: skip
def test_wrong_actions_are_refused(world: World, action: str, value: Any) -> None:
    server_id = world.active()
    assert world.act(server_id, action, value).status == 400


def test_locks(world: World) -> None:
    server_id = world.active()
    assert world.act(server_id, "lock", {"locked_reason": "mine"}).status == 202
    shown = world.get(f"/servers/{server_id}").json["server"]
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    assert world.act(server_id, "os-stop").status == 409
    assert world.member.delete("compute", f"/v2.1/servers/{server_id}").status == 409
    assert world.act(server_id, "unlock").status == 202
    assert world.act(server_id, "lock", client=world.admin).status == 202
    world.act(server_id, "lock")  # does not make it the owner's
    assert world.act(server_id, "unlock").status == 403
    assert world.act(server_id, "unlock", client=world.admin).status == 202


def test_reset_state_is_for_admins_and_never_under_a_running_operation(world: World) -> None:
    server_id = world.active()
    assert world.act(server_id, "os-resetState", {"state": "error"}).status == 403
    assert world.act(server_id, "os-resetState", {"state": "paused"}, client=world.admin).status == 400
    assert world.act(server_id, "os-resetState", {"state": "error"}, client=world.admin).status == 202
    assert world.get(f"/servers/{server_id}").json["server"]["status"] == "ERROR"
    assert world.act(server_id, "os-resetState", {"state": "active"}, client=world.admin).status == 202
    world.act(server_id, "os-stop")
    assert world.act(server_id, "os-resetState", {"state": "active"}, client=world.admin).status == 409


# ---------------------------------------------------------------------- whose it is
def test_another_projects_server_does_not_exist(world: World) -> None:
    server_id = world.active(tags=["t"], metadata={"k": "v"})
    base = f"/v2.1/servers/{server_id}"
    port_id = world.get(f"/servers/{server_id}/os-interface").json["interfaceAttachments"][0]["port_id"]
    request_id = world.get(f"/servers/{server_id}/os-instance-actions").json["instanceActions"][0]["request_id"]
    routes: list[tuple[str, str, Any]] = [
        ("GET", base, None),
        ("PUT", base, {"server": {"name": "mine"}}),
        ("DELETE", base, None),
        *(("GET", f"{base}/{part}", None) for part in (
            "metadata", "metadata/k", "tags", "tags/t", "ips", "ips/blue", "os-interface", f"os-interface/{port_id}",
            "os-security-groups", "os-instance-actions", f"os-instance-actions/{request_id}",
        )),
        ("POST", f"{base}/metadata", {"metadata": {"x": "y"}}),
        ("PUT", f"{base}/metadata", {"metadata": {"x": "y"}}),
        ("PUT", f"{base}/metadata/x", {"meta": {"x": "y"}}),
        ("DELETE", f"{base}/metadata/k", None),
        ("PUT", f"{base}/tags", {"tags": []}),
        ("PUT", f"{base}/tags/x", None),
        ("DELETE", f"{base}/tags/t", None),
        ("DELETE", f"{base}/tags", None),
        *(("POST", f"{base}/action", {action: value}) for action, value in (
            ("os-start", None), ("os-stop", None), ("reboot", {"type": "HARD"}), ("pause", None), ("unpause", None),
            ("suspend", None), ("resume", None), ("lock", None), ("unlock", None), ("os-getConsoleOutput", {}),
        )),
    ]  # fmt: skip
    others = world.cloud.project("p2").member
    with world.cloud.store.snapshot() as snapshot:
        before = snapshot.generation()
    for method, path, body in routes:
        reply = others.request(method, "compute", path, json=body, microversion="2.96")
        assert reply.status == 404, (method, path, body, reply.body)
    assert world.get("/servers", others).json["servers"] == []
    with world.cloud.store.snapshot() as snapshot:
        assert snapshot.generation() == before
    for method, path, body in routes:
        if method == "GET":
            expected = 204 if path.endswith("tags/t") else 200
            assert world.p1.reader.request(method, "compute", path, microversion="2.96").status == expected, path
        else:
            assert world.p1.reader.request(method, "compute", path, json=body, microversion="2.96").status == 403, path


def test_parts_of_a_server(world: World) -> None:
    server_id = world.active()
    card = world.get(f"/servers/{server_id}/os-interface").json["interfaceAttachments"][0]
    assert card.keys() == {"net_id", "port_id", "mac_addr", "port_state", "fixed_ips", "tag"}
    assert card["port_state"] == "ACTIVE"
    assert world.get(f"/servers/{server_id}/os-interface/{UNKNOWN}").status == 404
    assert world.get(f"/servers/{server_id}/ips").json == {"addresses": {"blue": [{"version": 4, "addr": "10.0.0.2"}]}}
    assert world.get(f"/servers/{server_id}/ips/green").status == 404
    (group,) = world.get(f"/servers/{server_id}/os-security-groups").json["security_groups"]
    assert group.keys() == {"id", "name", "description", "tenant_id", "rules"}
    assert {rule["group"].get("name") for rule in group["rules"]} == {"default"}
