"""virtlogd, to which guests write their consoles, dies: they go on, and new ones are started when it is back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .census import take
from .conftest import Cloud, new_cloud
from .killer import LIBVIRT_HOST, VIRTLOGD, Killer, seeded
from .lab import Lab

pytestmark = [pytest.mark.needs_qemu, pytest.mark.needs_netadmin, pytest.mark.slow]

AWAY_S = 3


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with new_cloud(stop_grace_s=1) as cloud:
        cloud.up()
        yield cloud


def test_guests_outlive_virtlogd_and_new_ones_wait_for_it(cloud: Cloud, guest_image: Path) -> None:
    killer, lab = Killer(cloud, seeded()), Lab(cloud, guest_image)
    there = killer.running()
    if VIRTLOGD not in there:
        pytest.skip("libvirt is not ours to kill")
    keeper = lab.booted("keeper")
    process = take(cloud, set()).guests[keeper["id"]]
    os.kill(there[LIBVIRT_HOST], signal.SIGSTOP)  # who would bring it back at once
    try:
        os.kill(there[VIRTLOGD], signal.SIGKILL)
        answer = lab.send("POST", "/v2.1/servers", {"server": {**lab.template, "name": "newcomer"}})
        assert answer is not None and answer.status == 202, answer
        time.sleep(AWAY_S)
        server = lab.show(answer.json["server"]["id"])
        assert server is not None and server["status"] == "BUILD", server
    finally:
        os.kill(there[LIBVIRT_HOST], signal.SIGCONT)
    newcomer = lab.booted("newcomer")
    assert len(lab.rest.servers()) == 2
    assert lab.ping(newcomer) and lab.ping(keeper)
    assert take(cloud, set()).guests[keeper["id"]] == process, "a guest was started anew"
    lab.act(keeper["id"], "hard reboot")
    lab.see_login(keeper)
    for server in (keeper, newcomer):
        lab.delete(server["id"])
