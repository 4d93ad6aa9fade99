"""A peer that stops reading, in each way there is: nobody waits for it, it costs a bounded amount of memory, and when
it reads again it has missed nothing.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from nova_fast.hub.limits import Limits
from tests.hub.scene import Scene, Slices
from tests.lengths import TORTURE, repeats

pytestmark = [pytest.mark.slow, pytest.mark.torture]

SLICE_S = 0.4
CALLS = 400  # more than the credits
PADDING = 2_000  # bytes of each call
GROWTH_MIB_MAX = 64
CASES = [("ipc", "stopped"), ("tcp", "asleep")] + ([("tcp", "stopped"), ("ipc", "asleep")] if TORTURE else [])


@pytest.mark.parametrize(("transport", "pause"), CASES)
def test_a_peer_that_stops_reading_delays_nobody_and_misses_nothing(transport: str, pause: str, tmp_path: Path) -> None:
    """``stopped`` is SIGSTOP of its whole process; ``asleep`` keeps the socket open and lives, but never receives.

    The first pauses are short, the last is longer than ``down_after_s``, so that the hub gives the peer up in it.
    """
    with Scene(transport) as scene:
        slices = Slices(scene.bystanders(), SLICE_S)
        stalled = scene.honest(["scheduler"], subscribers=1)
        before_mib = scene.hub.rss_mib()
        rounds = repeats(2, 10)
        for number in range(rounds):
            slices.quiet()
            pause_s = 2 * SLICE_S + (3.0 if number == rounds - 1 else 0.3)
            begin = time.monotonic()
            if pause == "stopped":
                stalled.stop()
            else:
                stalled.begin("sleep_blocked", awake := tmp_path / f"awake-{number}")
            scene.hub.do("ask", "scheduler", CALLS, 120.0, PADDING)
            slices.disturbed()
            slices.disturbed()
            assert scene.hub.do("asked")[2] > 0, "it read all the time"
            if number == rounds - 1:
                scene.hub.until("is_down", "scheduler")
            assert scene.hub.rss_mib() - before_mib < GROWTH_MIB_MAX
            time.sleep(max(0.0, begin + pause_s - time.monotonic()))
            if pause == "stopped":
                stalled.go_on()
            else:
                awake.touch()
                stalled.finish()
            scene.hub.until("is_all_answered")
        answers, failures, waiting = scene.hub.do("asked")
        assert failures == [] and waiting == 0
        assert len(set(answers)) == len(answers) == rounds * CALLS and stalled.do("runs") == rounds * CALLS
        scene.assert_nothing_lost()
        slices.assert_others_do_not_wait()


def test_a_peer_that_pings_and_never_reads_costs_a_bounded_amount_of_memory() -> None:
    """It counts as alive for as long as it likes; what is meant for it waits up to a bound, the rest is refused."""
    limits = Limits()
    with Scene("ipc") as scene:
        slices = Slices(scene.bystanders(), SLICE_S)
        slices.quiet()
        slices.quiet()
        mute = scene.attacker()
        assert mute.do("enter", "scheduler")
        before_mib = scene.hub.rss_mib()
        seconds = repeats(3, 60)
        mute.begin("subscribe_and_ping", seconds + 120.0)
        surplus = 1000
        count = scene.place.config.credits + limits.waiting_calls_max + surplus
        scene.hub.do("ask", "scheduler", count, float(seconds), 10_000)
        for _ in range(repeats(4, 20)):
            slices.disturbed()
        bound_mib = (count - surplus) * 2 * 10_000 / 2**20 + 64
        assert scene.hub.rss_mib() - before_mib < bound_mib
        assert scene.hub.do("is_up", "scheduler")
        scene.hub.until("is_all_answered", timeout_s=seconds + 60)
        answers, failures, _ = scene.hub.do("asked")
        assert answers == [] and failures.count("queue_full") == surplus
        assert failures.count("deadline_passed") == count - surplus
        mute.kill()
        scene.assert_nothing_lost()
        slices.assert_others_do_not_wait()
