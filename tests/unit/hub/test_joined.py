"""Frames that travel as one: who gets them, that each counts for itself, and what they may not hold."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.config import HubConfig
from nova_fast.hub import wire
from nova_fast.hub.conduct import TURN_FRAMES
from nova_fast.hub.contracts import ENCODER
from nova_fast.hub.incoming import Incoming
from nova_fast.hub.limits import Limits
from nova_fast.model.tasks import Done, MetadataAnswer, MetadataRequest, ServiceReport
from tests.unit.hub.rig import TRANSPORTS, Rig, entered, flood, insist, run, taken, until

REPORT = ServiceReport(name="api.1", binary="b", host="h", zone="z")
LIMITS = Limits(hello_retry_s=0.05, reopen_after_s=0.5, barred_s=0.3)
CONFIG = HubConfig(heartbeat_s=5, down_after_s=20, credits=256)


def call(number: int) -> bytes:
    return wire.pack(wire.CALL, number.to_bytes(16, "big"), 0, ENCODER.encode(REPORT))


def joined_of(frames: list[bytes]) -> bytes:
    """As :func:`wire.join`, whatever the bounds are."""
    return wire.pack(wire.JOINED, body=ENCODER.encode(frames))


def flat(frames: list[bytes]) -> list[bytes]:
    """Every frame by itself."""
    return [one for frame in frames for one in (wire.split(frame) or [] if wire.is_joined(frame) else [frame])]


@given(st.lists(st.binary(max_size=100), max_size=wire.JOINED_MAX))
def test_what_is_joined_is_split(frames: list[bytes]) -> None:
    joined = wire.join(frames)
    assert wire.is_joined(joined) and wire.split(joined) == frames


@pytest.mark.parametrize(
    "body",
    [
        ENCODER.encode([b""] * (wire.JOINED_MAX + 1)),
        ENCODER.encode([b"x" * (1 << 18)]),
        ENCODER.encode(["text"]),
        ENCODER.encode([1]),
        b"",
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_what_may_not_be_in_a_joined_frame_is_not_split(body: bytes) -> None:
    assert wire.split(wire.pack(wire.JOINED, body=body)) is None


@pytest.mark.parametrize("joined", [True, False])
def test_answers_of_one_turn_leave_as_one_frame_to_who_reads_that(joined: bool) -> None:
    async def test() -> None:
        async with Rig(config=CONFIG, limits=LIMITS) as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda peer, message, call_id: Done())
            await rig.start(server)
            socket = await entered(rig, server, joined=joined)
            socket.send(wire.join([call(number) for number in range(12)]))
            frames: list[bytes] = []
            await until(lambda: sum(one[1] == wire.REPLY for one in flat(taken(socket, frames))) == 12)
            answers = [one for one in flat(frames) if one[1] == wire.REPLY]
            assert [int.from_bytes(one[2:18], "big") for one in answers] == list(range(12)), "in order"
            sizes = [len(wire.split(frame) or []) for frame in frames if wire.is_joined(frame)]
            assert sizes == ([12] if joined else [])

    run(test)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_calls_made_together_are_sent_together_and_all_answered(
    transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[int] = []
    split = wire.split

    def counted(frame: bytes) -> list[bytes] | None:
        found = split(frame)
        came.append(len(found or []))
        return found

    def answer(peer: str, message: MetadataRequest, call_id: bytes) -> MetadataAnswer:
        return MetadataAnswer(status=200, content_type="", body=message.body)

    async def test() -> None:
        async with Rig(transport, config=CONFIG, limits=LIMITS) as rig:
            server = rig.new_server()
            server.handle(MetadataRequest, answer)
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            monkeypatch.setattr(wire, "split", counted)
            bodies = [b"%d" % number * (1 + 4000 * (number % 5 == 0)) for number in range(200)]
            asked = [
                peer.call(MetadataRequest(network_id="n", address="a", method="GET", path="/", body=body), timeout_s=60)
                for body in bodies
            ]
            answers = await asyncio.gather(*asked)
            assert [one.body for one in answers if isinstance(one, MetadataAnswer)] == bodies
            assert max(came) > TURN_FRAMES, "calls, which come in one turn however many"
            assert len(came) < 60, "of 400 frames"

    run(test)


def test_frames_that_came_as_one_count_one_by_one() -> None:
    batches: list[int] = []

    def answer_all(calls: list[Incoming]) -> None:
        batches.append(len(calls))
        for one in calls:
            one.reply(Done())

    async def test() -> None:
        async with Rig(config=CONFIG, limits=LIMITS) as rig:
            server = rig.new_server()
            server.handle_batch((ServiceReport,), answer_all)
            await rig.start(server)
            socket = await entered(rig, server, joined=True)
            for first in range(0, 320, 32):
                socket.send(wire.join([call(number) for number in range(first, first + 32)]))
            await until(lambda: sum(batches) == 320)
            assert max(batches) <= 2 * TURN_FRAMES, "as many at once, and of what was set aside"
            assert server.counters.cut == 0

    run(test)


@pytest.mark.parametrize("kind", ["calls", "malformed", "nested", "unreadable"])
def test_who_floods_with_joined_frames_is_cut(kind: str) -> None:
    few = [b"x"] * 32
    frames = {
        "calls": [joined_of([call(number) for number in range(first, first + 32)]) for first in range(0, 9600, 32)],
        "malformed": [joined_of(few)] * 3,
        "nested": [joined_of([joined_of(few)] * 32)] * 3,
        "unreadable": [joined_of(few * 1000)] * 70,
    }[kind]

    async def test() -> None:
        async with Rig(config=CONFIG, limits=LIMITS) as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda peer, message, call_id: Done())
            await rig.start(server)
            other = await rig.join(rig.new_peer("api.0"))
            socket = await entered(rig, server, joined=False)
            await insist(lambda: flood(socket, frames), lambda: server.counters.cut >= 1)
            socket.close(0)
            assert await other.call(REPORT, timeout_s=60) == Done()

    run(test)
