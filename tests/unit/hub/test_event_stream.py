"""The event stream: complete, in order, resumed where it stopped, honest about gaps."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER, encode_event
from nova_fast.hub.events import EventFeed, EventReader, read_whole_generations
from nova_fast.hub.limits import Counters, Limits
from nova_fast.model.events import Event, HostRemoved
from tests.unit.hub.rig import TRANSPORTS, MemoryEvents, Rig, run, until

SMALL = Limits(hello_retry_s=0.05, event_batch=10, event_window=4)


def removed(number: int) -> bytes:
    return encode_event(HostRemoved(host=str(number)))


class Log:
    """A subscriber that writes down what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, str]] = []
        self.gaps = 0

    def event(self, generation: int, event: Event) -> None:
        assert isinstance(event, HostRemoved)
        self.seen.append((generation, event.host))

    def gap(self) -> None:
        self.gaps += 1

    @property
    def generations(self) -> list[int]:
        return [generation for generation, _ in self.seen]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_events_come_complete_and_in_order_old_and_new(transport: str) -> None:
    async def test() -> None:
        async with Rig(transport, limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            for number in range(1, 501):
                source.add(number, removed(number))
            server = await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)
            peer.subscribe(100, log.event, log.gap)
            await until(lambda: len(log.seen) == 400)
            for number in range(501, 801):
                source.add(number, removed(number))
                server.notify_events(number)
                if number % 50 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(log.seen) == 700)
            assert log.seen == [(number, str(number)) for number in range(101, 801)]
            assert log.gaps == 0

    run(test)


def test_a_generation_with_many_events_is_never_torn() -> None:
    async def test() -> None:
        async with Rig(limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            expected = []
            for generation in range(1, 20):
                for number in range(generation * 3):
                    source.add(generation, removed(number))
                    expected.append((generation, str(number)))
            await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)
            peer.subscribe(0, log.event, log.gap)
            await until(lambda: len(log.seen) == len(expected))
            assert log.seen == expected

    run(test)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_subscriber_resumes_after_the_hub_was_restarted(transport: str) -> None:
    async def test() -> None:
        async with Rig(transport, limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            for number in range(1, 101):
                source.add(number, removed(number))
            first = await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            peer.subscribe(0, log.event, log.gap)  # before it is connected
            await rig.join(peer)
            await until(lambda: len(log.seen) == 100)
            await first.close()
            for number in range(101, 201):
                source.add(number, removed(number))
            await rig.start(rig.new_server(source))
            await until(lambda: len(log.seen) == 200)
            await asyncio.sleep(0.05)
            assert log.generations == list(range(1, 201)) and log.gaps == 0

    run(test)


def test_a_subscriber_that_asks_for_what_is_gone_is_told_of_the_gap() -> None:
    async def test() -> None:
        async with Rig(limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            for number in range(1, 101):
                source.add(number, removed(number))
            source.trim(51)
            await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)
            peer.subscribe(10, log.event, log.gap)
            await until(lambda: len(log.seen) == 50)
            assert log.gaps == 1 and log.generations == list(range(51, 101))
            exact = Log()
            peer.subscribe(50, exact.event, exact.gap)
            await until(lambda: len(exact.seen) == 50)
            assert exact.gaps == 0

    run(test)


def test_a_handler_may_subscribe_anew_from_the_gap() -> None:
    async def test() -> None:
        async with Rig(limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            for number in range(1, 101):
                source.add(number, removed(number))
            source.trim(51)
            await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)
            peer.subscribe(10, log.event, lambda: peer.subscribe(90, log.event, log.gap))
            await until(lambda: len(log.seen) == 10)
            await asyncio.sleep(0.05)
            assert log.generations == list(range(91, 101))

    run(test)


def test_a_handler_that_raises_is_told_to_read_anew() -> None:
    async def test() -> None:
        async with Rig(limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            for number in range(1, 31):
                source.add(number, removed(number))
            await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)

            def fragile(generation: int, event: Event) -> None:
                if generation == 15:
                    raise ValueError
                log.event(generation, event)

            peer.subscribe(0, fragile, log.gap)
            await until(lambda: len(log.seen) == 29)
            assert log.gaps == 1 and 15 not in log.generations

    run(test)


def test_the_hub_sends_no_more_than_the_window_ahead() -> None:
    async def test() -> None:
        async with Rig(limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            for number in range(1, 1001):
                source.add(number, removed(number))
            server = await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)
            real = peer._reader._send
            held: list[bytes] = []
            peer._reader._send = held.append
            peer.subscribe(0, log.event, log.gap)
            real(held.pop())
            await until(lambda: len(log.seen) == 40)
            await asyncio.sleep(0.1)
            assert len(log.seen) == 40  # 4 batches of 10
            peer._reader._send = real
            for frame in held:
                real(frame)
            await until(lambda: len(log.seen) == 1000)
            assert log.generations == list(range(1, 1001))
            feed = server._feed
            assert feed is not None
            await until(lambda: feed._subscriptions["scheduler"].idle)  # the last of them is acknowledged behind them

    run(test)


def test_a_subscription_that_comes_twice_or_late_changes_nothing() -> None:
    async def test() -> None:
        async with Rig(limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            server = await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)
            real = peer._reader._send
            asked: list[bytes] = []
            peer._reader._send = lambda frame: (asked.append(frame), real(frame))[1]
            peer.subscribe(0, log.event, log.gap)
            peer.subscribe(0, log.event, log.gap)
            for number in range(1, 4):  # a batch each
                source.add(number, removed(number))
                server.notify_events(number)
                await until(lambda number=number: len(log.seen) == number)
            for frame in asked[:2]:
                real(frame)
            await asyncio.sleep(0.05)
            for number in range(4, 51):
                source.add(number, removed(number))
                server.notify_events(number)
                await asyncio.sleep(0.001)
            await until(lambda: bool(log.seen) and log.generations[-1] == 50)
            assert log.generations == list(range(1, 51))

    run(test)


def test_a_source_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr("nova_fast.hub.events._SOURCE_RETRY_S", 0.05)
        async with Rig(limits=SMALL) as rig:
            source, log = MemoryEvents(), Log()
            source.add(1, removed(1))
            healthy = source.read
            source.read = lambda after, limit: 1 / 0  # type: ignore[assignment, method-assign, return-value]
            await rig.start(rig.new_server(source))
            peer = rig.new_peer("scheduler")
            await rig.join(peer)
            peer.subscribe(0, log.event, log.gap)
            await asyncio.sleep(0.1)
            assert log.seen == []
            source.read = healthy  # type: ignore[method-assign]
            await until(lambda: len(log.seen) == 1)

    run(test)


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 10), st.integers(0, 30))
def test_chunks_joined_are_the_whole_and_hold_whole_generations(generations: list[int], limit: int, start: int) -> None:
    source = MemoryEvents()
    for index, generation in enumerate(sorted(generations)):
        source.add(generation, removed(index))
    got = []
    cursor = start
    while rows := read_whole_generations(source, cursor, limit):
        assert rows[0][0] > cursor
        cursor = rows[-1][0]
        got += rows
    assert got == [row for row in source.rows if row[0] > start]


def test_what_was_sent_for_an_older_subscription_is_not_handed_out() -> None:
    sent: list[bytes] = []
    reader = EventReader(sent.append, Counters())
    log = Log()
    reader.subscribe(0, log.event, log.gap)
    reader.subscribe(50, log.event, log.gap)
    first, second = (wire.unpack_numbers(frame[2:18])[0] for frame in sent)
    late = memoryview(ENCODER.encode([(7, removed(7))]))
    fresh = memoryview(ENCODER.encode([(51, removed(51))]))
    reader.receive(wire.EVENTS, wire.pack_numbers(first, 1), late)
    reader.receive(wire.EVENTS, wire.pack_numbers(second, 1), fresh)
    assert log.generations == [51] and reader.position == 51


def test_a_missing_batch_is_asked_for_again() -> None:
    sent: list[bytes] = []
    reader = EventReader(sent.append, Counters())
    log = Log()
    reader.subscribe(0, log.event, log.gap)
    number, _ = wire.unpack_numbers(sent[-1][2:18])
    reader.receive(wire.EVENTS, wire.pack_numbers(number, 1), memoryview(ENCODER.encode([(1, removed(1))])))
    reader.receive(wire.EVENTS, wire.pack_numbers(number, 3), memoryview(ENCODER.encode([(3, removed(3))])))
    assert log.generations == [1]
    parsed = wire.parse(sent[-1])
    assert parsed is not None and parsed[0] == wire.SUBSCRIBE
    assert wire.POSITION_DECODER.decode(parsed[3]).generation == 1


class Wire:
    """An outbox whose frames wait until somebody lets them through, in any order."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def offer(self, frame: bytes) -> bool:
        self.frames.append(frame)
        return True


def test_the_frame_that_makes_a_subscriber_ask_again_is_never_taken_for_a_batch_that_comes_later() -> None:
    async def test() -> None:
        source, log, way = MemoryEvents(), Log(), Wire()
        feed = EventFeed(source, Limits(resend_after_s=0.0))
        asked: list[bytes] = []
        reader = EventReader(asked.append, Counters())
        reader.subscribe(0, log.event, log.gap)
        number, _ = wire.unpack_numbers(asked.pop()[2:18])
        feed.subscribe("scheduler", number, 0, way)  # type: ignore[arg-type]

        async def sent(generation: int) -> bytes:
            source.add(generation, removed(generation))
            feed.notify()
            await asyncio.sleep(0.01)
            return way.frames.pop()

        def deliver(frame: bytes) -> None:
            parsed = wire.parse(frame)
            assert parsed is not None
            reader.receive(parsed[0], parsed[1], parsed[3])

        for generation in (1, 2):
            deliver(await sent(generation))
        third = await sent(3)
        for _ in range(2):  # it says again that it has two: the third seems to be lost
            feed.acknowledge("scheduler", number, 2)
            await asyncio.sleep(0.01)
        late = way.frames.pop()
        for frame in (third, await sent(4), late, await sent(5), await sent(6)):
            deliver(frame)
        for frame in asked:  # whatever it asked for again it is given
            parsed = wire.parse(frame)
            assert parsed is not None
            if parsed[0] == wire.SUBSCRIBE:
                after = wire.POSITION_DECODER.decode(parsed[3]).generation
                feed.subscribe("scheduler", wire.unpack_numbers(frame[2:18])[0], after, way)  # type: ignore[arg-type]
        feed.notify()
        await asyncio.sleep(0.01)
        for frame in way.frames:
            deliver(frame)
        assert log.generations == [1, 2, 3, 4, 5, 6]
        feed.close()

    run(test)
