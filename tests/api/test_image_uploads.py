"""The bytes of images through the real HTTP server: upload, download, ranges, and what is refused."""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nova_fast.api.framework.request import Services
from nova_fast.image.store import ImageStore
from nova_fast.model.commands.images import BeginUpload
from nova_fast.model.identity import Caller

if TYPE_CHECKING:
    from tests.api.conftest import Client, Cloud, Reply

OCTETS = {"Content-Type": "application/octet-stream"}
MAX_BYTES = 8 << 20


@pytest.fixture
def faces() -> tuple[str, ...]:
    return ("image",)


@pytest.fixture
def store(tmp_path: Path) -> ImageStore:
    return ImageStore(tmp_path / "images", MAX_BYTES)


@pytest.fixture
def services(store: ImageStore) -> Services:
    return Services(store)


def make(client: Client, **attributes: Any) -> str:
    body = {"name": "disk", "disk_format": "raw", "container_format": "bare", **attributes}
    reply = client.post("image", "/v2/images", json=body)
    assert reply.status == 201, reply.body
    found: str = reply.json["id"]
    return found


def put(client: Client, image_id: str, data: bytes, **headers: str) -> Reply:
    return client.put("image", f"/v2/images/{image_id}/file", body=data, headers=OCTETS | headers)


def show(client: Client, image_id: str) -> Any:
    return client.get("image", f"/v2/images/{image_id}").json


def files(store: ImageStore) -> list[str]:
    return sorted(entry.name for entry in store.path(str(uuid.uuid4())).parent.iterdir())


def qcow2(tmp_path: Path, *options: str, size: str = "16M") -> bytes:
    path = tmp_path / "made.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, size], check=True, timeout=30)
    return path.read_bytes()


def test_an_upload_makes_the_image_active_with_its_hashes_and_can_be_read_back(cloud: Cloud, store: ImageStore) -> None:
    client, data = cloud.project("p1").member, os.urandom(5_000_001)
    image_id = make(client)
    assert put(client, image_id, data).status == 204
    image = show(client, image_id)
    assert (image["status"], image["size"], image["virtual_size"]) == ("active", len(data), len(data))
    assert image["checksum"] == hashlib.md5(data).hexdigest()
    assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha512", hashlib.sha512(data).hexdigest())
    reply = client.get("image", f"/v2/images/{image_id}/file")
    assert (reply.status, reply.body, reply.headers["content-md5"]) == (200, data, image["checksum"])
    assert reply.headers["content-length"] == str(len(data))
    assert files(store) == [image_id]


def test_a_queued_image_has_no_bytes_to_give(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    reply = client.get("image", f"/v2/images/{make(client)}/file")
    assert (reply.status, reply.body) == (204, b"")


@pytest.mark.parametrize(
    ("header", "begin", "end"),
    [("bytes=0-9", 0, 10), ("bytes=90-", 90, 100), ("bytes=-5", 95, 100), ("bytes=50-999", 50, 100)],
)
def test_one_range_of_an_image_can_be_read(cloud: Cloud, header: str, begin: int, end: int) -> None:
    client, data = cloud.project("p1").member, bytes(range(100))
    image_id = make(client)
    put(client, image_id, data)
    reply = client.get("image", f"/v2/images/{image_id}/file", headers={"Range": header})
    assert (reply.status, reply.body) == (206, data[begin:end])
    assert reply.headers["content-range"] == f"bytes {begin}-{end - 1}/100"


@pytest.mark.parametrize(
    ("header", "status"), [("bytes=100-", 416), ("bytes=9-3", 416), ("bytes=a-b", 400), ("bytes=-", 400)]
)
def test_a_range_that_is_not_there_is_refused(cloud: Cloud, header: str, status: int) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    put(client, image_id, bytes(100))
    assert client.get("image", f"/v2/images/{image_id}/file", headers={"Range": header}).status == status


def test_a_qcow2_image_shows_the_size_the_guest_sees(cloud: Cloud, tmp_path: Path) -> None:
    client = cloud.project("p1").member
    image_id = make(client, disk_format="qcow2")
    assert put(client, image_id, qcow2(tmp_path)).status == 204
    assert show(client, image_id)["virtual_size"] == 16 << 20


@pytest.mark.parametrize(
    ("disk_format", "content", "word"),
    [
        ("raw", "qcow2", "qcow2"),
        ("qcow2", "raw", "raw"),
        ("iso", "raw", "raw"),
        ("qcow2", "backed", "backing file"),
        ("qcow2", "external", "another file"),
        ("raw", "empty", "no content"),
        ("vmdk", "raw", "vmdk"),
    ],
)
def test_content_that_is_not_what_it_says_is_refused_and_the_image_waits_again(
    cloud: Cloud, store: ImageStore, tmp_path: Path, disk_format: str, content: str, word: str
) -> None:
    client = cloud.project("p1").member
    base = tmp_path / "base.raw"
    base.write_bytes(bytes(1 << 20))
    contents = {
        "raw": lambda: b"\0" * 4096,
        "empty": lambda: b"",
        "qcow2": lambda: qcow2(tmp_path),
        "backed": lambda: qcow2(tmp_path, "-b", str(base), "-F", "raw", size="1M"),
        "external": lambda: qcow2(tmp_path, "-o", f"data_file={tmp_path}/data.raw,data_file_raw=on"),
    }
    image_id = make(client, disk_format=disk_format)
    reply = put(client, image_id, contents[content]())
    assert reply.status == 400
    assert word in reply.json["message"]
    assert show(client, image_id)["status"] == "queued"
    assert files(store) == []


def test_an_upload_over_the_limit_is_413_whether_it_says_so_or_not(cloud: Cloud, store: ImageStore) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    assert _chunked(cloud, client, image_id, [bytes(1 << 20)] * 9 + [b""]).startswith(b"HTTP/1.1 413")
    assert show(client, image_id)["status"] == "queued"
    assert files(store) == []


def test_a_chunked_upload_without_a_length_is_taken(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    assert _chunked(cloud, client, image_id, [b"a" * 1000, b"b" * 2000, b""]).startswith(b"HTTP/1.1 204")
    assert show(client, image_id)["size"] == 3000


def test_an_upload_that_breaks_off_leaves_nothing_and_the_image_waits_again(cloud: Cloud, store: ImageStore) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    with socket.create_connection(("127.0.0.1", cloud.ports["image"])) as link:
        link.sendall(_head(client, image_id, "Content-Length: 1000000") + b"x" * 5000)
        deadline = time.monotonic() + 60
        while show(client, image_id)["status"] != "saving" and time.monotonic() < deadline:
            time.sleep(0.01)
    deadline = time.monotonic() + 60
    while show(client, image_id)["status"] != "queued" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert show(client, image_id)["status"] == "queued"
    assert files(store) == []
    assert put(client, image_id, b"now").status == 204


def test_only_one_may_upload_an_image_at_a_time(cloud: Cloud, store: ImageStore) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    with socket.create_connection(("127.0.0.1", cloud.ports["image"])) as link:
        link.sendall(_head(client, image_id, "Content-Length: 4") + b"no")
        deadline = time.monotonic() + 60
        while show(client, image_id)["status"] != "saving" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert put(client, image_id, b"other").status == 409
        link.sendall(b"w!")
        assert link.recv(4096).startswith(b"HTTP/1.1 204")
    assert show(client, image_id)["checksum"] == hashlib.md5(b"now!").hexdigest()
    assert put(client, image_id, b"again").status == 409


def test_an_image_left_saving_by_a_crash_can_be_uploaded(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    caller = Caller(user_id=client.user_id, project_id=client.project_id, roles=("member",))
    cloud.run(BeginUpload(caller=caller, image_id=image_id))
    assert show(client, image_id)["status"] == "saving"
    assert put(client, image_id, b"at last").status == 204
    assert show(client, image_id)["status"] == "active"


def test_a_wrong_content_type_is_415_and_missing_formats_are_400(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    reply = client.put("image", f"/v2/images/{image_id}/file", body=b"x", headers={"Content-Type": "application/json"})
    assert reply.status == 415
    bare = client.post("image", "/v2/images", json={"name": "no formats"}).json["id"]
    reply = put(client, bare, b"x")
    assert reply.status == 400
    assert "disk_format" in reply.json["message"]
    ova = make(client, container_format="ova")
    assert put(client, ova, b"x").status == 400


def test_a_full_disk_is_said_and_leaves_nothing(
    cloud: Cloud, store: ImageStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cloud.project("p1").member
    image_id = make(client)

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    reply = put(client, image_id, b"x" * 100)
    monkeypatch.undo()
    assert reply.status == 503
    assert "space" in reply.json["message"]
    assert show(client, image_id)["status"] == "queued"
    assert files(store) == []


def test_nobody_else_may_upload_or_read_a_private_image(cloud: Cloud) -> None:
    owner, other = cloud.project("p1"), cloud.project("p2")
    image_id = make(owner.member)
    assert put(other.member, image_id, b"x").status == 404
    assert put(owner.reader, image_id, b"x").status == 403
    assert put(cloud.nobody, image_id, b"x").status == 401
    assert put(owner.member, image_id, b"x").status == 204
    assert other.member.get("image", f"/v2/images/{image_id}/file").status == 404


def test_a_deactivated_image_is_read_by_admins_only(cloud: Cloud) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    put(client, image_id, b"x")
    assert client.post("image", f"/v2/images/{image_id}/actions/deactivate").status == 204
    assert client.get("image", f"/v2/images/{image_id}/file").status == 403
    assert cloud.admin.get("image", f"/v2/images/{image_id}/file").body == b"x"
    assert client.post("image", f"/v2/images/{image_id}/actions/reactivate").status == 204
    assert client.get("image", f"/v2/images/{image_id}/file").body == b"x"


def test_deleting_an_image_deletes_its_file(cloud: Cloud, store: ImageStore) -> None:
    client = cloud.project("p1").member
    image_id = make(client)
    put(client, image_id, b"x")
    assert files(store) == [image_id]
    assert client.delete("image", f"/v2/images/{image_id}").status == 204
    assert files(store) == []


def test_a_qcow2_header_that_claims_too_much_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    client = cloud.project("p1").member
    image_id = make(client, disk_format="qcow2")
    data = bytearray(qcow2(tmp_path))
    struct.pack_into(">Q", data, 24, 1 << 60)
    assert put(client, image_id, bytes(data)).status == 400


def _head(client: Client, image_id: str, length: str) -> bytes:
    lines = [
        f"PUT /v2/images/{image_id}/file HTTP/1.1",
        "Host: 127.0.0.1",
        f"X-Auth-Token: {client.token}",
        "Content-Type: application/octet-stream",
        length,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _chunked(cloud: Cloud, client: Client, image_id: str, chunks: list[bytes]) -> bytes:
    with socket.create_connection(("127.0.0.1", cloud.ports["image"]), timeout=60) as link:
        link.sendall(_head(client, image_id, "Transfer-Encoding: chunked"))
        try:
            for chunk in chunks:
                link.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        except ConnectionError:
            pass
        return link.recv(4096)
