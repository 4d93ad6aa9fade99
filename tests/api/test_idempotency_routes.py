"""Every declared POST, sent twice with one Idempotency-Key: the same answer, and nothing is done twice.

The table is the declarations themselves, so a new POST is under test as soon as it is declared.
"""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from nova_fast.api.app import FACES
from nova_fast.api.framework.openapi import document
from nova_fast.api.framework.request import Services
from nova_fast.image.store import ImageStore
from nova_fast.model.images import ImageStatus
from nova_fast.state import schema as tables
from tests.api.conftest import now_us
from tests.api.route_world import ConsolePeer, Surface, declared, label

if TYPE_CHECKING:
    from nova_fast.api.framework.route import Route
    from tests.api.conftest import Client, Cloud, Reply

pytestmark = pytest.mark.slow

#: POST routes on which a key means nothing, and why. Each changes nothing, or has nobody to whom a key could belong.
KEYLESS = {
    "POST /v3/auth/tokens": "nobody is known yet; a second token harms nobody, and a kept one would be a secret",
    "POST /v3/users/{user_id}/password": "without a token, so without a scope; a repetition proves itself wrong (401)",
    "POST /v2.1/servers/{server_id}/action os-getConsoleOutput": "a read",
    "POST /v2.1/os-aggregates/{aggregate_id}/images": "fetching twice is fetching once, and records nothing",
}
#: What must have been done to a server before an action can succeed.
BEFORE = {"os-start": "os-stop", "unpause": "pause", "resume": "suspend", "unlock": "lock"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(ImageStore(tmp_path / "images", 1 << 20), ConsolePeer())


def posts(face: str) -> list[Route]:
    return [route for route in declared(face).routes if route.method == "POST"]


def keyed(face: str) -> list[Route]:
    return [route for route in posts(face) if label(route) not in KEYLESS]


class World:
    """A surface on which every POST can succeed."""

    def __init__(self, cloud: Cloud, face: str) -> None:
        self.surface, self.face, self.cloud = Surface(cloud), face, cloud
        quota = {"quota_set": {"instances": -1, "cores": -1, "ram": -1}}
        path = f"/v2.1/os-quota-sets/{self.surface.member.project_id}"
        assert self.surface.admin.put("compute", path, json=quota).status == 200

    def client(self, route: Route) -> Client:
        if "application_credentials" in route.path:
            return self.surface.victim
        return self.surface.admin if route.policy in ("admin", "service") else self.surface.member

    def prepare(self, route: Route) -> str:
        """Bring about what a route needs to succeed; the path to use."""
        surface = self.surface
        if "/actions/" in route.path:
            with self.cloud.store.transaction(now_us()) as tx:
                image = tx.get(tables.IMAGES, surface.ids["image_id"])
                assert image is not None
                tx.put(tables.IMAGES, msgspec.structs.replace(image, status=ImageStatus.ACTIVE, size=1))
        if route.path.startswith("/v2.1/flavors/"):
            flavor = {"flavor": {"name": label(route), "ram": 64, "vcpus": 1, "disk": 0}}
            flavor["flavor"]["os-flavor-access:is_public"] = "os-extra_specs" in route.path
            made = surface.admin.post("compute", "/v2.1/flavors", json=flavor).json["flavor"]["id"]
            if route.action == "removeTenantAccess":
                body = {"addTenantAccess": {"tenant": surface.foreign.project_id}}
                path = f"/v2.1/flavors/{made}/action"
                assert surface.admin.post("compute", path, json=body).status == 200
            return surface.path(self.face, route, flavor_id=made)
        if "{server_id}" in route.path:
            server_id = surface.world.active()
            if route.action in BEFORE:
                assert surface.world.act(server_id, BEFORE[route.action]).status == 202
                surface.world.settle()
            return surface.path(self.face, route, server_id=server_id)
        if "{aggregate_id}" in route.path:
            aggregate = {"aggregate": {"name": label(route)}}
            made = surface.admin.post("compute", "/v2.1/os-aggregates", json=aggregate).json["aggregate"]["id"]
            if route.action == "remove_host":
                path = f"/v2.1/os-aggregates/{made}/action"
                assert surface.admin.post("compute", path, json={"add_host": {"host": "h1"}}).status == 200
            return surface.path(self.face, route, aggregate_id=str(made))
        return surface.path(self.face, route)

    def body(self, route: Route) -> bytes | None:
        """A body with which a route succeeds; None for a route without one."""
        if route.action in ("addTenantAccess", "removeTenantAccess"):
            return jsonlib.dumps({route.action: {"tenant": self.surface.foreign.project_id}}).encode()
        if route.action in ("add_host", "remove_host"):
            return jsonlib.dumps({route.action: {"host": "h1"}}).encode()
        if route.path == "/v2.0/security-group-rules":
            rule = {"security_group_id": self.surface.ids["group_id"], "direction": "egress", "protocol": "udp"}
            return jsonlib.dumps({"security_group_rule": rule}).encode()
        made = self.surface.body(self.face, route)
        return None if made is None else jsonlib.dumps(made).encode()

    def send(self, route: Route, path: str, key: str, body: bytes | None) -> Reply:
        headers = {"Idempotency-Key": key}
        return self.surface.send(self.client(route), self.face, route, path=path, body=body, headers=headers)


@pytest.mark.parametrize("face", FACES)
def test_a_post_sent_twice_with_a_key_is_done_once_and_another_is_refused(cloud: Cloud, face: str) -> None:
    if not posts(face):
        return
    world = World(cloud, face)
    for number, route in enumerate(keyed(face)):
        path, key, body = world.prepare(route), f'"{number:08x}-key"', world.body(route)
        first = world.send(route, path, key, body)
        assert first.status < 300, f"{label(route)}: teach World.prepare how it succeeds: {first.body!r}"
        assert "idempotency-replayed" not in first.headers
        world.surface.world.settle()
        before = world.surface.fingerprint()
        again = world.send(route, path, key, body)
        assert (again.status, again.body) == (first.status, first.body), label(route)
        assert again.headers.get("location") == first.headers.get("location")
        assert again.headers.get("idempotency-replayed") == "true", label(route)
        assert world.surface.fingerprint() == before, f"{label(route)} was done twice"
        other = world.send(route, path, key, body + b" ") if body else world.send(route, f"{path}?a=b", key, None)
        assert other.status == 422, f"{label(route)}: {other.status} {other.body!r}"
        assert b"Idempotency-Key" in other.body
        assert world.surface.fingerprint() == before


@pytest.mark.parametrize("face", FACES)
def test_routes_without_keys_are_listed_with_a_reason_that_is_true(cloud: Cloud, face: str) -> None:
    world = World(cloud, face)
    for route in posts(face):
        if label(route) not in KEYLESS or route.policy == "none":
            continue
        path = world.prepare(route)
        cloud.commander.commands.clear()
        assert world.send(route, path, "k", world.body(route)).status < 300
        assert cloud.commander.commands == [], f"{label(route)} changes something"


def test_the_list_names_only_what_is_declared() -> None:
    assert {label(route) for face in FACES for route in posts(face)} >= KEYLESS.keys()


@pytest.mark.parametrize("face", FACES)
def test_openapi_declares_the_header_once_and_names_it_on_every_post(face: str) -> None:
    made = document(declared(face))
    reference = {"$ref": "#/components/parameters/IdempotencyKey"}
    assert made["components"]["parameters"]["IdempotencyKey"]["name"] == "Idempotency-Key"
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            public = all(variant["policy"] == "none" for variant in operation["x-variants"])
            wanted = method == "post" and not public
            assert (reference in operation["parameters"]) == wanted, f"{method} {path}"
            assert ("422" in operation["responses"]) == wanted, f"{method} {path}"
