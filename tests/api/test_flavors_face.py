"""Flavors, extra specs and access through the real HTTP server, at the microversions where they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud

BASE_KEYS = {
    "id", "name", "ram", "disk", "swap", "vcpus", "rxtx_factor", "links", "OS-FLV-EXT-DATA:ephemeral",
    "OS-FLV-DISABLED:disabled", "os-flavor-access:is_public",
}  # fmt: skip


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("compute",)


def make(cloud: Cloud, name: str = "f", microversion: str | None = None, **changes: Any) -> Any:
    body = {"flavor": {"name": name, "ram": 64, "vcpus": 1, "disk": 1, **changes}}
    return cloud.admin.post("compute", "/v2.1/flavors", json=body, microversion=microversion)


def listed(client: Client, query: str = "", microversion: str | None = None) -> list[str]:
    reply = client.get("compute", f"/v2.1/flavors{query}", microversion=microversion)
    assert reply.status == 200, reply.body
    return [flavor["name"] for flavor in reply.json["flavors"]]


@pytest.mark.parametrize(
    ("microversion", "more", "swap"),
    [
        ("2.1", set(), ""),
        ("2.54", set(), ""),
        ("2.55", {"description"}, ""),
        ("2.61", {"description", "extra_specs"}, ""),
        ("2.75", {"description", "extra_specs"}, 0),
        ("2.96", {"description", "extra_specs"}, 0),
    ],
)
def test_a_flavor_has_exactly_the_keys_of_its_microversion(
    cloud: Cloud, microversion: str, more: set[str], swap: Any
) -> None:
    client = cloud.project("p1").reader
    shown = client.get("compute", "/v2.1/flavors/1", microversion=microversion).json["flavor"]
    assert set(shown) == BASE_KEYS | more
    assert shown["swap"] == swap
    detail = client.get("compute", "/v2.1/flavors/detail", microversion=microversion).json["flavors"]
    assert set(detail[0]) == BASE_KEYS | more
    brief = client.get("compute", "/v2.1/flavors", microversion=microversion).json["flavors"]
    assert set(brief[0]) == {"id", "name", "links"} | (more & {"description"})
    made = make(cloud, microversion=microversion)
    assert made.status == 200
    assert set(made.json["flavor"]) == BASE_KEYS | more


def test_the_links_have_the_form_of_url_the_client_used(cloud: Cloud) -> None:
    client = cloud.project("p1").reader
    base = f"http://127.0.0.1:{cloud.ports['compute']}"
    plain = client.get("compute", "/v2.1/flavors/1").json["flavor"]["links"]
    assert [link["href"] for link in plain] == [f"{base}/v2.1/flavors/1", f"{base}/flavors/1"]
    scoped = client.get("compute", f"/v2.1/{client.project_id}/flavors/1").json["flavor"]["links"]
    assert scoped[0]["href"] == f"{base}/v2.1/{client.project_id}/flavors/1"


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""}, {"name": " x"}, {"name": "x" * 256}, {"name": 5}, {"name": "tab\there"},
        {"ram": 0}, {"ram": -1}, {"ram": "many"}, {"ram": 1.5}, {"ram": 1 << 31}, {"ram": None},
        {"vcpus": 0}, {"vcpus": "0"}, {"disk": -1}, {"swap": "x"}, {"OS-FLV-EXT-DATA:ephemeral": -5},
        {"rxtx_factor": 0}, {"rxtx_factor": "x"}, {"rxtx_factor": "nan"}, {"id": " x"}, {"id": "a/b"},
        {"id": "x" * 256},
        {"os-flavor-access:is_public": "perhaps"}, {"unknown": 1}, {"description": "not before 2.55"},
    ],
)  # fmt: skip
def test_a_wrong_new_flavor_is_400_and_nothing_is_made(cloud: Cloud, changes: dict[str, Any]) -> None:
    before = listed(cloud.admin, "?is_public=none")
    reply = make(cloud, **changes)
    assert reply.status == 400
    assert next(iter(changes)) in reply.json["badRequest"]["message"]
    assert listed(cloud.admin, "?is_public=none") == before


def test_numbers_may_come_as_text_and_an_id_may_be_chosen(cloud: Cloud) -> None:
    made = make(cloud, ram="128", vcpus="2", id=77, rxtx_factor="2.5", swap="16").json["flavor"]
    assert (made["id"], made["ram"], made["vcpus"], made["rxtx_factor"], made["swap"]) == ("77", 128, 2, 2.5, 16)
    assert len(make(cloud, "g", id="auto").json["flavor"]["id"]) == 36


def test_ids_and_names_are_unique(cloud: Cloud) -> None:
    assert make(cloud, "m1.tiny").status == 409
    assert make(cloud, "other", id="1").status == 409


def test_only_admins_change_flavors(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    body = {"flavor": {"name": "f", "ram": 64, "vcpus": 1, "disk": 1}}
    assert client.post("compute", "/v2.1/flavors", json=body).status == 403
    assert client.delete("compute", "/v2.1/flavors/1").status == 403
    assert client.post("compute", "/v2.1/flavors/1/os-extra_specs", json={"extra_specs": {}}).status == 403
    assert cloud.nobody.get("compute", "/v2.1/flavors").status == 401


def test_a_flavor_is_deleted_once(cloud: Cloud) -> None:
    assert cloud.admin.delete("compute", "/v2.1/flavors/1").status == 202
    assert cloud.admin.get("compute", "/v2.1/flavors/1").status == 404
    assert cloud.admin.delete("compute", "/v2.1/flavors/1").status == 404


def test_the_description_can_be_changed_since_2_55(cloud: Cloud) -> None:
    body = {"flavor": {"description": "small"}}
    assert cloud.admin.put("compute", "/v2.1/flavors/1", json=body, microversion="2.54").status == 404
    reply = cloud.admin.put("compute", "/v2.1/flavors/1", json=body, microversion="2.55")
    assert reply.json["flavor"]["description"] == "small"
    wrong = {"flavor": {"ram": 1}}
    assert cloud.admin.put("compute", "/v2.1/flavors/1", json=wrong, microversion="2.55").status == 400


def test_a_private_flavor_exists_for_the_projects_on_its_list_only(cloud: Cloud) -> None:
    private = make(cloud, **{"os-flavor-access:is_public": False}).json["flavor"]["id"]
    client, path = cloud.project("p1").member, f"/v2.1/flavors/{private}"
    assert client.get("compute", path).status == 404
    assert "f" not in listed(client)
    add = {"addTenantAccess": {"tenant": client.project_id}}
    reply = cloud.admin.post("compute", f"{path}/action", json=add)
    assert reply.json == {"flavor_access": [{"flavor_id": private, "tenant_id": client.project_id}]}
    assert cloud.admin.post("compute", f"{path}/action", json=add).status == 409
    assert client.get("compute", path).status == 200
    assert "f" in listed(client)
    assert cloud.admin.get("compute", f"{path}/os-flavor-access").json == reply.json
    assert client.get("compute", f"{path}/os-flavor-access").status == 403
    remove = {"removeTenantAccess": {"tenant": client.project_id}}
    assert cloud.admin.post("compute", f"{path}/action", json=remove).json == {"flavor_access": []}
    assert cloud.admin.post("compute", f"{path}/action", json=remove).status == 404
    assert client.get("compute", path).status == 404


def test_access_to_unknown_projects_and_public_flavors_is_refused(cloud: Cloud) -> None:
    path = "/v2.1/flavors/1"
    add = {"addTenantAccess": {"tenant": cloud.project("p1").id}}
    assert cloud.admin.post("compute", f"{path}/action", json=add, microversion="2.7").status == 409
    assert cloud.admin.post("compute", f"{path}/action", json=add, microversion="2.6").status == 200
    unknown = {"addTenantAccess": {"tenant": "nobody"}}
    assert cloud.admin.post("compute", f"{path}/action", json=unknown).status == 400
    assert cloud.admin.post("compute", f"{path}/action", json={"explode": {}}).status == 400
    assert cloud.admin.get("compute", f"{path}/os-flavor-access").status == 404


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?minRam=4096", ["m1.medium", "m1.large", "m1.xlarge"]),
        ("?minDisk=80&sort_key=root_gb&sort_dir=desc", ["m1.xlarge", "m1.large"]),
        ("?limit=2", ["m1.tiny", "m1.small"]),
        ("?marker=4&limit=1", ["m1.nano"]),
        ("?sort_key=memory_mb&limit=2", ["m1.nano", "m1.micro"]),
        ("?is_public=False", ["hidden"]),
        ("?is_public=None&sort_key=name&limit=1", ["hidden"]),
    ],
)
def test_lists_filter_sort_and_page(cloud: Cloud, query: str, expected: list[str]) -> None:
    make(cloud, "hidden", **{"os-flavor-access:is_public": False})
    assert listed(cloud.admin, query) == expected


def test_a_full_page_links_to_the_next(cloud: Cloud) -> None:
    body = cloud.admin.get("compute", "/v2.1/flavors?limit=3&minRam=256").json
    found = [flavor["name"] for flavor in body["flavors"]]
    href = body["flavors_links"][0]["href"]
    assert "marker=3" in href
    assert "minRam=256" in href
    rest = cloud.admin.get("compute", href.partition(f":{cloud.ports['compute']}")[2]).json
    assert len(found) + len(rest["flavors"]) == 6


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "marker=zz", "minRam=x", "minDisk=x", "sort_key=color", "sort_dir=up", "is_public=x"],
)
def test_a_wrong_query_is_400(cloud: Cloud, query: str) -> None:
    assert cloud.admin.get("compute", f"/v2.1/flavors?{query}").status == 400


def test_unknown_parameters_are_refused_since_2_75(cloud: Cloud) -> None:
    assert cloud.admin.get("compute", "/v2.1/flavors?x=y", microversion="2.74").status == 200
    assert cloud.admin.get("compute", "/v2.1/flavors?x=y", microversion="2.75").status == 400


def test_extra_specs_are_set_shown_and_removed(cloud: Cloud) -> None:
    admin, client, path = cloud.admin, cloud.project("p1").reader, "/v2.1/flavors/1/os-extra_specs"
    specs = {"hw:cpu_policy": "shared", "mine": "1"}
    assert admin.post("compute", path, json={"extra_specs": specs}).json == {"extra_specs": specs}
    assert client.get("compute", path).json == {"extra_specs": specs}
    assert admin.put("compute", f"{path}/mine", json={"mine": "2"}).json == {"mine": "2"}
    assert client.get("compute", f"{path}/mine").json == {"mine": "2"}
    assert admin.put("compute", f"{path}/mine", json={"mine": 3}).json == {"mine": 3}
    assert client.get("compute", f"{path}/mine").json == {"mine": "3"}
    assert admin.put("compute", f"{path}/mine", json={"other": "2"}).status == 400
    assert admin.delete("compute", f"{path}/mine").status == 200
    assert admin.delete("compute", f"{path}/mine").status == 404
    assert client.get("compute", f"{path}/mine").status == 404
    assert client.get("compute", path).json == {"extra_specs": {"hw:cpu_policy": "shared"}}


@pytest.mark.parametrize(
    ("specs", "since_2_86"),
    [
        ({"hw:cpu_policy": "dedicated"}, 200),
        ({"hw:cpu_policy": "sometimes"}, 400),
        ({"hw:no_such_key": "1"}, 400),
        ({"hw:mem_page_size": "2MB"}, 200),
        ({"hw:numa_nodes": "two"}, 400),
        ({"quota:cpu_shares": "100"}, 200),
        ({"trait:HW_CPU_X86_AVX2": "maybe"}, 400),
        ({"anything": "goes"}, 200),
        ({"unknown_namespace:key": "goes"}, 200),
    ],
)
def test_known_namespaces_are_checked_since_2_86(cloud: Cloud, specs: dict[str, str], since_2_86: int) -> None:
    path, body = "/v2.1/flavors/1/os-extra_specs", {"extra_specs": specs}
    assert cloud.admin.post("compute", path, json=body, microversion="2.85").status == 200
    assert cloud.admin.post("compute", path, json=body, microversion="2.86").status == since_2_86


@pytest.mark.parametrize("specs", [{"a/b": "1"}, {"": "1"}, {"a": True}, {"a": None}, {"a": "x" * 256}, "x", None])
def test_a_wrong_extra_spec_is_400(cloud: Cloud, specs: Any) -> None:
    path = "/v2.1/flavors/1/os-extra_specs"
    assert cloud.admin.post("compute", path, json={"extra_specs": specs}).status == 400
    assert cloud.admin.get("compute", path).json == {"extra_specs": {}}


def test_the_version_documents_switch_microversions_on(cloud: Cloud) -> None:
    root = cloud.nobody.get("compute", "/").json["versions"]
    assert [(one["id"], one["status"], one["version"]) for one in root] == [
        ("v2.0", "SUPPORTED", ""),
        ("v2.1", "CURRENT", "2.96"),
    ]
    for path in ("/v2.1", "/v2.1/", f"/v2.1/{'0' * 32}"):
        document = cloud.nobody.get("compute", path).json["version"]
        assert (document["id"], document["version"], document["min_version"]) == ("v2.1", "2.96", "2.1")
        assert {link["rel"] for link in document["links"]} == {"self", "describedby"}
    assert cloud.nobody.get("compute", "/v2").json["version"]["id"] == "v2.0"


def test_extensions_are_listed_and_shown(cloud: Cloud) -> None:
    client = cloud.project("p1").reader
    aliases = [one["alias"] for one in client.get("compute", "/v2.1/extensions").json["extensions"]]
    assert "os-keypairs" in aliases
    assert client.get("compute", "/v2.1/extensions/os-keypairs").json["extension"]["alias"] == "os-keypairs"
    assert client.get("compute", "/v2.1/extensions/os-nothing").status == 404
