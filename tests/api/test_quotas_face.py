"""Quota sets, limits and usage reports through the real HTTP server."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.commands.usage import take
from tests.api.host_world import add_host, add_server, now_us

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

CORE = {"instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members"}
FILES = {"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}
NETWORK = {"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}
HOUR_US = 3_600_000_000


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute",)


@pytest.mark.parametrize(
    ("microversion", "keys"),
    [("2.1", CORE | FILES | NETWORK), ("2.36", CORE | FILES), ("2.57", CORE), ("2.96", CORE)],
)
def test_a_quota_set_has_exactly_the_keys_of_its_microversion(cloud: Cloud, microversion: str, keys: set[str]) -> None:
    client = cloud.project("p1").reader
    path = f"/v2.1/os-quota-sets/{client.project_id}"
    for suffix in ("", "/detail", "/defaults"):
        found = client.get("compute", path + suffix, microversion=microversion).json["quota_set"]
        assert set(found) == keys | {"id"}
        if suffix == "/detail":
            assert found["cores"] == {"limit": 20, "in_use": 0, "reserved": 0}
    changed = cloud.admin.put("compute", path, json={"quota_set": {"cores": 5}}, microversion=microversion)
    assert set(changed.json["quota_set"]) == keys


def test_limits_are_set_shown_and_reset(cloud: Cloud) -> None:
    client = cloud.project("p1").reader
    path = f"/v2.1/os-quota-sets/{client.project_id}"
    body = {"quota_set": {"cores": "50", "instances": -1}}
    assert cloud.admin.put("compute", path, json=body).json["quota_set"]["cores"] == 50
    shown = client.get("compute", path).json["quota_set"]
    assert (shown["cores"], shown["instances"], shown["ram"]) == (50, -1, 51200)
    assert client.get("compute", f"{path}/defaults").json["quota_set"]["cores"] == 20
    assert cloud.admin.delete("compute", path).status == 202
    assert client.get("compute", path).json["quota_set"]["cores"] == 20


@pytest.mark.parametrize(
    ("quota_set", "microversion"),
    [
        ({"cores": -2}, "2.96"),
        ({"cores": 1 << 31}, "2.96"),
        ({"cores": "many"}, "2.96"),
        ({"cores": 1.5}, "2.96"),
        ({"unknown": 1}, "2.96"),
        ({"injected_files": 1}, "2.57"),
        ({"floating_ips": 1}, "2.36"),
        ({"floating_ips": 1}, "2.1"),
        ({"cores": 1, "force": "perhaps"}, "2.96"),
        ("x", "2.96"),
    ],
)
def test_a_wrong_quota_is_400_and_changes_nothing(cloud: Cloud, quota_set: Any, microversion: str) -> None:
    path = f"/v2.1/os-quota-sets/{cloud.project('p1').id}"
    body = {"quota_set": quota_set}
    assert cloud.admin.put("compute", path, json=body, microversion=microversion).status == 400
    assert cloud.admin.get("compute", path).json["quota_set"]["cores"] == 20


def test_a_limit_below_what_is_used_needs_force(cloud: Cloud) -> None:
    project_id = cloud.project("p1").id
    with cloud.store.transaction(now_us()) as tx:
        take(tx, project_id, cores=8)
    cloud.made_up_usage = True
    path = f"/v2.1/os-quota-sets/{project_id}"
    refused = cloud.admin.put("compute", path, json={"quota_set": {"cores": 4}})
    assert refused.status == 400
    assert "8" in refused.json["badRequest"]["message"]
    assert cloud.admin.put("compute", path, json={"quota_set": {"cores": 4, "force": "True"}}).status == 200
    detail = cloud.admin.get("compute", f"{path}/detail").json["quota_set"]
    assert detail["cores"] == {"limit": 4, "in_use": 8, "reserved": 0}


def test_quotas_of_others_are_for_admins_and_changing_any_as_well(cloud: Cloud) -> None:
    mine, theirs = cloud.project("p1"), f"/v2.1/os-quota-sets/{cloud.project('p2').id}"
    assert mine.member.get("compute", theirs).status == 403
    assert mine.manager.put("compute", f"/v2.1/os-quota-sets/{mine.id}", json={"quota_set": {}}).status == 403
    assert cloud.admin.put("compute", "/v2.1/os-quota-sets/nobody", json={"quota_set": {"cores": 1}}).status == 400


@pytest.mark.parametrize(
    ("microversion", "keys"),
    [
        ("2.1", (CORE - {"server_groups", "server_group_members"}) | FILES | NETWORK),
        ("2.50", CORE | FILES),
        ("2.57", CORE),
    ],
)
def test_the_default_class_has_the_keys_of_its_microversion(cloud: Cloud, microversion: str, keys: set[str]) -> None:
    path = "/v2.1/os-quota-class-sets/default"
    found = cloud.admin.get("compute", path, microversion=microversion).json["quota_class_set"]
    assert set(found) == keys | {"id"}


@pytest.mark.parametrize(("microversion", "count"), [("2.1", 19), ("2.36", 14), ("2.39", 13), ("2.57", 11)])
def test_limits_have_the_keys_of_their_microversion(cloud: Cloud, microversion: str, count: int) -> None:
    body = cloud.project("p1").reader.get("compute", "/v2.1/limits", microversion=microversion).json["limits"]
    assert body["rate"] == []
    assert len(body["absolute"]) == count


def test_limits_show_what_is_used_and_others_to_admins_only(cloud: Cloud) -> None:
    project = cloud.project("p1")
    with cloud.store.transaction(now_us()) as tx:
        take(tx, project.id, cores=3, ram=100, instances=1)
    cloud.made_up_usage = True
    absolute = project.reader.get("compute", "/v2.1/limits?reserved=False").json["limits"]["absolute"]
    assert (absolute["totalCoresUsed"], absolute["totalRAMUsed"], absolute["totalInstancesUsed"]) == (3, 100, 1)
    other = f"/v2.1/limits?tenant_id={project.id}"
    assert cloud.admin.get("compute", other).json["limits"]["absolute"]["totalCoresUsed"] == 3
    assert cloud.project("p2").manager.get("compute", other).status == 403


def test_usage_multiplies_hours_by_resources(cloud: Cloud) -> None:
    owner = cloud.project("p1").member
    add_host(cloud, "node-1")
    launched_us = now_us() - 4 * HOUR_US
    server = add_server(cloud, owner, "node-1", launched_us)
    start, end = (datetime.fromtimestamp((launched_us + n * HOUR_US) / 1e6, UTC).isoformat()[:26] for n in (1, 3))
    query = f"?start={start}&end={end}"
    usage = owner.get("compute", f"/v2.1/os-simple-tenant-usage/{owner.project_id}{query}").json["tenant_usage"]
    assert usage["total_hours"] == pytest.approx(2)
    assert usage["total_vcpus_usage"] == pytest.approx(4)
    assert usage["total_memory_mb_usage"] == pytest.approx(2048)
    assert usage["total_local_gb_usage"] == pytest.approx(22)
    [row] = usage["server_usages"]
    assert (row["instance_id"], row["flavor"], row["state"], row["ended_at"]) == (server.id, "small", "active", None)
    assert row["hours"] == pytest.approx(2)
    everyone = cloud.admin.get("compute", f"/v2.1/os-simple-tenant-usage{query}&detailed=1").json["tenant_usages"]
    assert everyone == [usage]
    brief = cloud.admin.get("compute", f"/v2.1/os-simple-tenant-usage{query}").json["tenant_usages"]
    assert "server_usages" not in brief[0]


def test_usage_is_paged_by_server_since_2_40(cloud: Cloud) -> None:
    owner = cloud.project("p1").member
    add_host(cloud, "node-1")
    ids = sorted(add_server(cloud, owner, "node-1", now_us() - HOUR_US).id for _ in range(3))
    path, found = f"/v2.1/os-simple-tenant-usage/{owner.project_id}?start=2020-01-01&limit=2", []
    while path:
        body = owner.get("compute", path, microversion="2.40").json
        found += [row["instance_id"] for row in body["tenant_usage"]["server_usages"]]
        links = body.get("tenant_usage_links", [])
        path = links[0]["href"].partition(f":{cloud.ports['compute']}")[2] if links else ""
    assert found == ids


def test_a_project_without_servers_used_nothing(cloud: Cloud) -> None:
    owner = cloud.project("p1").member
    usage = owner.get("compute", f"/v2.1/os-simple-tenant-usage/{owner.project_id}").json["tenant_usage"]
    assert (usage["total_hours"], usage["server_usages"]) == (0, [])


@pytest.mark.parametrize("query", ["start=yesterday", "end=x", "start=2026-02-01&end=2026-01-01"])
def test_a_wrong_period_is_400(cloud: Cloud, query: str) -> None:
    assert cloud.admin.get("compute", f"/v2.1/os-simple-tenant-usage?{query}").status == 400


def test_the_usage_of_others_is_for_admins(cloud: Cloud) -> None:
    path = f"/v2.1/os-simple-tenant-usage/{cloud.project('p2').id}"
    assert cloud.project("p1").manager.get("compute", path).status == 403
    assert cloud.project("p1").manager.get("compute", "/v2.1/os-simple-tenant-usage").status == 403
