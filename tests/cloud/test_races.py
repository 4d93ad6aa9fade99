"""Many requests at the same moment, to real workers and the real conductor: limits hold, one upload wins."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

from nova_fast.state.store import Store
from tests.unit.recount import assert_nothing_left

from .conftest import Cloud, new_cloud, wait_for
from .rest import Rest

pytestmark = pytest.mark.slow

AT_ONCE = 50
UPLOADS = 20
QUOTA = 10
MIB = 1 << 20
T = TypeVar("T")


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=3, fake_delay_s=0.05) as cloud:
        text = cloud.config.read_text().replace("[api]", "[image]\nmax_image_bytes = 4194304\n\n[api]\nworkers = 2")
        cloud.config.write_text(text)
        cloud.up()
        yield cloud


@pytest.fixture(scope="module")
def rest(cloud: Cloud) -> Rest:
    return Rest(cloud)


def together(count: int, work: Callable[[int], T]) -> list[T]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


def image_files(cloud: Cloud) -> set[str]:
    return {path.name for path in (cloud.state / "images").iterdir()}


def status_of(rest: Rest, image_id: str) -> str:
    return str(rest.send("GET", "image", f"/v2/images/{image_id}").json["status"])


def new_image(rest: Rest) -> str:
    wish = {"name": "disk", "disk_format": "raw", "container_format": "bare"}
    return str(rest.make("image", "/v2/images", wish)["id"])


def test_of_many_creations_at_once_exactly_the_quota_is_accepted(cloud: Cloud, rest: Rest) -> None:
    server = {"name": "vm", "flavorRef": "1", "imageRef": rest.image(), "networks": [{"uuid": rest.network()}]}
    body = {"server": server}
    found = Counter(together(AT_ONCE, lambda _: rest.send("POST", "compute", "/v2.1/servers", body).status))
    assert found == {202: QUOTA, 403: AT_ONCE - QUOTA}
    servers = [one["id"] for one in rest.servers()]
    assert len(servers) == QUOTA

    # Deleted three times each, some while they are being built.
    def delete(number: int) -> int:
        return rest.send("DELETE", "compute", f"/v2.1/servers/{servers[number % QUOTA]}").status

    assert set(together(3 * QUOTA, delete)) <= {204, 404}
    wait_for("all are gone", lambda: not rest.servers(), 60)
    limits = rest.send("GET", "compute", "/v2.1/limits").json["limits"]["absolute"]
    assert (limits["totalInstancesUsed"], limits["totalCoresUsed"], limits["totalRAMUsed"]) == (0, 0, 0)

    def come_and_go(_: int) -> int:
        answer = rest.send("POST", "compute", "/v2.1/servers", body)
        return rest.send("DELETE", "compute", f"/v2.1/servers/{answer.json['server']['id']}").status

    assert together(QUOTA, come_and_go) == [204] * QUOTA
    wait_for("all are gone", lambda: not rest.servers(), 60)
    store = Store.open(cloud.state / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            assert_nothing_left(snapshot)
    finally:
        store.close()


def test_of_many_uploads_of_one_image_one_wins(cloud: Cloud, rest: Rest) -> None:
    image_id, path = new_image(rest), "/v2/images/{}/file"
    contents = [bytes([number]) * MIB for number in range(UPLOADS)]
    answers = together(UPLOADS, lambda n: rest.send("PUT", "image", path.format(image_id), data=contents[n]).status)
    assert Counter(answers) == {204: 1, 409: UPLOADS - 1}
    assert rest.send("GET", "image", path.format(image_id)).body == contents[answers.index(204)]


def test_an_upload_that_is_torn_or_too_large_leaves_nothing(cloud: Cloud, rest: Rest) -> None:
    image_id, before = new_image(rest), image_files(cloud)
    path = f"/v2/images/{image_id}/file"
    assert rest.send("PUT", "image", path, data=bytes(5 * MIB)).status == 413
    assert (status_of(rest, image_id), image_files(cloud)) == ("queued", before)
    with socket.create_connection(("127.0.0.1", cloud.ports["image"])) as torn:
        head = f"PUT {path} HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {rest.token}\r\nContent-Length: {3 * MIB}\r\n"
        torn.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + bytes(MIB))
        wait_for("the upload is under way", lambda: status_of(rest, image_id) == "saving", 60)
    wait_for("the image waits again", lambda: status_of(rest, image_id) == "queued", 60)
    assert image_files(cloud) == before


def test_a_worker_that_is_killed_in_an_upload_leaves_an_image_that_can_be_uploaded(cloud: Cloud, rest: Rest) -> None:
    image_id = new_image(rest)
    path = f"/v2/images/{image_id}/file"
    with socket.create_connection(("127.0.0.1", cloud.ports["image"])) as torn:
        head = f"PUT {path} HTTP/1.1\r\nHost: h\r\nX-Auth-Token: {rest.token}\r\nContent-Length: {3 * MIB}\r\n"
        torn.sendall(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + bytes(MIB))
        wait_for("the upload is under way", lambda: status_of(rest, image_id) == "saving", 60)
        for worker in ("api-0", "api-1"):
            cloud.kill(worker)
    data = os.urandom(MIB)

    def again() -> bool:
        try:
            return rest.send("PUT", "image", path, data=data).status == 204
        except OSError:  # the worker is still on its way
            return False

    wait_for("the upload is taken", again, 60)
    assert rest.send("GET", "image", path).body == data
    assert {name for name in image_files(cloud) if name.startswith(".")} == set()
