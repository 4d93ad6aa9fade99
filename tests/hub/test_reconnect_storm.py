"""All peers lose the hub at once: it was killed with calls under way and has come back, or it lives and they do."""

from __future__ import annotations

import sys
import time

import pytest

from nova_fast.config import HubConfig
from tests.hub.scene import Scene, Storms
from tests.lengths import TORTURE, repeats

pytestmark = [pytest.mark.slow, pytest.mark.torture]

CONFIG = HubConfig(heartbeat_s=5.0, down_after_s=20.0)
STORM_CONFIG = HubConfig(heartbeat_s=repeats(1, 5), down_after_s=20.0)
STORMS = repeats(3, 5)
PROCESSES = repeats(2, 5)
PEERS = repeats(500, 5000)
SUBSCRIBERS = 10  # of each process
CALLS = 2  # of each peer, under way when the hub dies
WELCOMED_S_MAX = 60  # generous, because the machine is shared


def crowd_names(process: int) -> list[str]:
    """Some daemons that read events, and many nodes."""
    some = [f"api.{process}-{number}" for number in range(SUBSCRIBERS)]
    return some + [f"compute@{process}-{number}" for number in range(PEERS // PROCESSES - SUBSCRIBERS)]


@pytest.mark.parametrize("transport", ["ipc", "tcp"] if TORTURE else ["tcp"])
def test_all_peers_come_back_to_a_killed_hub_and_every_call_has_one_effect(transport: str) -> None:
    with Scene(transport, CONFIG) as scene:
        crowds = [scene.honest(crowd_names(process), SUBSCRIBERS) for process in range(PROCESSES)]
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


def test_while_a_crowd_comes_back_the_others_do_not_wait() -> None:
    """The connections of the crowd break at one moment; the hub and the others' connections live.

    The crowd runs when nobody else wants to: its processors would be those of its own machines.
    """
    with Scene("tcp", STORM_CONFIG) as scene:
        storms = Storms(scene.bystanders(), scene.hub)
        names = [
            [f"compute@{process}-{number}" for number in range(PEERS // PROCESSES)] for process in range(PROCESSES)
        ]
        crowds = [scene.honest(own) for own in names]
        for crowd in crowds:
            crowd.idle()
        time.sleep(2 * STORM_CONFIG.heartbeat_s)  # until all have been told over how long they are to spread
        for _ in range(STORMS):
            storms.quiet()
            before = sum(crowd.do("welcomes") for crowd in crowds)
            lost = sum(crowd.do("lose_connections") for crowd in crowds)
            assert lost > PEERS / 2, "the crowd was not there"

            def all_are_back(welcomes: int = before + lost) -> bool:
                return sum(c.do("welcomes") for c in crowds) >= welcomes and all(c.do("all_connected") for c in crowds)

            storms.disturbed(all_are_back)
        scene.assert_nothing_lost()
        storms.assert_others_do_not_wait()
