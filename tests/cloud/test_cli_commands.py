"""Every command of the ``openstack`` CLI that the README promises, through the real CLI, over fake hypervisors."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import BIN, Cloud, new_cloud, run
from .openstack_session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with new_cloud(driver="fake", fake_hosts=2) as cloud:
        cloud.up()
        yield cloud


@pytest.fixture(scope="module")
def cli(cloud: Cloud) -> Iterator[Session]:
    """The CLI in one process for all that follows, and the newest form of placement's answers."""
    with Session({**cloud.environment(), "OS_PLACEMENT_API_VERSION": "1.39"}) as session:
        yield session


@pytest.fixture(scope="module")
def image(cloud: Cloud) -> dict[str, Any]:
    """An image in the cloud."""
    source = cloud.folder / "image.raw"
    source.write_bytes(os.urandom(1 << 16))
    created: dict[str, Any] = cloud.openstack(
        "image", "create", "--file", str(source), "--disk-format", "raw", "--property", "os_distro=test", "disk"
    )
    return created


@pytest.fixture(scope="module")
def network(cloud: Cloud) -> dict[str, Any]:
    """A network with a subnet."""
    created: dict[str, Any] = cloud.openstack("network", "create", "net")
    cloud.openstack("subnet", "create", "--network", "net", "--subnet-range", "10.9.0.0/24", "subnet")
    return created


def test_token_and_catalog(cloud: Cloud) -> None:
    assert cloud.openstack("token", "issue")["project_id"]
    services = {row["Type"] for row in cloud.openstack("catalog", "list")}
    assert {"identity", "compute", "image", "network", "placement"} <= services


def test_projects_users_roles_and_application_credentials(cloud: Cloud) -> None:
    project = cloud.openstack("project", "create", "--description", "for a test", "p1")
    user = cloud.openstack("user", "create", "--project", "p1", "--password", "pw-of-u1", "u1")
    role = cloud.openstack("role", "create", "watcher")
    cloud.text("role", "add", "--project", "p1", "--user", "u1", "member")
    assert {"p1", "admin"} <= {row["Name"] for row in cloud.openstack("project", "list")}
    assert {"u1", "admin"} <= {row["Name"] for row in cloud.openstack("user", "list")}
    assert {"watcher", "admin", "member", "reader"} <= {row["Name"] for row in cloud.openstack("role", "list")}
    assert cloud.openstack("project", "show", "p1")["id"] == project["id"]
    assert cloud.openstack("user", "show", "u1")["id"] == user["id"]
    assert cloud.openstack("role", "show", "watcher")["id"] == role["id"]

    made = json.loads(_as(cloud, "u1", "pw-of-u1", "p1", "application", "credential", "create", "ac", "-f", "json"))
    environment = {key: value for key, value in cloud.environment().items() if key != "OS_CLOUD"}
    environment |= {
        "OS_AUTH_TYPE": "v3applicationcredential", "OS_AUTH_URL": f"http://127.0.0.1:{cloud.ports['identity']}/v3",
        "OS_APPLICATION_CREDENTIAL_ID": made.get("ID") or made["id"],
        "OS_APPLICATION_CREDENTIAL_SECRET": made.get("Secret") or made["secret"],
    }  # fmt: skip
    token = json.loads(run(str(BIN / "openstack"), "token", "issue", "-f", "json", env=environment))
    assert token["project_id"] == project["id"]

    seen = _as(cloud, "u1", "pw-of-u1", "p1", "server", "list", "-f", "json")
    assert json.loads(seen) == []
    assert "401" in _as(cloud, "u1", "wrong", "p1", "token", "issue")
    assert "403" in _as(cloud, "u1", "pw-of-u1", "p1", "user", "list")
    cloud.text("role", "delete", "watcher")
    cloud.text("user", "delete", "u1")
    cloud.text("project", "delete", "p1")
    assert "No Project found" in cloud.refused("project", "show", "p1")


def _as(cloud: Cloud, user: str, password: str, project: str, *arguments: str) -> str:
    """What the CLI says to another user."""
    environment = {key: value for key, value in cloud.environment().items() if key != "OS_CLOUD"}
    environment |= {
        "OS_AUTH_URL": f"http://127.0.0.1:{cloud.ports['identity']}/v3", "OS_USERNAME": user, "OS_PASSWORD": password,
        "OS_PROJECT_NAME": project, "OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default",
        "OS_IDENTITY_API_VERSION": "3",
    }  # fmt: skip
    done = subprocess.run(
        [str(BIN / "openstack"), *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    return done.stdout or done.stderr


def test_images(cloud: Cloud, image: dict[str, Any], tmp_path: Path) -> None:
    assert image["status"] == "active"
    assert (
        image["checksum"] == hashlib.md5((cloud.folder / "image.raw").read_bytes(), usedforsecurity=False).hexdigest()
    )
    assert "disk" in {row["Name"] for row in cloud.openstack("image", "list", "--long")}
    cloud.text("image", "set", "--property", "flavour=plain", "--tag", "t1", "--min-ram", "64", "disk")
    shown = cloud.openstack("image", "show", "disk")
    assert (shown["properties"]["flavour"], shown["tags"], shown["min_ram"]) == ("plain", ["t1"], 64)
    cloud.text("image", "save", "--file", str(tmp_path / "saved"), "disk")
    assert (tmp_path / "saved").read_bytes() == (cloud.folder / "image.raw").read_bytes()
    said = cloud.refused("image", "create", "--file", str(cloud.folder / "image.raw"), "--disk-format", "qcow2", "lie")
    assert "qcow2" in said
    cloud.text("image", "create", "--file", str(cloud.folder / "image.raw"), "--disk-format", "raw", "other")
    cloud.text("image", "delete", "other")
    assert "other" not in {row["Name"] for row in cloud.openstack("image", "list")}


def test_flavors_and_keypairs(cloud: Cloud, tmp_path: Path) -> None:
    assert {"m1.tiny", "m1.xlarge"} <= {row["Name"] for row in cloud.openstack("flavor", "list")}
    cloud.text(
        "flavor", "create", "--ram", "64", "--disk", "1", "--vcpus", "1", "--property", "hw:cpu_policy=shared", "f1"
    )
    assert cloud.openstack("flavor", "show", "f1")["ram"] == 64
    cloud.text("flavor", "delete", "f1")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    cloud.text("keypair", "create", "--public-key", str(tmp_path / "key.pub"), "k1")
    assert "PRIVATE KEY" in cloud.text("keypair", "create", "k2")
    assert {row["Name"] for row in cloud.openstack("keypair", "list")} == {"k1", "k2"}
    assert cloud.openstack("keypair", "show", "k1")["type"] == "ssh"
    cloud.text("keypair", "delete", "k1", "k2")


def test_zones_limits_quotas_and_usage(cloud: Cloud) -> None:
    assert "nova" in {row["Zone Name"] for row in cloud.openstack("availability", "zone", "list")}
    assert cloud.openstack("limits", "show", "--absolute")
    cloud.text("quota", "set", "--instances", "11", "--cores", "21", "admin")
    quota = {row["Resource"]: row["Limit"] for row in cloud.openstack("quota", "show", "admin")}
    assert (quota["instances"], quota["cores"]) == (11, 21)
    assert "CPU Hours" in cloud.text("usage", "show")


def test_networks_subnets_ports_and_groups(cloud: Cloud, network: dict[str, Any]) -> None:
    assert "net" in {row["Name"] for row in cloud.openstack("network", "list")}
    assert cloud.openstack("subnet", "show", "subnet")["gateway_ip"] == "10.9.0.1"
    port = cloud.openstack("port", "create", "--network", "net", "--fixed-ip", "ip-address=10.9.0.77", "p1")
    assert port["fixed_ips"][0]["ip_address"] == "10.9.0.77"
    assert "10.9.0.77" in cloud.refused(
        "port", "create", "--network", "net", "--fixed-ip", "ip-address=10.9.0.77", "p2"
    )
    assert "p1" in {row["Name"] for row in cloud.openstack("port", "list")}
    assert cloud.openstack("port", "show", "p1")["id"] == port["id"]
    assert "in use" in cloud.refused("network", "delete", "net")
    cloud.text("port", "delete", "p1")
    groups = cloud.openstack("security", "group", "list")
    assert cloud.openstack("security", "group", "show", groups[0]["ID"])["name"] == "default"
    cloud.text("network", "create", "empty")
    cloud.text("network", "delete", "empty")


def test_servers(cloud: Cloud, image: dict[str, Any], network: dict[str, Any], tmp_path: Path) -> None:
    data = tmp_path / "user-data"
    data.write_text("#!/bin/sh\n")
    cloud.text(
        "server", "create", "--image", "disk", "--flavor", "m1.tiny", "--network", "net", "--user-data", str(data),
        "--config-drive", "True", "--availability-zone", "nova", "--property", "a=b", "--wait", "s1",
    )  # fmt: skip
    cloud.text("server", "create", "--image", "disk", "--flavor", "m1.tiny", "--nic", "none", "--wait", "s2")
    cloud.text(
        "server", "create", "--image", "disk", "--flavor", "m1.nano", "--nic", "auto", "--min", "2", "--max", "2", "m"
    )
    rows = cloud.openstack("server", "list", "--long")
    assert {row["Name"] for row in rows} == {"s1", "s2", "m-1", "m-2"}
    assert {(row["Image Name"], row["Flavor"]) for row in rows if row["Name"] == "s1"} == {("disk", "m1.tiny")}
    assert [row["Name"] for row in cloud.openstack("server", "list", "--name", "^s2$", "--status", "ACTIVE")] == ["s2"]
    shown = cloud.openstack("server", "show", "s1")
    assert (shown["properties"], shown["config_drive"]) == ({"a": "b"}, "True")
    cloud.text("server", "set", "--name", "s1-new", "--property", "c=d", "--tag", "t", "s1")
    shown = cloud.openstack("server", "show", "s1-new")
    assert (shown["properties"], shown["tags"]) == ({"a": "b", "c": "d"}, ["t"])
    assert "login:" in cloud.text("console", "log", "show", "s1-new")
    events = cloud.openstack("server", "event", "list", "s1-new")
    assert (
        cloud.openstack("server", "event", "show", "s1-new", events[0]["Request ID"])["action"] == events[0]["Action"]
    )
    assert "locked" not in cloud.text("server", "lock", "s2")
    cloud.text("server", "unlock", "s2")
    cloud.text("server", "delete", "--wait", "s1-new", "s2", "m-1", "m-2")
    assert cloud.openstack("server", "list") == []


def test_hosts_and_placement(cli: Session) -> None:
    hypervisors = cli.openstack("hypervisor", "list")
    assert len(hypervisors) == 2
    name = hypervisors[0]["Hypervisor Hostname"]
    assert cli.openstack("hypervisor", "show", name)["state"] == "up"
    assert cli.openstack("hypervisor", "stats", "show")["count"] == 2
    assert {row["Binary"] for row in cli.openstack("compute", "service", "list")} >= {
        "nova-compute",
        "nova-scheduler",
    }
    cli.text("compute", "service", "set", "--disable", "--disable-reason", "test", name, "nova-compute")
    only = ("compute", "service", "list", "--host", name, "--service", "nova-compute")
    assert [row["Status"] for row in cli.openstack(*only)] == ["disabled"]
    cli.text("compute", "service", "set", "--enable", name, "nova-compute")
    assert name in {row["Host Name"] for row in cli.openstack("host", "list")}
    assert {row["name"] for row in cli.openstack("resource", "provider", "list")} == {
        row["Hypervisor Hostname"] for row in hypervisors
    }
    assert len(cli.openstack("allocation", "candidate", "list", "--resource", "VCPU=1")) == 2


def test_placement_as_operators_and_services_write_it(cloud: Cloud, cli: Session, image: dict[str, Any]) -> None:
    host, other = sorted(cli.openstack("resource", "provider", "list"), key=lambda row: row["name"])
    uuid = str(host["uuid"])
    _describe_a_host(cli, uuid)
    _make_a_pool(cli, uuid)
    _take_all_vcpus(cloud, cli, [uuid, str(other["uuid"])])
    cli.text("resource", "provider", "inventory", "delete", uuid)
    cli.text("resource", "provider", "trait", "delete", uuid)
    cli.text("resource", "provider", "aggregate", "set", uuid, "--generation", _generation(cli, uuid))
    cli.text("resource", "class", "delete", "CUSTOM_GOLD")
    cli.text("trait", "delete", "CUSTOM_FAST")
    assert len(cli.openstack("resource", "provider", "list")) == 2


def _generation(cli: Session, uuid: str) -> str:
    return str(cli.openstack("resource", "provider", "show", uuid)["generation"])


def _inventories(cli: Session, uuid: str) -> dict[str, dict[str, Any]]:
    return {row["resource_class"]: row for row in cli.openstack("resource", "provider", "inventory", "list", uuid)}


def _describe_a_host(cli: Session, uuid: str) -> None:
    """Ratios, a resource class, a trait, an aggregate; what its machine says stays as it is."""
    cli.text("resource", "class", "create", "CUSTOM_GOLD")
    before = _inventories(cli, uuid)
    ratio = ("--resource", "VCPU:allocation_ratio=0.5", "--resource", "CUSTOM_GOLD=4")
    cli.text("resource", "provider", "inventory", "set", "--amend", *ratio, uuid)
    total = str(before["DISK_GB"]["total"])
    cli.text("resource", "provider", "inventory", "class", "set", uuid, "DISK_GB", "--total", total, "--reserved", "7")
    after = _inventories(cli, uuid)
    assert (after["VCPU"]["allocation_ratio"], after["DISK_GB"]["reserved"]) == (0.5, 7)
    assert (after["CUSTOM_GOLD"]["total"], after["VCPU"]["total"]) == (4, before["VCPU"]["total"])
    refused = cli.refused("resource", "provider", "inventory", "class", "set", uuid, "VCPU", "--total", "1")
    assert "is what the machine of host" in refused
    cli.text("trait", "create", "CUSTOM_FAST")
    cli.text("resource", "provider", "trait", "set", "--trait", "CUSTOM_FAST", uuid)
    traits = {row["name"] for row in cli.openstack("resource", "provider", "trait", "list", uuid)}
    assert {"CUSTOM_FAST", "HW_ARCH_X86_64", "COMPUTE_NODE"} <= traits
    assert "in use" in cli.refused("trait", "delete", "CUSTOM_FAST")


def _make_a_pool(cli: Session, uuid: str) -> None:
    """A shared pool beside a host, and a device below it: both take part in candidates."""
    aggregate = "5d27c5a4-5c1f-4d1b-9d4f-2f2a7a4f8a11"
    pool = cli.openstack("resource", "provider", "create", "pool")["uuid"]
    below = cli.openstack("resource", "provider", "create", "--parent-provider", uuid, "nic")["uuid"]
    cli.text("resource", "provider", "inventory", "set", "--resource", "IPV4_ADDRESS=8", pool)
    cli.text("resource", "provider", "inventory", "set", "--resource", "SRIOV_NET_VF=2", below)
    cli.text("resource", "provider", "trait", "set", "--trait", "MISC_SHARES_VIA_AGGREGATE", pool)
    for one in (pool, uuid):
        members = ("--aggregate", aggregate, "--generation", _generation(cli, one))
        cli.text("resource", "provider", "aggregate", "set", *members, one)
    rows = cli.openstack("resource", "provider", "list", "--member-of", aggregate)
    assert {row["uuid"] for row in rows} == {pool, uuid}
    assert cli.openstack("resource", "provider", "set", "--name", "nic-0", below)["root_provider_uuid"] == uuid
    wanted = [f"--resource={one}=1" for one in ("VCPU", "CUSTOM_GOLD", "IPV4_ADDRESS", "SRIOV_NET_VF")]
    found = cli.openstack("allocation", "candidate", "list", *wanted, "--required", "CUSTOM_FAST")
    assert {row["resource provider"] for row in found} == {uuid, pool, below}
    cli.text("resource", "provider", "delete", below)
    cli.text("resource", "provider", "delete", pool)
    assert "is the compute host" in cli.refused("resource", "provider", "delete", uuid)


def _take_all_vcpus(cloud: Cloud, cli: Session, hosts: list[str]) -> None:
    """What another consumer takes of the hosts, the scheduler does not give to a server; and the other way round."""
    consumers = ["c0c0c0c0-0000-4000-8000-000000000001", "c0c0c0c0-0000-4000-8000-000000000002"]
    project = cli.openstack("project", "show", "admin")["id"]
    owner = ("--project-id", project, "--user-id", project, "--consumer-type", "MIGRATION")
    total = str(_inventories(cli, hosts[1])["VCPU"]["total"])  # as much as one consumer may take, and no more
    one_each = ("VCPU", "--total", total, "--allocation_ratio", "1.0")
    cli.text("resource", "provider", "inventory", "class", "set", hosts[1], *one_each)
    amounts = [int(total) // 2, int(total)]
    for consumer, host, amount in zip(consumers, hosts, amounts, strict=True):
        taken = ("--allocation", f"rp={host},VCPU={amount}")
        cli.text("resource", "provider", "allocation", "set", consumer, *taken, *owner)
    boot = ("server", "create", "--image", "disk", "--flavor", "m1.nano", "--nic", "none")
    assert "Error creating server" in cli.refused(*boot, "--wait", "crowded-out")
    assert "No valid host" in json.dumps(cli.openstack("server", "show", "crowded-out")["fault"])
    cli.text("server", "delete", "crowded-out")
    shown = cli.openstack("resource", "provider", "show", "--allocations", hosts[0])
    assert shown["allocations"][consumers[0]]["resources"] == {"VCPU": amounts[0]}
    cloud.check()
    [row] = cli.openstack("resource", "usage", "show", project)
    assert (row["resource_class"], row["usage"]) == ("MIGRATION", {"VCPU": sum(amounts), "consumer_count": 2})
    for consumer in consumers:
        cli.text("resource", "provider", "allocation", "delete", consumer)
    server = cli.openstack(*boot, "--wait", "fits-now")["id"]
    [held] = cli.openstack("resource", "provider", "allocation", "show", server)
    assert held["resource_provider"] in hosts
    assert "is a server" in cli.refused("resource", "provider", "allocation", "delete", server)
    cli.text("server", "delete", "--wait", "fits-now")


def test_what_cannot_be_is_refused_with_a_reason(cloud: Cloud, image: dict[str, Any], network: dict[str, Any]) -> None:
    for flavor, said in (("m1.none", "No Flavor found"),):
        assert said in cloud.refused("server", "create", "--image", "disk", "--flavor", flavor, "--nic", "none", "x")
    assert "Quota exceeded" in cloud.refused(
        "server", "create", "--image", "disk", "--flavor", "m1.xlarge", "--nic", "none", "--min", "3", "--max", "3", "x"
    )
    cloud.text("flavor", "create", "--ram", "8000000", "--disk", "1", "--vcpus", "1", "huge")
    cloud.text("quota", "set", "--ram", "-1", "admin")
    cloud.text("server", "create", "--image", "disk", "--flavor", "huge", "--nic", "none", "toolarge")
    shown = cloud.openstack("server", "show", "toolarge")
    assert shown["status"] == "ERROR"
    assert "RamFilter removed 2 of 2" in json.dumps(shown["fault"])
    cloud.text("server", "delete", "--wait", "toolarge")
    providers = cloud.openstack("resource", "provider", "list")
    for provider in providers:
        usage = cloud.openstack("resource", "provider", "usage", "show", provider["uuid"])
        assert all(row["usage"] == 0 for row in usage)
