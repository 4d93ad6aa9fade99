"""A user of real guests, who goes on asking while daemons die, and knows what he was promised."""

from __future__ import annotations

import http.client
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .conftest import GUEST_BOOT_TIMEOUT_S, Cloud, run, wait_for
from .load import ACTIONS
from .rest import Answer, Rest

SETTLE_TIMEOUT_S = 90
#: What a guest that is still booting takes; a soft reboot would wait for it.
USED = ("stop", "start", "hard reboot", "reboot", "pause", "unpause", "suspend", "resume")


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
        server = self.create(name)
        self.see_login(server)
        shown = self.show(server["id"])
        assert shown is not None
        return shown

    def see_login(self, server: dict[str, Any]) -> None:
        """Wait until the guest's console shows a login prompt."""
        body, path = {"os-getConsoleOutput": {}}, f"/v2.1/servers/{server['id']}/action"
        wait_for(
            f"{server['name']} shows a login prompt",
            lambda: "login:" in self.rest.send("POST", "compute", path, body).json["output"],
            GUEST_BOOT_TIMEOUT_S,
            1,
        )

    def ping(self, server: dict[str, Any]) -> bool:
        address = next(iter(server["addresses"].values()))[0]["addr"]
        namespace = f"nf-{self.network_id}"
        said = run("ip", "netns", "exec", namespace, "ping", "-c", "3", "-i", "0.3", "-w", "5", address, check=False)
        return " 0% packet loss" in said
