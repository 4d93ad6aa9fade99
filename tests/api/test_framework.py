"""What the framework does for every route, seen through the real HTTP server on a face made for these tests."""

from __future__ import annotations

import http.client
import logging
import socket
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

from nova_fast.api import app as app_module
from nova_fast.api.framework.errors import NOVA
from nova_fast.api.framework.paging import clamp_limit, page
from nova_fast.api.framework.request import Request
from nova_fast.api.framework.route import Answer, Face
from nova_fast.api.framework.versions import Microversions
from nova_fast.config import ApiConfig
from nova_fast.model.commands.identity import ChangeAssignment, RevokeToken, UpdateProject, UpdateUser
from nova_fast.model.errors import Conflict, OverQuota

if TYPE_CHECKING:
    from conftest import Cloud


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    ram: int = 0
    inner: dict[str, Any] | None = None


class ThingBody(msgspec.Struct, forbid_unknown_fields=True):
    thing: Thing


class NewerThing(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    description: str


class NewerThingBody(msgspec.Struct, forbid_unknown_fields=True):
    thing: NewerThing


class ThingQuery(msgspec.Struct):
    limit: int | None = None
    deep: bool = False
    tag: list[str] = []


class StrictQuery(msgspec.Struct, forbid_unknown_fields=True):
    limit: int | None = None


def make_face() -> Face:
    """A face like compute, with one route for each thing to be tested."""
    face = Face(
        "compute",
        errors=NOVA,
        prefix="/v2.1",
        legacy_prefix="/v2",
        microversions=Microversions("compute", "2.1", "2.96", "X-OpenStack-Nova-API-Version"),
        project_in_path=True,
    )

    @face.route("GET", "/", root=True, policy="none")
    async def versions(request: Request) -> dict[str, Any]:
        return {"versions": []}

    @face.route("GET", "/", policy="none")
    async def version(request: Request) -> dict[str, Any]:
        return {"version": request.path}

    @face.route("GET", "/things", query={"2.1": ThingQuery, "2.75": StrictQuery})
    async def things(request: Request) -> dict[str, Any]:
        limit = clamp_limit(request, request.query.limit)
        rows = [str(n) for n in range(3)][:limit]
        shown = {name: getattr(request.query, name) for name in request.query.__struct_fields__}
        return {"things": rows, "query": shown} | page(request, rows, limit, "things", str)

    @face.route("GET", "/things/{thing_id}", policy="reader")
    async def thing(request: Request, thing_id: str) -> dict[str, Any]:
        return {"id": thing_id, "new": request.at_least("2.50"), "base": request.base_url, "path": request.path}

    @face.route("POST", "/things", ok={"2.1": 202, "2.60": 201}, policy="member",
                body={"2.1": ThingBody, "2.57": NewerThingBody})  # fmt: skip
    async def create(request: Request) -> dict[str, Any]:
        return {"thing": msgspec.to_builtins(request.body.thing)}

    @face.route("DELETE", "/things/{thing_id}", ok=204, policy="admin")
    async def delete(request: Request, thing_id: str) -> None:
        return None

    @face.route("POST", "/things/{thing_id}/action", action="start", ok=202, policy="member", body=type(None))
    async def start(request: Request, thing_id: str) -> None:
        return None

    @face.route("POST", "/things/{thing_id}/action", action="resize", ok=202, policy="admin", body=Thing, since="2.10")
    async def resize(request: Request, thing_id: str) -> dict[str, Any]:
        return {"ram": request.body.ram}

    @face.route("GET", "/gated", until="2.35")
    async def gated_old(request: Request) -> dict[str, Any]:
        return {"which": "old"}

    @face.route("GET", "/gated", since="2.36", until="2.50")
    async def gated_new(request: Request) -> dict[str, Any]:
        return {"which": "new"}

    @face.route("GET", "/fails/{how}")
    async def fails(request: Request, how: str) -> None:
        if how == "conflict":
            raise Conflict("It is busy.", hint="Wait.")
        if how == "quota":
            raise OverQuota("Quota exceeded for cores")
        raise RuntimeError("secret detail")

    @face.route("PUT", "/upload", ok=200, stream=True, media=("application/octet-stream",))
    async def upload(request: Request) -> dict[str, Any]:
        size = 0
        async for piece in request.stream:
            size += len(piece)
        return {"size": size}

    @face.route("GET", "/download", gives_stream=True)
    async def download(request: Request) -> Answer:
        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b"x" * 1000

        return Answer(stream=pieces(), headers={"content-length": "3000"}, content_type="application/octet-stream")

    return face


@pytest.fixture
def faces(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    face = make_face()
    monkeypatch.setattr(app_module, "load_face", lambda name: face if name == "compute" else None)
    return ("compute",)


@pytest.fixture
def api_config() -> ApiConfig:
    return ApiConfig(max_body_bytes=2000, max_limit=2)


def test_every_answer_carries_request_ids_and_version_headers(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    for path, status in (("/v2.1/things/1", 200), ("/v2.1/nothing", 404), ("/v2.1/fails/conflict", 409)):
        reply = member.get("compute", path, microversion="2.60" if status != 404 else None)
        assert reply.status == status
        assert reply.headers["x-openstack-request-id"].startswith("req-")
        assert reply.headers["x-openstack-request-id"] == reply.headers["x-compute-request-id"]
        assert reply.headers["vary"] == "OpenStack-API-Version, X-OpenStack-Nova-API-Version"
        shown = "2.60" if status != 404 else "2.1"
        assert reply.headers["openstack-api-version"] == f"compute {shown}"
        assert reply.headers["x-openstack-nova-api-version"] == shown
        assert reply.headers["content-type"] == "application/json"


def test_no_token_and_bad_tokens_get_401_that_names_the_identity_service(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    for token in ("", "x", "A" * 300, member.token[:-2] + "AA", "é".encode().decode("latin-1")):
        reply = cloud.nobody.get("compute", "/v2.1/things", headers={"X-Auth-Token": token} if token else {})
        assert reply.status == 401
        assert reply.headers["www-authenticate"] == f'Keystone uri="http://127.0.0.1:{cloud.ports["identity"]}/v3"'
        assert reply.json["error"]["code"] == 401


def test_a_route_without_policy_needs_no_token(cloud: Cloud) -> None:
    assert cloud.nobody.get("compute", "/").json == {"versions": []}
    for path in ("/v2.1", "/v2.1/"):
        assert cloud.nobody.get("compute", path).json == {"version": path}


def test_policies_hold_for_each_role(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    body = {"thing": {"name": "a"}}
    unscoped = cloud.client_for(p1.member.user_id)
    assert p1.reader.get("compute", "/v2.1/things/1").status == 200
    assert p1.reader.post("compute", "/v2.1/things", json=body).status == 403
    assert p1.member.post("compute", "/v2.1/things", json=body).status == 202
    assert p1.manager.delete("compute", "/v2.1/things/1").status == 403
    assert cloud.admin.delete("compute", "/v2.1/things/1").status == 204
    assert unscoped.get("compute", "/v2.1/things/1").status == 403
    assert p1.reader.post("compute", "/v2.1/things", json=body).json["forbidden"]["code"] == 403


@pytest.mark.parametrize(
    ("header", "status", "shown"),
    [
        ({}, 200, "2.1"),
        ({"OpenStack-API-Version": "compute 2.50"}, 200, "2.50"),
        ({"X-OpenStack-Nova-API-Version": "2.50"}, 200, "2.50"),
        ({"OpenStack-API-Version": "compute latest"}, 200, "2.96"),
        ({"OpenStack-API-Version": "compute 2.0"}, 200, "2.1"),
        ({"OpenStack-API-Version": "placement 1.3, compute 2.7"}, 200, "2.7"),
        ({"OpenStack-API-Version": "placement 1.3"}, 200, "2.1"),
        ({"OpenStack-API-Version": "compute 2.97"}, 406, None),
        ({"OpenStack-API-Version": "compute 3.1"}, 406, None),
        ({"OpenStack-API-Version": "compute two"}, 400, None),
        ({"OpenStack-API-Version": "compute"}, 400, None),
        ({"X-OpenStack-Nova-API-Version": "2.1.1"}, 400, None),
        ({"X-OpenStack-Nova-API-Version": "2.٣"}, 400, None),
    ],
)
def test_microversions_are_negotiated(cloud: Cloud, header: dict[str, str], status: int, shown: str | None) -> None:
    sent = {name: value.encode().decode("latin-1") for name, value in header.items()}
    reply = cloud.project("p1").reader.get("compute", "/v2.1/things/1", headers=sent)
    assert reply.status == status
    assert reply.headers.get("x-openstack-nova-api-version") == shown
    if status == 406:
        assert "2.96" in reply.json["computeFault"]["message"]
    if status == 200:
        minor = int((shown or "").split(".")[1])
        assert reply.json["new"] is (minor >= 50)


def test_a_legacy_path_ignores_microversions(cloud: Cloud) -> None:
    reply = cloud.project("p1").reader.get("compute", "/v2/things/1", microversion="2.60")
    assert reply.status == 200
    assert reply.json["new"] is False
    assert reply.json["path"] == "/v2/things/1"


def test_a_version_gated_route_is_404_outside_its_versions(cloud: Cloud) -> None:
    reader = cloud.project("p1").reader
    assert reader.get("compute", "/v2.1/gated").json == {"which": "old"}
    assert reader.get("compute", "/v2.1/gated", microversion="2.36").json == {"which": "new"}
    reply = reader.get("compute", "/v2.1/gated", microversion="2.51")
    assert (reply.status, list(reply.json)) == (404, ["itemNotFound"])


def test_the_project_in_the_path_must_be_the_tokens(cloud: Cloud) -> None:
    p1, p2 = cloud.project("p1"), cloud.project("p2")
    assert p1.reader.get("compute", f"/v2.1/{p1.id}/things/1").json["path"] == f"/v2.1/{p1.id}/things/1"
    assert p1.reader.get("compute", f"/v2/{p1.id}/things/1").status == 200
    for path in (f"/v2.1/{p2.id}/things/1", f"/v2.1/{'0' * 32}/things/1"):
        assert p1.reader.get("compute", path).status == 400


def test_the_shape_of_a_body_follows_the_microversion(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    old, new = {"thing": {"name": "a", "ram": 1}}, {"thing": {"name": "a", "description": "d"}}
    assert member.post("compute", "/v2.1/things", json=old).status == 202
    assert member.post("compute", "/v2.1/things", json=new).status == 400
    assert member.post("compute", "/v2.1/things", json=new, microversion="2.57").status == 202
    assert member.post("compute", "/v2.1/things", json=new, microversion="2.60").status == 201


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"thing": {"name": "a", "ram": "x"}}', "ram"),
        (b'{"thing": {"name": "", "ram": 1}}', "name"),
        (b'{"thing": {"name": "a", "colour": 1}}', "colour"),
        (b'{"thing": {"ram": 1}}', "name"),
        (b'{"thing": []}', "thing"),
        (b"[]", "object"),
        (b"{", "JSON"),
        (b"", "body"),
        (b"\xff\xfe", "JSON"),
        (b'{"thing": {"name": "a\\u0000b"}}', "NUL"),
        (b'{"thing": {"name": "\\ud800"}}', "JSON"),
        (b'{"thing": {"name": "a", "ram": NaN}}', "JSON"),
    ],
)
def test_a_wrong_body_is_400_that_names_the_fault(cloud: Cloud, body: bytes, named: str) -> None:
    reply = cloud.project("p1").member.post(
        "compute", "/v2.1/things", body=body, headers={"Content-Type": "application/json"}
    )
    assert reply.status == 400
    assert named in reply.json["badRequest"]["message"]


def test_of_a_key_given_twice_the_last_counts(cloud: Cloud) -> None:
    body = b'{"thing": {"name": "a", "ram": 1, "ram": 2}}'
    assert cloud.project("p1").member.post("compute", "/v2.1/things", body=body).json["thing"]["ram"] == 2


def test_deeply_nested_json_is_400(cloud: Cloud) -> None:
    body = b'{"thing": {"name": "a", "inner": {"x": ' + b"[" * 900 + b"]" * 900 + b"}}}"
    deep = b"[" * 1990
    for data in (body, deep):
        assert cloud.project("p1").member.post("compute", "/v2.1/things", body=data).status in (202, 400)
    assert cloud.project("p1").member.post("compute", "/v2.1/things", body=deep).status == 400


def test_an_oversize_body_is_413_whether_declared_or_chunked(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    body = b'{"thing": {"name": "' + b"a" * 3000 + b'"}}'
    assert member.post("compute", "/v2.1/things", body=body).status == 413
    connection = http.client.HTTPConnection("127.0.0.1", cloud.ports["compute"], timeout=60)
    connection.request("POST", "/v2.1/things", iter([body[:100], body[100:]]), {"X-Auth-Token": member.token},
                       encode_chunked=True)  # fmt: skip
    answer = connection.getresponse()
    assert answer.status == 413
    assert answer.getheader("retry-after") is not None
    connection.close()


def test_another_content_type_is_415(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    for media, status in (("text/plain", 415), ("application/json; charset=utf-8", 202), ("application/JSON", 202)):
        reply = member.post(
            "compute", "/v2.1/things", body=b'{"thing": {"name": "a"}}', headers={"Content-Type": media}
        )
        assert reply.status == status


def test_an_unknown_method_is_405_with_allow_and_head_is_not_routed(cloud: Cloud) -> None:
    reader = cloud.project("p1").reader
    reply = reader.patch("compute", "/v2.1/things")
    assert reply.status == 405
    assert {"GET", "POST"} <= set(reply.headers["allow"].replace(" ", "").split(","))
    assert "badMethod" in reply.json
    assert reader.head("compute", "/v2.1/things/1").status == 405


def test_actions_are_routed_by_the_key_of_the_body(cloud: Cloud) -> None:
    member, path = cloud.project("p1").member, "/v2.1/things/1/action"
    assert member.post("compute", path, json={"start": None}).status == 202
    assert member.post("compute", path, json={"start": {"x": 1}}).status == 400
    assert member.post("compute", path, json={"resize": {"name": "a"}}).status == 404
    assert member.post("compute", path, json={"resize": {"name": "a"}}, microversion="2.10").status == 403
    reply = cloud.admin.post("compute", path, json={"resize": {"name": "a", "ram": 5}}, microversion="2.10")
    assert (reply.status, reply.json) == (202, {"ram": 5})
    for wrong in ({"fly": None}, {}, {"start": None, "resize": {}}, [], "start"):
        reply = member.post("compute", path, json=wrong)
        assert (reply.status, list(reply.json)) == (400, ["badRequest"])


def test_query_strings_become_typed_values(cloud: Cloud) -> None:
    reader = cloud.project("p1").reader
    reply = reader.get("compute", "/v2.1/things?limit=1&deep=true&tag=a&tag=b%20c&unknown=1")
    assert reply.json["query"] == {"limit": 1, "deep": True, "tag": ["a", "b c"]}
    for wrong in ("limit=x", "limit=-1", "deep=maybe", "tag=%ff", "tag=%00"):
        assert reader.get("compute", f"/v2.1/things?{wrong}").status == 400
    assert reader.get("compute", "/v2.1/things?unknown=1", microversion="2.75").status == 400


def test_a_full_page_links_to_the_next(cloud: Cloud) -> None:
    reader = cloud.project("p1").reader
    reply = reader.get("compute", "/v2.1/things?limit=1&tag=a&marker=9")
    base = f"http://127.0.0.1:{cloud.ports['compute']}"
    href = f"{base}/v2.1/things?limit=1&tag=a&marker=0"
    assert reply.json["things_links"] == [{"rel": "next", "href": href}]
    assert reader.get("compute", "/v2.1/things?limit=50").json["things"] == ["0", "1"]  # capped at max_limit


def test_links_use_the_host_the_client_used(cloud: Cloud) -> None:
    reader = cloud.project("p1").reader
    named = reader.get("compute", "/v2.1/things/1", headers={"Host": "cloud.example:8774"})
    assert named.json["base"] == "http://cloud.example:8774"
    odd = reader.get("compute", "/v2.1/things/1", headers={"Host": 'x"><script>'})
    assert odd.json["base"] == f"http://127.0.0.1:{cloud.ports['compute']}"


def test_errors_have_the_body_of_the_face(cloud: Cloud) -> None:
    reader = cloud.project("p1").reader
    conflict = reader.get("compute", "/v2.1/fails/conflict")
    assert conflict.json == {"conflictingRequest": {"code": 409, "message": "It is busy. Wait."}}
    quota = reader.get("compute", "/v2.1/fails/quota")
    assert (quota.status, list(quota.json)) == (403, ["forbidden"])


def test_an_unexpected_error_shows_its_request_id_and_nothing_else(
    cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    reply = cloud.project("p1").reader.get("compute", "/v2.1/fails/badly")
    assert (reply.status, list(reply.json)) == (500, ["computeFault"])
    assert b"secret detail" not in reply.body
    request_id = reply.headers["x-openstack-request-id"]
    assert request_id in reply.json["computeFault"]["message"]
    logged = [record for record in caplog.records if request_id in record.getMessage() and record.exc_info]
    assert len(logged) == 1


def test_the_access_log_has_one_line_without_secrets(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nova_fast.api.access")
    member = cloud.project("p1").member
    reply = member.get("compute", "/v2.1/things/1?secret=hush")
    line = "\n".join(record.getMessage() for record in caplog.records if record.name == "nova_fast.api.access")
    for part in (reply.headers["x-openstack-request-id"], "GET", "/v2.1/things/1", "status=200", member.user_id,
                 member.project_id):  # fmt: skip
        assert part in line
    assert "hush" not in line
    assert member.token not in line
    assert "\n" not in line


def test_uploads_and_downloads_are_streamed(cloud: Cloud) -> None:
    member = cloud.project("p1").member
    sent = {"Content-Type": "application/octet-stream"}
    assert member.put("compute", "/v2.1/upload", body=b"x" * 300_000, headers=sent).json == {"size": 300_000}
    assert member.put("compute", "/v2.1/upload", json={}).status == 415
    reply = member.get("compute", "/v2.1/download")
    assert (len(reply.body), reply.headers["content-type"]) == (3000, "application/octet-stream")


def test_a_torn_upload_is_never_taken_for_a_whole_one(cloud: Cloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nova_fast.api.access")
    member = cloud.project("p1").member
    for head, body in (("Content-Length: 1000", b"x" * 10), ("Transfer-Encoding: chunked", b"a\r\n0123456789\r\n")):
        with socket.create_connection(("127.0.0.1", cloud.ports["compute"])) as client:
            text = (
                f"PUT /v2.1/upload HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {member.token}\r\n"
                f"Content-Type: application/octet-stream\r\n{head}\r\n\r\n"
            )
            client.sendall(text.encode() + body)
    deadline = time.monotonic() + 60
    lines: list[str] = []
    while len(lines) < 2 and time.monotonic() < deadline:
        lines = [r.getMessage() for r in caplog.records if "/v2.1/upload" in r.getMessage()]
        time.sleep(0.02)
    assert len(lines) == 2
    assert all("status=400" in line for line in lines)


def test_paths_that_no_file_or_key_could_have_are_404(cloud: Cloud) -> None:
    reader = cloud.project("p1").reader
    for path in ("/v2.1/things/a/b/c", "/v2.1//things", "/v9", "/v2.1x/things", "/../etc/passwd"):
        reply = reader.get("compute", path)
        assert (reply.status, list(reply.json)) == (404, ["itemNotFound"])


# ---------------------------------------------------------------------- a token dies with what it stands on


def test_a_remembered_token_dies_at_the_next_request(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    path = "/v2.1/things/1"

    def status() -> int:
        return p1.reader.get("compute", path).status

    assert status() == 200
    user_id, role_id = p1.reader.user_id, cloud.role_id("reader")
    change = {"caller": cloud.root, "user_id": user_id, "role_id": role_id, "scope_type": "project", "scope_id": p1.id}
    cloud.run(ChangeAssignment(**change, present=False))
    assert status() == 401
    cloud.run(ChangeAssignment(**change, present=True))
    assert status() == 200
    cloud.run(UpdateProject(caller=cloud.root, project_id=p1.id, enabled=False))
    assert status() == 401
    cloud.run(UpdateProject(caller=cloud.root, project_id=p1.id, enabled=True))
    assert status() == 200
    cloud.run(UpdateUser(caller=cloud.root, user_id=user_id, password_hash="other"))
    assert status() == 401


def test_a_revoked_token_dies_and_others_of_the_user_live(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    other = cloud.client_for(p1.reader.user_id, p1.id)
    assert p1.reader.get("compute", "/v2.1/things/1").status == 200
    from nova_fast.identity.tokens import unseal

    facts = unseal(bytes(range(32)), p1.reader.token)
    cloud.run(RevokeToken(caller=cloud.root, audit_id=facts.audit_id, expires_at_us=facts.expires_at_us))
    assert p1.reader.get("compute", "/v2.1/things/1").status == 401
    assert other.get("compute", "/v2.1/things/1").status == 200


def test_an_expired_token_dies_though_it_was_remembered(cloud: Cloud) -> None:
    p1 = cloud.project("p1")
    for lifetime_s in (0.6, 3.0, 15.0, 60.0):
        short = cloud.client_for(p1.reader.user_id, p1.id, lifetime_s)
        ends_s = time.monotonic() + lifetime_s
        if short.get("compute", "/v2.1/things/1").status == 200:
            break  # it was used while it was good
    assert time.monotonic() < ends_s
    time.sleep(max(0.0, ends_s - time.monotonic()) + 0.1)
    assert short.get("compute", "/v2.1/things/1").status == 401


def test_two_routes_that_one_request_could_mean_are_refused() -> None:
    face = make_face()
    with pytest.raises(AssertionError, match="declared twice"):
        face.route("GET", "/gated", since="2.30")(make_face)
