"""The placement view of hosts and servers, at the microversions where its answers change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.model.commands.hosts import UpdateComputeService
from tests.api.host_world import add_host, add_server

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

RESOURCES = {"VCPU": 2, "MEMORY_MB": 1024, "DISK_GB": 12}


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("placement",)


def get(cloud: Cloud, path: str, microversion: str = "1.39") -> Any:
    reply = cloud.admin.get("placement", path, microversion=microversion)
    assert reply.status == 200, reply.body
    return reply.json


def status(cloud: Cloud, path: str, microversion: str = "1.39") -> int:
    return int(cloud.admin.get("placement", path, microversion=microversion).status)


def test_the_root_needs_no_token_and_names_the_versions(cloud: Cloud) -> None:
    [version] = cloud.nobody.get("placement", "/").json["versions"]
    assert (version["id"], version["min_version"], version["max_version"]) == ("v1.0", "1.0", "1.39")


@pytest.mark.parametrize(
    ("microversion", "keys", "links"),
    [
        ("1.0", set(), 3),
        ("1.1", set(), 4),
        ("1.6", set(), 5),
        ("1.11", set(), 6),
        ("1.14", {"parent_provider_uuid", "root_provider_uuid"}, 6),
    ],
)
def test_a_provider_has_the_keys_of_its_microversion(
    cloud: Cloud, microversion: str, keys: set[str], links: int
) -> None:
    host = add_host(cloud, "node-1")
    [provider] = get(cloud, "/resource_providers", microversion)["resource_providers"]
    assert set(provider) == {"uuid", "name", "generation", "links"} | keys
    assert (provider["uuid"], provider["name"], len(provider["links"])) == (host.uuid, "node-1", links)
    assert get(cloud, f"/resource_providers/{host.uuid}", microversion) == provider


def test_inventories_usages_and_allocations_tell_one_truth(cloud: Cloud) -> None:
    host = add_host(cloud, "node-1")
    owner = cloud.project("p1").member
    server = add_server(cloud, owner, "node-1")
    path = f"/resource_providers/{host.uuid}"
    inventories = get(cloud, f"{path}/inventories")["inventories"]
    assert inventories["VCPU"] == {
        "total": 4, "reserved": 0, "min_unit": 1, "max_unit": 4, "step_size": 1, "allocation_ratio": 4.0,
    }  # fmt: skip
    assert inventories["MEMORY_MB"]["reserved"] == 512
    assert get(cloud, f"{path}/inventories/DISK_GB")["total"] == 100
    assert get(cloud, f"{path}/usages")["usages"] == RESOURCES
    allocations = get(cloud, f"{path}/allocations")["allocations"]
    assert allocations == {server.id: {"resources": RESOURCES, "consumer_generation": 1}}
    mine = get(cloud, f"/allocations/{server.id}")
    assert mine["allocations"][host.uuid]["resources"] == RESOURCES
    assert (mine["project_id"], mine["user_id"], mine["consumer_type"]) == (owner.project_id, owner.user_id, "INSTANCE")
    assert set(get(cloud, f"/allocations/{server.id}", "1.0")) == {"allocations"}
    assert get(cloud, f"/allocations/{host.uuid}") == {"allocations": {}}


def test_candidates_are_hosts_with_room(cloud: Cloud) -> None:
    add_host(cloud, "node-1")
    empty = add_host(cloud, "node-2")
    for _ in range(7):
        add_server(cloud, cloud.project("p1").member, "node-1")  # 14 of 16 vCPUs, 7168 of 7680 MiB
    path = "/allocation_candidates?resources=VCPU:2,MEMORY_MB:1024"
    found = get(cloud, path)
    assert [list(one["allocations"]) for one in found["allocation_requests"]] == [[empty.uuid]]
    assert found["allocation_requests"][0]["mappings"] == {"": [empty.uuid]}
    summary = found["provider_summaries"][empty.uuid]
    assert summary["resources"]["VCPU"] == {"capacity": 16, "used": 0}
    assert set(summary) == {"resources", "traits", "parent_provider_uuid", "root_provider_uuid"}
    assert len(get(cloud, "/allocation_candidates?resources=VCPU:2")["allocation_requests"]) == 2
    assert len(get(cloud, "/allocation_candidates?resources=VCPU:2&limit=1")["allocation_requests"]) == 1
    assert get(cloud, "/allocation_candidates?resources=VCPU:5")["allocation_requests"] == []


def test_candidates_take_the_form_of_their_microversion(cloud: Cloud) -> None:
    host = add_host(cloud, "node-1")
    path = "/allocation_candidates?resources=VCPU:1"
    assert status(cloud, path, "1.9") == 404
    [old] = get(cloud, path, "1.10")["allocation_requests"]
    assert old == {"allocations": [{"resource_provider": {"uuid": host.uuid}, "resources": {"VCPU": 1}}]}
    found = get(cloud, path, "1.12")
    assert found["allocation_requests"] == [{"allocations": {host.uuid: {"resources": {"VCPU": 1}}}}]
    assert found["provider_summaries"] == {host.uuid: {"resources": {"VCPU": {"capacity": 16, "used": 0}}}}


def test_traits_are_facts_of_the_host_and_filter(cloud: Cloud) -> None:
    open_host, closed = add_host(cloud, "node-1"), add_host(cloud, "node-2")
    cloud.run(UpdateComputeService(caller=cloud.root, host="node-2", enabled=False))
    traits = get(cloud, f"/resource_providers/{closed.uuid}/traits")["traits"]
    assert {"COMPUTE_STATUS_DISABLED", "HW_ARCH_X86_64", "COMPUTE_NODE"} <= set(traits)

    def names(query: str) -> list[str]:
        return [one["name"] for one in get(cloud, f"/resource_providers?{query}")["resource_providers"]]

    assert names("required=COMPUTE_STATUS_DISABLED") == ["node-2"]
    assert names("required=!COMPUTE_STATUS_DISABLED,HW_ARCH_X86_64") == ["node-1"]
    assert names("required=in:HW_ARCH_AARCH64,COMPUTE_STATUS_DISABLED") == ["node-2"]
    assert names("resources=VCPU:5") == []
    assert names(f"in_tree={open_host.uuid}") == names(f"uuid={open_host.uuid}") == names("name=node-1") == ["node-1"]
    assert names(f"member_of={open_host.uuid}") == []
    assert "HW_ARCH_X86_64" in get(cloud, "/traits?name=startswith:HW_")["traits"]
    assert "COMPUTE_STATUS_DISABLED" in get(cloud, "/traits?associated=true")["traits"]
    assert get(cloud, "/traits?name=in:COMPUTE_NODE,NOTHING")["traits"] == ["COMPUTE_NODE"]
    assert status(cloud, "/traits/COMPUTE_NODE") == 204
    assert status(cloud, "/traits/NOTHING") == 404


def test_a_project_sees_its_own_usage_and_admins_any(cloud: Cloud) -> None:
    add_host(cloud, "node-1")
    owner = cloud.project("p1").member
    for _ in range(2):
        add_server(cloud, owner, "node-1")
    path = f"/usages?project_id={owner.project_id}"
    double = {name: 2 * amount for name, amount in RESOURCES.items()}
    assert owner.get("placement", path, microversion="1.9").json == {"usages": double}
    typed = get(cloud, path)["usages"]
    assert typed == {"INSTANCE": {"consumer_count": 2, **double}}
    assert get(cloud, f"{path}&user_id=nobody", "1.9") == {"usages": {}}
    assert cloud.project("p2").manager.get("placement", path, microversion="1.9").status == 403


@pytest.mark.parametrize("path", ["/resource_providers", "/allocation_candidates?resources=VCPU:1", "/traits"])
def test_only_admins_and_services_see_providers(cloud: Cloud, path: str) -> None:
    assert cloud.project("p1").manager.get("placement", path, microversion="1.39").status == 403
    assert cloud.nobody.get("placement", path).status == 401


@pytest.mark.parametrize(
    ("path", "microversion", "expected"),
    [
        ("/resource_providers/00000000-0000-4000-8000-000000000000", "1.39", 404),
        ("/resource_providers/nothing/usages", "1.39", 404),
        ("/resource_providers?uuid=x", "1.39", 400),
        ("/resource_providers?color=red", "1.39", 400),
        ("/resource_providers?resources=VCPU:1", "1.3", 400),
        ("/resource_providers?required=lower", "1.39", 400),
        ("/resource_providers?required=in:A,B", "1.38", 400),
        ("/allocation_candidates", "1.39", 400),
        ("/allocation_candidates?resources=VCPU", "1.39", 400),
        ("/allocation_candidates?resources=VCPU:0", "1.39", 400),
        ("/allocation_candidates?resources=VCPU:-1", "1.39", 400),
        ("/allocation_candidates?resources=VCPU:1,VCPU:2", "1.39", 400),
        ("/allocation_candidates?resources=CUSTOM_GOLD:1", "1.39", 400),
        ("/allocation_candidates?resources=VCPU:1&limit=0", "1.39", 400),
        ("/allocation_candidates?resources=VCPU:1&required=NO_SUCH", "1.39", 400),
        ("/allocation_candidates?resources=VCPU:1&group_policy=x", "1.39", 400),
        ("/usages", "1.39", 400),
        ("/traits", "1.5", 404),
        ("/traits?name=x", "1.39", 400),
        ("/resource_classes/CUSTOM_GOLD", "1.39", 404),
        ("/resource_classes", "1.1", 404),
        ("/resource_providers", "1.40", 406),
        ("/resource_providers", "one", 400),
    ],
)
def test_what_is_wrong_or_not_there_is_refused(cloud: Cloud, path: str, microversion: str, expected: int) -> None:
    reply = cloud.admin.get("placement", path, microversion=microversion)
    assert reply.status == expected
    [error] = reply.json["errors"]
    assert error["status"] == expected
    assert error["request_id"] == reply.headers["x-openstack-request-id"]


def test_answers_say_since_1_15_that_they_are_fresh(cloud: Cloud) -> None:
    add_host(cloud, "node-1")
    old = cloud.admin.get("placement", "/resource_providers", microversion="1.14")
    new = cloud.admin.get("placement", "/resource_providers", microversion="1.15")
    assert "last-modified" not in old.headers
    assert new.headers["cache-control"] == "no-cache"
    assert new.headers["last-modified"].endswith("GMT")
    assert new.headers["openstack-api-version"] == "placement 1.15"
