"""CPUs, devices and metrics through real daemons, over fake hypervisors: given once, whoever is killed meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Cloud, new_cloud, wait_for
from .openstack_session import Session

pytestmark = pytest.mark.slow

ALIAS = {"name": "qat", "vendor_id": "8086", "product_id": "0443", "numa_policy": "preferred"}
SCHEDULER = f"""
[scheduler]
enabled_filters = ["ComputeFilter", "MetricsFilter"]
metrics_weight_setting = ["cpu.idle.percent=1.0", "cpu.frequency=0.001"]
pci_alias = [{json.dumps(json.dumps(ALIAS))}]
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    options: dict[str, Any] = {
        "fake_vcpus": 4, "fake_numa_cells": 2, "fake_pci_devices": 3, "cpu_shared_set": "0", "cpu_dedicated_set": "1-3",
        "compute_monitors": ["cpu.virt_driver"],
    }  # fmt: skip
    with new_cloud(driver="fake", **options) as cloud:
        cloud.config.write_text(cloud.config.read_text() + SCHEDULER)
        cloud.up()
        yield cloud


@pytest.fixture(scope="module")
def cli(cloud: Cloud) -> Iterator[Session]:
    source = cloud.folder / "image.raw"
    source.write_bytes(os.urandom(1 << 16))
    with Session(cloud.environment()) as session:
        session.text("image", "create", "--file", str(source), "--disk-format", "raw", "disk")
        specs = ("--property", "hw:cpu_policy=dedicated", "--property", "pci_passthrough:alias=qat:1")
        session.text("flavor", "create", "--vcpus", "1", "--ram", "64", "--disk", "1", *specs, "own")
        session.text("flavor", "create", "--vcpus", "1", "--ram", "64", "--disk", "1", *specs[:2], "--property",
                     "pci_passthrough:alias=gpu:1", "unknown")  # fmt: skip
        yield session


def create(cli: Session, name: str) -> str:
    made = cli.openstack("server", "create", "--image", "disk", "--flavor", "own", "--nic", "none", name)
    return str(made["id"])


def ended(cli: Session, server_id: str) -> str:
    def look() -> str:
        shown = cli.openstack("server", "show", server_id)
        return "" if shown["status"] == "BUILD" else f"{shown['status']} {shown.get('fault', '')}".strip()

    return wait_for("it is built or refused", look, 60)


def given(cloud: Cloud, server_id: str) -> tuple[set[int], set[str]]:
    decision = json.loads(cloud.nova_fast("explain", server_id, "--json"))["decision"]
    return {cpu for cell in decision["cells"] for cpu in cell["cpus"]}, set(decision["devices"])


def test_three_servers_have_a_cpu_and_a_device_each_and_the_fourth_has_none(cloud: Cloud, cli: Session) -> None:
    servers = []
    for number in range(3):
        servers.append(create(cli, f"s{number}"))
        assert ended(cli, servers[-1]) == "ACTIVE"
        cloud.kill("scheduler" if number % 2 else "conductor")
    found = [given(cloud, server_id) for server_id in servers]
    assert sorted(cpu for cpus, _ in found for cpu in cpus) == [1, 2, 3]
    assert len({device for _, devices in found for device in devices}) == 3
    late = create(cli, "late")
    assert "No valid host" in ended(cli, late)
    (provider,) = cli.openstack("resource", "provider", "list")
    rows = cli.openstack("resource", "provider", "inventory", "list", provider["uuid"])
    assert {row["resource_class"]: (row["total"], row["used"]) for row in rows}["PCPU"] == (3, 3)
    for server_id in (late, servers.pop(0)):
        cli.text("server", "delete", server_id)
    wait_for("they are gone", lambda: len(cli.openstack("server", "list")) == 2, 60)
    again = create(cli, "again")
    assert ended(cli, again) == "ACTIVE"
    assert given(cloud, again) == found[0]
    refused = cloud.refused("server", "create", "--image", "disk", "--flavor", "unknown", "--nic", "none", "x")
    assert "PCI alias gpu is not defined" in refused
