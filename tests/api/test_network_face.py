"""The network face over HTTP: shapes, filters, pages, errors."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Client, Cloud

NETWORK_KEYS = {
    "id", "name", "subnets", "admin_state_up", "status", "shared", "router:external", "mtu", "port_security_enabled",
    "project_id", "tenant_id", "description", "created_at", "updated_at", "revision_number", "tags",
}  # fmt: skip
PROVIDER_KEYS = {"provider:network_type", "provider:physical_network", "provider:segmentation_id"}


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("network",)


def make(client: Client, thing: str, **fields: Any) -> dict[str, Any]:
    plural = thing.replace("_", "-") + "s"
    reply = client.post("network", f"/v2.0/{plural}", json={thing: fields})
    assert reply.status == 201, reply.body
    made: dict[str, Any] = reply.json[thing]
    return made


def listed(client: Client, path: str) -> list[dict[str, Any]]:
    reply = client.get("network", f"/v2.0/{path}")
    assert reply.status == 200, reply.body
    rows: list[dict[str, Any]] = reply.json[path.partition("?")[0].replace("-", "_")]
    return rows


def problem(reply: Any) -> tuple[int, str]:
    assert set(reply.json["NeutronError"]) == {"type", "message", "detail"}
    return reply.status, reply.json["NeutronError"]["type"]


def test_versions_need_no_token(cloud: Cloud) -> None:
    versions = cloud.nobody.get("network", "/").json["versions"]
    assert [(v["id"], v["status"]) for v in versions] == [("v2.0", "CURRENT")]
    assert {r["collection"] for r in cloud.nobody.get("network", "/v2.0/").json["resources"]} >= {"networks", "ports"}
    assert cloud.nobody.get("network", "/v2.0/networks").status == 401


def test_a_network_has_exactly_the_keys_of_the_attribute_map(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    network = make(member, "network", name="blue", admin_state_up=True)
    assert set(network) == NETWORK_KEYS
    assert network["project_id"] == network["tenant_id"] == member.project_id
    shown = cloud.admin.get("network", f"/v2.0/networks/{network['id']}").json["network"]
    assert set(shown) == NETWORK_KEYS | PROVIDER_KEYS
    assert (shown["provider:network_type"], shown["provider:segmentation_id"]) == ("vxlan", 1)
    fields = member.get("network", f"/v2.0/networks/{network['id']}?fields=id&fields=name").json["network"]
    assert fields == {"id": network["id"], "name": "blue"}


def test_a_reader_reads_and_does_not_write(cloud: Cloud) -> None:
    project = cloud.project("p1")
    network = make(project.member, "network", name="blue")
    assert [n["id"] for n in listed(project.reader, "networks")] == [network["id"]]
    for method, path, body in (
        ("POST", "/v2.0/networks", {"network": {}}),
        ("PUT", f"/v2.0/networks/{network['id']}", {"network": {"name": "x"}}),
        ("DELETE", f"/v2.0/networks/{network['id']}", None),
    ):
        assert problem(project.reader.request(method, "network", path, json=body))[0] == 403
    stranger = cloud.project("p2").member
    assert listed(stranger, "networks") == []
    missing = stranger.get("network", f"/v2.0/networks/{network['id']}")
    assert problem(missing) == (404, "NetworkNotFound")


def test_many_are_made_at_once_or_none(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    reply = member.post("network", "/v2.0/networks", json={"networks": [{"name": "a"}, {"name": "b"}]})
    assert (reply.status, [n["name"] for n in reply.json["networks"]]) == (201, ["a", "b"])
    reply = member.post("network", "/v2.0/networks", json={"networks": [{"name": "c"}, {"name": "d", "mtu": 1}]})
    assert problem(reply) == (400, "InvalidInput")
    assert {n["name"] for n in listed(member, "networks")} == {"a", "b"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("networks", {"network": {"name": "x" * 256}}),
        ("networks", {"network": {"colour": "blue"}}),
        ("networks", {"network": {"admin_state_up": "maybe"}}),
        ("networks", {"network": {"mtu": "many"}}),
        ("networks", {"network": {"project_id": "a", "tenant_id": "b"}}),
        ("networks", {}),
        ("networks", {"network": {}, "networks": [{}]}),
        ("networks", {"networks": []}),
        ("networks", []),
        ("subnets", {"subnet": {"network_id": "x", "ip_version": 4}}),
        ("subnets", {"subnet": {"ip_version": 4, "cidr": "10.0.0.0/24"}}),
        ("subnets", {"subnet": {"network_id": "x", "ip_version": 4, "subnetpool_id": "y"}}),
        ("ports", {"port": {}}),
        ("ports", {"port": {"network_id": 5}}),
        ("ports", {"port": {"network_id": "x", "binding:profile": {"a": {}}}}),
        ("security-groups", {"security_group": {"name": "g", "stateful": False}}),
        ("security-group-rules", {"security_group_rule": {"direction": "ingress"}}),
    ],
)
def test_a_body_of_a_wrong_shape_is_a_400(cloud: Cloud, path: str, body: Any) -> None:
    assert problem(cloud.project("p1").member.post("network", f"/v2.0/{path}", json=body))[0] == 400


def test_truth_and_numbers_may_be_written_as_text(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    network = make(member, "network", admin_state_up="False", mtu="1400", port_security_enabled=0)
    assert (network["admin_state_up"], network["mtu"], network["port_security_enabled"]) == (False, 1400, False)
    assert network["status"] == "DOWN"


def test_filters_are_exact_repeatable_and_checked(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    for name in ("a", "b", "c", ""):
        make(member, "network", name=name, admin_state_up=name != "b")
    assert [n["name"] for n in listed(member, "networks?name=a")] == ["a"]
    assert {n["name"] for n in listed(member, "networks?name=a&name=b")} == {"a", "b"}
    assert {n["name"] for n in listed(member, "networks?name=a&name=b&admin_state_up=True")} == {"a"}
    assert [n["name"] for n in listed(member, "networks?name=")] == [""]
    assert listed(member, "networks?router:external=True") == []
    assert len(listed(member, "networks?shared=False")) == 4
    assert listed(member, "networks?name=a&fields=name") == [{"name": "a"}]
    for wrong in ("colour=blue", "admin_state_up=maybe", "limit=-1", "limit=x", "sort_key=colour", "sort_key=subnets",
                  "sort_key=name&sort_dir=up", "sort_key=name&sort_dir=asc&sort_dir=asc"):  # fmt: skip
        assert problem(member.get("network", f"/v2.0/networks?{wrong}"))[0] == 400, wrong


def test_pages_show_everything_once_in_both_directions(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    for name in "abcde":
        make(member, "network", name=name)
    names: list[str] = []
    path = "/v2.0/networks?limit=2&sort_key=name&sort_dir=desc"
    pages = 0
    while path:
        body = member.get("network", path).json
        names += [n["name"] for n in body["networks"]]
        links = {link["rel"]: link["href"] for link in body.get("networks_links", [])}
        path = "/v2.0" + links["next"].partition("/v2.0")[2] if "next" in links else ""
        pages += 1
    assert (names, pages) == (list("edcba"), 3)
    last = listed(member, "networks?sort_key=name")[-1]["id"]
    reply = member.get("network", f"/v2.0/networks?sort_key=name&limit=2&marker={last}&page_reverse=True").json
    assert [n["name"] for n in reply["networks"]] == ["c", "d"]
    assert problem(member.get("network", "/v2.0/networks?marker=nobody"))[0] == 404


def test_a_subnet_and_a_port_from_end_to_end(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    network = make(member, "network", name="blue")
    subnet = make(
        member, "subnet", network_id=network["id"], ip_version="4", cidr="10.0.0.0/24", name="s",
        dns_nameservers=["9.9.9.9"], host_routes=[{"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}],
    )  # fmt: skip
    assert subnet["gateway_ip"] == "10.0.0.1"
    assert subnet["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    assert (subnet["ipv6_ra_mode"], subnet["subnetpool_id"], subnet["enable_dhcp"]) == (None, None, True)
    assert member.get("network", f"/v2.0/networks/{network['id']}").json["network"]["subnets"] == [subnet["id"]]
    port = make(member, "port", network_id=network["id"], name="p", admin_state_up=True)
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.2"}]
    assert "binding:host_id" not in port
    assert len(port["security_groups"]) == 1
    shown = cloud.admin.get("network", f"/v2.0/ports/{port['id']}").json["port"]
    assert (shown["binding:vif_type"], shown["binding:host_id"], shown["binding:profile"]) == ("unbound", "", {})
    changed = member.put("network", f"/v2.0/ports/{port['id']}", json={"port": {"name": "q", "security_groups": []}})
    assert (changed.json["port"]["name"], changed.json["port"]["security_groups"]) == ("q", [])
    assert changed.json["port"]["revision_number"] == 2
    for path, kind in (
        (f"networks/{network['id']}", "NetworkInUse"),
        (f"subnets/{subnet['id']}", "SubnetInUse"),
    ):
        assert problem(member.delete("network", f"/v2.0/{path}")) == (409, kind)
    for path in (f"ports/{port['id']}", f"subnets/{subnet['id']}", f"networks/{network['id']}"):
        assert member.delete("network", f"/v2.0/{path}").status == 204
    assert problem(member.get("network", f"/v2.0/subnets/{subnet['id']}")) == (404, "SubnetNotFound")
    assert problem(member.get("network", f"/v2.0/ports/{port['id']}")) == (404, "PortNotFound")


def test_ports_are_found_by_address(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    network = make(member, "network")
    subnet = make(member, "subnet", network_id=network["id"], ip_version=4, cidr="10.0.0.0/24")
    for name in ("a", "b"):
        make(member, "port", network_id=network["id"], name=name)
    assert [p["name"] for p in listed(member, "ports?fixed_ips=ip_address=10.0.0.3")] == ["b"]
    assert len(listed(member, f"ports?fixed_ips=subnet_id={subnet['id']}")) == 2
    both = f"ports?fixed_ips=subnet_id={subnet['id']}&fixed_ips=ip_address=10.0.0.2"
    assert [p["name"] for p in listed(member, both)] == ["a"]
    assert len(listed(member, "ports?fixed_ips=ip_address_substr=10.0")) == 2
    assert listed(member, "ports?fixed_ips=ip_address_substr=10.1") == []
    assert len(listed(member, f"ports?network_id={network['id']}&device_id=")) == 2
    assert problem(member.get("network", "/v2.0/ports?fixed_ips=colour=blue"))[0] == 400


def test_ids_of_any_length_are_answered(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    long = "x" * 2000
    for path in (f"ports?device_id={long}", f"ports?network_id={long}", f"networks?id={long}",
                 f"security-group-rules?security_group_id={long}", f"subnets?network_id={long}"):  # fmt: skip
        assert listed(member, path) == []
    for path in (f"ports/{long}", f"networks/{long}", f"subnets/{long}", f"security-groups/{long}",
                 f"security-group-rules/{long}", f"networks/{long}/tags"):  # fmt: skip
        assert problem(member.get("network", f"/v2.0/{path}"))[0] == 404
    assert problem(cloud.admin.put("network", f"/v2.0/quotas/{long}", json={"quota": {"port": 1}}))[0] == 400
    fields = {"network_id": long[:64], "device_id": long}
    assert problem(member.post("network", "/v2.0/ports", json={"port": fields}))[0] == 400


def test_the_default_group_is_there_as_soon_as_somebody_looks(cloud: Cloud) -> None:
    project = cloud.project("p1")
    [group] = listed(project.reader, "security-groups?name=default")
    rules = {(r["direction"], r["ethertype"], r["remote_group_id"]) for r in group["security_group_rules"]}
    assert rules == {
        ("egress", "IPv4", None), ("egress", "IPv6", None),
        ("ingress", "IPv4", group["id"]), ("ingress", "IPv6", group["id"]),
    }  # fmt: skip
    assert len(listed(project.member, "security-groups")) == 1
    reply = project.member.post("network", "/v2.0/security-groups", json={"security_group": {"name": "default"}})
    assert problem(reply) == (409, "SecurityGroupDefaultAlreadyExists")
    reply = project.member.delete("network", f"/v2.0/security-groups/{group['id']}")
    assert problem(reply) == (409, "SecurityGroupCannotRemoveDefault")


def test_rules_are_made_listed_and_removed(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    group = make(member, "security_group", name="web", description="d")
    rule = make(
        member, "security_group_rule", security_group_id=group["id"], direction="ingress", protocol="tcp",
        port_range_min="22", port_range_max=22, remote_ip_prefix="10.0.0.7/24",
    )  # fmt: skip
    assert (rule["remote_ip_prefix"], rule["normalized_cidr"]) == ("10.0.0.7/24", "10.0.0.0/24")
    found = listed(member, f"security-group-rules?security_group_id={group['id']}&direction=ingress")
    assert [r["id"] for r in found] == [rule["id"]]
    again = {k: rule[k] for k in ("security_group_id", "direction", "protocol", "port_range_min", "port_range_max")}
    again["remote_ip_prefix"] = "10.0.0.0/24"
    reply = member.post("network", "/v2.0/security-group-rules", json={"security_group_rule": again})
    assert problem(reply) == (409, "SecurityGroupRuleExists")
    path = f"/v2.0/security-group-rules/{rule['id']}"
    assert problem(cloud.project("p2").member.delete("network", path)) == (404, "SecurityGroupRuleNotFound")
    assert member.delete("network", path).status == 204
    assert problem(member.get("network", path)) == (404, "SecurityGroupRuleNotFound")


def test_quotas_are_shown_set_counted_and_reset(cloud: Cloud) -> None:
    project = cloud.project("p1")
    path = f"/v2.0/quotas/{project.id}"
    assert project.reader.get("network", path).json["quota"]["network"] == 100
    assert problem(project.manager.put("network", path, json={"quota": {"network": 1}}))[0] == 403
    assert problem(cloud.project("p2").member.get("network", path))[0] == 403
    assert cloud.admin.put("network", path, json={"quota": {"network": "1"}}).json["quota"]["network"] == 1
    make(project.member, "network")
    details = project.member.get("network", path + "/details").json["quota"]
    assert details["network"] == {"limit": 1, "used": 1, "reserved": 0}
    reply = project.member.post("network", "/v2.0/networks", json={"network": {}})
    assert problem(reply) == (409, "OverQuota")
    too_low = {"quota": {"network": 0, "check_limit": True}}
    assert problem(cloud.admin.put("network", path, json=too_low)) == (400, "QuotaLimitTooLow")
    assert cloud.admin.put("network", path, json={"quota": {"network": 1, "check_limit": True}}).status == 200
    assert [q["project_id"] for q in cloud.admin.get("network", "/v2.0/quotas").json["quotas"]] == [project.id]
    assert project.member.get("network", path + "/default").json["quota"]["network"] == 100
    for wrong in ({"network": -2}, {"colour": 1}, {"network": "many"}):
        assert problem(cloud.admin.put("network", path, json={"quota": wrong}))[0] == 400
    assert cloud.admin.delete("network", path).status == 204
    assert project.member.get("network", path).json["quota"]["network"] == 100


@pytest.mark.parametrize("collection", ["networks", "security-groups"])
def test_tags_are_read_replaced_added_and_removed(cloud: Cloud, collection: str) -> None:
    member = cloud.project("p1").member
    thing = make(member, collection[:-1].replace("-", "_"), name="tagged")
    path = f"/v2.0/{collection}/{thing['id']}/tags"
    assert member.put("network", path, json={"tags": ["a", "b"]}).json == {"tags": ["a", "b"]}
    assert member.put("network", path + "/c").status == 201
    assert member.delete("network", path + "/a").status == 204
    assert member.get("network", path).json == {"tags": ["b", "c"]}
    assert member.get("network", path + "/b").status == 204
    assert problem(member.get("network", path + "/a")) == (404, "TagNotFound")
    assert [t["name"] for t in listed(member, f"{collection}?tags=b,c")] == ["tagged"]
    assert "tagged" not in {t["name"] for t in listed(member, f"{collection}?not-tags-any=b")}
    assert member.delete("network", path).status == 204
    assert member.get("network", path).json == {"tags": []}
    assert problem(member.put("network", path, json={"tags": [""]}))[0] == 400


def test_extensions_say_what_is_there(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    aliases = {extension["alias"] for extension in member.get("network", "/v2.0/extensions").json["extensions"]}
    assert {"security-group", "quotas", "standard-attr-tag"} <= aliases
    assert not aliases & {"router", "dvr", "l3-ha", "trunk"}
    assert member.get("network", "/v2.0/extensions/quotas").json["extension"]["alias"] == "quotas"
    missing = member.get("network", "/v2.0/extensions/tag-ports-during-bulk-creation")
    assert problem(missing) == (404, "ExtensionNotFound")
    assert problem(member.get("network", "/v2.0/routers"))[0] == 404


def test_agents_are_for_admins(cloud: Cloud) -> None:
    assert cloud.admin.get("network", "/v2.0/agents").json == {"agents": []}
    assert problem(cloud.project("p1").member.get("network", "/v2.0/agents"))[0] == 403
    assert cloud.project("p1").reader.get("network", "/v2.0/availability_zones").json == {"availability_zones": []}
