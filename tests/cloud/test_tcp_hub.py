"""The hub on an address: every daemon comes in through CURVE, with the keys that ``nova-fast up`` made."""

from __future__ import annotations

import json
import stat

import pytest

from bench.ports import free_ports

from .conftest import new_cloud

pytestmark = pytest.mark.slow


def test_a_cloud_on_tcp_starts_without_a_hitch_and_serves() -> None:
    with new_cloud(driver="fake") as cloud:
        [port] = free_ports(1)
        text = cloud.config.read_text()
        cloud.config.write_text(text.replace("[hub]\n", f'[hub]\naddress = "tcp://127.0.0.1:{port}"\n'))
        cloud.up()
        status = json.loads((cloud.state / "run" / "cloud.json").read_text())
        assert {program["name"]: program["restarts"] for program in status["programs"]} == dict.fromkeys(
            ("conductor", "scheduler", "network", "compute", "api-0"), 0
        )
        for key in (cloud.state / "keys").iterdir():
            assert stat.S_IMODE(key.stat().st_mode) == 0o600
        cloud.text("network", "create", "net")
        assert {row["State"] for row in cloud.openstack("compute", "service", "list")} == {"up"}
