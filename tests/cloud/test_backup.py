"""A backup of a cloud under load, and a return to it: everything settles, and everything agrees.

The state that comes back knows servers whose guests are gone, and does not know guests that are there: their hosts
tell, and are told. Nobody goes on with what he remembers of the other past.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nova_fast.cli import processes

from .conftest import Cloud, alone, new_cloud, wait_for
from .rest import Rest

pytestmark = pytest.mark.slow

HOSTS = 3
SERVERS = 24
USERS = 6
SETTLE_TIMEOUT_S = 40


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=HOSTS, fake_delay_s=0.1) as cloud:
        cloud.up()
        yield cloud


class World:
    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.rest = Rest(cloud)
        quota = dict.fromkeys(("instances", "cores", "ram"), -1)
        path = f"/v2.1/os-quota-sets/{self.rest.project_id}"
        assert self.rest.send("PUT", "compute", path, {"quota_set": quota}).status == 200
        self.template = {"flavorRef": "1", "imageRef": self.rest.image(), "networks": [{"uuid": self.rest.network()}]}

    def create(self, name: str) -> str:
        return str(self.rest.make("compute", "/v2.1/servers", {"server": {**self.template, "name": name}})["id"])

    def states(self) -> dict[str, str]:
        return {server["id"]: server["status"] for server in self.rest.servers()}

    def settle(self) -> dict[str, str]:
        def settled() -> bool:
            return all(
                s["OS-EXT-STS:task_state"] is None and s["status"] != "BUILD" for s in self.rest.servers()
            )  # fmt: skip

        wait_for("every server is built or not", settled, SETTLE_TIMEOUT_S)
        return self.states()

    def delete_all(self) -> None:
        for server_id in self.states():
            self.rest.send("DELETE", "compute", f"/v2.1/servers/{server_id}")
        wait_for("nothing is left", lambda: not self.states(), SETTLE_TIMEOUT_S)

    def hosts_are_up(self) -> bool:
        services = self.rest.send("GET", "compute", "/v2.1/os-services").json["services"]
        return len([s for s in services if s["binary"] == "nova-compute" and s["state"] == "up"]) == HOSTS

    def check(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.cloud.nova_fast("check", "--json", check=False))
        return report


def test_a_cloud_under_load_is_backed_up_and_comes_back(cloud: Cloud) -> None:
    world = World(cloud)
    early = [world.create(f"early{number}") for number in range(4)]
    assert set(world.settle().values()) == {"ACTIVE"}

    # Backups and checks while servers are made and deleted: each is of one moment, and right.
    file, done = cloud.folder / "backup.nfb", threading.Event()
    backups: list[dict[str, Any]] = []

    def back_up() -> None:
        while not done.is_set():
            cloud.nova_fast("backup", str(file), "--force")
            assert world.check()["findings"] == []
            backups.append(json.loads(cloud.nova_fast("check", str(file), "--json", check=False)))

    with ThreadPoolExecutor(USERS + 1) as pool:
        operator = pool.submit(back_up)
        made = list(pool.map(world.create, (f"load{number}" for number in range(SERVERS))))
        list(pool.map(lambda one: world.rest.send("DELETE", "compute", f"/v2.1/servers/{one}"), made[::2]))
        wait_for("a backup was made meanwhile", lambda: backups, SETTLE_TIMEOUT_S)
        done.set()
        operator.result()
    assert [report["findings"] for report in backups] == [[]] * len(backups)
    world.settle()

    # The state to come back to has a server in the middle of being made. Then everything in it is deleted, and others
    # are made that it will not know.
    caught = world.create("caught")
    cloud.nova_fast("backup", str(file), "--force")
    then = world.states()
    assert caught in then
    world.delete_all()
    late = world.create("late")
    world.settle()
    generation = world.check()["generation"]
    refused = cloud.nova_fast("restore", str(file), check=False)
    assert refused == "" and late in world.states(), "a running cloud was replaced"

    cloud.down(everything=False)
    told = cloud.nova_fast("restore", str(file))
    assert "is kept" in told and "not inside" in told
    restored = world.check()
    assert restored["findings"] == [] and restored["generation"] < generation
    cloud.up()
    wait_for("the hosts are up", world.hosts_are_up, SETTLE_TIMEOUT_S)

    def told_of_guests() -> bool:
        return {world.states().get(one) for one in early} == {"SHUTOFF"}

    wait_for("servers whose guests are gone are shown so", told_of_guests, SETTLE_TIMEOUT_S)
    now = world.settle()
    assert now.keys() == then.keys()
    assert now[caught] in ("ACTIVE", "SHUTOFF", "ERROR")

    # The scheduler follows the events of the store that is there now: new servers are placed and end, as often as it
    # takes to pass the generation that the other past had reached.
    while world.check()["generation"] <= generation:
        again = [world.create(f"again{number}") for number in range(6)]
        states = world.settle()
        assert {states[one] for one in again} == {"ACTIVE"}
        for one in again:
            world.rest.send("DELETE", "compute", f"/v2.1/servers/{one}")
        wait_for("they are gone", lambda again=again: not set(again) & world.states().keys(), SETTLE_TIMEOUT_S)
    assert "does not follow" not in cloud.log("scheduler")
    world.delete_all()
    assert world.check()["findings"] == []


def test_a_daemon_that_reads_the_store_keeps_it_from_being_replaced(cloud: Cloud) -> None:
    """Also when the conductor alone is gone: whoever lives through a restore would follow a past that is no more."""
    file = cloud.folder / "backup.nfb"
    cloud.nova_fast("backup", str(file))
    conductor = cloud.daemons()["conductor"]
    for pid in (supervisor_pid(cloud), conductor):
        kill(pid)
    before = Path(cloud.state / "store" / "data.mdb").stat().st_ino
    assert cloud.nova_fast("restore", str(file), check=False) == ""
    assert Path(cloud.state / "store" / "data.mdb").stat().st_ino == before
    cloud.down(everything=False)
    assert "is kept" in cloud.nova_fast("restore", str(file))


def test_hosts_that_lived_through_a_restore_follow_the_store(cloud: Cloud) -> None:
    """The compute daemon goes on with its guests: it keeps those the store knows, and destroys the others."""
    world = World(cloud)
    kept, lost = world.create("kept"), world.create("lost")
    assert set(world.settle().values()) == {"ACTIVE"}
    file = cloud.folder / "backup.nfb"
    cloud.nova_fast("backup", str(file))
    world.rest.send("DELETE", "compute", f"/v2.1/servers/{lost}")
    unknown = world.create("unknown")
    world.settle()

    pids = cloud.daemons()
    readers = [name for name in pids if name not in ("compute", "network")]
    for pid in (supervisor_pid(cloud), *(pids[name] for name in readers)):
        kill(pid)
    assert "is kept" in cloud.nova_fast("restore", str(file))
    with alone(cloud.config, ["conductor", "scheduler", "api"]):
        wait_for("the API is back", lambda: api_answers(world), SETTLE_TIMEOUT_S)
        wait_for("the hosts are up", world.hosts_are_up, SETTLE_TIMEOUT_S)
        gone = f"guest {unknown} belongs to no server of this host and is destroyed"
        wait_for("the unknown guest is destroyed", lambda: gone in cloud.log("compute"), SETTLE_TIMEOUT_S)
        wait_for("the lost guest is shown", lambda: world.states().get(lost) == "SHUTOFF", SETTLE_TIMEOUT_S)
        assert world.settle() == {kept: "ACTIVE", lost: "SHUTOFF"}
        assert pids["compute"] == cloud.daemons()["compute"] and processes.identify(pids["compute"]) is not None
        new = world.create("new")
        assert world.settle()[new] == "ACTIVE"
        world.delete_all()
        assert world.check()["findings"] == []


def api_answers(world: World) -> bool:
    try:
        return bool(world.states())
    except (OSError, AssertionError):
        return False


def supervisor_pid(cloud: Cloud) -> int:
    return int(json.loads((cloud.state / "run" / "cloud.pid").read_text())["pid"])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_for("it is gone", lambda: processes.identify(pid) is None, 60)
