"""Three servers on one network, through the real CLI, on real guests: from create to nothing left.

One cloud for the whole file; the tests run in order and each goes on where the last one ended.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .conftest import GUEST_BOOT_TIMEOUT_S, Cloud, new_cloud, run, wait_for

pytestmark = [pytest.mark.needs_qemu, pytest.mark.needs_netadmin, pytest.mark.slow]

NAMES = ("one", "two", "three")
USER_DATA = "#!/bin/sh\necho told-by-user-data > /root/user-data-was-here\n"


class Lab:
    """The cloud and what the first test made in it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.key = cloud.folder / "key"
        self.network_id = ""
        self.servers: dict[str, dict[str, Any]] = {}

    def address(self, name: str) -> str:
        return str(self.servers[name]["addresses"]["net"][0])

    def ssh(self, name: str, command: str, *, check: bool = True) -> str:
        return self.cloud.ssh(self.network_id, self.address(name), self.key, command, check=check)

    def statuses(self) -> Counter[str]:
        """How many servers the list shows in each status; nothing when the API does not answer."""
        listed = json.loads(self.cloud.cli.run("server", "list", "-f", "json")[1] or "[]")
        return Counter(server["Status"] for server in listed)

    def show(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.cloud.openstack("server", "show", name)
        return found


@pytest.fixture(scope="module")
def lab(guest_image: Path) -> Iterator[Lab]:
    with new_cloud() as cloud:
        cloud.up()
        lab = Lab(cloud)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(lab.key))
        image = ("image", "create", "--file", str(guest_image), "--disk-format", "qcow2", "--public", "guest")
        flavor = ("flavor", "create", "--ram", "96", "--disk", "1", "--vcpus", "1", "tiny")
        rules = [("--protocol", "tcp", "--dst-port", "22"), ("--protocol", "icmp")]
        with ThreadPoolExecutor(3) as pool:
            made = [
                pool.submit(cloud.text, *command)
                for command in (
                    image, flavor,
                    ("network", "create", "net"),
                    ("keypair", "create", "--public-key", f"{lab.key}.pub", "key"),
                    *[("security", "group", "rule", "create", *rule, "default") for rule in rules],
                )
            ]  # fmt: skip
            for one in made:
                one.result()
        cloud.text("subnet", "create", "--network", "net", "--subnet-range", "10.77.0.0/24", "subnet")
        lab.network_id = cloud.openstack("network", "show", "net")["id"]
        yield lab


def test_three_servers_become_active_and_boot(lab: Lab) -> None:
    script = lab.cloud.folder / "user-data"
    script.write_text(USER_DATA)

    def create(name: str) -> None:
        extra = ["--config-drive", "True"] if name == "three" else []
        lab.cloud.text(
            "server", "create", "--image", "guest", "--flavor", "tiny", "--network", "net", "--key-name", "key",
            "--user-data", str(script), "--property", f"role={name}", *extra, "--wait", name,
        )  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(create, NAMES))
    for name in NAMES:
        lab.servers[name] = lab.show(name)
        assert lab.servers[name]["status"] == "ACTIVE"
    for name in NAMES:
        wait_for(
            f"{name} shows a login prompt", lambda n=name: "login:" in lab.cloud.console(n), GUEST_BOOT_TIMEOUT_S, 3
        )
    assert len({lab.address(name) for name in NAMES}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_guest_got_address_host_name_key_and_user_data(lab: Lab, name: str) -> None:
    seen = lab.ssh(
        name, "hostname; cat /root/user-data-was-here; ip -4 -o addr show eth0; ip route; cat /sys/class/net/eth0/mtu"
    )
    assert seen.splitlines()[0].split(".")[0] == name
    assert "told-by-user-data" in seen
    assert f"{lab.address(name)}/24" in seen
    assert "default via 10.77.0.1" in seen
    assert seen.splitlines()[-1] == "1450"


def test_metadata_service_knows_who_asks(lab: Lab) -> None:
    told = lab.ssh("one", "wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json")
    document = json.loads(told)
    assert document["uuid"] == lab.servers["one"]["id"]
    assert document["meta"] == {"role": "one"}
    lied = lab.ssh(
        "one",
        "wget -q -O - --header 'X-Instance-ID: " + lab.servers["two"]["id"] + "' --header 'X-Forwarded-For: "
        + lab.address("two") + "' http://169.254.169.254/openstack/latest/meta_data.json",
    )  # fmt: skip
    assert json.loads(lied)["uuid"] == lab.servers["one"]["id"]


def test_guests_reach_each_other_and_the_gateway(lab: Lab) -> None:
    for target in (lab.address("two"), lab.address("three"), "10.77.0.1"):
        assert "0% packet loss" in lab.ssh("one", f"ping -c 2 -w 10 {target}")


def test_a_guest_cannot_send_from_another_address(lab: Lab) -> None:
    taken = lab.ssh("one", "ip addr add 10.77.0.200/24 dev eth0; ping -c 3 -w 4 -I 10.77.0.200 "
                    + lab.address("two") + "; ip addr del 10.77.0.200/24 dev eth0", check=False)  # fmt: skip
    assert "100% packet loss" in taken


def test_power_actions_go_through_every_state(lab: Lab) -> None:
    for action, status in (
        ("pause", "PAUSED"), ("unpause", "ACTIVE"), ("suspend", "SUSPENDED"), ("resume", "ACTIVE"), ("stop", "SHUTOFF"),
        ("start", "ACTIVE"),
    ):  # fmt: skip
        lab.cloud.text("server", action, "two")
        wait_for(f"two is {status} after {action}", lambda s=status: lab.show("two")["status"] == s, 60, 0.5)
    lab.cloud.text("server", "reboot", "--wait", "two")
    lab.cloud.text("server", "reboot", "--hard", "--wait", "two")
    wait_for("two answers again", lambda: "two" in lab.ssh("two", "hostname", check=False), GUEST_BOOT_TIMEOUT_S, 3)
    actions = {row["Action"] for row in lab.cloud.openstack("server", "event", "list", "two")}
    assert {"create", "pause", "unpause", "suspend", "resume", "stop", "start", "reboot"} <= actions


def test_a_guest_that_shuts_itself_down_is_shown_so(lab: Lab) -> None:
    lab.ssh("two", "poweroff", check=False)
    domain = lab.show("two")["OS-EXT-SRV-ATTR:instance_name"]
    wait_for("the guest is off", lambda: "shut off" in run("virsh", "domstate", domain), 60, 0.1)
    off = time.monotonic()
    wait_for("two is SHUTOFF", lambda: lab.show("two")["status"] == "SHUTOFF", 60, 0.1)
    took_s = time.monotonic() - off
    lab.show("two")
    command_s = time.monotonic() - off - took_s
    assert took_s < 2 + max(3, 3 * command_s), "SHUTOFF within two seconds, and then a CLI command or two"
    lab.cloud.text("server", "start", "two")


def test_servers_survive_kill_9_of_each_daemon(lab: Lab) -> None:
    before = lab.ssh("one", "cat /proc/sys/kernel/random/boot_id")
    for daemon in ("conductor", "scheduler", "network", "compute", "api-0"):
        lab.cloud.kill(daemon)
        wait_for("the API lists the servers", lambda: lab.statuses() == {"ACTIVE": 3}, 60)
    assert lab.ssh("one", "cat /proc/sys/kernel/random/boot_id") == before
    assert "0% packet loss" in lab.ssh("one", f"ping -c 1 -w 10 {lab.address('three')}")
    told = lab.ssh(
        "one",
        "for i in 1 2 3 4 5 6 7 8; do wget -q -O - http://169.254.169.254/latest/meta-data/hostname && break; sleep 1;"
        " done",
    )
    assert "one.novalocal" in told


def test_deleted_servers_leave_nothing(lab: Lab) -> None:
    ids = [lab.servers[name]["id"] for name in NAMES]
    ports = [port["ID"] for name in NAMES for port in lab.cloud.openstack("port", "list", "--server", name)]
    assert len(ports) == 3
    lab.cloud.text("server", "delete", "--wait", *NAMES)
    assert lab.cloud.openstack("server", "list") == []
    assert lab.cloud.openstack("port", "list") == []
    domains = run("virsh", "list", "--all", "--uuid")
    links = run("ip", "-o", "link")
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    for server_id, port_id in zip(ids, ports, strict=True):
        assert server_id not in domains
        assert server_id not in processes
        assert f"tap{port_id[:11]}" not in links
        assert not (lab.cloud.state / "instances" / server_id).exists()
    rules = run("nft", "list", "ruleset")
    assert not any(port_id[:11] in rules for port_id in ports)
    usage = lab.cloud.openstack("limits", "show", "--absolute")
    used = {row["Name"]: row["Value"] for row in usage}
    assert (used["total_instances_used"], used["total_cores_used"], used["total_ram_used"]) == (0, 0, 0)
    providers = lab.cloud.openstack("resource", "provider", "list")
    usages = lab.cloud.openstack("resource", "provider", "usage", "show", providers[0]["uuid"])
    assert all(row["usage"] == 0 for row in usages)


def test_down_leaves_nothing_on_the_machine(lab: Lab) -> None:
    lab.cloud.down()
    assert f"nf-{lab.network_id}" not in run("ip", "netns", "list")
    assert lab.cloud.external_bridge not in run("ip", "-o", "link")
    assert (
        str(lab.cloud.state)
        not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    )
    assert str(lab.cloud.state) not in Path("/proc/mounts").read_text()
