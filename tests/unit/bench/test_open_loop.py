"""The open-loop generator against a server whose behaviour is known: it must not flatter anybody."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from bench import open_loop
from bench.arrivals import EVEN, POISSON, Pacer, offsets
from bench.open_loop import Job, Run
from bench.results import Refused
from tests.tries import least_of

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Server(threading.Thread):
    """Answers one request after the other, each after ``pause_s``; stalls once for ``stall_s``."""

    def __init__(
        self,
        answer: bytes = OK,
        pause_s: float = 0.0,
        stall_s: float = 0.0,
        stall_after: int = 50,
        close_after: int = 0,
    ) -> None:
        super().__init__(daemon=True)
        self._answer, self._pause_s, self._stall_s, self._stall_after = answer, pause_s, stall_s, stall_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.served = 0
        self._close_after = close_after
        self._loop = asyncio.new_event_loop()

    def run(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    self.served += 1
                    # The whole server stands still, as one that collects garbage or waits for a disk does.
                    time.sleep(self._stall_s if self.served == self._stall_after else self._pause_s)  # noqa: ASYNC251
                    writer.write(self._answer)
                    if self.served == self._close_after:
                        writer.close()
                        return

        async def main() -> None:
            await asyncio.start_server(serve, sock=self._listener)
            await asyncio.Event().wait()

        with contextlib.suppress(RuntimeError):
            self._loop.run_until_complete(main())

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self.join(5)


@contextlib.contextmanager
def serving(**kinds: float | bytes | int) -> Iterator[Server]:
    server = Server(**kinds)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.stop()


def load(server: Server, rate: float, seconds: float, connections: int = 16, warm_up_s: float = 0.2) -> Run:
    ids = ["a", "b"]
    return open_loop.run(
        Job(port=server.port, rate=rate, seconds=seconds, ids=ids, connections=connections, warm_up_s=warm_up_s)
    )


def test_a_stall_is_felt_by_every_request_that_was_meant_to_be_sent_in_it() -> None:
    """200/s and a stall of 0.5 s: a hundred requests are late, though each connection had only one under way."""

    def usual_ms() -> float:
        with serving(stall_s=0.5, stall_after=100) as server:
            found = load(server, rate=200, seconds=2, connections=4)
        assert (found.errors, found.unanswered, found.answered) == (0, 0, 400)
        late = found.percentiles()
        assert late.ms(99) > 400
        assert late.ms(85) > 150  # a quarter of all waited; a closed loop would have seen four
        return late.ms(50)

    assert least_of(usual_ms, 100) < 100


def test_more_than_a_server_can_do_is_seen_as_less_achieved_and_ever_later_answers() -> None:
    with serving(pause_s=0.01) as server:  # 100/s at most
        found = load(server, rate=200, seconds=1)
    assert found.offered == 200
    assert found.achieved < 0.75 * found.offered
    assert found.percentiles().ms(90) > 500


def test_errors_are_counted_and_a_run_with_errors_cannot_be_quoted() -> None:
    with serving(answer=OK.replace(b"200 OK", b"503 Full")) as server:
        found = load(server, rate=50, seconds=0.5)
    assert found.errors == found.answered == 25
    with pytest.raises(AssertionError, match="were errors"):
        found.checked()


def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    """A request that waited for the connection leaves by it before the end is seen: then it is an error."""

    def errors() -> int:
        with serving(close_after=10) as server:
            found = load(server, rate=100, seconds=0.5, connections=1)
        assert (found.answered, found.unanswered) == (50, 0)
        assert found.errors <= 1
        return found.errors

    assert least_of(errors, 1) == 0


def test_a_generator_that_could_not_keep_its_schedule_refuses_to_report() -> None:
    good = Run(
        offered=100, achieved=100, answered=100, errors=0, unanswered=0, latencies="", latencies_of={},
        lag_p99_s=0.001, cpu_share=0.3,
    )  # fmt: skip
    assert good.checked() is good
    for field, value, why in (("cpu_share", 0.99, "of its core"), ("lag_p99_s", 0.2, "behind its schedule")):
        found = Run(**{name: getattr(good, name) for name in good.__struct_fields__} | {field: value})
        with pytest.raises(Refused, match=why):
            found.checked()


def test_a_real_generator_that_is_asked_for_too_much_says_so() -> None:
    with serving() as server:
        found = load(server, rate=5_000_000, seconds=0.01, warm_up_s=0)
    assert found.saturated


def test_arrivals_are_even_or_random_and_of_the_rate_that_was_asked() -> None:
    assert offsets(4, 1, EVEN, random.Random(1)) == [0, 0.25, 0.5, 0.75]
    times = offsets(1000, 20, POISSON, random.Random(1))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == pytest.approx(20_000, rel=0.03)
    assert times == sorted(times) and times[-1] < 20
    # Of an exponential distribution: as much spread as mean, and 1/e of the gaps above it.
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.02)


def test_the_pacer_counts_nothing_of_its_warm_up_and_latency_from_the_intended_time() -> None:
    async def run() -> Pacer:
        def launch(intended_s: float) -> None:
            asyncio.get_running_loop().call_later(0.05, pacer.finished, intended_s, True)

        pacer = Pacer([0.0, 0.1, 0.2, 0.3], 0.15, launch)
        assert await pacer.run(5)
        return pacer

    pacer = asyncio.run(run())
    assert len(pacer.latencies_s) == len(pacer.lags_s) == 2
    assert all(0.045 < seconds < 5 for seconds in pacer.latencies_s)


def test_the_pacer_gives_up_on_what_is_never_answered() -> None:
    async def run() -> tuple[bool, int]:
        pacer = Pacer([0.0, 0.01], 0, lambda _intended_s: None)
        return await pacer.run(-0.9), pacer.unanswered

    assert asyncio.run(run()) == (False, 2)
