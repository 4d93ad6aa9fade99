"""A machine that falls ill: what cannot be done is refused with 503 and why, reads go on, and it gets well alone.

A full disk is a real one; a disk that is read-only or broken, and a clock that is set, are played to the real daemons
by a library that is loaded into them (``faults.c``).
"""

from __future__ import annotations

import errno
import http.client
import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from nova_fast.state.store import Store
from tests.unit.recount import assert_nothing_leaks

from .conftest import Cloud, new_cloud, wait_for
from .rest import Answer, Rest
from .sick import Faults, fill, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.needs_root]
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")

RECOVERY_S = 60  # generous: a busy machine takes longer than a sick one
LOG_LINES_MAX = 30
DISK_MIB = 24


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=2, fake_delay_s=0.05) as cloud:
        yield cloud


class User:
    """Somebody who makes servers, with what he needs for it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.rest = Rest(cloud)
        wait_for("the hosts have reported", lambda: self.hosts() == 2, RECOVERY_S)
        self.image_id = self.rest.image()
        self.network_id = self.rest.network()
        self.accepted: set[str] = set()
        quota = dict.fromkeys(("instances", "cores", "ram"), -1)
        path = f"/v2.1/os-quota-sets/{self.rest.project_id}"
        assert self.rest.send("PUT", "compute", path, {"quota_set": quota}).status == 200

    def hosts(self) -> int:
        return len(self.rest.send("GET", "compute", "/v2.1/os-hypervisors").json["hypervisors"])

    def create(self, size: int = 10) -> Answer:
        """Ask for a server."""
        server = {
            "name": "vm", "flavorRef": "1", "imageRef": self.image_id, "networks": [{"uuid": self.network_id}],
            "user_data": "QUJD" * (size // 3),
        }  # fmt: skip
        answer = self.rest.send("POST", "compute", "/v2.1/servers", {"server": server})
        if answer.status == 202:
            self.accepted.add(answer.json["server"]["id"])
        return answer

    def delete(self, server_id: str) -> Answer:
        answer = self.rest.send("DELETE", "compute", f"/v2.1/servers/{server_id}")
        if answer.status == 204:
            self.accepted.discard(server_id)
        return answer

    def settled(self) -> bool:
        """Whether every server that was accepted runs, and no other is there."""
        found = {s["id"]: s["status"] for s in self.rest.servers() if s["OS-EXT-STS:task_state"] != "deleting"}
        return found == dict.fromkeys(self.accepted, "ACTIVE")


def refusal(ask: Callable[[], Answer], times: int = 40) -> Answer:
    """Ask until it is refused: a disk that is full may still have room inside the store's own file."""
    for _ in range(times):
        answer = ask()
        if answer.status >= 400:
            return answer
    raise AssertionError(f"it was accepted {times} times")


def changes(user: User, server_id: str) -> list[Answer]:
    """What changes something, one of each method."""
    network = {"network": {"name": "n" * 200, "description": "d" * 200}}
    return [
        user.create(),
        user.rest.send("POST", "network", "/v2.0/networks", network),
        user.rest.send("PUT", "network", f"/v2.0/networks/{user.network_id}", network),
        user.delete(server_id),
    ]


def assert_refused(cloud: Cloud, answer: Answer, sentence: bytes) -> None:
    assert answer.status == 503 and sentence in answer.body, (answer.status, answer.body)
    assert str(cloud.state).encode() not in answer.body


def log_lines(cloud: Cloud) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (cloud.state / "log").glob("*.log") if "api" not in path.name)


def recount(cloud: Cloud) -> None:
    store = Store.open(cloud.state / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            assert_nothing_leaks(snapshot)
    finally:
        store.close()


def assert_well_again(cloud: Cloud, user: User, daemons: dict[str, int]) -> None:
    """What was accepted is there, more can be made, and nobody had to be started again."""
    wait_for("a server is accepted", lambda: user.create().status == 202, RECOVERY_S)
    wait_for("all that was accepted runs", user.settled, RECOVERY_S)
    assert cloud.daemons() == daemons
    recount(cloud)


# ---------------------------------------------------------------------- the disk
def test_a_full_disk(cloud: Cloud) -> None:
    with small_disk(cloud.state, DISK_MIB):
        cloud.up()
        user, daemons = User(cloud), cloud.daemons()
        for _ in range(3):
            user.create()
        wait_for("the servers run", user.settled, RECOVERY_S)
        images = sorted(os.listdir(cloud.state / "images"))
        victim = next(iter(user.accepted))
        created = user.rest.make(
            "image", "/v2/images", {"name": "late", "disk_format": "raw", "container_format": "bare"}
        )
        filler = fill(cloud.state)

        refused = refusal(lambda: user.create(size=45000))
        assert_refused(cloud, refused, b"The disk of the state folder is full")
        for answer in changes(user, victim):  # what the store has room for inside its file is done
            if answer.status >= 300:
                assert_refused(cloud, answer, b"The disk of the state folder is full")
        upload = user.rest.send("PUT", "image", f"/v2/images/{created['id']}/file", data=bytes(1 << 20))
        assert_refused(cloud, upload, b"not enough space")
        assert sorted(os.listdir(cloud.state / "images")) == images, "a part of an upload is left"
        for face, path in (("compute", "/v2.1/servers/detail"), ("image", "/v2/images"), ("network", "/v2.0/ports")):
            assert user.rest.send("GET", face, path).status == 200
        assert Rest(cloud).token, "somebody can still log in"
        time.sleep(2)  # heartbeats and housekeeping go on meanwhile
        assert cloud.daemons() == daemons

        filler.unlink()
        assert_well_again(cloud, user, daemons)
        upload = user.rest.send("PUT", "image", f"/v2/images/{created['id']}/file", data=bytes(1 << 20))
        assert upload.status == 204, upload.body
        assert log_lines(cloud) < 150
        cloud.down()


@needs_gcc
@pytest.mark.parametrize(
    ("number", "sentence", "folder"),
    [
        (errno.EROFS, b"The disk of the state folder is read-only", "var"),
        (errno.ENOSPC, b"The disk of the state folder is full", "var"),
        (errno.EIO, b"The disk of the state folder reports errors", "var/store"),
    ],
    ids=["read-only", "full", "broken"],
)
def test_a_disk_that_cannot_be_written(cloud: Cloud, number: int, sentence: bytes, folder: str) -> None:
    faults = Faults(cloud.folder, cloud.folder / folder)
    faults.start(cloud)
    user, daemons = User(cloud), cloud.daemons()
    user.create()
    wait_for("the server runs", user.settled, RECOVERY_S)
    faults.set(error=number)
    logged = log_lines(cloud)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        for answer in changes(user, next(iter(user.accepted))):
            assert_refused(cloud, answer, sentence)
        assert len(user.rest.servers()) == 1
        time.sleep(0.1)
    assert log_lines(cloud) - logged < LOG_LINES_MAX
    faults.set()
    assert_well_again(cloud, user, daemons)


@needs_gcc
def test_a_commit_of_which_nobody_knows_whether_it_is_there(cloud: Cloud) -> None:
    """LMDB gives up when its meta page cannot be written; the next conductor says what is. Nothing is done twice."""
    faults = Faults(cloud.folder, cloud.state / "store")
    faults.start(cloud)
    user, before = User(cloud), cloud.daemons()["conductor"]
    faults.set(error=errno.EIO, only_synced=True)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(user.create)
        wait_for("the conductor gives up", lambda: cloud.daemons().get("conductor") not in (None, before), RECOVERY_S)
        faults.set()
        assert asked.result(90).status == 202
    wait_for("the server runs, and no second one", user.settled, RECOVERY_S)
    recount(cloud)


# ---------------------------------------------------------------------- file descriptors
def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def limit_files(pid: int, more: int) -> tuple[int, int]:
    """Let a process have so many more than it has now; the limits it had."""
    limit = open_files(pid) + more
    return resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


def ask_over(connection: http.client.HTTPConnection, user: User) -> int:
    """The status of a read over a connection; 0 when it was refused."""
    try:
        connection.request("GET", "/v2.1/servers", headers={"X-Auth-Token": user.rest.token})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    return answer.status


def serves(cloud: Cloud, user: User) -> bool:
    """Whether somebody new is served; a connection that cannot be accepted is reset."""
    with closing(http.client.HTTPConnection("127.0.0.1", cloud.ports["compute"], timeout=3)) as connection:
        return ask_over(connection, user) == 200


def test_no_file_descriptors_left(cloud: Cloud) -> None:
    cloud.up()
    user, daemons = User(cloud), cloud.daemons()
    api = daemons["api-0"]
    old = limit_files(api, 28)
    with ExitStack() as stack:
        connections = []
        for _ in range(60):
            connection = http.client.HTTPConnection("127.0.0.1", cloud.ports["compute"], timeout=3)
            stack.callback(connection.close)
            connections.append((connection, ask_over(connection, user)))
        statuses = [status for _, status in connections]
        assert statuses.count(200) >= 5 and statuses.count(503) >= 20, statuses
        assert_refused(cloud, user.create(), b"no file descriptors left")
        kept = next(connection for connection, status in connections if status == 200)
        assert ask_over(kept, user) == 200, "who is connected is served"
        kept.request("POST", "/v2.1/os-keypairs", '{"keypair": {"name": "late"}}', {"X-Auth-Token": user.rest.token})
        assert kept.getresponse().read().startswith(b'{"keypair"'), "and may change something"
        assert cloud.daemons() == daemons
    wait_for("it serves again", lambda: serves(cloud, user), RECOVERY_S)
    assert user.create().status == 202
    resource.prlimit(api, resource.RLIMIT_NOFILE, old)
    wait_for("the server runs", user.settled, RECOVERY_S)

    old = limit_files(daemons["conductor"], 0)
    cloud.kill("scheduler")  # whose successor the conductor cannot accept
    assert user.create().status == 202
    time.sleep(2)
    resource.prlimit(daemons["conductor"], resource.RLIMIT_NOFILE, old)
    wait_for("the server runs", user.settled, RECOVERY_S)
    assert {**cloud.daemons(), "scheduler": 0} == {**daemons, "scheduler": 0}
    recount(cloud)


# ---------------------------------------------------------------------- the clock
def login(cloud: Cloud, user_id: str, password: str) -> Answer:
    identity = {"methods": ["password"], "password": {"user": {"id": user_id, "password": password}}}
    connection = http.client.HTTPConnection("127.0.0.1", cloud.ports["identity"], timeout=10)
    try:
        body = json.dumps({"auth": {"identity": identity}})
        connection.request("POST", "/v3/auth/tokens", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return Answer(answer.status, {}, answer.read())
    finally:
        connection.close()


@needs_gcc
@pytest.mark.parametrize("hours", [-24, 24], ids=["back", "forward"])
def test_a_clock_that_is_set(cloud: Cloud, hours: int) -> None:
    """Who asks while the clock is wrong is served, and what hosts say counts; and so when it is right again."""
    faults = Faults(cloud.folder, cloud.state)
    faults.start(cloud)
    user = User(cloud)
    bob = user.rest.make("identity", "/v3/users", {"user": {"name": "bob", "password": "secret-0"}})
    user.create()
    wait_for("the server runs", user.settled, RECOVERY_S)
    user.create()  # and the clock is set while it is being made
    for number, offset_s in enumerate((hours * 3600, 0)):
        faults.set(clock_offset_s=offset_s)
        user.rest = Rest(cloud)
        user.create()
        wait_for("all servers run", user.settled, RECOVERY_S)
        assert login(cloud, bob["id"], f"secret-{number}").status == 201
        renamed = {"server": {"name": f"vm{number}"}}
        assert user.rest.send("PUT", "compute", f"/v2.1/servers/{next(iter(user.accepted))}", renamed).status == 200
        password = {"user": {"password": f"secret-{number + 1}"}}
        assert user.rest.send("PATCH", "identity", f"/v3/users/{bob['id']}", password).status == 200
        assert login(cloud, bob["id"], f"secret-{number + 1}").status == 201
    assert all(server["created"] <= server["updated"] for server in user.rest.servers())
    cloud.kill("compute")  # whose successor has no guests, and says so
    wait_for("what the host says counts", lambda: {s["status"] for s in user.rest.servers()} == {"SHUTOFF"}, RECOVERY_S)
    recount(cloud)
