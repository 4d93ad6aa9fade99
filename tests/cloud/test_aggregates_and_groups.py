"""Aggregates, zones, server groups and hints through the real CLI, over fake hypervisors and the real scheduler."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Cloud, new_cloud, wait_for
from .openstack_session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=2) as cloud:
        cloud.up()
        yield cloud


@pytest.fixture(scope="module")
def cli(cloud: Cloud) -> Session:
    """The CLI, with an image in the cloud."""
    source = cloud.folder / "image.raw"
    source.write_bytes(os.urandom(1 << 16))
    cloud.text("image", "create", "--file", str(source), "--disk-format", "raw", "disk")
    return cloud.cli


def hosts(cli: Session) -> list[str]:
    return sorted(row["Hypervisor Hostname"] for row in cli.openstack("hypervisor", "list"))


def boot(cli: Session, name: str, *options: str) -> dict[str, Any]:
    """A server that runs, as its own resource shows it: by its name the CLI would find it in a list."""
    made = cli.openstack("server", "create", "--image", "disk", "--flavor", "m1.tiny", "--nic", "none", *options, name)
    shown: dict[str, Any] = wait_for(f"{name} runs", lambda: running(cli, made["id"]), 60)
    return shown


def running(cli: Session, server_id: str) -> dict[str, Any] | None:
    shown: dict[str, Any] = cli.openstack("server", "show", server_id)
    return shown if shown["status"] == "ACTIVE" else None


def host_of(server: dict[str, Any]) -> str:
    return str(server["OS-EXT-SRV-ATTR:host"])


def zones(cli: Session) -> dict[str, str]:
    rows = cli.openstack("availability", "zone", "list", "--compute", "--long")
    return {row["Host Name"]: row["Zone Name"] for row in rows if row["Service Name"] == "nova-compute"}


def test_aggregates_make_zones_and_servers_go_there(cloud: Cloud, cli: Session) -> None:
    first, second = hosts(cli)
    cli.text("aggregate", "create", "--zone", "east", "--property", "ssd=true", "rack")
    cli.text("aggregate", "add", "host", "rack", second)
    cli.text("aggregate", "set", "--name", "shelf", "--property", "cpu=fast", "rack")
    cli.text("aggregate", "unset", "--property", "ssd", "shelf")
    shown = cli.openstack("aggregate", "show", "shelf")
    assert (shown["availability_zone"], shown["hosts"], shown["properties"]) == ("east", [second], {"cpu": "fast"})
    assert [row["Name"] for row in cli.openstack("aggregate", "list", "--long")] == ["shelf"]
    cli.text("aggregate", "cache", "image", "shelf", "disk")
    wait_for("the image is fetched", lambda: f"is on host {second}" in cloud.log("compute"), 60)
    assert cli.openstack("hypervisor", "show", second)["aggregates"] == ["shelf"]
    assert zones(cli) == {first: "nova", second: "east"}
    services = cli.openstack("compute", "service", "list", "--service", "nova-compute")
    assert {row["Host"]: row["Zone"] for row in services} == {first: "nova", second: "east"}

    for zone, host in (("east", second), ("nova", first)):
        server = boot(cli, zone, "--availability-zone", zone)
        assert (server["OS-EXT-AZ:availability_zone"], host_of(server)) == (zone, host)
    new = ("server", "create", "--image", "disk", "--flavor", "m1.tiny", "--nic", "none")
    assert "zone is not available" in cli.refused(*new, "--availability-zone", "west", "x")
    assert "would change from 'east' to 'nova'" in cli.refused("aggregate", "remove", "host", "shelf", second)
    assert "Host aggregate is not empty" in cli.refused("aggregate", "delete", "shelf")
    cli.text("server", "delete", "--wait", "east", "nova")
    cli.text("aggregate", "remove", "host", "shelf", second)
    cli.text("aggregate", "delete", "shelf")
    assert zones(cli) == {first: "nova", second: "nova"}


def test_servers_of_a_group_are_together_or_apart(cli: Session) -> None:
    made = cli.openstack("server", "group", "create", "--policy", "anti-affinity", "apart")
    assert made["policy"] == "anti-affinity"
    cli.text("server", "group", "create", "--policy", "affinity", "together")
    apart = [boot(cli, name, "--server-group", "apart") for name in ("a1", "a2")]
    assert len({host_of(server) for server in apart}) == 2
    assert [server["server_groups"] for server in apart] == [[made["id"]]] * 2
    together = [boot(cli, name, "--server-group", "together") for name in ("t1", "t2")]
    assert len({host_of(server) for server in together}) == 1
    no_room = ("--image", "disk", "--flavor", "m1.tiny", "--nic", "none", "--wait", "--hint", f"group={made['id']}")
    assert "Error creating server" in cli.refused("server", "create", *no_room, "a3")
    assert "No valid host was found" in str(cli.openstack("server", "show", "a3")["fault"])
    members = cli.openstack("server", "group", "show", "apart")["members"]
    assert len(members.split(",") if isinstance(members, str) else members) == 3
    assert {row["Name"] for row in cli.openstack("server", "group", "list", "--all-projects")} == {"apart", "together"}
    cli.text("server", "group", "delete", "apart", "together")
    assert cli.openstack("server", "show", apart[0]["id"])["server_groups"] == []
    unknown = ("--hint", f"group={made['id']}", "x")
    assert f"Instance group {made['id']} could not be found" in cli.refused("server", "create", *no_room[:6], *unknown)
    cli.text("server", "delete", "--wait", "a1", "a2", "a3", "t1", "t2")


def test_the_cloud_tells_why_a_server_is_where_it_is_and_how_many_more_fit(cloud: Cloud, cli: Session) -> None:
    before = json.loads(cloud.nova_fast("capacity", "--flavor", "m1.tiny", "--json"))
    apart = json.loads(cloud.nova_fast("capacity", "--flavor", "m1.tiny", "--group-policy", "anti-affinity", "--json"))
    assert (before["hosts"], apart["servers"]) == (2, 2)
    assert sorted((apart["first_host"], apart["last_host"])) == hosts(cli)
    server = boot(cli, "why")
    assert host_of(server) == before["first_host"]
    assert f"{before['servers'] - 1} more servers fit on 2 hosts." in cloud.nova_fast("capacity", "--flavor", "m1.tiny")

    told = json.loads(cloud.nova_fast("explain", "why", "--json"))
    decision = told["decision"]
    assert (told["host"], decision["host"], decision["candidates"]) == (host_of(server), host_of(server), 2)
    assert sorted(row["host"] for row in decision["top"]) == hosts(cli)
    assert decision["claim"]["VCPU"] == 1

    cli.text("flavor", "create", "--ram", "64", "--disk", "9999999", "--vcpus", "1", "huge")
    cli.refused("server", "create", "--image", "disk", "--flavor", "huge", "--nic", "none", "--wait", "nowhere")
    said = cloud.nova_fast("explain", "nowhere")
    assert "has no host." in said
    assert "DiskFilter removed 2 of 2" in said
    assert "DiskFilter removed 2 of 2" in cloud.nova_fast("capacity", "--flavor", "huge")
    cli.text("server", "delete", "--wait", "why", "nowhere")
    cli.text("flavor", "delete", "huge")
