"""The Identity API through the real HTTP server: logging in, scopes, who may do what, what a change takes along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.api.framework.openapi import document
from nova_fast.api.identity import face
from nova_fast.identity import login
from nova_fast.identity.throttle import FAILURES_MAX
from nova_fast.model.networks import Network
from nova_fast.state import schema as tables

if TYPE_CHECKING:
    from conftest import Client, Cloud

DEFAULT = {"id": "default"}


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("identity",)


def by_password(cloud: Cloud, user: dict[str, Any], scope: Any = None, **more: Any) -> Any:
    """Log in; the HTTP reply."""
    user = {"password": cloud.password} | user
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
    if scope is not None:
        auth["scope"] = scope
    return cloud.nobody.post("identity", "/v3/auth/tokens", json={"auth": auth}, **more)


ADMIN = {"name": "admin", "domain": DEFAULT}


def with_token(client: Client, token: str) -> Any:
    return type(client)(client.cloud, token)


# ---------------------------------------------------------------------- discovery and errors


def test_versions_are_shown_without_a_token(cloud: Cloud) -> None:
    reply = cloud.nobody.get("identity", "/")
    assert reply.status == 300
    [version] = reply.json["versions"]["values"]
    assert (version["id"], version["status"]) == ("v3.14", "stable")
    assert cloud.nobody.get("identity", "/v3").json["version"] == version
    assert cloud.nobody.get("identity", "/v3/").json["version"] == version
    assert version["links"] == [{"rel": "self", "href": f"http://127.0.0.1:{cloud.ports['identity']}/v3/"}]


def test_errors_have_keystones_body(cloud: Cloud) -> None:
    reply = cloud.admin.get("identity", "/v3/users/nobody")
    assert reply.status == 404
    assert reply.json["error"] == {"code": 404, "title": "Not Found", "message": "Could not find user: nobody."}
    assert reply.headers["vary"] == "X-Auth-Token"
    assert cloud.nobody.get("identity", "/v3/users").status == 401
    assert cloud.admin.get("identity", "/v3/nothing").json["error"]["code"] == 404


# ---------------------------------------------------------------------- logging in


def test_a_project_scoped_token_says_everything(cloud: Cloud) -> None:
    reply = by_password(cloud, ADMIN, {"project": {"name": "admin", "domain": {"name": "Default"}}})
    assert reply.status == 201
    token = reply.json["token"]
    assert len(reply.headers["x-subject-token"]) < 255
    assert token["methods"] == ["password"]
    assert token["user"] == {"id": cloud.admin_user_id, "name": "admin", "domain": {"id": "default", "name": "Default"},
                             "password_expires_at": None}  # fmt: skip
    assert token["project"]["id"] == cloud.admin_project_id
    assert {role["name"] for role in token["roles"]} == {"admin", "manager", "member", "reader"}
    assert token["is_domain"] is False
    assert len(token["audit_ids"]) == 1
    assert token["expires_at"].endswith("Z") and len(token["expires_at"]) == 27
    assert {row["type"] for row in token["catalog"]} == {"identity", "compute", "image", "network", "placement"}
    for row in token["catalog"]:
        assert {one["interface"] for one in row["endpoints"]} == {"public", "internal", "admin"}


def test_each_scope_gives_its_own_keys(cloud: Cloud) -> None:
    system = by_password(cloud, ADMIN, {"system": {"all": True}}).json["token"]
    assert system["system"] == {"all": True} and "project" not in system and system["roles"]
    unscoped = by_password(cloud, ADMIN).json["token"]
    assert not {"project", "roles", "catalog", "system", "domain"} & set(unscoped)
    assert "project" not in by_password(cloud, ADMIN, "unscoped").json["token"]
    assert "project" not in by_password(cloud, ADMIN, {"unscoped": {}}).json["token"]
    assert by_password(cloud, ADMIN, {"domain": DEFAULT}).status == 401  # no role on the domain
    role = cloud.role_id("reader")
    assert cloud.admin.put("identity", f"/v3/domains/default/users/{cloud.admin_user_id}/roles/{role}").status == 204
    token = by_password(cloud, ADMIN, {"domain": DEFAULT}).json["token"]
    assert token["domain"] == {"id": "default", "name": "Default"}
    assert [one["name"] for one in token["roles"]] == ["reader"]


def test_without_a_scope_the_default_project_counts(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    path = f"/v3/users/{p1.member.user_id}"
    assert cloud.admin.patch("identity", path, json={"user": {"default_project_id": p1.id}}).status == 200
    who = {"id": p1.member.user_id}
    assert by_password(cloud, who).json["token"]["project"]["id"] == p1.id
    assert "project" not in by_password(cloud, who, "unscoped").json["token"]


def test_nocatalog_leaves_the_catalog_out(cloud: Cloud) -> None:
    auth = {"identity": {"methods": ["password"], "password": {"user": ADMIN | {"password": cloud.password}}},
            "scope": {"project": {"id": cloud.admin_project_id}}}  # fmt: skip
    reply = cloud.nobody.post("identity", "/v3/auth/tokens?nocatalog", json={"auth": auth})
    assert "catalog" not in reply.json["token"]
    assert reply.json["token"]["roles"]


@pytest.mark.parametrize(
    ("user", "scope"),
    [
        (ADMIN | {"password": "wrong"}, None),
        ({"name": "nobody", "domain": DEFAULT}, None),
        ({"name": "admin", "domain": {"id": "elsewhere"}}, None),
        ({"id": "0" * 32}, None),
        (ADMIN, {"project": {"id": "0" * 32}}),
        (ADMIN, {"project": {"name": "nothing", "domain": DEFAULT}}),
        (ADMIN, {"domain": {"name": "nowhere"}}),
    ],
)
def test_credentials_that_do_not_hold_are_401_in_one_form(cloud: Cloud, user: dict[str, Any], scope: Any) -> None:
    reply = by_password(cloud, user, scope)
    assert reply.status == 401
    assert reply.json["error"]["message"] == "The request you have made requires authentication."
    assert "x-subject-token" not in reply.headers


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"auth": {}},
        {"auth": {"identity": {"methods": []}}},
        {"auth": {"identity": {"methods": ["password"]}}},
        {"auth": {"identity": {"methods": ["magic"], "magic": {}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "admin", "password": "x"}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": 5, "password": "x"}}}}},
        {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "a"}}}}},
        {"auth": {"identity": {"methods": ["token"]}}},
    ],
)
def test_a_malformed_login_is_400(cloud: Cloud, auth: dict[str, Any]) -> None:
    assert cloud.nobody.post("identity", "/v3/auth/tokens", json=auth).status == 400


def test_a_scope_that_names_two_things_is_400(cloud: Cloud) -> None:
    both = {"project": {"id": cloud.admin_project_id}, "system": {"all": True}}
    assert by_password(cloud, ADMIN, both).status == 400
    assert by_password(cloud, ADMIN, {"system": {"all": False}}).status == 400


def test_guessing_is_locked_out_and_says_nothing_new(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(login, "_throttle", login.Throttle(lambda: now[0]))
    for _ in range(FAILURES_MAX):
        assert by_password(cloud, ADMIN | {"password": "guess"}).status == 401
    locked = by_password(cloud, ADMIN)
    assert locked.status == 401
    assert locked.json["error"]["message"] == "The request you have made requires authentication."
    assert by_password(cloud, {"id": cloud.project("p1").member.user_id}).status == 201  # others are not
    now[0] = 61.0
    assert by_password(cloud, ADMIN).status == 201


def test_rescoping_keeps_the_end_and_the_audit_chain(cloud: Cloud) -> None:
    first = by_password(cloud, ADMIN, "unscoped")
    auth = {"identity": {"methods": ["token"], "token": {"id": first.headers["x-subject-token"]}},
            "scope": {"project": {"id": cloud.admin_project_id}}}  # fmt: skip
    second = cloud.nobody.post("identity", "/v3/auth/tokens", json={"auth": auth})
    assert second.status == 201
    old, new = first.json["token"], second.json["token"]
    assert new["expires_at"] == old["expires_at"]
    assert new["audit_ids"][1] == old["audit_ids"][0] != new["audit_ids"][0]
    assert set(new["methods"]) == {"token", "password"}
    auth["identity"]["token"]["id"] = second.headers["x-subject-token"]
    third = cloud.nobody.post("identity", "/v3/auth/tokens", json={"auth": auth}).json["token"]
    assert third["audit_ids"][1] == old["audit_ids"][0]


# ---------------------------------------------------------------------- validate and revoke


def test_validation_shows_the_token_and_revocation_ends_it(cloud: Cloud) -> None:
    issued = by_password(cloud, {"id": cloud.project("p1").reader.user_id}, {"project": {"id": cloud.project("p1").id}})
    subject = {"X-Subject-Token": issued.headers["x-subject-token"]}
    shown = cloud.admin.get("identity", "/v3/auth/tokens", headers=subject)
    assert (shown.status, shown.json) == (200, issued.json)
    head = cloud.admin.head("identity", "/v3/auth/tokens", headers=subject)
    assert (head.status, head.body) == (200, b"")
    assert cloud.project("p1").member.get("identity", "/v3/auth/tokens", headers=subject).status == 403
    assert cloud.project("p1").member.delete("identity", "/v3/auth/tokens", headers=subject).status == 403
    assert cloud.admin.delete("identity", "/v3/auth/tokens", headers=subject).status == 204
    assert cloud.admin.get("identity", "/v3/auth/tokens", headers=subject).status == 404
    mine = with_token(cloud.nobody, subject["X-Subject-Token"])
    assert mine.get("identity", "/v3/auth/projects").status == 401
    assert cloud.admin.get("identity", "/v3/auth/tokens").status == 400
    assert cloud.admin.get("identity", "/v3/auth/tokens", headers={"X-Subject-Token": "junk"}).status == 404


def test_allow_expired_serves_services_only(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    late = {"X-Subject-Token": cloud.client_for(p1.reader.user_id, p1.id, lifetime_s=-5).token}
    path = "/v3/auth/tokens?allow_expired=1"
    assert cloud.admin.get("identity", "/v3/auth/tokens", headers=late).status == 404
    assert cloud.admin.get("identity", path, headers=late).status == 200
    assert p1.reader.get("identity", path, headers=late).status == 404


@pytest.mark.parametrize("what", ["user", "project", "domain"])
def test_disabling_ends_tokens_and_logins(cloud: Cloud, what: str) -> None:
    domain = cloud.admin.post("identity", "/v3/domains", json={"domain": {"name": "d1"}}).json["domain"]["id"]
    where = {"domain_id": domain}
    project = cloud.admin.post("identity", "/v3/projects", json={"project": {"name": "p", **where}}).json["project"]
    body = {"user": {"name": "u", "password": cloud.password, **where}}
    user = cloud.admin.post("identity", "/v3/users", json=body).json["user"]
    role = cloud.role_id("member")
    path = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role}"
    assert cloud.admin.put("identity", path).status == 204
    scope = {"project": {"id": project["id"]}}
    client = with_token(cloud.nobody, by_password(cloud, {"id": user["id"]}, scope).headers["x-subject-token"])
    assert client.get("identity", "/v3/auth/projects").status == 200
    identifier = {"user": user["id"], "project": project["id"], "domain": domain}[what]
    assert cloud.admin.patch("identity", f"/v3/{what}s/{identifier}", json={what: {"enabled": False}}).status == 200
    assert client.get("identity", "/v3/auth/projects").status == 401
    assert by_password(cloud, {"id": user["id"]}, scope).status == 401


# ---------------------------------------------------------------------- who may do what


_ADMIN_ONLY = [
    ("GET", "/v3/users"), ("POST", "/v3/users"), ("GET", "/v3/projects"), ("POST", "/v3/projects"),
    ("DELETE", "/v3/projects/{project}"), ("PATCH", "/v3/projects/{project}"), ("GET", "/v3/users/{admin}"),
    ("PATCH", "/v3/users/{me}"), ("DELETE", "/v3/users/{me}"), ("GET", "/v3/roles"), ("POST", "/v3/roles"),
    ("GET", "/v3/role_assignments"), ("GET", "/v3/domains"), ("POST", "/v3/services"), ("GET", "/v3/endpoints"),
    ("PUT", "/v3/projects/{project}/users/{me}/roles/{role}"), ("PUT", "/v3/system/users/{me}/roles/{role}"),
    ("GET", "/v3/users/{admin}/projects"), ("GET", "/v3/users/{admin}/application_credentials"),
    ("GET", "/v3/projects/{admin_project}"), ("POST", "/v3/regions"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), _ADMIN_ONLY)
def test_a_member_is_refused_what_is_the_admins(cloud: Cloud, method: str, path: str) -> None:
    p1 = cloud.project("p1")
    names = {"project": p1.id, "me": p1.member.user_id, "admin": cloud.admin_user_id,
             "role": cloud.role_id("admin"), "admin_project": cloud.admin_project_id}  # fmt: skip
    body = None if method in ("GET", "DELETE", "PUT") else {"user": {}}
    for client in (p1.reader, p1.member, p1.manager):
        reply = client.request(method, "identity", path.format(**names), json=body)
        assert (reply.status, reply.json["error"]["title"]) == ((403, "Forbidden"))


def test_everybody_sees_himself_and_his_own(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    me = p1.reader.user_id
    assert p1.reader.get("identity", f"/v3/users/{me}").json["user"]["name"] == "p1-reader"
    assert [row["id"] for row in p1.reader.get("identity", f"/v3/users/{me}/projects").json["projects"]] == [p1.id]
    assert p1.reader.get("identity", f"/v3/users/{me}/groups").json["groups"] == []
    assert p1.reader.get("identity", f"/v3/projects/{p1.id}").status == 200
    assert [row["id"] for row in p1.reader.get("identity", "/v3/auth/projects").json["projects"]] == [p1.id]
    assert p1.reader.get("identity", "/v3/auth/system").json["system"] == []
    assert len(p1.reader.get("identity", "/v3/auth/catalog").json["catalog"]) == 5


def test_no_answer_shows_a_password_or_its_hash(cloud: Cloud) -> None:
    body = {"user": {"name": "u", "password": "hush-hush"}}
    for reply in (cloud.admin.post("identity", "/v3/users", json=body), cloud.admin.get("identity", "/v3/users")):
        assert b"hush-hush" not in reply.body
        assert b"argon2" not in reply.body


# ---------------------------------------------------------------------- projects, users, roles, domains


@pytest.mark.parametrize("noun", ["project", "user", "role", "domain"])
def test_names_are_unique_and_lists_filter(cloud: Cloud, noun: str) -> None:
    path = f"/v3/{noun}s"
    made = cloud.admin.post("identity", path, json={noun: {"name": "Mine"}})
    assert made.status == 201
    record = made.json[noun]
    assert record["links"]["self"].endswith(f"{path}/{record['id']}")
    assert cloud.admin.post("identity", path, json={noun: {"name": "Mine"}}).status == 409
    other = cloud.admin.post("identity", path, json={noun: {"name": "Other"}}).json[noun]
    assert cloud.admin.patch("identity", f"{path}/{other['id']}", json={noun: {"name": "Mine"}}).status == 409
    for query in ("name=Mine", "name__contains=in&name__startswith=M", "name__icontains=MINE"):
        assert [row["id"] for row in cloud.admin.get("identity", f"{path}?{query}").json[f"{noun}s"]] == [record["id"]]
    assert cloud.admin.get("identity", f"{path}?name=None").json[f"{noun}s"] == []
    first = cloud.admin.get("identity", f"{path}?limit=1").json
    assert len(first[f"{noun}s"]) == 1 and first["truncated"] is True and "marker=" in first["links"]["next"]
    renamed = cloud.admin.patch("identity", f"{path}/{other['id']}", json={noun: {"name": "New", "description": "d"}})
    assert (renamed.json[noun]["name"], renamed.json[noun]["description"]) == ("New", "d")
    for wrong in ({"name": ""}, {"name": 5}, {"name": "x" * 300}, {}, {"name": "a\u0000"}):
        assert cloud.admin.post("identity", path, json={noun: wrong}).status == 400
    if noun == "domain":
        assert cloud.admin.delete("identity", f"{path}/{other['id']}").status == 403
        cloud.admin.patch("identity", f"{path}/{other['id']}", json={noun: {"enabled": False}})
    assert cloud.admin.delete("identity", f"{path}/{other['id']}").status == 204
    assert cloud.admin.get("identity", f"{path}/{other['id']}").status == 404
    assert cloud.admin.delete("identity", f"{path}/{other['id']}").status == 404


def test_names_of_long_unicode_text_are_400_not_500(cloud: Cloud) -> None:
    assert cloud.admin.post("identity", "/v3/users", json={"user": {"name": "\U0001f600" * 255}}).status == 400


def test_additional_properties_of_users_and_projects_are_kept(cloud: Cloud) -> None:
    made = cloud.admin.post("identity", "/v3/projects", json={"project": {"name": "p", "color": "red"}}).json["project"]
    path = f"/v3/projects/{made['id']}"
    assert made["color"] == "red"
    assert cloud.admin.patch("identity", path, json={"project": {"size": "L"}}).json["project"]["size"] == "L"
    assert cloud.admin.get("identity", path).json["project"]["color"] == "red"
    assert cloud.admin.post("identity", "/v3/projects", json={"project": {"name": "q", "x": {"y": 1}}}).status == 400


def test_a_project_that_owns_something_is_not_deleted(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    network = Network(id="n1", number=1, project_id=p1.id, name="net", created_at_us=1, updated_at_us=1)
    with cloud.store.transaction(1) as tx:
        tx.put(tables.NETWORKS, network)
    reply = cloud.admin.delete("identity", f"/v3/projects/{p1.id}")
    assert reply.status == 409
    assert "networks" in reply.json["error"]["message"]
    with cloud.store.transaction(1) as tx:
        tx.delete(tables.NETWORKS, "n1")
    assert cloud.admin.delete("identity", f"/v3/projects/{p1.id}").status == 204
    assert p1.reader.get("identity", "/v3/auth/projects").status == 401
    rows = cloud.admin.get("identity", f"/v3/role_assignments?user.id={p1.member.user_id}").json
    assert rows["role_assignments"] == []


def test_a_user_changes_his_own_password(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    path = f"/v3/users/{p1.member.user_id}/password"
    wrong = {"user": {"original_password": "nope", "password": "new"}}
    assert p1.member.post("identity", path, json=wrong).status == 401
    right = {"user": {"original_password": cloud.password, "password": "new"}}
    assert p1.member.post("identity", path, json=right).status == 204
    assert p1.member.get("identity", "/v3/auth/projects").status == 401
    assert by_password(cloud, {"id": p1.member.user_id}).status == 401
    assert by_password(cloud, {"id": p1.member.user_id, "password": "new"}).status == 201
    assert cloud.nobody.post("identity", "/v3/users/nobody/password", json=right).status == 401


def test_assignments_are_given_listed_and_taken(cloud: Cloud) -> None:
    p1, user = cloud.project("p1"), cloud.project("p1").reader.user_id
    base = f"/v3/projects/{p1.id}/users/{user}/roles"
    member = cloud.role_id("member")
    assert cloud.admin.head("identity", f"{base}/{member}").status == 404
    assert cloud.admin.put("identity", f"{base}/{member}").status == 204
    assert cloud.admin.put("identity", f"{base}/{member}").status == 204
    assert cloud.admin.head("identity", f"{base}/{member}").status == 204
    assert {row["name"] for row in cloud.admin.get("identity", base).json["roles"]} == {"member", "reader"}
    path = f"/v3/role_assignments?user.id={user}&scope.project.id={p1.id}&include_names=1"
    rows = cloud.admin.get("identity", path).json["role_assignments"]
    assert {row["role"]["name"] for row in rows} == {"member", "reader"}
    assert rows[0]["user"]["name"] == "p1-reader" and rows[0]["scope"]["project"]["name"] == "p1"
    assert cloud.admin.delete("identity", f"{base}/{member}").status == 204
    assert cloud.admin.delete("identity", f"{base}/{member}").status == 404
    effective = f"/v3/role_assignments?user.id={p1.manager.user_id}&effective"
    found = cloud.admin.get("identity", effective).json["role_assignments"]
    names = {cloud.role_id(name) for name in ("manager", "member", "reader")}
    assert {row["role"]["id"] for row in found} == names
    for wrong in (f"/v3/projects/x/users/{user}/roles/{member}", f"{base}/x"):
        assert cloud.admin.put("identity", wrong).status == 404


def test_the_roles_and_the_admin_a_cloud_lives_on_stay(cloud: Cloud) -> None:
    admin = cloud.role_id("admin")
    assert cloud.admin.delete("identity", f"/v3/roles/{admin}").status == 403
    assert cloud.admin.patch("identity", f"/v3/roles/{admin}", json={"role": {"name": "x"}}).status == 403
    assert cloud.admin.patch("identity", "/v3/domains/default", json={"domain": {"enabled": False}}).status == 403
    user = cloud.admin_user_id
    assert cloud.admin.delete("identity", f"/v3/system/users/{user}/roles/{admin}").status == 204
    last = f"/v3/projects/{cloud.admin_project_id}/users/{user}/roles/{admin}"
    assert cloud.admin.delete("identity", last).status == 403
    assert cloud.admin.delete("identity", f"/v3/users/{user}").status == 403
    assert cloud.admin.patch("identity", f"/v3/users/{user}", json={"user": {"enabled": False}}).status == 403
    assert cloud.admin.delete("identity", f"/v3/projects/{cloud.admin_project_id}").status == 403


# ---------------------------------------------------------------------- catalog


def test_the_catalog_is_kept_by_the_admin_and_shown_with_the_project(cloud: Cloud) -> None:
    service = cloud.admin.post("identity", "/v3/services", json={"service": {"type": "volumev3"}}).json["service"]
    url = "http://x/v3/%(project_id)s"
    body = {"endpoint": {"service_id": service["id"], "interface": "public", "url": url, "region_id": "Two"}}
    endpoint = cloud.admin.post("identity", "/v3/endpoints", json=body).json["endpoint"]
    assert (endpoint["url"], endpoint["region"], endpoint["region_id"]) == (url, "Two", "Two")

    def shown() -> list[str]:
        rows = cloud.admin.get("identity", "/v3/auth/catalog").json["catalog"]
        return [one["url"] for row in rows if row["type"] == "volumev3" for one in row["endpoints"]]

    assert shown() == [f"http://x/v3/{cloud.admin_project_id}"]
    path = f"/v3/endpoints/{endpoint['id']}"
    assert cloud.admin.patch("identity", path, json={"endpoint": {"enabled": False}}).status == 200
    assert shown() == []
    assert cloud.admin.delete("identity", "/v3/regions/Two").status == 409
    assert cloud.admin.delete("identity", f"/v3/services/{service['id']}").status == 204
    assert cloud.admin.get("identity", path).status == 404
    assert cloud.admin.delete("identity", "/v3/regions/Two").status == 204
    for wrong in ({"interface": "secret"}, {"url": "no url"}, {"service_id": "x"}):
        assert cloud.admin.post("identity", "/v3/endpoints", json={"endpoint": body["endpoint"] | wrong}).status == 400


def test_regions_form_no_circle(cloud: Cloud) -> None:
    for name, parent in (("a", None), ("b", "a")):
        region = {"id": name, "parent_region_id": parent}
        assert cloud.admin.post("identity", "/v3/regions", json={"region": region}).status == 201
    assert cloud.admin.post("identity", "/v3/regions", json={"region": {"id": "a"}}).status == 409
    assert cloud.admin.patch("identity", "/v3/regions/a", json={"region": {"parent_region_id": "b"}}).status == 400
    assert cloud.admin.delete("identity", "/v3/regions/a").status == 409


# ---------------------------------------------------------------------- application credentials


def make_credential(client: Client, **fields: Any) -> Any:
    path = f"/v3/users/{client.user_id}/application_credentials"
    return client.post("identity", path, json={"application_credential": {"name": "robot"} | fields})


def by_credential(cloud: Cloud, scope: Any = None, **method: Any) -> Any:
    auth: dict[str, Any] = {"identity": {"methods": ["application_credential"], "application_credential": method}}
    if scope is not None:
        auth["scope"] = scope
    return cloud.nobody.post("identity", "/v3/auth/tokens", json={"auth": auth})


def test_an_application_credential_logs_in_with_its_own_roles(cloud: Cloud) -> None:
    manager = cloud.project("p1").manager
    reply = make_credential(manager, roles=[{"name": "reader"}])
    assert reply.status == 201
    made = reply.json["application_credential"]
    login_reply = by_credential(cloud, id=made["id"], secret=made["secret"])
    token = login_reply.json["token"]
    assert login_reply.status == 201
    assert token["project"]["id"] == cloud.project("p1").id
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["application_credential"] == {"id": made["id"], "name": "robot", "restricted": True}
    named = by_credential(cloud, name="robot", user={"id": manager.user_id}, secret=made["secret"])
    assert named.status == 201
    listed = manager.get("identity", f"/v3/users/{manager.user_id}/application_credentials")
    assert made["secret"].encode() not in listed.body
    assert by_credential(cloud, id=made["id"], secret="wrong").status == 401
    assert by_credential(cloud, id="0" * 32, secret="wrong").status == 401
    assert by_credential(cloud, scope={"system": {"all": True}}, id=made["id"], secret=made["secret"]).status == 400


def test_a_restricted_credential_makes_no_others_and_no_wider_token(cloud: Cloud) -> None:
    manager = cloud.project("p1").manager
    made = make_credential(manager, roles=[{"name": "reader"}]).json["application_credential"]
    token = by_credential(cloud, id=made["id"], secret=made["secret"]).headers["x-subject-token"]
    robot = with_token(cloud.nobody, token)
    robot.user_id = manager.user_id
    assert make_credential(robot, name="other").status == 403
    auth = {"identity": {"methods": ["token"], "token": {"id": token}},
            "scope": {"project": {"id": manager.project_id}}}  # fmt: skip
    assert cloud.nobody.post("identity", "/v3/auth/tokens", json={"auth": auth}).status == 401


def test_a_credential_ends_with_its_deletion_its_roles_and_its_time(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    made = make_credential(p1.member).json["application_credential"]
    logged_in = by_credential(cloud, id=made["id"], secret=made["secret"])
    robot = with_token(cloud.nobody, logged_in.headers["x-subject-token"])
    assert robot.get("identity", "/v3/auth/projects").status == 200
    path = f"/v3/users/{p1.member.user_id}/application_credentials/{made['id']}"
    assert p1.reader.get("identity", path).status == 403
    assert p1.reader.delete("identity", path).status == 403
    assert p1.member.delete("identity", path).status == 204
    assert robot.get("identity", "/v3/auth/projects").status == 401
    assert make_credential(p1.member, expires_at="2001-01-01T00:00:00").status == 400
    assert make_credential(p1.member, expires_at="soon").status == 400
    assert make_credential(p1.reader, roles=[{"name": "member"}]).status == 400
    assert make_credential(p1.member, access_rules=[{"path": "/", "method": "GET", "service": "x"}]).status == 501
    own = make_credential(p1.member, secret="chosen by hand", expires_at="2999-01-01T00:00:00")
    assert own.json["application_credential"]["expires_at"] == "2999-01-01T00:00:00.000000"
    identifier = own.json["application_credential"]["id"]
    assert by_credential(cloud, id=identifier, secret="chosen by hand").status == 201
    role_path = f"/v3/projects/{p1.id}/users/{p1.member.user_id}/roles/{cloud.role_id('member')}"
    assert cloud.admin.delete("identity", role_path).status == 204
    assert by_credential(cloud, id=identifier, secret="chosen by hand").status == 401


def test_a_user_is_deleted_with_what_is_his(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    made = make_credential(p1.member).json["application_credential"]
    assert cloud.admin.delete("identity", f"/v3/users/{p1.member.user_id}").status == 204
    assert by_credential(cloud, id=made["id"], secret=made["secret"]).status == 401
    assert p1.member.get("identity", "/v3/auth/projects").status == 401


# ---------------------------------------------------------------------- the declarations


def test_the_openapi_document_has_every_declared_route() -> None:
    shown = document(face)
    operations = {(method.upper(), path) for path, methods in shown["paths"].items() for method in methods}
    assert operations == {(route.method, route.path) for route in face.routes}
    tokens = shown["paths"]["/v3/auth/tokens"]["post"]
    assert set(tokens["responses"]) == {"201", "400", "401"}
    assert "AuthBody" in shown["components"]["schemas"]
