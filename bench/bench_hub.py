"""The hub: calls a second and how late they are, over a Unix socket and over tcp with CURVE; events to watchers.

The hub runs in its own process, as in the cloud, and both ends encode and decode. First a closed loop finds what 64
calls in flight reach; then an open loop offers half of that, and latency runs from the intended time of each call. The
processor time of the hub's process for each call is beside it: it says the same on a machine that is busy.

One process that asks at even times wakes for each call, which costs it as much as the call, and it would be the limit
itself. So two processes, each with a link of its own, offer a quarter each, and each asks once a millisecond for all
that falls due in it: calls come in bursts of some, as they come to the conductor from an API worker that works off its
connections, and may travel as one frame (``hub/wire.py``), which evenly spaced calls would not. Their intended time is
that millisecond's; whoever was late with it pays in the latency. Each says how late it was itself and what it used of
its core; if that is too much there is no figure.

Hub and askers use three quarters of two processors meanwhile, so the tail of that latency is the queue for them: 2 to
3 ms with nobody else there, and some ms for each hop when others want them too, or when the host takes a processor away
(10 to 40 ms at once, where machines share theirs). So the load is offered several times, and what is reported is the
time in which others and the host took the least; beside it stands how much that was, and which share of the time the
hub's threads waited for a processor.

    python -m bench hub
"""

from __future__ import annotations

import asyncio
import gc
import math
import multiprocessing
import os
import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import uvloop
import zmq

from bench.arrivals import EVEN, Pacer, offsets
from bench.histogram import Latencies
from bench.machine import busy_s, cpu_s, stolen_s, waited_s
from bench.open_loop import CPU_SHARE_MAX, LAG_P99_S_MAX
from bench.ports import free_ports
from bench.results import Refused, not_measured, report
from bench.targets import promised
from nova_fast.config import HubConfig
from nova_fast.daemon import settle_memory
from nova_fast.hub.contracts import encode_event
from nova_fast.hub.keys import AllowList, PeerKeys, ServerKeys
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer, Incoming
from nova_fast.model.base import Message
from nova_fast.model.events import ServerChanged
from nova_fast.model.tasks import Done, MetadataAnswer, MetadataRequest, ServiceReport

SECONDS, SECONDS_QUICK = 4.0, 0.3  # for each measure
IN_FLIGHT = 64
REQUEST = MetadataRequest(
    network_id="n" * 36, address="10.0.0.5", method="GET", path="/openstack/latest/meta_data.json", body=b"x" * 300
)
ANSWER = MetadataAnswer(status=200, content_type="application/json", body=b"y" * 300)
REPORT = ServiceReport(name="api.0", binary="nova-api", host="host1", zone="internal")
EVENT = encode_event(
    ServerChanged(server_id="s" * 36, project_id="p" * 32, status="ACTIVE", task_state=None, host="host1")
)
EVENTS, EVENTS_QUICK = 100_000, 10_000
WATCHERS = 4
ASKERS = 2  # processes that share an open loop
BURSTS = 1_000  # a second, of each
ROUNDS, ROUNDS_QUICK = 8, 1  # of an open loop; the one that others disturbed the least counts


class Meeting(msgspec.Struct, frozen=True):
    """Where hub and peers meet; over tcp with the keys of both."""

    address: str
    server: tuple[bytes, bytes] = (b"", b"")
    peer: tuple[bytes, bytes] = (b"", b"")

    def server_keys(self) -> ServerKeys | None:
        if not self.server[0]:
            return None
        return ServerKeys(*self.server, AllowList({self.peer[0]: ("api.*",)}))

    def peer_keys(self) -> PeerKeys | None:
        return PeerKeys(*self.peer, self.server[0]) if self.server[0] else None


class Load(msgspec.Struct, frozen=True):
    """What an open loop found, and who else wanted the processors meanwhile."""

    late: Latencies
    others: float  # share of the processors that other processes used
    stolen: float  # share of them that the host took away
    waited: float  # share of the time that threads of the hub waited for one, all together


class _Events:
    """A log of so many equal events."""

    def __init__(self, count: int) -> None:
        self._count = count

    def read(self, after_generation: int, limit: int) -> list[tuple[int, bytes]]:
        first = after_generation + 1
        return [(number, EVENT) for number in range(first, min(first + limit, self._count + 1))]

    def oldest(self) -> int:
        return 1


def serve(meeting: Meeting, events: int) -> None:
    """Answer until killed: MetadataRequest one by one, ServiceReport in batches."""

    def answer_all(calls: list[Incoming]) -> None:
        for call in calls:
            call.reply(Done())

    async def run() -> None:
        keys = meeting.server_keys()
        source: Any = _Events(events)
        server = HubServer(meeting.address, config=HubConfig(), keys=keys, events=source)
        server.handle(MetadataRequest, lambda peer, message, call_id: ANSWER)
        server.handle_batch((ServiceReport,), answer_all)
        await server.start()
        server.notify_events(events)
        settle_memory()  # as every daemon does
        await asyncio.Event().wait()

    uvloop.run(run())


class Asker:
    """The asking end, and what the hub's process costs meanwhile."""

    def __init__(self, peer: Peer, hub_pid: int, seconds: float) -> None:
        self._peer = peer
        self._hub_pid = hub_pid
        self._seconds = seconds

    async def closed(self, name: str, message: Message, in_flight: int) -> float:
        """Call with so many callers that wait; reports and returns calls a second."""
        latencies_s: list[float] = []
        hub_s, begin = cpu_s(self._hub_pid), time.perf_counter()
        end = begin + self._seconds

        async def caller() -> None:
            while (start := time.perf_counter()) < end:
                await self._peer.call(message, timeout_s=60)
                latencies_s.append(time.perf_counter() - start)

        await asyncio.gather(*(caller() for _ in range(in_flight)))
        rate = len(latencies_s) / (time.perf_counter() - begin)
        found = Latencies()
        found.add(latencies_s)
        if name:
            report(f"{name}_p99", found.ms(99), "ms", None)
            hub_us = 1e6 * (cpu_s(self._hub_pid) - hub_s) / len(latencies_s)
            report(f"{name}_hub_cpu", hub_us, "us a call", None)
        return rate

    async def opened(self, rate: float) -> list[float]:
        """Offer so many calls a second; their latencies. Raises Refused when the schedule could not be kept."""
        running: set[asyncio.Task[None]] = set()

        async def one(intended_s: float) -> None:
            await self._peer.call(REQUEST, timeout_s=60)
            pacer.finished(intended_s, True)

        def launch(intended_s: float) -> None:
            task = asyncio.ensure_future(one(intended_s))
            running.add(task)
            task.add_done_callback(running.discard)

        even = offsets(rate, self._seconds + 0.5, EVEN, random.Random(1))
        pacer = Pacer([math.ceil(at * BURSTS) / BURSTS for at in even], 0.5, launch)
        begin, used = time.monotonic(), time.process_time()
        assert await pacer.run(60), f"{pacer.unanswered} calls were not answered"
        share = (time.process_time() - used) / (time.monotonic() - begin)
        lag_s = sorted(pacer.lags_s)[int(len(pacer.lags_s) * 0.99)]
        if share > CPU_SHARE_MAX or lag_s > LAG_P99_S_MAX:
            raise Refused(f"the asking process was {lag_s * 1000:.1f} ms late and used {share:.0%} of its core")
        return pacer.latencies_s


def offer(meeting: Meeting, name: str, rate: float, seconds: float, answers: Connection) -> None:
    """One of the processes that share an open loop: sends its latencies, or why there are none, and what it used."""

    async def run() -> list[float] | str:
        peer = Peer(name, meeting.address, config=HubConfig(), keys=meeting.peer_keys())
        await peer.start()
        await peer.connected(60)
        try:
            gc.collect()
            gc.disable()  # a pause of the generator would be measured as the hub's
            return await Asker(peer, os.getpid(), seconds).opened(rate)
        except Refused as refused:
            return str(refused)
        finally:
            await peer.close()

    answers.send((uvloop.run(run()), time.process_time()))


def shared_load(meeting: Meeting, rate: float, seconds: float, hub_pid: int) -> Load:
    """An open loop from ASKERS processes together. Raises Refused when one of them could not keep its schedule."""
    context = multiprocessing.get_context("spawn")
    found, processes, refusals = Latencies(), [], []
    begin, used_s = time.monotonic(), busy_s() - cpu_s(hub_pid) - time.process_time()
    waited, stolen = waited_s(hub_pid), stolen_s()
    for number in range(ASKERS):
        ours, theirs = context.Pipe(duplex=False)
        share = (meeting, f"api.{number + 1}", rate / ASKERS, seconds, theirs)
        process = context.Process(target=offer, args=share, daemon=True)
        process.start()
        theirs.close()
        processes.append((process, ours))
    for process, ours in processes:
        answer, its_s = ours.recv()
        process.join()
        used_s += its_s
        if isinstance(answer, str):
            refusals.append(answer)
        else:
            found.add(answer)
    if refusals:
        raise Refused(refusals[0])
    passed_s = time.monotonic() - begin
    others_s = busy_s() - cpu_s(hub_pid) - time.process_time() - used_s
    cores = len(os.sched_getaffinity(0))
    return Load(
        late=found,
        others=max(0.0, others_s / passed_s / cores),
        stolen=(stolen_s() - stolen) / passed_s / cores,
        waited=(waited_s(hub_pid) - waited) / passed_s,
    )


async def ask(meeting: Meeting, kind: str, hub_pid: int, seconds: float) -> float:
    """Run the closed loops over one transport; the calls a second of the first."""
    peer = Peer("api.0", meeting.address, config=HubConfig(), keys=meeting.peer_keys())
    await peer.start()
    await peer.connected(60)
    asker = Asker(peer, hub_pid, seconds)
    await asker.closed("", REQUEST, IN_FLIGHT)  # warm up
    report(f"hub_rpc_{kind}_1_in_flight", await asker.closed(f"hub_rpc_{kind}_1_in_flight", REQUEST, 1), "1/s", None)
    rate = await asker.closed(f"hub_rpc_{kind}", REQUEST, IN_FLIGHT)
    if kind == "tcp_curve":
        promised("hub_rpc_tcp_curve", rate)
    else:
        report(f"hub_rpc_{kind}", rate, "1/s", None)
    batched = await asker.closed(f"hub_rpc_{kind}_batched", REPORT, IN_FLIGHT)
    report(f"hub_rpc_{kind}_batched", batched, "1/s", None)
    await peer.close()
    return rate


def half_load(meeting: Meeting, kind: str, half: float, hub_pid: int, *, quick: bool) -> None:
    """How late answers are at half of what was reached."""
    name = f"hub_rpc_{kind}_half_load"
    loads, why = [], ""
    for _ in range(ROUNDS_QUICK if quick else ROUNDS):
        try:
            loads.append(shared_load(meeting, half, SECONDS_QUICK if quick else SECONDS, hub_pid))
        except Refused as refused:
            why = str(refused)
    if not loads:
        not_measured(name, why)
        return
    best = min(loads, key=lambda load: load.others + load.stolen)
    for percent in (50, 99.9):
        report(f"{name}_p{percent:g}", best.late.ms(percent), "ms", None)
    report(f"{name}_others", 100 * best.others, "% of the processors", None)
    report(f"{name}_stolen", 100 * best.stolen, "% of the processors", None)
    report(f"{name}_hub_waited", 100 * best.waited, "% of the time", None)
    if kind == "tcp_curve":
        promised("hub_rpc_tcp_curve_half_load_p99", best.late.ms(99))
    else:
        report(f"{name}_p99", best.late.ms(99), "ms", None)


async def watch(meeting: Meeting, kind: str, events: int) -> None:
    """Several watchers read the whole log from its beginning, decoded, at the same time."""
    peers = []
    done = asyncio.Event()
    left = WATCHERS

    def last(generation: int) -> None:
        nonlocal left
        if generation == events:
            left -= 1
            if not left:
                done.set()

    def gap() -> None:
        raise AssertionError("events were missed")

    for number in range(WATCHERS):
        peer = Peer(f"api.{number}", meeting.address, config=HubConfig(), keys=meeting.peer_keys())
        peer.subscribe(0, lambda generation, _event: last(generation), gap)
        peers.append(peer)
    begin = time.perf_counter()
    for peer in peers:
        await peer.start()
    async with asyncio.timeout(120):
        await done.wait()
    report(f"hub_events_{kind}_{WATCHERS}_watchers", WATCHERS * events / (time.perf_counter() - begin), "1/s", None)
    for peer in peers:
        await peer.close()


def main(*, quick: bool = False) -> None:
    seconds, events = (SECONDS_QUICK, EVENTS_QUICK) if quick else (SECONDS, EVENTS)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        keys = {"server": zmq.curve_keypair(), "peer": zmq.curve_keypair()}
        [port] = free_ports(1)
        meetings = {
            "ipc": Meeting(f"ipc://{Path(folder) / 'hub.sock'}"),
            "tcp_curve": Meeting(f"tcp://127.0.0.1:{port}", **keys),
        }
        for kind, meeting in meetings.items():
            process = context.Process(target=serve, args=(meeting, events), daemon=True)
            process.start()
            assert process.pid is not None
            try:
                rate = uvloop.run(ask(meeting, kind, process.pid, seconds))
                half_load(meeting, kind, rate / 2, process.pid, quick=quick)
                uvloop.run(watch(meeting, kind, events))
            finally:
                process.kill()
                process.join()


if __name__ == "__main__":
    main()
