"""A hub in a process of its own, with a durable memory of what it has done, as the conductor has it.

Every :class:`MetadataRequest` is an effect: its call id is appended to a file before it is answered, and a call id
that is in the file already is only answered. The file outlives kill -9 and is read by the next hub; it is also the
event log: the Nth effect is the event of generation N. So the file says what was done, how often, and which events
there are.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from nova_fast.config import HubConfig
from nova_fast.hub.contracts import encode_event
from nova_fast.hub.events import Rows
from nova_fast.hub.keys import AllowList, PeerKeys, ServerKeys
from nova_fast.hub.limits import Limits
from nova_fast.hub.server import HubServer, Incoming
from nova_fast.hub.wire import ID_BYTES
from nova_fast.model.errors import NovaFastError
from nova_fast.model.events import HostRemoved
from nova_fast.model.tasks import ConsoleOutput, Done, MetadataAnswer, MetadataRequest, ReadConsole, ServiceReport


class Place(NamedTuple):
    """Where a hub is, and what everybody must know to meet there; can be sent to a process."""

    address: str
    local_address: str  # beside it, for the daemons of the hub's machine; "" = there is one way in
    effects: str  # the file
    server_pair: tuple[bytes, bytes]
    peer_pair: tuple[bytes, bytes]
    config: HubConfig

    @property
    def on_the_hubs_machine(self) -> Place:
        """For daemons of the hub's own machine, which come in by its socket."""
        return self._replace(address=self.local_address or self.address)

    def server_keys(self) -> ServerKeys | None:
        if not self.address.startswith("tcp://"):
            return None
        allowed = AllowList({self.peer_pair[0]: ("api.*", "scheduler", "compute@*")})
        return ServerKeys(*self.server_pair, allowed)

    def peer_keys(self) -> PeerKeys | None:
        if not self.address.startswith("tcp://"):
            return None
        return PeerKeys(*self.peer_pair, self.server_pair[0])


def new_place(folder: Path, transport: str, config: HubConfig) -> Place:
    """A place for a hub; over tcp its port is known when the hub has started (``HubHost.start``)."""
    socket = f"ipc://{folder}/hub.sock"
    address, local = (socket, "") if transport == "ipc" else ("tcp://127.0.0.1:0", socket)
    return Place(address, local, str(folder / "effects"), zmq.curve_keypair(), zmq.curve_keypair(), config)


def read_effects(place: Place) -> list[bytes]:
    """The call ids of all effects, in order."""
    content = Path(place.effects).read_bytes()
    return [content[at : at + ID_BYTES] for at in range(0, len(content), ID_BYTES)]


class _EffectEvents:
    """The effects as an EventSource."""

    def __init__(self, call_ids: list[bytes]) -> None:
        self._call_ids = call_ids

    def read(self, after_generation: int, limit: int) -> Rows:
        rows = self._call_ids[after_generation : after_generation + limit]
        return [(after_generation + 1 + n, encode_event(HostRemoved(host=row.hex()))) for n, row in enumerate(rows)]

    def oldest(self) -> int:
        return 1


class HubHost:
    """What the test can ask of the hub's process."""

    def __init__(self, place: Place, limits: Limits) -> None:
        self._file = os.open(place.effects, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        self._done = read_effects(place)
        self._known = set(self._done)
        self._server = HubServer(
            place.address,
            local_address=place.local_address,
            config=place.config,
            keys=place.server_keys(),
            events=_EffectEvents(self._done),
            limits=limits,
        )
        self._server.handle_batch((MetadataRequest, ServiceReport), self._run_batch)
        self._asking: set[asyncio.Task[None]] = set()
        self._asked = 0
        self._answers: list[str] = []
        self._failures: list[str] = []

    async def start(self) -> str:
        """Serve; the real address."""
        await self._server.start()
        return self._server.address

    def _run_batch(self, calls: list[Incoming]) -> None:
        fresh: list[bytes] = []
        for call in calls:
            if isinstance(call.message, MetadataRequest) and call.call_id not in self._known:
                self._known.add(call.call_id)
                fresh.append(call.call_id)
        if fresh:
            os.write(self._file, b"".join(fresh))
            self._done += fresh
            self._server.notify_events(len(self._done))
        for call in calls:
            message = call.message
            if isinstance(message, MetadataRequest):
                call.reply(MetadataAnswer(status=200, content_type="text/plain", body=message.path.encode()))
            else:
                call.reply(Done())

    def ask(self, peer: str, count: int, timeout_s: float, padding: int = 0) -> None:
        """Make ``count`` calls to a peer; ``asked`` tells what became of them."""

        async def one(number: int) -> None:
            message = ReadConsole(server_id=str(number), domain_name="x" * padding)
            try:
                answer = await self._server.call(peer, message, timeout_s=timeout_s)
            except NovaFastError as error:
                self._failures.append(error.code)
            else:
                assert isinstance(answer, ConsoleOutput)
                self._answers.append(answer.text)

        for _ in range(count):
            self._asked += 1
            task = asyncio.get_running_loop().create_task(one(self._asked))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    def asked(self) -> tuple[list[str], list[str], int]:
        """Answers, codes of failures, and how many calls have neither."""
        return self._answers, self._failures, len(self._asking)

    def peers_up(self) -> int:
        return sum(state.up for state in self._server.peers().values())

    def are_peers_up(self, count: int) -> bool:
        return self.peers_up() == count

    def is_up(self, peer: str) -> bool:
        state = self._server.peers().get(peer)
        return state is not None and state.up

    def is_down(self, peer: str) -> bool:
        return not self.is_up(peer)

    def is_all_answered(self) -> bool:
        return not self._asking

    def counters(self) -> dict[str, Any]:
        return dict(msgspec.structs.asdict(self._server.counters))

    def effects(self) -> int:
        return len(self._done)
