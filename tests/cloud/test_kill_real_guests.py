"""Every daemon, libvirtd and virtlogd are killed, alone and all at once, while a user makes, uses and deletes guests.

The guests are real. One stays all the time and must not notice. Another comes and goes: whatever was accepted ends as
asked, without anybody's help. Afterwards the machine has what the servers need, each once, and nothing else; at last
nothing at all.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nova_fast.model.states import PowerState
from tests.lengths import repeats

from .census import assert_as_promised, assert_gone, recount, take
from .conftest import Cloud, new_cloud, wait_for
from .killer import LIBVIRT_HOST, LIBVIRTD, SUPERVISOR, VIRTLOGD, Killer, seeded
from .lab import Lab

pytestmark = [pytest.mark.needs_qemu, pytest.mark.needs_netadmin, pytest.mark.slow, pytest.mark.torture]

ROUNDS = repeats(1, 25)
DAEMONS = ("conductor", "scheduler", "network", "compute", "api-0")
LIBVIRT = (LIBVIRTD, VIRTLOGD)
ALL = (SUPERVISOR, LIBVIRT_HOST, *DAEMONS, *LIBVIRT)


@pytest.fixture
def cloud(guest_image: Path) -> Iterator[Cloud]:
    with new_cloud(stop_grace_s=1) as cloud:
        cloud.config.write_text(cloud.config.read_text().replace("down_after_s = 5", "down_after_s = 60"))
        cloud.up()
        yield cloud


def one_round(moments: random.Random, there: dict[str, int]) -> list[tuple[str, ...]]:
    """Each alone, some together, and all at once, in any order; only what is ours."""
    alone = [name for name in (*DAEMONS, *LIBVIRT) if name in there]
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
