"""The conductor is killed again and again while hundreds of servers are made and deleted.

What was promised holds: a server whose creation was accepted is there and gets built, one whose deletion was accepted
goes, and afterwards every count is what a recount finds.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from nova_fast.state.store import Store
from tests.unit.recount import assert_nothing_leaks, assert_nothing_left

from .conftest import Cloud, new_cloud, wait_for
from .rest import Rest

pytestmark = pytest.mark.slow

SERVERS = 300
KILLS = 4
USERS = 8
SETTLE_TIMEOUT_S = 40
UNLIMITED = ("instances", "cores", "ram")


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=3, fake_delay_s=0.05) as cloud:
        cloud.up()
        yield cloud


class Load:
    """Users who make servers and delete half of them; remembers what the API promised."""

    def __init__(self, rest: Rest) -> None:
        self.rest = rest
        self.template = {"flavorRef": "1", "imageRef": rest.image(), "networks": [{"uuid": rest.network()}]}
        self.accepted: set[str] = set()
        self.deleted: set[str] = set()
        self.asked_to_delete: set[str] = set()
        self.unsure = 0  # creations without an answer

    def one(self, number: int) -> None:
        body = {"server": {**self.template, "name": f"vm{number}"}}
        try:
            answer = self.rest.send("POST", "compute", "/v2.1/servers", body)
        except (OSError, http.client.HTTPException):
            self.unsure += 1
            return
        if answer.status == 503:
            self.unsure += 1
            return
        assert answer.status == 202, answer.body
        server_id = answer.json["server"]["id"]
        self.accepted.add(server_id)
        if number % 2:
            time.sleep(random.random() * 0.2)
            self.asked_to_delete.add(server_id)
            if self.rest.send("DELETE", "compute", f"/v2.1/servers/{server_id}").status == 204:
                self.deleted.add(server_id)


def kill_conductor(cloud: Cloud, done: threading.Event) -> int:
    """Kill it while the load goes on; says how often."""
    kills = 0
    while kills < KILLS and not done.wait(0.3 + random.random() * 0.3):
        pid = cloud.daemons().get("conductor")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            kills += 1
            wait_for("the conductor is back", lambda old=pid: cloud.daemons().get("conductor") not in (None, old), 30)
    return kills


def settled(rest: Rest) -> bool:
    return all(s["OS-EXT-STS:task_state"] is None and s["status"] != "BUILD" for s in rest.servers())


def recount(cloud: Cloud, *, nothing_left: bool) -> None:
    store = Store.open(cloud.state / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            (assert_nothing_left if nothing_left else assert_nothing_leaks)(snapshot)
    finally:
        store.close()


def test_what_was_promised_holds_when_the_conductor_is_killed_under_load(cloud: Cloud) -> None:
    rest = Rest(cloud)
    quota = dict.fromkeys(UNLIMITED, -1)
    assert rest.send("PUT", "compute", f"/v2.1/os-quota-sets/{rest.project_id}", {"quota_set": quota}).status == 200
    load, done = Load(rest), threading.Event()
    with ThreadPoolExecutor(USERS + 1) as pool:
        killer = pool.submit(kill_conductor, cloud, done)
        work = [pool.submit(load.one, number) for number in range(SERVERS)]
        for one in work:
            one.result()
        done.set()
        assert killer.result() >= 2, "the load was over before it was disturbed"
    assert len(load.accepted) > SERVERS // 2, f"{load.unsure} of {SERVERS} creations had no answer"

    wait_for("every server is built or gone", lambda: settled(rest), SETTLE_TIMEOUT_S)
    left = {server["id"]: server["status"] for server in rest.servers()}
    assert not load.deleted & left.keys()
    assert load.accepted - load.asked_to_delete <= left.keys()
    assert len(left) <= len(load.accepted) - len(load.deleted) + load.unsure
    assert set(left.values()) == {"ACTIVE"}
    recount(cloud, nothing_left=False)

    with ThreadPoolExecutor(USERS) as pool:
        list(pool.map(lambda server_id: rest.send("DELETE", "compute", f"/v2.1/servers/{server_id}"), left))
    wait_for("nothing is left", lambda: not rest.servers(), SETTLE_TIMEOUT_S)
    recount(cloud, nothing_left=True)
