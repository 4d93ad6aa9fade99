"""The hub on an address: other machines come in through CURVE, the daemons beside it by a socket of their own."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.ports import free_ports
from nova_fast.config import load
from nova_fast.hub.keys import make_peer_keys, save_allowed
from nova_fast.hub.local import local_server_keys

from .conftest import Cloud, alone, new_cloud, wait_for
from .rest import Rest

pytestmark = pytest.mark.slow

UP_S = 60
DAEMONS = ("compute", "network")  # of a machine that is not the hub's


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake") as cloud:
        [port] = free_ports(1)
        text = cloud.config.read_text()
        cloud.config.write_text(text.replace("[hub]\n", f'[hub]\naddress = "tcp://127.0.0.1:{port}"\n'))
        cloud.up()
        yield cloud


def test_a_cloud_on_tcp_starts_without_a_hitch_and_serves(cloud: Cloud) -> None:
    status = json.loads((cloud.state / "run" / "cloud.json").read_text())
    assert {program["name"]: program["restarts"] for program in status["programs"]} == dict.fromkeys(
        ("conductor", "scheduler", "network", "compute", "api-0"), 0
    )
    for key in (cloud.state / "keys").iterdir():
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_ISSOCK((cloud.state / "run" / "hub.sock").stat().st_mode)
    cloud.text("network", "create", "net")
    assert {row["State"] for row in cloud.openstack("compute", "service", "list")} == {"up"}


@contextlib.contextmanager
def another_machine(cloud: Cloud, name: str, *, let_in_as: str) -> Iterator[None]:
    """The daemons of another machine: a state folder, a host name and a key of its own, and tcp."""
    folder = cloud.folder / name
    (folder / "log").mkdir(parents=True)
    ours = load(cloud.config)
    hub = local_server_keys(ours)
    assert hub is not None
    key = make_peer_keys(folder / "keys", hub.public).public
    hub.allowed.allow(key, [f"{daemon}@{let_in_as}" for daemon in DAEMONS])
    save_allowed(cloud.state / "keys", hub.allowed)
    lines = [f'state_dir = "{folder}"', f'host = "{name}"', "[hub]", f'address = "{ours.hub_address}"']
    lines += ["heartbeat_s = 1", "down_after_s = 5", "[compute]", 'driver = "fake"', "[network]", 'driver = "fake"']
    config = folder / "node.toml"
    config.write_text("\n".join(lines) + "\n")
    with alone(config, DAEMONS, folder / "log"):
        yield


def states_of(cloud: Cloud, host: str) -> list[str]:
    services = cloud.openstack("compute", "service", "list", "--service", "nova-compute")
    return [row["State"] for row in services if row["Host"] == host]


def log_of(cloud: Cloud, host: str) -> str:
    return Path(cloud.folder / host / "log" / "compute.log").read_text()


def test_a_server_runs_on_another_machine_that_has_a_key(cloud: Cloud) -> None:
    with another_machine(cloud, "node1", let_in_as="node1"):
        cloud.kill("conductor")  # it reads the list of keys when it begins
        wait_for("node1 is up", lambda: states_of(cloud, "node1") == ["up"], UP_S)
        wanted = ("--image", Rest(cloud).image(), "--flavor", "m1.tiny", "--nic", "none", "--host", "node1")
        cloud.text("server", "create", *wanted, "--os-compute-api-version", "2.74", "--wait", "there")
        assert cloud.openstack("server", "show", "there")["OS-EXT-SRV-ATTR:host"] == "node1"
        cloud.text("server", "delete", "--wait", "there")
    wait_for("node1 is down", lambda: states_of(cloud, "node1") == ["down"], UP_S)


def test_a_machine_cannot_be_another(cloud: Cloud) -> None:
    with another_machine(cloud, "node2", let_in_as="node3"):
        cloud.kill("conductor")
        wait_for("it hears that", lambda: "may not use the name" in log_of(cloud, "node2"), UP_S)
        assert states_of(cloud, "node2") == []
