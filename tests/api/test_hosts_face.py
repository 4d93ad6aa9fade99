"""What an operator sees and decides about hosts: hypervisors, services, zones, the older hosts API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nova_fast.commands.hosts import record_host_report
from nova_fast.model.tasks import HostReport
from tests.api.host_world import RESOURCES, add_host, add_scheduler, add_server

if TYPE_CHECKING:
    from tests.api.conftest import Cloud

OLD_KEYS = {
    "cpu_info", "current_workload", "disk_available_least", "free_disk_gb", "free_ram_mb", "host_ip", "local_gb",
    "hypervisor_hostname", "hypervisor_type", "hypervisor_version", "id", "local_gb_used", "memory_mb",
    "memory_mb_used", "running_vms", "service", "state", "status", "vcpus", "vcpus_used",
}  # fmt: skip
NEW_KEYS = {
    "host_ip", "hypervisor_hostname", "hypervisor_type", "hypervisor_version", "id", "service", "state", "status",
    "uptime",
}  # fmt: skip


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute",)


def get(cloud: Cloud, path: str, microversion: str = "2.96") -> Any:
    reply = cloud.admin.get("compute", f"/v2.1{path}", microversion=microversion)
    assert reply.status == 200, reply.body
    return reply.json


@pytest.mark.parametrize(
    ("microversion", "keys"),
    [("2.1", OLD_KEYS), ("2.53", OLD_KEYS), ("2.75", OLD_KEYS), ("2.88", NEW_KEYS), ("2.96", NEW_KEYS)],
)
def test_a_hypervisor_has_exactly_the_keys_of_its_microversion(cloud: Cloud, microversion: str, keys: set[str]) -> None:
    host = add_host(cloud, "node-1")
    [listed] = get(cloud, "/os-hypervisors/detail", microversion)["hypervisors"]
    assert set(listed) == keys
    named = host.uuid if microversion >= "2.53" else host.number
    assert listed["id"] == named
    assert get(cloud, f"/os-hypervisors/{named}", microversion)["hypervisor"] == listed
    [brief] = get(cloud, "/os-hypervisors", microversion)["hypervisors"]
    assert set(brief) == {"id", "hypervisor_hostname", "state", "status"}


def test_cpu_info_is_text_before_2_28_and_an_object_since(cloud: Cloud) -> None:
    add_host(cloud, "node-1")
    assert get(cloud, "/os-hypervisors/detail", "2.27")["hypervisors"][0]["cpu_info"] == '{"model": "Haswell"}'
    assert get(cloud, "/os-hypervisors/detail", "2.28")["hypervisors"][0]["cpu_info"] == {"model": "Haswell"}


def test_cpu_info_has_topology_and_features_in_parts_of_their_own(cloud: Cloud) -> None:
    info = {"arch": "x86_64", "model": "Haswell", "sockets": "2", "cores": "4", "threads": "1"}
    resources = msgspec.structs.replace(RESOURCES, cpu_info=info, features=("avx", "vmx"))
    with cloud.store.transaction(1) as tx:
        record_host_report(tx, HostReport(host="node-1", zone="nova", resources=resources))
    assert get(cloud, "/os-hypervisors/detail", "2.28")["hypervisors"][0]["cpu_info"] == {
        "arch": "x86_64", "model": "Haswell", "topology": {"sockets": 2, "cores": 4, "threads": 1},
        "features": ["avx", "vmx"],
    }  # fmt: skip


def test_what_servers_take_is_shown_and_summed(cloud: Cloud) -> None:
    add_host(cloud, "node-1")
    add_host(cloud, "node-2")
    server = add_server(cloud, cloud.project("p1").member, "node-1")
    [first, second] = get(cloud, "/os-hypervisors/detail?with_servers=true", "2.53")["hypervisors"]
    assert (first["vcpus_used"], first["memory_mb_used"], first["local_gb_used"]) == (2, 1024 + 512, 12)
    assert (first["running_vms"], first["free_ram_mb"], first["free_disk_gb"]) == (1, 8192 - 1536, 88)
    assert first["servers"] == [{"uuid": server.id, "name": "one"}]
    assert "servers" not in second
    assert get(cloud, "/os-hypervisors/detail?with_servers=true", "2.75")["hypervisors"][1]["servers"] == []
    sums = get(cloud, "/os-hypervisors/statistics", "2.87")["hypervisor_statistics"]
    assert (sums["count"], sums["vcpus"], sums["vcpus_used"], sums["running_vms"]) == (2, 8, 2, 1)
    assert cloud.admin.get("compute", "/v2.1/os-hypervisors/statistics", microversion="2.88").status == 404


def test_hypervisors_are_searched_and_paged_in_the_way_of_their_microversion(cloud: Cloud) -> None:
    hosts = [add_host(cloud, name) for name in ("a1", "a2", "b1")]
    found = get(cloud, "/os-hypervisors/a/search", "2.52")["hypervisors"]
    assert [one["hypervisor_hostname"] for one in found] == ["a1", "a2"]
    found = get(cloud, "/os-hypervisors?hypervisor_hostname_pattern=1", "2.53")["hypervisors"]
    assert [one["hypervisor_hostname"] for one in found] == ["a1", "b1"]
    page = get(cloud, "/os-hypervisors?limit=2", "2.53")
    assert f"marker={hosts[1].uuid}" in page["hypervisors_links"][0]["href"]
    rest = get(cloud, f"/os-hypervisors?marker={hosts[1].uuid}", "2.53")["hypervisors"]
    assert [one["hypervisor_hostname"] for one in rest] == ["b1"]
    rest = get(cloud, f"/os-hypervisors?marker={hosts[1].number}", "2.33")["hypervisors"]
    assert [one["hypervisor_hostname"] for one in rest] == ["b1"]


@pytest.mark.parametrize(
    ("path", "microversion", "status"),
    [
        ("/os-hypervisors/node-9", "2.53", 404),
        ("/os-hypervisors/99", "2.1", 404),
        ("/os-hypervisors/x", "2.1", 404),
        ("/os-hypervisors?hypervisor_hostname_pattern=zz", "2.53", 404),
        ("/os-hypervisors?hypervisor_hostname_pattern=1&limit=1", "2.53", 400),
        ("/os-hypervisors?marker=zz", "2.53", 400),
        ("/os-hypervisors?with_servers=maybe", "2.53", 400),
        ("/os-hypervisors?x=y", "2.75", 400),
        ("/os-hypervisors/zz/servers", "2.1", 404),
        ("/os-hosts/node-9", "2.42", 404),
        ("/os-hosts", "2.43", 404),
        ("/os-services?x=y", "2.75", 400),
    ],
)
def test_what_is_not_there_or_wrong_is_refused(cloud: Cloud, path: str, microversion: str, status: int) -> None:
    add_host(cloud, "node-1")
    assert cloud.admin.get("compute", f"/v2.1{path}", microversion=microversion).status == status


@pytest.mark.parametrize("path", ["/os-hypervisors", "/os-services", "/os-availability-zone/detail", "/os-aggregates"])
def test_only_admins_see_the_machines(cloud: Cloud, path: str) -> None:
    assert cloud.project("p1").manager.get("compute", f"/v2.1{path}").status == 403


@pytest.mark.parametrize(
    ("microversion", "more"),
    [("2.1", set()), ("2.11", {"forced_down"}), ("2.53", {"forced_down"}), ("2.96", {"forced_down"})],
)
def test_services_are_computes_and_the_other_daemons(cloud: Cloud, microversion: str, more: set[str]) -> None:
    host = add_host(cloud, "node-1")
    add_scheduler(cloud, "node-1")
    [compute, scheduler] = get(cloud, "/os-services", microversion)["services"]
    keys = {"id", "binary", "host", "zone", "status", "state", "updated_at", "disabled_reason"}
    assert set(compute) == keys | more
    assert (compute["binary"], compute["zone"], compute["state"]) == ("nova-compute", "nova", "up")
    assert compute["id"] == (host.service_uuid if microversion >= "2.5" else host.number)
    assert (scheduler["binary"], scheduler["zone"]) == ("nova-scheduler", "internal")
    assert len(get(cloud, "/os-services?binary=nova-compute&host=node-1", microversion)["services"]) == 1
    assert get(cloud, "/os-services?host=other", microversion)["services"] == []


def test_a_host_is_closed_forced_down_and_opened_by_uuid(cloud: Cloud) -> None:
    host = add_host(cloud, "node-1")
    path = f"/v2.1/os-services/{host.service_uuid}"

    def put(body: dict[str, Any]) -> Any:
        return cloud.admin.put("compute", path, json=body, microversion="2.53")

    closed = put({"status": "disabled", "disabled_reason": "broken"}).json["service"]
    assert (closed["status"], closed["disabled_reason"]) == ("disabled", "broken")
    assert put({"forced_down": True}).json["service"]["state"] == "down"
    assert get(cloud, "/os-availability-zone")["availabilityZoneInfo"][0]["zoneState"] == {"available": False}
    assert put({"forced_down": "False"}).json["service"]["state"] == "up"
    opened = put({"status": "enabled"}).json["service"]
    assert (opened["status"], opened["disabled_reason"]) == ("enabled", None)


@pytest.mark.parametrize(
    "body",
    [{}, {"status": "off"}, {"disabled_reason": "x"}, {"status": "enabled", "disabled_reason": "x"}, {"host": "node-1"},
     {"forced_down": "perhaps"}, {"status": "disabled", "disabled_reason": ""},
     {"status": "disabled", "disabled_reason": "x" * 256}],
)  # fmt: skip
def test_a_wrong_change_of_a_service_is_400(cloud: Cloud, body: dict[str, Any]) -> None:
    host = add_host(cloud, "node-1")
    path = f"/v2.1/os-services/{host.service_uuid}"
    assert cloud.admin.put("compute", path, json=body, microversion="2.53").status == 400
    assert get(cloud, "/os-services")["services"][0]["status"] == "enabled"


def test_only_computes_can_be_changed(cloud: Cloud) -> None:
    add_scheduler(cloud, "node-1")
    [scheduler] = get(cloud, "/os-services")["services"]
    for service_id, status in ((scheduler["id"], 400), ("unknown", 404)):
        path, body = f"/v2.1/os-services/{service_id}", {"status": "disabled"}
        assert cloud.admin.put("compute", path, json=body, microversion="2.53").status == status


def test_the_older_verbs_do_the_same(cloud: Cloud) -> None:
    add_host(cloud, "node-1")
    named = {"host": "node-1", "binary": "nova-compute"}

    def put(verb: str, microversion: str = "2.11", **more: Any) -> Any:
        return cloud.admin.put("compute", f"/v2.1/os-services/{verb}", json=named | more, microversion=microversion)

    assert put("disable").json["service"] == named | {"status": "disabled"}
    reason = put("disable-log-reason", disabled_reason="broken").json["service"]
    assert reason == named | {"status": "disabled", "disabled_reason": "broken"}
    assert get(cloud, "/os-services")["services"][0]["disabled_reason"] == "broken"
    assert put("enable").json["service"] == named | {"status": "enabled"}
    assert put("force-down", forced_down=True).json["service"] == named | {"forced_down": True}
    assert get(cloud, "/os-services")["services"][0]["state"] == "down"
    assert put("force-down", "2.1", forced_down=True).status == 400
    assert put("disable-log-reason").status == 400
    assert put("explode").status == 404
    assert put("disable", host="node-9").status == 404


def test_a_host_without_servers_can_be_forgotten(cloud: Cloud) -> None:
    empty, full = add_host(cloud, "node-1"), add_host(cloud, "node-2")
    add_server(cloud, cloud.project("p1").member, "node-2")
    assert cloud.admin.delete("compute", f"/v2.1/os-services/{full.service_uuid}", microversion="2.53").status == 409
    assert cloud.admin.delete("compute", f"/v2.1/os-services/{empty.number}").status == 204
    assert [one["host"] for one in get(cloud, "/os-services")["services"]] == ["node-2"]


def test_zones_are_what_hosts_say(cloud: Cloud) -> None:
    add_host(cloud, "node-1", "east")
    add_host(cloud, "node-2", "west")
    add_scheduler(cloud, "node-1")
    client = cloud.project("p1").reader
    zones = client.get("compute", "/v2.1/os-availability-zone").json["availabilityZoneInfo"]
    assert zones == [{"zoneName": name, "zoneState": {"available": True}, "hosts": None} for name in ("east", "west")]
    detail = get(cloud, "/os-availability-zone/detail")["availabilityZoneInfo"]
    assert [zone["zoneName"] for zone in detail] == ["internal", "east", "west"]
    assert set(detail[1]["hosts"]["node-1"]["nova-compute"]) == {"available", "active", "updated_at"}


def test_the_hosts_api_shows_totals_and_projects(cloud: Cloud) -> None:
    add_host(cloud, "node-1")
    owner = cloud.project("p1").member
    add_server(cloud, owner, "node-1")
    assert get(cloud, "/os-hosts", "2.42")["hosts"] == [{"host_name": "node-1", "service": "compute", "zone": "nova"}]
    rows = [row["resource"] for row in get(cloud, "/os-hosts/node-1", "2.42")["host"]]
    assert [row["project"] for row in rows] == ["(total)", "(used_now)", "(used_max)", owner.project_id]
    assert (rows[3]["cpu"], rows[3]["memory_mb"], rows[3]["disk_gb"]) == (2, 1024, 12)
    changed = cloud.admin.put("compute", "/v2.1/os-hosts/node-1", json={"status": "Disable"})
    assert changed.json == {"host": "node-1", "status": "disabled"}
    assert cloud.admin.put("compute", "/v2.1/os-hosts/node-1", json={"maintenance_mode": "enable"}).status == 400
