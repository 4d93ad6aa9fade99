"""Every daemon and libvirtd are killed, alone and all at once, while a user makes, uses and deletes real guests.

One guest stays all the time and must not notice. Another comes and goes: whatever was accepted ends as asked, without
anybody's help. Afterwards the machine has what the servers need, each once, and nothing else; at last nothing at all.
"""

from __future__ import annotations

import http.client
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nova_fast.model.states import PowerState
from tests.lengths import repeats

from .census import assert_as_promised, assert_gone, recount, take
from .conftest import GUEST_BOOT_TIMEOUT_S, Cloud, new_cloud, run, wait_for
from .killer import LIBVIRT_HOST, LIBVIRTD, SUPERVISOR, Killer, seeded
from .load import ACTIONS
from .rest import Answer, Rest

pytestmark = [pytest.mark.needs_qemu, pytest.mark.needs_netadmin, pytest.mark.slow, pytest.mark.torture]

ROUNDS = repeats(1, 25)
SETTLE_TIMEOUT_S = 90
DAEMONS = ("conductor", "scheduler", "network", "compute", "api-0")
ALL = (SUPERVISOR, LIBVIRT_HOST, *DAEMONS, LIBVIRTD)
#: What a guest that is still booting takes; a soft reboot would wait for it.
USED = ("stop", "start", "hard reboot", "reboot", "pause", "unpause", "suspend", "resume")


@pytest.fixture
def cloud(guest_image: Path) -> Iterator[Cloud]:
    with new_cloud(stop_grace_s=1) as cloud:
        cloud.config.write_text(cloud.config.read_text().replace("down_after_s = 5", "down_after_s = 60"))
        cloud.up()
        yield cloud


class Lab:
    """The user's side of it."""

    def __init__(self, cloud: Cloud, image: Path) -> None:
        self.cloud = cloud
        self.rest = Rest(cloud)
        made = {"name": "guest", "disk_format": "qcow2", "container_format": "bare"}
        image_id = self.rest.make("image", "/v2/images", made)["id"]
        path = f"/v2/images/{image_id}/file"
        assert self.rest.send("PUT", "image", path, data=image.read_bytes()).status == 204
        flavor = {"name": "tiny", "ram": 96, "disk": 1, "vcpus": 1}
        flavor_id = self.rest.make("compute", "/v2.1/flavors", {"flavor": flavor})["id"]
        self.network_id = self.rest.network("10.78.0.0/24")
        groups = self.rest.send("GET", "network", "/v2.0/security-groups").json["security_groups"]
        rule = {"direction": "ingress", "protocol": "icmp", "ethertype": "IPv4"}
        for group in groups:
            body = {"security_group_rule": {**rule, "security_group_id": group["id"]}}
            self.rest.make("network", "/v2.0/security-group-rules", body)
        self.template = {"flavorRef": flavor_id, "imageRef": image_id, "networks": [{"uuid": self.network_id}]}

    def send(self, method: str, path: str, body: Any = None, key: str = "") -> Answer | None:
        """The answer; None when it cannot be known."""
        try:
            answer = self.rest.send(method, "compute", path, body, key=key)
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
            return None
        return None if answer.status == 503 else answer

    def create(self, name: str) -> dict[str, Any]:
        """A server that is ACTIVE, asked for until it is known to have been accepted, and there once.

        Under a key: whoever asks a second time because he has not seen it yet would else have two.
        """
        key = str(uuid.uuid4())
        while (found := self.named(name)) is None:
            answer = self.send("POST", "/v2.1/servers", {"server": {**self.template, "name": name}}, key)
            assert answer is None or answer.status == 202, answer.body
        server = self.settled(found["id"])
        assert server["status"] == "ACTIVE", (server.get("fault"), self.reasons(found["id"]))
        return found

    def named(self, name: str) -> dict[str, Any] | None:
        """The server of that name; waits for the API."""
        answer = wait_for("the API answers", lambda: self.send("GET", "/v2.1/servers/detail"), SETTLE_TIMEOUT_S)
        found = [server for server in answer.json["servers"] if server["name"] == name]
        assert len(found) <= 1, f"{name} was made twice"
        return found[0] if found else None

    def show(self, server_id: str) -> dict[str, Any] | None:
        """What the API says of a server; None when there is none."""
        path = f"/v2.1/servers/{server_id}"
        answer = wait_for("the API answers", lambda: self.send("GET", path), SETTLE_TIMEOUT_S)
        assert answer.status in (200, 404), (answer.status, answer.body)
        return None if answer.status == 404 else dict(answer.json["server"])

    def settled(self, server_id: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            server = self.show(server_id)
            assert server is not None, f"{server_id} is gone"
            return server if server["OS-EXT-STS:task_state"] is None else None

        return wait_for("the server is at rest", look, SETTLE_TIMEOUT_S)

    def act(self, server_id: str, name: str) -> None:
        """An action, which ends as it should if it was accepted."""
        answer = self.send("POST", f"/v2.1/servers/{server_id}/action", ACTIONS[name][0])
        server = self.settled(server_id)
        if answer is not None and answer.status == 202:
            assert server["status"] == ACTIONS[name][1], (name, server, self.reasons(server_id))
        else:
            assert answer is None or answer.status == 409, answer.body
            assert server["status"] != "ERROR", (name, server)

    def reasons(self, server_id: str) -> list[Any]:
        path = f"/v2.1/servers/{server_id}/os-instance-actions"
        actions = self.rest.send("GET", "compute", path).json["instanceActions"]
        ids = [action["request_id"] for action in actions]
        return [self.rest.send("GET", "compute", f"{path}/{one}").json["instanceAction"]["events"] for one in ids]

    def delete(self, server_id: str) -> None:
        while self.show(server_id) is not None:
            answer = self.send("DELETE", f"/v2.1/servers/{server_id}")
            assert answer is None or answer.status in (204, 404), answer.body
            if answer is not None:
                wait_for("the server is gone", lambda: self.show(server_id) is None, SETTLE_TIMEOUT_S)

    def come_and_go(self, choices: random.Random, over: Callable[[], bool]) -> int:
        """Make a server, use it, delete it; again until it is over. → how many."""
        count = 0
        while not over():
            server_id = self.create(f"guest-{count}")["id"]
            for _ in range(choices.randint(0, 4)):
                self.act(server_id, choices.choice(USED))
            self.delete(server_id)
            count += 1
        return count

    def booted(self, name: str) -> dict[str, Any]:
        server_id = self.create(name)["id"]
        body = {"os-getConsoleOutput": {}}
        path = f"/v2.1/servers/{server_id}/action"
        wait_for(
            f"{name} shows a login prompt",
            lambda: "login:" in self.rest.send("POST", "compute", path, body).json["output"],
            GUEST_BOOT_TIMEOUT_S,
            1,
        )
        server = self.show(server_id)
        assert server is not None
        return server

    def ping(self, server: dict[str, Any]) -> bool:
        address = next(iter(server["addresses"].values()))[0]["addr"]
        namespace = f"nf-{self.network_id}"
        said = run("ip", "netns", "exec", namespace, "ping", "-c", "3", "-i", "0.3", "-w", "5", address, check=False)
        return " 0% packet loss" in said


def one_round(moments: random.Random, there: dict[str, int]) -> list[tuple[str, ...]]:
    """Each alone, some together, and all at once, in any order; only what is ours."""
    alone = [name for name in (*DAEMONS, LIBVIRTD) if name in there]
    plan = [(name,) for name in alone] + [tuple(moments.sample(alone, count)) for count in (2, 3)]
    plan.append(tuple(name for name in ALL if name in there))
    moments.shuffle(plan)
    return plan


def test_guests_survive_and_promises_hold_whoever_is_killed(cloud: Cloud, guest_image: Path) -> None:
    moments, lab = seeded(), Lab(cloud, guest_image)
    keeper = lab.booted("keeper")
    process = take(cloud, set()).guests[keeper["id"]]
    killer, over = Killer(cloud, moments, (0.3, 3.0)), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        life = pool.submit(lab.come_and_go, random.Random(moments.random()), over.is_set)
        try:
            for _ in range(ROUNDS):
                killer.run(one_round(moments, killer.running()), over=life.done)
        finally:
            over.set()
        told = f"{life.result()} servers came and went under {len(killer.kills)} kills"
        print(told)  # noqa: T201 - what the run was made of
    newcomer = lab.booted("newcomer")
    assert lab.ping(newcomer) and lab.ping(keeper)
    assert take(cloud, set()).guests[keeper["id"]] == process, "a guest was started anew"
    assert lab.settled(keeper["id"])["OS-EXT-STS:power_state"] == PowerState.RUNNING
    assert_as_promised(cloud, lab.rest)
    recount(cloud, nothing_left=False)
    for server in (keeper, newcomer):
        lab.delete(server["id"])
    wait_for("the network is gone", lambda: not take(cloud, {lab.network_id}).namespaces, 60)
    assert_as_promised(cloud, lab.rest)
    recount(cloud, nothing_left=True)
    cloud.down()
    assert_gone(cloud, {lab.network_id})
