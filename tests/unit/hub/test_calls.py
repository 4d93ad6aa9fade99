"""Calls through real sockets: answers, errors, deadlines, and that an id runs once."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

import pytest

from nova_fast.config import HubConfig
from nova_fast.hub import wire
from nova_fast.hub.limits import Limits
from nova_fast.hub.server import Incoming
from nova_fast.model.base import Message
from nova_fast.model.errors import (
    Conflict,
    InternalError,
    NotImplementedHere,
    OverQuota,
    TooLarge,
    Unavailable,
)
from nova_fast.model.tasks import ConsoleOutput, Done, MetadataAnswer, MetadataRequest, ReadConsole, ServiceReport
from tests.tries import least
from tests.unit.hub.rig import TRANSPORTS, Rig, in_s, run, until

REPORT = ServiceReport(name="api.0", binary="nova-api", host="h", zone="internal")
CONSOLE = ReadConsole(server_id="s", domain_name="d")
REQUEST = MetadataRequest(network_id="n", address="10.0.0.2", method="GET", path="/a")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_calls_are_answered_in_both_directions(transport: str) -> None:
    async def test() -> None:
        async with Rig(transport) as rig:
            server = rig.new_server()
            seen: list[tuple[str, bytes]] = []

            def metadata(peer: str, message: MetadataRequest, call_id: bytes) -> Message:
                seen.append((peer, call_id))
                return MetadataAnswer(status=200, content_type="text/plain", body=message.path.encode())

            async def console(message: ReadConsole, call_id: bytes) -> Message:
                await asyncio.sleep(0.001)
                return ConsoleOutput(text=message.domain_name)

            server.handle(MetadataRequest, metadata)
            await rig.start(server)
            peer = rig.new_peer("network@host1")
            peer.handle(ReadConsole, console)
            await rig.join(peer)
            call_id = os.urandom(16)
            answer = await peer.call(REQUEST, timeout_s=60, call_id=call_id)
            assert answer == MetadataAnswer(status=200, content_type="text/plain", body=b"/a")
            assert seen == [("network@host1", call_id)]
            assert await server.call("network@host1", CONSOLE, timeout_s=60) == ConsoleOutput(text="d")
            assert server.peers()["network@host1"].up

    run(test)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_large_message_arrives_whole(transport: str) -> None:
    async def test() -> None:
        async with Rig(transport) as rig:
            server = rig.new_server()
            server.handle(
                MetadataRequest, lambda p, m, i: MetadataAnswer(status=200, content_type="x", body=m.body[::-1])
            )
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            body = os.urandom(8 << 20)
            request = MetadataRequest(network_id="n", address="a", method="PUT", path="/", body=body)
            answer = await peer.call(request, timeout_s=60)
            assert isinstance(answer, MetadataAnswer)
            assert answer.body == body[::-1]

    run(test)


def test_errors_come_back_as_what_they_were() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()

            def refuse(peer: str, message: ServiceReport, call_id: bytes) -> Message:
                raise OverQuota("no more cores", code="cores", field="flavor", hint="ask", details={"limit": "20"})

            server.handle(ServiceReport, refuse)
            await rig.start(server)
            peer = rig.new_peer("api.0")

            async def conflict(message: ReadConsole, call_id: bytes) -> Message:
                raise Conflict("it is locked")

            peer.handle(ReadConsole, conflict)
            await rig.join(peer)
            with pytest.raises(OverQuota) as caught:
                await peer.call(REPORT, timeout_s=60)
            error = caught.value
            assert (error.message, error.code, error.field) == ("no more cores", "cores", "flavor")
            assert (error.hint, error.details) == ("ask", {"limit": "20"})
            with pytest.raises(Conflict, match="it is locked"):
                await server.call("api.0", CONSOLE, timeout_s=60)

    run(test)


def test_an_unexpected_exception_is_logged_once_and_tells_the_caller_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()

            def broken(peer: str, message: ServiceReport, call_id: bytes) -> Message:
                raise KeyError("the secret")

            server.handle(ServiceReport, broken)
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            call_id = os.urandom(16)
            with pytest.raises(InternalError) as caught:
                await peer.call(REPORT, timeout_s=60, call_id=call_id)
            assert "secret" not in caught.value.message
            assert call_id.hex() in caught.value.message
            records = [r for r in caplog.records if r.levelno >= logging.ERROR]
            assert len(records) == 1 and call_id.hex() in records[0].getMessage()
            with pytest.raises(NotImplementedHere):
                await peer.call(REQUEST, timeout_s=60)

    run(test)


def test_a_call_without_an_answer_ends_at_its_deadline() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            forever = asyncio.get_running_loop().create_future()

            async def stuck(peer: str, message: ServiceReport, call_id: bytes) -> Message:
                await forever
                raise AssertionError

            server.handle(ServiceReport, stuck)
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))

            async def took_s(call: Callable[[], Awaitable[Message]]) -> float:
                start_s = asyncio.get_running_loop().time()
                with pytest.raises(Unavailable) as caught:
                    await call()
                assert caught.value.code == "deadline_passed"
                return asyncio.get_running_loop().time() - start_s

            for call in (
                lambda: peer.call(REPORT, timeout_s=0.3),
                lambda: server.call("compute@nobody", CONSOLE, timeout_s=0.3),
            ):
                assert 0.25 < await least(lambda call=call: took_s(call), 1) < 1
            with pytest.raises(Unavailable):
                await peer.call(REPORT, timeout_s=-1)

    run(test)


def test_a_call_that_arrives_after_its_deadline_does_not_run() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            ran: list[bytes] = []
            server.handle(ServiceReport, lambda p, m, i: ran.append(i) or Done())
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            peer._settings.clock_ahead_us = -90_000_000  # as if the hub's clock had just been set back
            with pytest.raises(Unavailable, match="after its deadline"):
                await peer.call(REPORT, timeout_s=60)
            assert ran == [] and server.counters.expired == 1

    run(test)


def test_clocks_that_disagree_do_not_shorten_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda p, m, i: Done())
            await rig.start(server)
            peer = rig.new_peer("api.0")
            # The WELCOME comes from a hub whose clock is an hour ahead.
            real = wire.Welcome
            monkeypatch.setattr(
                wire,
                "Welcome",
                lambda **fields: real(**{**fields, "clock_us": fields["clock_us"] + 3_600_000_000}),
            )
            await rig.join(peer)
            assert abs(peer._settings.clock_ahead_us - 3_600_000_000) < 60_000_000
            frame_deadlines: list[float] = []
            original = server._handlers.dispatch

            def spy(call: Incoming) -> None:
                frame_deadlines.append(call.deadline_s)
                original(call)

            server._handlers.dispatch = spy  # type: ignore[method-assign]
            await peer.call(REPORT, timeout_s=60)
            assert abs(frame_deadlines[0] - asyncio.get_running_loop().time() - 3660) < 60

    run(test)


def test_a_repeated_id_joins_the_running_call_and_then_gets_the_remembered_answer() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            await rig.start(server)
            peer = rig.new_peer("compute@h")
            ran: list[bytes] = []
            go = asyncio.Event()

            async def console(message: ReadConsole, call_id: bytes) -> Message:
                ran.append(call_id)
                await go.wait()
                return ConsoleOutput(text=f"run {len(ran)}")

            peer.handle(ReadConsole, console)
            await rig.join(peer)
            call_id = os.urandom(16)
            frame = wire.pack(wire.CALL, call_id, in_s(60), _encoded(CONSOLE))
            first = asyncio.create_task(server.call("compute@h", CONSOLE, timeout_s=60, call_id=call_id))
            second = asyncio.create_task(server.call("compute@h", CONSOLE, timeout_s=60, call_id=call_id))
            await until(lambda: len(ran) == 1)
            server._links["compute@h"].outbox.put(frame)  # a resend while it runs
            await until(lambda: peer.counters.repeated == 1)
            go.set()
            assert await first == await second == ConsoleOutput(text="run 1")
            again = await server.call("compute@h", CONSOLE, timeout_s=60, call_id=call_id)
            assert again == ConsoleOutput(text="run 1")
            assert ran == [call_id]

    run(test)


def test_the_hub_runs_a_repeated_id_of_a_peer_once() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            ran: list[bytes] = []
            server.handle(ServiceReport, lambda p, m, i: ran.append(i) or Done())
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            call_id = os.urandom(16)
            for _ in range(3):
                assert await peer.call(REPORT, timeout_s=60, call_id=call_id) == Done()
            assert ran == [call_id] and server.counters.repeated == 2

    run(test)


def test_remembered_answers_are_bounded() -> None:
    async def test() -> None:
        async with Rig(limits=Limits(answers_max=10)) as rig:
            server = rig.new_server()
            ran: list[bytes] = []
            server.handle(ServiceReport, lambda p, m, i: ran.append(i) or Done())
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            calls = [os.urandom(16) for _ in range(12)]
            for call_id in calls:
                await peer.call(REPORT, timeout_s=60, call_id=call_id)
            for call_id in (calls[0], *calls[-5:]):
                await peer.call(REPORT, timeout_s=60, call_id=call_id)
            assert ran == [*calls, calls[0]], "the newest are remembered, the first is not"

    run(test)


def test_the_answer_of_what_may_simply_run_again_is_not_kept() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            ran: list[bytes] = []
            server.handle(ServiceReport, lambda p, m, i: ran.append(i) or Done(), repeatable=True)
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            again = os.urandom(16)
            for _ in range(2):
                assert await peer.call(REPORT, timeout_s=60, call_id=again) == Done()
            assert ran == [again, again]
            assert len(server._links["api.0"].incoming._answers) == 0

    run(test)


def test_more_calls_than_credits_wait_and_more_than_the_queue_are_refused() -> None:
    async def test() -> None:
        config = HubConfig(heartbeat_s=1, down_after_s=5, credits=4)
        async with Rig(config=config, limits=Limits(waiting_calls_max=6)) as rig:
            server = rig.new_server()
            await rig.start(server)
            peer = rig.new_peer("compute@h")
            go = asyncio.Event()
            running = 0
            peak = 0

            async def console(message: ReadConsole, call_id: bytes) -> Message:
                nonlocal running, peak
                running += 1
                peak = max(peak, running)
                await go.wait()
                running -= 1
                return ConsoleOutput(text="")

            peer.handle(ReadConsole, console)
            await rig.join(peer)
            calls = [asyncio.create_task(server.call("compute@h", CONSOLE, timeout_s=60)) for _ in range(10)]
            await until(lambda: running == 4)
            state = server.peers()["compute@h"]
            assert (state.calls_in_flight, state.calls_waiting) == (4, 6)
            with pytest.raises(Unavailable) as caught:
                await server.call("compute@h", CONSOLE, timeout_s=60)
            assert caught.value.code == "queue_full"
            go.set()
            assert await asyncio.gather(*calls) == [ConsoleOutput(text="")] * 10
            assert peak == 4

    run(test)


def test_a_cancelled_caller_gives_its_credit_back() -> None:
    async def test() -> None:
        config = HubConfig(heartbeat_s=1, down_after_s=5, credits=1)
        async with Rig(config=config) as rig:
            server = rig.new_server()

            async def stuck(peer: str, message: MetadataRequest, call_id: bytes) -> Message:
                await asyncio.sleep(60)
                raise AssertionError

            server.handle(MetadataRequest, stuck)
            server.handle(ServiceReport, lambda p, m, i: Done())
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            await until(lambda: peer._outgoing.in_flight == 0)
            call = asyncio.create_task(peer.call(REQUEST, timeout_s=30))
            await until(lambda: peer._outgoing.in_flight == 1)
            behind = asyncio.create_task(peer.call(REPORT, timeout_s=60))
            await asyncio.sleep(0.05)
            assert not behind.done()
            call.cancel()
            assert await behind == Done()

    run(test)


def test_calls_that_arrive_together_are_handed_over_together() -> None:
    async def test() -> None:
        config = HubConfig(heartbeat_s=1, down_after_s=5, credits=64)
        async with Rig(config=config) as rig:
            server = rig.new_server()
            sizes: list[int] = []

            def take(calls: list[Incoming]) -> None:
                sizes.append(len(calls))
                for index, call in enumerate(calls):
                    assert call.peer == "api.0" and call.deadline_s > asyncio.get_running_loop().time()
                    call.reply(Conflict("odd") if index % 2 else Done())

            server.handle_batch((ServiceReport,), take)
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            calls = [peer.call(REPORT, timeout_s=60) for _ in range(64)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(sizes) == 64 and max(sizes) > 1
            assert answers.count(Done()) + sum(isinstance(a, Conflict) for a in answers) == 64

    run(test)


def test_a_batch_handler_that_breaks_answers_all_its_calls() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()

            def take(calls: list[Incoming]) -> None:
                raise ZeroDivisionError

            server.handle_batch((ServiceReport,), take)
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            answers = await asyncio.gather(*(peer.call(REPORT, timeout_s=60) for _ in range(5)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [InternalError] * 5

    run(test)


def test_a_message_over_the_bound_is_refused_where_it_is_made() -> None:
    async def test() -> None:
        async with Rig(limits=Limits(message_bytes_max=10_000)) as rig:
            server = rig.new_server()
            server.handle(
                MetadataRequest, lambda p, m, i: MetadataAnswer(status=200, content_type="", body=bytes(20_000))
            )
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            big = MetadataRequest(network_id="n", address="a", method="PUT", path="/", body=bytes(20_000))
            with pytest.raises(TooLarge) as caught:
                await peer.call(big, timeout_s=60)
            assert caught.value.code == "message_too_large"
            with pytest.raises(TooLarge) as caught:
                await peer.call(REQUEST, timeout_s=60)
            assert caught.value.code == "answer_too_large"

    run(test)


def test_a_call_made_before_the_hub_is_known_gets_its_full_time() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda p, m, i: Done())
            peer = rig.new_peer("api.0")
            await peer.start()
            peer._settings.clock_ahead_us = -3_600_000_000  # what it knew of an earlier hub, which ran an hour less
            call = asyncio.create_task(peer.call(REPORT, timeout_s=60))
            await asyncio.sleep(0.05)
            await rig.start(server)
            assert await call == Done()
            assert server.counters.expired == 0

    run(test)


def test_a_handler_that_is_cancelled_answers_that_it_was() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()

            async def cancelled(peer: str, message: ServiceReport, call_id: bytes) -> Message:
                raise asyncio.CancelledError

            server.handle(ServiceReport, cancelled)
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            with pytest.raises(Unavailable) as caught:
                await peer.call(REPORT, timeout_s=60)
            assert caught.value.code == "cancelled"

    run(test)


def test_a_callback_that_raises_does_not_stop_the_hub() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda p, m, i: Done())

            def broken(*args: object) -> None:
                raise RuntimeError

            server.on_peer_up = server.on_peer_down = broken
            await rig.start(server)
            first = rig.new_peer("api.0")
            first.on_connected = first.on_disconnected = broken
            await rig.join(first)
            await first.close()
            second = await rig.join(rig.new_peer("api.0"))
            assert await second.call(REPORT, timeout_s=60) == Done()

    run(test)


def _encoded(message: Message) -> bytes:
    from nova_fast.hub.contracts import ENCODER

    return ENCODER.encode(message)
