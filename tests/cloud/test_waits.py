"""Two clouds of one machine that want the same bridge: the second says so, and goes on when it may."""

from __future__ import annotations

import pytest

from .conftest import Cloud, new_cloud, wait_for

pytestmark = [pytest.mark.needs_netadmin, pytest.mark.slow]


def real_networks(cloud: Cloud, bridge: str) -> None:
    """Fake guests on real networks."""
    fake = '[network]\ndriver = "fake"\n'
    text = cloud.config.read_text()
    assert fake in text
    cloud.config.write_text(text.replace(fake, f'[network]\nexternal_bridge = "{bridge}"\n'))


def test_a_cloud_whose_bridge_is_another_clouds_says_so_and_begins_when_it_is_free() -> None:
    with new_cloud(driver="fake") as first, new_cloud(driver="fake") as second:
        bridge = first.external_bridge
        sentence = (
            f"network waits: the networks cannot be looked after yet: the bridge {bridge} belongs to another cloud"
        )
        for cloud in (first, second):
            real_networks(cloud, bridge)
        first.up()
        with pytest.raises(pytest.fail.Exception, match=sentence):
            second.up()
        with pytest.raises(pytest.fail.Exception, match=sentence):
            second.nova_fast("status")
        assert set(second.daemons()) >= {"conductor", "network", "api-0"}, "what can serve goes on"
        first.down()
        wait_for("the network daemon has begun", lambda: "waits" not in second.nova_fast("status", check=False), 60)
        assert "is up already" in second.nova_fast("up")
