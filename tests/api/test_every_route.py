"""Every declared route, for every kind of caller: who may, who may not, and for whom an object is not there at all.

The table is the declarations themselves, so a new route is under test as soon as it is declared.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nova_fast.api.app import FACES
from nova_fast.api.framework.request import Services
from nova_fast.image.store import ImageStore
from tests.api.route_world import COMMON, OWNED, ConsolePeer, Surface, changes, declared, label, ordered, statuses

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("face", FACES)]
#: A declaration has one status for success; a download without bytes, or of a part of them, has another.
ALSO = {"GET /v2/images/{image_id}/file": {204, 206}}
CALLERS = ("nobody", "garbage", "expired", "unscoped", "reader", "foreign", "member", "admin")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return Services(ImageStore(tmp_path / "images", 1 << 20), ConsolePeer())


@pytest.fixture
def surface(cloud: Cloud) -> Surface:
    return Surface(cloud)


def caller(surface: Surface, kind: str) -> Client:
    cloud, member = surface.cloud, surface.member
    if kind in ("nobody", "garbage"):
        client = cloud.nobody
        client.token = "" if kind == "nobody" else "gAAAAABm" + "A" * 180
        return client
    made = {
        "expired": lambda: cloud.client_for(member.user_id, member.project_id, lifetime_s=-1),
        "unscoped": lambda: cloud.client_for(member.user_id),
        "reader": lambda: surface.world.p1.reader,
        "foreign": lambda: surface.foreign,
        "member": lambda: member,
        "admin": lambda: surface.admin,
    }
    return made[kind]()


@pytest.mark.parametrize("kind", CALLERS)
def test_every_answer_is_a_declared_one(surface: Surface, face: str, kind: str) -> None:
    client, wrong = caller(surface, kind), []
    for route in ordered(declared(face)):
        reply = surface.send(client, face, route)
        if reply.status not in statuses(route) | COMMON | ALSO.get(label(route), set()):
            wrong.append(f"{label(route)}: {reply.status} {reply.body[:200]!r}")
        if reply.status >= 400 and route.method != "HEAD":
            assert reply.json, label(route)
    assert wrong == []


@pytest.mark.parametrize("kind", ["nobody", "garbage", "expired"])
def test_without_a_valid_token_nothing_but_public_routes_answers(surface: Surface, face: str, kind: str) -> None:
    client, before = caller(surface, kind), surface.fingerprint()
    found = {label(r): surface.send(client, face, r).status for r in declared(face).routes if r.policy != "none"}
    assert {name: status for name, status in found.items() if status != 401} == {}
    assert surface.fingerprint() == before


@pytest.mark.parametrize("kind", ["reader", "unscoped"])
def test_without_the_role_nothing_can_be_changed(surface: Surface, face: str, kind: str) -> None:
    client, before = caller(surface, kind), surface.fingerprint()
    found = {label(r): surface.send(client, face, r).status for r in declared(face).routes if changes(r)}
    assert {name: status for name, status in found.items() if status != 403} == {}
    assert surface.fingerprint() == before


def test_what_another_project_owns_is_not_there(surface: Surface, face: str) -> None:
    before, wrong = surface.fingerprint(), {}
    for route in ordered(declared(face)):
        if route.policy not in ("reader", "member") or not any(f"{{{name}}}" in route.path for name in OWNED):
            continue
        status = surface.send(surface.foreign, face, route).status
        if status != 404:
            wrong[label(route)] = status
    assert wrong == {}
    assert surface.fingerprint() == before


def test_what_another_project_owns_is_in_no_list(surface: Surface, face: str) -> None:
    secret = {value for name, value in surface.ids.items() if name in OWNED | {"credential_id"}}
    secret |= {surface.member.project_id, surface.member.user_id}
    for route in declared(face).routes:
        if route.method != "GET" or "{" in route.path:
            continue
        body = surface.send(surface.foreign, face, route).body.decode()
        assert [value for value in secret if value in body] == [], label(route)


def test_what_is_only_an_admins_is_not_a_members(surface: Surface, face: str) -> None:
    before = surface.fingerprint()
    closed = [r for r in declared(face).routes if r.policy in ("admin", "service", "manager", "system-reader")]
    found = {label(route): surface.send(surface.member, face, route).status for route in closed}
    assert {name: status for name, status in found.items() if status != 403} == {}
    assert surface.fingerprint() == before


def test_an_owner_finds_his_things(surface: Surface, face: str) -> None:
    """The same requests that are 404 for others: otherwise those tests would prove nothing."""
    for route in ordered(declared(face)):
        owned = any(f"{{{name}}}" in route.path for name in OWNED)
        if route.policy == "reader" and owned and route.path.count("{") == 1 and route.method == "GET":
            reply = surface.send(surface.world.p1.reader, face, route)
            assert reply.status in (200, 204), (label(route), reply.body)
