"""Which keys a server has at which microversion, for a member and for an admin: exactly those, no more and no less.

Clients check answers against schemas that forbid keys which do not belong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.api.server_world import IMAGE_ID, World

if TYPE_CHECKING:
    pass

ALWAYS = {
    "id", "name", "status", "tenant_id", "user_id", "metadata", "hostId", "image", "flavor", "created", "updated",
    "addresses", "accessIPv4", "accessIPv6", "links", "OS-DCF:diskConfig", "progress",
}  # fmt: skip
SHOWN = {
    "OS-EXT-AZ:availability_zone", "config_drive", "key_name", "OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at",
    "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state", "OS-EXT-STS:power_state", "security_groups",
    "os-extended-volumes:volumes_attached",
}  # fmt: skip
ADMIN_ALWAYS = {"OS-EXT-SRV-ATTR:host", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:instance_name"}
ADMIN_SINCE_2_3 = {
    f"OS-EXT-SRV-ATTR:{name}"
    for name in (
        "reservation_id",
        "launch_index",
        "hostname",
        "kernel_id",
        "ramdisk_id",
        "root_device_name",
        "user_data",
    )
}
#: version → (keys of every view, keys of show and update only, keys of show and detail for an admin, for a member)
STEPS: dict[str, tuple[set[str], set[str], set[str], set[str]]] = {
    "2.1": (set(), set(), ADMIN_ALWAYS, set()),
    "2.3": (set(), set(), ADMIN_SINCE_2_3, set()),
    "2.9": ({"locked"}, set(), set(), set()),
    "2.16": (set(), set(), {"host_status"}, set()),
    "2.19": ({"description"}, set(), set(), set()),
    "2.26": ({"tags"}, set(), set(), set()),
    "2.47": (set(), set(), set(), set()),
    "2.63": ({"trusted_image_certificates"}, set(), set(), set()),
    "2.71": (set(), {"server_groups"}, set(), set()),
    "2.73": ({"locked_reason"}, set(), set(), set()),
    "2.75": (set(), set(), set(), set()),
    "2.90": (set(), set(), set(), {"OS-EXT-SRV-ATTR:hostname"}),
    "2.96": ({"pinned_availability_zone"}, set(), set(), set()),
}
VERSIONS = list(STEPS)


def expected(view: str, version: str, *, admin: bool) -> set[str]:
    keys, private = set(ALWAYS), set()
    for since in VERSIONS[: VERSIONS.index(version) + 1]:
        common, single, for_admin, for_member = STEPS[since]
        keys |= common | (single if view != "detail" else set())
        private |= for_admin if admin else for_member
    whole = view != "update" or VERSIONS.index(version) >= VERSIONS.index("2.75")
    return keys | (SHOWN | private if whole else set())


def test_the_keys_of_a_server_are_those_of_its_microversion(world: World) -> None:
    server_id = world.active()
    wrong: dict[tuple[str, str, bool], Any] = {}
    for version in VERSIONS:
        for admin, client in ((False, world.member), (True, world.admin)):
            path = f"/v2.1/servers/{server_id}"
            show = client.get("compute", path, microversion=version).json["server"]
            rows = client.get("compute", "/v2.1/servers/detail?all_tenants=" + str(int(admin)), microversion=version)
            update = client.put("compute", path, json={"server": {"name": "vm"}}, microversion=version).json["server"]
            for view, found in (("show", show), ("detail", rows.json["servers"][0]), ("update", update)):
                want = expected(view, version, admin=admin)
                if found.keys() != want:
                    wrong[view, version, admin] = (sorted(found.keys() - want), sorted(want - found.keys()))
                flavor = {"id", "links"} if VERSIONS.index(version) < VERSIONS.index("2.47") else {
                    "vcpus", "ram", "disk", "ephemeral", "swap", "original_name", "extra_specs",
                }  # fmt: skip
                assert found["flavor"].keys() == flavor
                assert found["image"].keys() == {"id", "links"}
    assert wrong == {}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("admin", [False, True])
def test_the_keys_of_a_created_server_and_of_a_brief_list(world: World, version: str, admin: bool) -> None:
    client = world.admin if admin else world.member
    reply = world.post(client, version, networks="none" if VERSIONS.index(version) >= VERSIONS.index("2.47") else ...)
    assert reply.status == 202, reply.body
    server = reply.json["server"]
    assert server.keys() == {"id", "links", "OS-DCF:diskConfig", "security_groups", "adminPass"}
    assert reply.headers["location"] == server["links"][0]["href"]
    rows = world.get("/servers", client, version).json["servers"]
    assert [set(row) for row in rows] == [{"id", "name", "links"}]


def test_the_values_of_a_running_server(world: World) -> None:
    server_id = world.active(name="web 1", metadata={"a": "b"}, tags=["x"], description="d", key_name=...)
    server = world.get(f"/servers/{server_id}").json["server"]
    assert server["status"] == "ACTIVE"
    assert (server["OS-EXT-STS:vm_state"], server["OS-EXT-STS:task_state"]) == ("active", None)
    assert (server["OS-EXT-STS:power_state"], server["progress"]) == (1, 100)
    assert server["image"]["id"] == IMAGE_ID
    address = server["addresses"]["blue"][0]
    assert address.keys() == {"version", "addr", "OS-EXT-IPS:type", "OS-EXT-IPS-MAC:mac_addr"}
    assert (address["version"], address["addr"]) == (4, "10.0.0.2")
    assert server["security_groups"] == [{"name": "default"}]
    assert server["OS-EXT-SRV-ATTR:hostname"] == "web-1"
    assert (server["metadata"], server["tags"], server["description"]) == ({"a": "b"}, ["x"], "d")
    assert server["OS-SRV-USG:launched_at"]
    shown = world.get(f"/servers/{server_id}", world.admin).json["server"]
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["host_status"], shown["hostId"]) == ("h1", "UP", server["hostId"])


def test_a_server_that_could_not_be_built_shows_why(world: World) -> None:
    server_id = world.create()
    assert world.get(f"/servers/{server_id}").json["server"]["status"] == "BUILD"
    world.settle(host="")
    server = world.get(f"/servers/{server_id}").json["server"]
    assert server["status"] == "ERROR"
    assert server["fault"]["message"].startswith("No valid host was found.")
    assert server["fault"].keys() <= {"code", "created", "message", "details"}
    assert "progress" not in server
    assert world.member.delete("compute", f"/v2.1/servers/{server_id}").status == 204
    world.settle()
    assert world.get(f"/servers/{server_id}").status == 404
