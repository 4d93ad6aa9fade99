"""What the hub does with a peer that breaks the rules: its share of a turn, the cut, and the way back."""

from __future__ import annotations

import pytest
import zmq

from nova_fast.hub import wire
from nova_fast.hub.conduct import TURN_FRAMES, Conduct
from nova_fast.hub.contracts import ENCODER
from nova_fast.hub.incoming import Incoming
from nova_fast.hub.limits import Limits
from nova_fast.model.tasks import Done, ServiceReport
from tests.unit.hub.rig import Rig, entered, flood, insist, run, taken, until

REPORT = ServiceReport(name="api.0", binary="b", host="h", zone="z")
LIMITS = Limits(hello_retry_s=0.05, reopen_after_s=0.5, barred_s=0.3)


def call(number: int) -> bytes:
    return wire.pack(wire.CALL, number.to_bytes(16, "big"), 0, ENCODER.encode(REPORT))


def test_one_peer_has_no_more_than_its_share_of_a_turn() -> None:
    batches: list[list[str]] = []

    def answer_all(calls: list[Incoming]) -> None:
        batches.append([call.peer for call in calls])
        for call in calls:
            call.reply(Done())

    async def test() -> None:
        async with Rig(limits=LIMITS) as rig:
            server = rig.new_server()
            server.handle_batch((ServiceReport,), answer_all)
            await rig.start(server)
            busy = await entered(rig, server, "api.1")
            for number in range(150):
                busy.send(call(number))
            await until(lambda: sum(map(len, batches)) == 150)
            assert max(map(len, batches)) <= 2 * TURN_FRAMES, "as many at once, and of what was set aside"
            assert server.counters.cut == 0, "these are no more than its credits allow"

    run(test)


@pytest.mark.parametrize("kind", ["calls", "malformed", "hellos"])
def test_a_peer_that_floods_is_cut_and_let_in_again_when_its_time_is_over(kind: str) -> None:
    """``malformed`` and ``hellos`` break the rules; ``calls`` are valid and more than the peer's credits allow."""
    frames = {
        "calls": [call(number) for number in range(5000)],
        "malformed": [b"x"] * 100,
        "hellos": [wire.pack(wire.HELLO, body=b"\xc1")] * 100,
    }[kind]

    async def test() -> None:
        async with Rig(limits=LIMITS) as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda peer, message, call_id: Done())
            await rig.start(server)
            other = await rig.join(rig.new_peer("api.0"))
            socket = await entered(rig, server, "api.1")
            monitor = socket.get_monitor_socket(int(zmq.EVENT_DISCONNECTED))

            def is_ended() -> bool:
                taken(socket, [])  # ZeroMQ reads no further, and sees no end, while its queue of answers is full
                return monitor.poll(0) != 0

            await insist(lambda: flood(socket, frames), lambda: server.counters.cut >= 1)
            await until(is_ended)
            socket.disable_monitor()
            socket.close(0)
            assert await other.call(REPORT, timeout_s=60) == Done()
            better = rig.new_peer("api.1")
            await better.start()
            await until(lambda: better.is_connected)

    run(test)


def test_a_peer_that_is_cut_again_and_again_waits_longer_each_time() -> None:
    conduct = Conduct(Limits(barred_s=1.0, barred_s_max=5.0))
    assert [conduct.bar(now_s) for now_s in (0.0, 2.0, 5.0, 10.0)] == [1.0, 2.0, 4.0, 5.0]
    assert conduct.is_barred(14.9) and not conduct.is_barred(15.1)
    assert conduct.bar(100.0) == 1.0, "it has kept the rules for long"


def test_large_frames_use_up_a_share_sooner() -> None:
    conduct = Conduct(Limits())
    assert conduct.has_turn(1, 4 << 16) and conduct.has_turn(1, 4 << 16) and conduct.has_turn(1, 4 << 16)
    assert not conduct.has_turn(1, 4 << 16)
    assert conduct.has_turn(2, 100)
