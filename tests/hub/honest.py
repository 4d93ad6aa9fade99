"""Honest peers in a process of their own: production Peers that call at a steady rate, and count what comes back.

The rate is open-loop: call N is made at its time whether or not call N-1 was answered. So a hub that stalls is seen by
every call that was made in the stall, not by one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from functools import partial
from pathlib import Path
from socket import SHUT_RDWR

import zmq

from nova_fast.edges import Context, Edges
from nova_fast.hub.limits import Limits
from nova_fast.hub.peer import Peer
from nova_fast.hub.transport import connection_of
from nova_fast.hub.wire import CallIds
from nova_fast.model.base import Message
from nova_fast.model.errors import NovaFastError
from nova_fast.model.events import Event, HostRemoved
from nova_fast.model.tasks import ConsoleOutput, MetadataAnswer, MetadataRequest, ReadConsole
from tests.hub.hub_host import Place

CALL_TIMEOUT_S = 100.0


_SOCKETS_MAX = 10_000


class Honest:
    """Some peers; the first ``subscribers`` of them read the events too."""

    def __init__(self, place: Place, names: list[str], subscribers: int) -> None:
        # One ZeroMQ context for all, and so two threads, where as many daemons would have one each.
        context: Context = zmq.Context()
        context.set(zmq.MAX_SOCKETS, _SOCKETS_MAX)
        self._peers = [
            Peer(
                name,
                place.address,
                config=place.config,
                keys=place.peer_keys(),
                limits=Limits(),
                edges=Edges(new_context=lambda: context),
            )
            for name in names
        ]
        self._subscribers = names[:subscribers]
        self._call_ids = CallIds(os.urandom)
        self._answers: Counter[bytes] = Counter()  # call id → answers
        self._made: list[bytes] = []
        self._wrong = 0
        self._failures: list[str] = []
        self._latencies_ms: list[float] = []
        self._hub_clock = time.CLOCK_PROCESS_CPUTIME_ID
        self._hub_ms: list[float] = []
        self._losses = 0
        self._gone: set[str] = set()  # who has noticed that its connection broke
        self._back: set[str] = set()  # who of them has been welcomed since
        self._place = place
        self._calling: set[asyncio.Task[None]] = set()
        self._seen: dict[str, list[str]] = {name: [] for name in self._subscribers}
        self._gaps: list[str] = []
        self._runs: Counter[str] = Counter()

    async def start(self, timeout_s: float = 60.0) -> float:
        """Connect all; the seconds that took."""
        begin = time.monotonic()
        for peer in self._peers:
            peer.on_connected = partial(self._welcomed, peer.name)
            peer.on_disconnected = partial(self._lost, peer.name)
            peer.handle(ReadConsole, self._console)
            if peer.name in self._subscribers:
                self._subscribe(peer)
            await peer.start()
        for peer in self._peers:
            await peer.connected(timeout_s)
        return time.monotonic() - begin

    def _welcomed(self, name: str, _new_hub: bool) -> None:
        if name in self._gone:
            self._back.add(name)

    def _lost(self, name: str) -> None:
        self._losses += 1
        self._gone.add(name)
        self._back.discard(name)

    def losses(self) -> int:
        """How often a peer has lost the hub."""
        return self._losses

    def connected(self) -> int:
        return sum(peer.is_connected for peer in self._peers)

    def all_connected(self) -> bool:
        return self.connected() == len(self._peers)

    def _subscribe(self, peer: Peer) -> None:
        seen = self._seen[peer.name]

        def on_event(generation: int, event: Event) -> None:
            if generation != len(seen) + 1:
                self._gaps.append(f"{peer.name}: {generation} after {len(seen)}")
            assert isinstance(event, HostRemoved)
            seen.append(event.host)

        peer.subscribe(0, on_event, lambda: self._gaps.append(f"{peer.name} was told of a gap"))

    def _console(self, message: ReadConsole, call_id: bytes) -> Message:
        self._runs[message.server_id] += 1
        return ConsoleOutput(text=message.server_id)

    async def call_steadily(self, rate: float, seconds: float) -> list[float]:
        """Calls of all peers in turn; waits for their answers, and returns the latencies in ms."""
        before = len(self._latencies_ms)
        await self.begin_calls(rate, seconds)
        await self.answered()
        return self._latencies_ms[before:]

    async def call_and_look(self, rate: float, seconds: float, hub_pid: int) -> tuple[list[float], list[float]]:
        """The same, and for each call the processor time in ms that the hub used while it was under way.

        This is what the hub does with its own time. It is the same on a machine on which others are busy too.
        """
        self._hub_clock = (~hub_pid << 3) | 2  # how Linux numbers the clocks of other processes
        before = len(self._latencies_ms)
        latencies_ms = await self.call_steadily(rate, seconds)
        return latencies_ms, self._hub_ms[before:]

    async def begin_calls(self, rate: float, seconds: float) -> None:
        """The same without waiting for the last answers."""
        begin = time.perf_counter()
        for number in range(int(rate * seconds)):
            intended_s = begin + number / rate
            if (wait_s := intended_s - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            self._launch(self._peers[number % len(self._peers)], intended_s)

    def call_all(self, calls_of_each: int) -> None:
        """Every peer makes some calls at once."""
        for peer in self._peers:
            for _ in range(calls_of_each):
                self._launch(peer, time.perf_counter())

    async def answered(self) -> bool:
        """Wait until no call is under way."""
        if self._calling:
            await asyncio.wait(self._calling, timeout=CALL_TIMEOUT_S)
        return not self._calling

    def _launch(self, peer: Peer, intended_s: float) -> None:
        call_id = self._call_ids.next()
        self._made.append(call_id)
        task = asyncio.get_running_loop().create_task(self._call(peer, call_id, intended_s))
        self._calling.add(task)
        task.add_done_callback(self._calling.discard)

    async def _call(self, peer: Peer, call_id: bytes, intended_s: float) -> None:
        path = f"/{call_id.hex()}"
        hub_used_s = time.clock_gettime(self._hub_clock)
        request = MetadataRequest(network_id="n", address="10.0.0.5", method="GET", path=path)
        try:
            answer = await peer.call(request, timeout_s=CALL_TIMEOUT_S, call_id=call_id)
        except NovaFastError as error:
            self._failures.append(error.code)
            return
        assert isinstance(answer, MetadataAnswer)
        self._wrong += answer.body != path.encode()
        self._answers[call_id] += 1
        self._latencies_ms.append((time.perf_counter() - intended_s) * 1e3)
        self._hub_ms.append((time.clock_gettime(self._hub_clock) - hub_used_s) * 1e3)

    def lose_connections(self) -> int:
        """Every connection to the hub breaks now, as when a switch restarts; how many there were."""
        scheme, _, there = self._place.address.partition("://")
        lost = 0
        for descriptor in os.listdir("/proc/self/fd"):
            connection = connection_of(int(descriptor))
            if connection is None:
                continue
            with connection:
                try:
                    name = connection.getpeername()
                    if (name if scheme == "ipc" else ":".join(map(str, name))) == there:
                        connection.shutdown(SHUT_RDWR)
                        lost += 1
                except OSError:
                    continue  # not connected
        self._gone.clear()
        self._back.clear()
        return lost

    def all_back(self) -> bool:
        """Whether every peer has noticed that its connection broke, and has been welcomed since."""
        return len(self._back) == len(self._peers) and self.connected() == len(self._peers)

    def sleep_blocked(self, until: Path) -> None:
        """Hold the loop until a file is there: the sockets stay open, ZeroMQ's thread lives, and nobody receives."""
        while not until.exists():
            time.sleep(0.01)

    def events_complete(self, generation: int) -> bool:
        """Whether every subscriber has seen everything up to this generation."""
        return all(len(seen) >= generation for seen in self._seen.values())

    def verdict(self) -> tuple[list[bytes], list[str], list[list[str]]]:
        """Call ids made, what is wrong (nothing, if all is well), and the events that each subscriber has seen."""
        wrong = [f"a call failed: {code}" for code in self._failures] + self._gaps
        wrong += [f"{self._wrong} answers belong to another call"] if self._wrong else []
        wrong += [
            f"{call_id.hex()} has {self._answers[call_id]} answers"
            for call_id in self._made
            if self._answers[call_id] != 1
        ]
        wrong += [f"console {number} ran {runs} times" for number, runs in self._runs.items() if runs != 1]
        return self._made, wrong, list(self._seen.values())

    def runs(self) -> int:
        return len(self._runs)
