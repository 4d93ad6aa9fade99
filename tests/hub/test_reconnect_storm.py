"""All peers lose the hub at once: it was killed with calls under way and has come back, or it lives and they do."""

from __future__ import annotations

import sys
import time

import pytest

from nova_fast.config import HubConfig
from tests.hub.remote import Remote
from tests.hub.scene import Scene, Storms
from tests.lengths import TORTURE, repeats

pytestmark = [pytest.mark.slow, pytest.mark.torture]

CONFIG = HubConfig(heartbeat_s=5.0, down_after_s=20.0)
STORM_CONFIG = HubConfig(heartbeat_s=repeats(1, 5), down_after_s=20.0)
STORMS = repeats(3, 5)
PROCESSES = repeats(2, 5)
PEERS = repeats(500, 5000)
TRANSPORTS = ["ipc", "tcp"] if TORTURE else ["tcp"]
SUBSCRIBERS = 10  # of each process
CALLS = 2  # of each peer, under way when the hub dies
WELCOMED_S_MAX = 60  # generous, because the machine is shared


def crowd_names(process: int) -> list[str]:
    """Some daemons that read events, and many nodes."""
    some = [f"api.{process}-{number}" for number in range(SUBSCRIBERS)]
    return some + [f"compute@{process}-{number}" for number in range(PEERS // PROCESSES - SUBSCRIBERS)]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_all_peers_come_back_to_a_killed_hub_and_every_call_has_one_effect(transport: str) -> None:
    with Scene(transport, CONFIG) as scene:
        crowds = scene.crowd([crowd_names(process) for process in range(PROCESSES)], SUBSCRIBERS)
        assert scene.hub.do("peers_up") == PEERS
        for _ in range(repeats(1, 3)):
            before = scene.hub.do("effects")
            for crowd in crowds:
                crowd.do("call_all", CALLS)
            while scene.hub.do("effects") < before + PEERS // 4:
                time.sleep(0.001)
            scene.hub.kill()
            for crowd in crowds:
                crowd.do("call_all", 1)  # and some that are made while it is away
            begin = time.monotonic()
            scene.start_hub()
            scene.hub.until("are_peers_up", PEERS, timeout_s=WELCOMED_S_MAX)
            sys.stdout.write(f"{PEERS} peers were welcomed within {time.monotonic() - begin:.2f} s of the start\n")
            assert scene.hub.do("effects") >= before + PEERS // 4, "a durable effect was forgotten"
            for crowd in crowds:
                crowd.until("all_connected", timeout_s=WELCOMED_S_MAX)
                assert crowd.do("answered", timeout_s=110)
            assert scene.hub.do("effects") == before + PEERS * (CALLS + 1)
        scene.assert_nothing_lost()


def lose_connections(crowds: list[Remote]) -> int:
    """Break all connections within a moment, for which the crowd need not wait for others; how many there were."""
    for crowd in crowds:
        crowd.idle(False)
        crowd.begin("lose_connections")
    lost = sum(crowd.finish() for crowd in crowds)
    for crowd in crowds:
        crowd.idle()
    return lost


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_while_a_crowd_comes_back_the_others_do_not_wait(transport: str) -> None:
    """The connections of the crowd break at one moment; the hub and the others' connections live.

    The others are the control plane: over tcp they are on the hub's machine, and the crowd is not. It runs when nobody
    else wants to: its processors would be those of its own machines.
    """
    with Scene(transport, STORM_CONFIG) as scene:
        storms = Storms(scene.bystanders(local=True), scene.hub)
        names = [
            [f"compute@{process}-{number}" for number in range(PEERS // PROCESSES)] for process in range(PROCESSES)
        ]
        crowds = scene.crowd(names)
        for crowd in crowds:
            crowd.idle()
        time.sleep(2 * STORM_CONFIG.heartbeat_s)  # until all have been told over how long they are to spread
        for _ in range(STORMS):
            before = sum(crowd.do("losses") for crowd in crowds)
            storms.quiet()
            assert sum(crowd.do("losses") for crowd in crowds) == before, "somebody lost the hub without a storm"
            assert lose_connections(crowds) == PEERS
            storms.disturbed(lambda: all(crowd.do("all_back") for crowd in crowds))
        scene.assert_nothing_lost()
        storms.assert_others_do_not_wait(transport)
