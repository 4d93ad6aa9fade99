"""``/os-server-groups`` and the scheduler hints that lead into a group, as clients use them.

Source of shapes and statuses: Compute API v2.1, "Server groups", "Create server".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.model.commands.quotas import SetComputeQuota
from nova_fast.model.commands.servers import CreateServers
from tests.api.server_world import World, message

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud, Reply

PATH = "/v2.1/os-server-groups"
NOBODY = "99999999-0000-4000-8000-000000000000"


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute",)


def make(client: Client, version: str = "2.96", **fields: Any) -> Reply:
    asked = {"name": "g", "policy": "anti-affinity", **fields}
    body = {"server_group": {key: value for key, value in asked.items() if value is not ...}}
    return client.post("compute", PATH, json=body, microversion=version)


def made(client: Client, version: str = "2.96", **fields: Any) -> dict[str, Any]:
    reply = make(client, version, **fields)
    assert reply.status == 200, reply.body
    group: dict[str, Any] = reply.json["server_group"]
    return group


def hinted(world: World, hints: Any, client: Client | None = None, name: str = "os:scheduler_hints") -> Reply:
    body = world.body() | {name: hints}
    return (client or world.member).post("compute", "/v2.1/servers", json=body, microversion="2.96")


def show(client: Client, group_id: str, version: str = "2.96") -> Reply:
    return client.get("compute", f"{PATH}/{group_id}", microversion=version)


def limit(cloud: Cloud, project_id: str, **limits: int) -> None:
    cloud.run(SetComputeQuota(caller=cloud.root, project_id=project_id, limits=limits))


def test_a_group_is_made_shown_and_removed(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    group = made(member, rules={"max_server_per_host": "3"})
    assert group == {
        "id": group["id"], "name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 3}, "members": [],
        "project_id": member.project_id, "user_id": member.user_id,
    }  # fmt: skip
    older = show(member, group["id"], "2.63").json["server_group"]
    assert (older["policies"], older["metadata"]) == (["anti-affinity"], {})
    assert not {"policy", "rules"} & set(older)
    oldest = {"id", "name", "members", "policies", "metadata"}
    assert set(show(member, group["id"], "2.12").json["server_group"]) == oldest
    assert set(made(member, "2.1", policy=..., policies=["affinity"])) == oldest
    assert made(member, policy="soft-affinity")["rules"] == {}
    assert member.delete("compute", f"{PATH}/{group['id']}").status == 204
    gone = show(member, group["id"])
    assert (gone.status, message(gone)) == (404, f"Instance group {group['id']} could not be found.")
    assert member.delete("compute", f"{PATH}/{group['id']}").status == 404


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("2.96", {"policy": "near"}),
    ("2.96", {"policy": ...}),
    ("2.96", {"name": ""}),
    ("2.96", {"name": " g"}),
    ("2.96", {"name": "x" * 256}),
    ("2.96", {"policies": ["affinity"]}),
    ("2.96", {"rules": {"max_server_per_host": 0}}),
    ("2.96", {"rules": {"max_server_per_host": "-1"}}),
    ("2.96", {"rules": {"max_server_per_host": "many"}}),
    ("2.96", {"rules": {"min_server_per_host": 1}}),
    ("2.96", {"policy": "affinity", "rules": {"max_server_per_host": 2}}),
    ("2.63", {}),
    ("2.63", {"policy": ..., "policies": []}),
    ("2.63", {"policy": ..., "policies": ["affinity", "anti-affinity"]}),
    ("2.63", {"policy": ..., "policies": ["affinity"], "rules": {}}),
    ("2.14", {"policy": ..., "policies": ["soft-affinity"]}),
]


def test_what_is_wrong_is_refused(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    assert [(version, fields) for version, fields in WRONG if make(member, version, **fields).status != 400] == []
    assert made(member, "2.15", policy=..., policies=["soft-affinity"])
    assert member.get("compute", f"{PATH}?limit=-1").status == 400
    assert member.get("compute", f"{PATH}?offset=-1").status == 400
    assert member.get("compute", f"{PATH}?sort=up", microversion="2.75").status == 400
    assert member.get("compute", f"{PATH}?sort=up", microversion="2.74").status == 200


def test_a_list_has_the_projects_own_and_for_an_admin_everybodys(cloud: Cloud) -> None:
    member, other = cloud.project("p1").member, cloud.project("p2").member
    mine = [made(member, name=f"g{number}")["id"] for number in range(3)]
    theirs = made(other)["id"]

    def listed(client: Client, query: str = "") -> list[str]:
        return [row["id"] for row in client.get("compute", PATH + query, microversion="2.96").json["server_groups"]]

    assert listed(cloud.project("p1").reader) == mine
    assert listed(member, "?limit=1&offset=1") == mine[1:2]
    assert listed(member, "?limit=0") == mine
    assert listed(member, "?all_projects=true") == mine
    assert listed(cloud.admin, "?all_projects=1") == [*mine, theirs]
    assert listed(cloud.admin, "?all_projects=1&offset=2&limit=5") == [mine[2], theirs]
    assert listed(cloud.admin) == []
    assert show(other, mine[0]).status == 404
    assert other.delete("compute", f"{PATH}/{mine[0]}").status == 404
    assert cloud.project("p1").reader.delete("compute", f"{PATH}/{mine[0]}").status == 403
    assert show(cloud.admin, mine[0]).status == 200


def test_groups_count_against_the_quota_of_their_project(cloud: Cloud) -> None:
    project = cloud.project("p1")
    limit(cloud, project.id, server_groups=1)
    group = made(project.member)
    refused = make(project.member)
    assert refused.status == 403
    assert "Quota exceeded for server_groups" in message(refused)
    absolute = project.member.get("compute", "/v2.1/limits").json["limits"]["absolute"]
    assert (absolute["maxServerGroups"], absolute["totalServerGroupsUsed"]) == (1, 1)
    assert cloud.admin.delete("compute", f"{PATH}/{group['id']}").status == 204
    assert made(project.member)


def test_servers_join_a_group_by_a_hint_and_show_it(cloud: Cloud, world: World) -> None:
    group = made(world.member)["id"]
    first = hinted(world, {"group": group}).json["server"]["id"]
    second = hinted(world, {"group": [group]}, name="OS-SCH-HNT:scheduler_hints").json["server"]["id"]
    alone = world.create()
    assert show(world.member, group).json["server_group"]["members"] == [first, second]
    shown = world.get(f"/servers/{first}").json["server"]
    assert shown["server_groups"] == [group]
    assert world.get(f"/servers/{alone}").json["server"]["server_groups"] == []
    assert "server_groups" not in world.get(f"/servers/{first}", version="2.70").json["server"]
    assert all("server_groups" not in row for row in world.get("/servers/detail").json["servers"])
    world.settle()
    world.member.delete("compute", f"/v2.1/servers/{second}")
    world.settle()
    assert show(world.member, group).json["server_group"]["members"] == [first]


def test_a_group_that_goes_leaves_its_servers(cloud: Cloud, world: World) -> None:
    group = made(world.member)["id"]
    server_id = hinted(world, {"group": group}).json["server"]["id"]
    world.settle()
    before = world.get(f"/servers/{server_id}").json["server"]
    assert world.member.delete("compute", f"{PATH}/{group}").status == 204
    assert world.get(f"/servers/{server_id}").json["server"] == before | {"server_groups": []}


def test_members_count_against_the_quota(cloud: Cloud, world: World) -> None:
    limit(cloud, world.p1.id, server_group_members=2)
    group = made(world.member)["id"]
    body = world.body(min_count=1, max_count=3) | {"os:scheduler_hints": {"group": group}}
    refused = world.member.post("compute", "/v2.1/servers", json=body, microversion="2.96")
    assert refused.status == 403
    assert "Quota exceeded, too many servers in group" in message(refused)
    assert [hinted(world, {"group": group}).status for _ in range(3)] == [202, 202, 403]
    assert world.count() == 2
    limit(cloud, world.p1.id, server_group_members=-1)
    assert hinted(world, {"group": group}).status == 202


def test_a_group_must_be_there_for_who_asks(cloud: Cloud, world: World) -> None:
    foreign = made(cloud.project("p2").member)["id"]
    for group in (NOBODY, foreign):
        refused = hinted(world, {"group": group})
        assert refused.status == 400
        assert f"Instance group {group} could not be found." in message(refused)
    assert world.count() == 0


WRONG_HINTS: list[dict[str, Any]] = [
    {"group": "g"},
    {"group": 1},
    {"group": [NOBODY, NOBODY]},
    {"different_host": "vm"},
    {"different_host": ["vm"]},
    {"same_host": ["vm"]},
    {"same_host": 1},
    {"query": 1},
    {"query": ["="]},
    {"target_cell": ""},
    {"target_cell": ["c"]},
    {"different_cell": [1]},
    {"build_near_host_ip": "here"},
    {"cidr": "10.0.0.0/8"},
    {"cidr": 24},
    {"own": None},
]


def test_hints_that_nova_knows_are_checked_and_others_are_the_sites_own(cloud: Cloud, world: World) -> None:
    assert [hints for hints in WRONG_HINTS if hinted(world, hints).status != 400] == []
    assert hinted(world, ["group"]).status == 400
    assert world.count() == 0
    right = {
        "group": [], "different_host": NOBODY, "same_host": [NOBODY], "query": {"and": []}, "target_cell": "c",
        "different_cell": ["c"], "build_near_host_ip": "192.0.2.1", "cidr": "/24", "own": 1, "list": ["a", 2],
        "deep": {"a": [True]},
    }  # fmt: skip
    assert hinted(world, right).status == 202
    command = next(c for c in reversed(cloud.commander.commands) if isinstance(c, CreateServers))
    assert command.hints == right | {
        "query": '{"and": []}', "own": "1", "list": ["a", "2"], "deep": '{"a": [true]}',
    }  # fmt: skip
    assert command.group_id == ""
