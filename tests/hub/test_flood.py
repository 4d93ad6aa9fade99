"""A peer that floods: the others do not wait, the hub does not grow, and the peer that floods is cut."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.hub.remote import Remote
from tests.hub.scene import Scene, Slices
from tests.lengths import TORTURE, repeats

pytestmark = [pytest.mark.slow, pytest.mark.torture]

SLICE_S = 0.35
#: Kind of flood, and whether the flooder reads what the hub answers.
FLOODS = [
    ("calls", True),  # valid calls, whatever its credits
    ("calls", False),  # and never an answer read
    ("garbage", True),  # frames, calls and HELLOs that cannot be read
    ("huge", True),  # unreadable calls of 4 MiB
    ("hellos", True),  # the same HELLO again and again
    ("sessions", True),  # a HELLO of another process each time
    ("subscriptions", True),  # the event stream from its beginning, each time anew, and never an acknowledgement
]
GROWTH_MIB_MAX = 160
FLOODS_MORE = 5


#: Over tcp the same code counts the frames; a bounded run tries one kind there.
CASES = [
    (transport, *flood)
    for transport in ("ipc", "tcp")
    for flood in (FLOODS if TORTURE or transport == "ipc" else FLOODS[:1])
]


@pytest.fixture(scope="module")
def scenes() -> Iterator[Callable[[str], tuple[Scene, Remote]]]:
    """A hub with bystanders for each transport, shared by all floods: what one leaves behind the next one meets."""
    with ExitStack() as stack:

        @cache
        def scene_of(transport: str) -> tuple[Scene, Remote]:
            scene = stack.enter_context(Scene(transport))
            return scene, scene.bystanders()

        yield scene_of


@pytest.mark.parametrize(("transport", "kind", "reads"), CASES)
def test_a_flood_from_one_peer_delays_no_other(
    scenes: Callable[[str], tuple[Scene, Remote]], transport: str, kind: str, reads: bool
) -> None:
    scene, bystanders = scenes(transport)
    slices = Slices(bystanders, SLICE_S)
    before_mib = scene.hub.rss_mib()
    attacker = scene.attacker()
    cut_before = scene.hub.do("counters")["cut"]
    for number in range(repeats(3, 20)):
        assert attacker.do("enter", f"api.{kind}-{number}-{reads}")  # under a name that has done nothing wrong yet
        slices.quiet()
        attacker.begin("flood", kind, SLICE_S + 0.1, reads)
        time.sleep(0.05)
        slices.disturbed()
        attacker.finish()
        for _ in range(FLOODS_MORE):  # it may have got no processor so far
            if (cut := scene.hub.do("counters")["cut"]) > cut_before or kind == "calls":
                break
            attacker.do("flood", kind, SLICE_S, reads)
        # Valid calls that come no faster than the hub answers them only have to wait for their turn.
        assert cut > cut_before or kind == "calls", "the hub put up with it"
        cut_before = cut
    attacker.kill()
    assert scene.hub.rss_mib() - before_mib < GROWTH_MIB_MAX
    slices.assert_others_do_not_wait()
    scene.assert_nothing_lost()
