"""Wrong input to every declared route: whatever is sent, no answer is a 5xx, and a refusal changes nothing.

The wrong bodies are made from the declared types: each field in turn gets values of other types, sizes and alphabets.
"""

from __future__ import annotations

import copy
import itertools
import json as jsonlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nova_fast.api.app import FACES
from nova_fast.api.framework.request import Services
from nova_fast.api.framework.route import Route
from nova_fast.image.store import ImageStore
from tests.api.route_world import ConsolePeer, Surface, body_type, declared, label, ordered

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("face", FACES)]

#: JSON texts: some cannot be made by a writer.
VALUES = (
    "null", "[]", "{}", "true", "0", "-1", "1.5", "1e999", "-0.0", "9223372036854775808", "9" * 400, '""',
    '" "', '"' + "x" * 100_000 + '"', '"\\u0000"', '"a\\u0000b"', '"\\ud800"', '"\\u202e\\u2028é☃😀"',
    '"../../etc/passwd"', '"\\n"', '"%s%n{0.__class__}"', '"\'; DROP TABLE users; --"',
    '"<script>alert(1)</script>"', '"-1"', '"9223372036854775808"', '[null]', '["x", "x"]', '[[[[]]]]', '[1]',
    '{"x": {}}', '{"": ""}', '{"\\u0000": 1}', '"١٢٣"', '"²"', '"0x10"', '"1_0"', '"NaN"', '"fe80::1%eth0"',
    '"::ffff:1.2.3.4"', '"0.0.0.0/0"', '"::/0"', '"10.0.0.1/33"', '"2100-13-45T99:99:99Z"',
    '"9999-12-31T23:59:59Z"',
)  # fmt: skip
WHOLE = (
    b"", b" ", b"{", b"[", b"null", b"[]", b"0", b'"x"', b"{}", b'{"x": 1}', b"{'x': 1}", b"NaN",
    b'{"a": 1}{"b": 2}', b"\xff\xfe{}", b'{"\xc3\x28": 1}', b"\xef\xbb\xbf{}", b"[" * 100_000,
    b'{"a":' * 50_000, b"\x00", b'{"x": "' + b"a" * (2 << 20) + b'"}',
)  # fmt: skip
#: Fields of bodies that are declared as open objects.
OPEN_FIELDS = {
    "/v3/projects": "name domain_id parent_id enabled description tags options is_domain id",
    "/v3/users": "name domain_id enabled description default_project_id password email options id",
    "/v2/images": (
        "id name visibility container_format disk_format min_disk min_ram protected tags owner os_hidden hw_disk_bus "
        "architecture status checksum kernel_id os_type hw_qemu_guest_agent locations"
    ),
}  # fmt: skip
TEXTS = (
    "", "-1", "0", "9" * 30, "1.5", "%00", "%ff%fe", "%ED%A0%80", "%C3%A9", "x" * 4000, "..%2F..%2Fetc",
    "__class__", "[", "(a%2B)%2B%24", "*", "null", "true", "name:asc", "name:up", "in:", "in:a,b",
    "gt:2000-01-01", "9999-99-99", "2026-01-01T00:00:00Z", "%D9%A1", "=", "a:b:c",
)  # fmt: skip
COMMON_QUERIES = (
    "limit", "marker", "sort", "sort_key", "sort_dir", "page_reverse", "fields", "name", "id", "status",
    "visibility", "owner", "tag", "created_at", "updated_at", "size_min", "size_max", "changes-since",
    "changes-before", "all_tenants", "deleted", "project_id", "tenant_id", "user_id", "resources", "required",
    "member_of", "in_tree", "group_policy", "include", "unknown", "host", "ip", "network_id", "fixed_ips",
    "device_id", "security_groups", "detailed", "start", "end",
)  # fmt: skip
IDS = (
    "..", "%2e%2e", ".", "%2e", "..%2f..%2fadmin", "%2fetc%2fpasswd", "%00", "a%00b", "%0d%0aX-Injected:%201",
    "%ff%fe", "%C3%A9", "x" * 4000, "%20", "*", "{}", "%7Bserver_id%7D", "-1", "0", "9" * 40, "null", "%D9%A1",
    "A" * 32, "'", "%25", "00000000-0000-0000-0000-000000000000",
)  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def services(images: Path) -> Services:
    return Services(ImageStore(images, 1 << 20), ConsolePeer())


@pytest.fixture
def surface(cloud: Cloud) -> Surface:
    return Surface(cloud)


def allowed(surface: Surface, face: str, route: Route) -> Client:
    """Somebody whom the policy of a route lets through."""
    if route.policy in ("admin", "service", "system-reader", "manager"):
        return surface.admin
    return surface.victim if face == "identity" else surface.member


def places(kind: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every field of a type, however deep: the path to it, and the type of what holds it."""
    inspect = msgspec.inspect
    if isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from places(part, at)
    elif isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield (*at, field.encode_name), kind
            yield from places(field.type, (*at, field.encode_name))
    elif isinstance(kind, inspect.ListType | inspect.VarTupleType) and at:
        yield (*at, 0), kind
        yield from places(kind.item_type, (*at, 0))
    elif isinstance(kind, inspect.DictType) and at:
        yield (*at, "key"), kind


def put(body: Any, at: tuple[Any, ...], value: Any) -> Any:
    """A copy of a body with a value at a place; what is missing on the way is made."""
    whole = here = {"": copy.deepcopy(body)}
    path: tuple[Any, ...] = ("", *at)
    for step, following in itertools.pairwise(path):
        wanted = list if isinstance(following, int) else dict
        found = here[step] if (isinstance(here, list) and here) or (isinstance(here, dict) and step in here) else None
        if not isinstance(found, wanted):
            found = wanted()
        if isinstance(here, list):
            here[:] = [found]
        else:
            here[step] = found
        here = found  # type: ignore[assignment]
    if isinstance(here, list):
        here[:] = [value]
    else:
        here[path[-1]] = value
    return whole[""]


def wrong_bodies(surface: Surface, face: str, route: Route) -> Iterator[bytes]:
    """The right body with one field after the other made wrong."""
    kind = msgspec.inspect.type_info(body_type(route))
    right = surface.body(face, route)
    found = {((route.action, *at) if route.action else at) for at, _ in places(kind)}
    collection = "/".join(route.path.split("/")[:3])
    for name in OPEN_FIELDS.get(collection, "").split():
        prefix = (next(iter(right)),) if face == "identity" else ()
        found.add((*prefix, name) if route.method != "PATCH" or face == "identity" else (0, "path"))
    for at in sorted(found, key=repr):
        text = jsonlib.dumps(put(right, at, "@here@"))
        for value in VALUES:
            yield text.replace('"@here@"', value).encode()
    if isinstance(right, dict):
        yield jsonlib.dumps({**right, "unknown_field": 1}).encode()


class Watch:
    """Sends wrong requests and notes what must not happen."""

    def __init__(self, surface: Surface, face: str) -> None:
        self.surface = surface
        self.face = face
        self.before = surface.last_commit()
        self.wrong: list[str] = []
        self.sent = 0

    def send(self, route: Route, what: object, **how: Any) -> int:
        client = allowed(self.surface, self.face, route)
        reply = self.surface.send(client, self.face, route, **how)
        now = self.surface.last_commit()
        self.sent += 1
        if reply.status >= 500 and reply.status not in route.errors:
            self.wrong.append(f"{label(route)} {str(what)[:300]}: {reply.status}")
        elif reply.status >= 400 and now != self.before:
            self.wrong.append(f"{label(route)} {str(what)[:300]}: {reply.status}, yet something changed")
        self.before = now
        return reply.status


def with_body(face: str) -> list[Route]:
    return [route for route in ordered(declared(face)) if route.body is not None]


def test_a_field_of_a_wrong_type_is_refused(surface: Surface, face: str) -> None:
    watch = Watch(surface, face)
    for route in with_body(face):
        for body in wrong_bodies(surface, face, route):
            watch.send(route, body, body=body)
    assert watch.wrong == []
    assert watch.sent > 500 or face == "placement"


def test_what_is_not_such_an_object_is_refused(surface: Surface, face: str) -> None:
    watch = Watch(surface, face)
    for route in with_body(face):
        for body in WHOLE:
            status = watch.send(route, body, body=body)
            if body not in (b"{}", b'{"x": 1}', b"[]"):
                assert 400 <= status < 500, (label(route), body[:80])
    assert watch.wrong == []


def test_an_unknown_field_is_refused_by_name(surface: Surface, face: str) -> None:
    for route in with_body(face):
        right = surface.body(face, route)
        if route.action or not isinstance(msgspec.inspect.type_info(body_type(route)), msgspec.inspect.StructType):
            continue
        before = surface.fingerprint()
        reply = surface.send(
            allowed(surface, face, route), face, route, body=jsonlib.dumps({**right, "surprise": 1}).encode()
        )
        assert (reply.status, surface.fingerprint() == before) == (400, True), label(route)
        assert b"surprise" in reply.body, (label(route), reply.body)


def test_a_query_never_breaks_a_route(surface: Surface, face: str) -> None:
    watch = Watch(surface, face)
    for route in ordered(declared(face)):
        if route.method != "GET":
            continue
        shapes = list(route.query.values()) if isinstance(route.query, dict) else [route.query] if route.query else []
        names = set(COMMON_QUERIES) if "{" not in route.path else {"limit", "unknown"}
        names |= {field.encode_name for shape in shapes for field in msgspec.structs.fields(shape)}
        for name in sorted(names):
            for text in TEXTS:
                path = f"{surface.path(face, route)}?{name}={text}"
                watch.send(route, path, path=path)
        watch.send(route, "many", path=surface.path(face, route) + "?" + "&".join(f"a{n}=1" for n in range(500)))
    assert watch.wrong == []


def test_an_id_that_is_none_never_breaks_a_route(surface: Surface, face: str) -> None:
    watch = Watch(surface, face)
    for route in ordered(declared(face)):
        for name in [part[1:-1] for part in route.path.split("/") if part.startswith("{")]:
            for text in IDS:
                path = surface.path(face, route, **{name: text})
                status = watch.send(route, path, path=path)
                if name.endswith("_id") and name not in ("project_id", "consumer_uuid"):
                    assert 400 <= status < 500 or watch.wrong, (label(route), path[:200], status)
    assert watch.wrong == []


def test_an_upload_that_is_refused_leaves_no_bytes(surface: Surface, face: str, images: Path) -> None:
    if face != "image":
        pytest.skip("the only face that takes files")
    route = next(route for route in declared(face).routes if route.stream)
    watch = Watch(surface, face)
    for text in IDS:
        watch.send(route, text, path=surface.path(face, route, image_id=text))
    assert watch.wrong == []
    for data in (b"", b"QFI\xfb" + bytes(600), b"x" * ((1 << 20) + 1), b"KDMV" + bytes(600)):
        assert 400 <= surface.send(surface.member, face, route, body=data).status < 500, data[:20]
        image = surface.member.get("image", f"/v2/images/{surface.ids['image_id']}").json
        assert (image["status"], image["size"], image["checksum"]) == ("queued", None, None)
    assert list(images.iterdir()) == []
