"""A client that keeps no rule: the others' calls and the API's requests go on, and the worker does not grow."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import zmq

from nova_fast.client import Client, NewServer
from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER
from nova_fast.model.base import Message
from nova_fast.model.commands.flavors import CreateFlavor
from nova_fast.model.identity import Caller
from nova_fast.model.sdk import Ask, Asks, Watch
from tests.hub.remote import Remote
from tests.lengths import repeats

from .conftest import Cloud, new_cloud
from .rest import Rest
from .sdk_cloud import furnish, settings

pytestmark = [pytest.mark.slow, pytest.mark.torture]

SLICES = repeats(2, 30)
SLICE_S = 1.0
SERVERS = 300
GROWTH_MIB_MAX = 300
FLOODS_MAX = 8
#: A shared machine has bad moments, and any slice can have one; who starves does so in each.
STARVED_S = 3.0
#: What an attacker sends, and whether he reads what comes back.
FLOODS = [
    ("lists", True),  # valid, each message sixty-four lists of all servers
    ("lists", False),
    ("bodies", True),  # valid, each message eight bodies of 1 MiB that are refused
    ("watches", True),
    ("commands", True),  # what only daemons may say to the conductor
    ("garbage", True),
    ("hellos", True),  # under the names of daemons
]


class Attacker:
    """One connection, in a process of its own."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._token = token
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def flood(self, kind: str, seconds: float, reads: bool) -> int:
        """Send as fast as the socket takes it; how many frames it took."""
        name = f"client.{os.urandom(16).hex()}"
        hello = wire.Hello(name=name, session=os.urandom(wire.ID_BYTES), protocol=wire.PROTOCOL)
        greeting = wire.pack(wire.HELLO, body=ENCODER.encode(hello))
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self._address)
        socket.send(greeting)
        assert socket.poll(60_000) and socket.recv()[1] in (wire.WELCOME, wire.WHO)
        frames = getattr(self, f"_{kind}")()
        end, sent = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            if socket.poll(20, zmq.POLLOUT):
                socket.send(next(frames), zmq.DONTWAIT)
                sent += 1
            while reads and socket.poll(0):
                if socket.recv()[1] == wire.WHO:
                    socket.send(greeting)
        socket.close(0)
        return sent

    def _call(self, message: Message) -> bytes:
        return wire.pack(wire.CALL, os.urandom(wire.ID_BYTES), 0, ENCODER.encode(message))

    def _lists(self) -> Iterator[bytes]:
        asks = (Ask("compute", "GET", "/v2.1/servers/detail"),) * 64
        while True:
            yield self._call(Asks(asks=asks, token=self._token))

    def _bodies(self) -> Iterator[bytes]:
        asks = (Ask("compute", "POST", "/v2.1/servers", b" " * (1 << 20)),) * 8
        while True:
            yield self._call(Asks(asks=asks, token=self._token))

    def _watches(self) -> Iterator[bytes]:
        while True:
            yield self._call(Watch(after=0, token=self._token, wait_s=30))

    def _commands(self) -> Iterator[bytes]:
        root = Caller(user_id="u", project_id="p", roles=("admin",))
        while True:
            yield self._call(
                CreateFlavor(caller=root, id="stolen", name="stolen", vcpus=1, ram_mib=1, disk_gib=1, is_public=True)
            )

    def _garbage(self) -> Iterator[bytes]:
        while True:
            yield b"x" * 10
            yield wire.pack(wire.CALL, os.urandom(16), body=b"\xc1")

    def _hellos(self) -> Iterator[bytes]:
        while True:
            for name in ("api.0", "scheduler", "compute@host1", "client"):
                hello = wire.Hello(name=name, session=os.urandom(16), protocol=wire.PROTOCOL)
                yield wire.pack(wire.HELLO, body=ENCODER.encode(hello))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """With one worker, so that the attacker and his victims meet."""
    with new_cloud(driver="fake", fake_hosts=2) as cloud:
        cloud.config.write_text(cloud.config.read_text().replace("[api]", "[api]\nworkers = 1"))
        cloud.up()
        yield cloud


@pytest.fixture(scope="module")
def victim(cloud: Cloud) -> Iterator[tuple[Client, list[str]]]:
    with Client.connect(settings(cloud)) as client:
        wanted: NewServer = furnish(client)
        ids = client.servers.create(wanted, count=SERVERS).ids
        client.servers.wait(ids, timeout_s=120)
        yield client, list(ids)


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.mark.parametrize(("kind", "reads"), FLOODS)
def test_a_flood_starves_nobody(cloud: Cloud, victim: tuple[Client, list[str]], kind: str, reads: bool) -> None:
    client, ids = victim
    rest = Rest(cloud)
    pid = cloud.daemons()["api-0"]
    before_mib = rss_mib(pid)
    with Remote(Attacker, settings(cloud).addresses[0], rest.token, nice=19) as attacker:
        longest, sent = [], 0
        for _ in range(FLOODS_MAX):  # until he has got enough of the processors for a flood
            attacker.begin("flood", kind, SLICES * SLICE_S + 0.5, reads)
            time.sleep(0.3)
            longest += [longest_wait_s(client, rest, ids) for _ in range(SLICES)]
            sent += attacker.finish()
            if sent > 10:
                break
        assert sent > 10
    assert cloud.daemons()["api-0"] == pid, "the worker died"
    assert rss_mib(pid) - before_mib < GROWTH_MIB_MAX
    assert min(longest) < STARVED_S, longest
    if kind == "commands":
        assert "stolen" not in [flavor.name for flavor in client.flavors.list()]


def longest_wait_s(client: Client, rest: Rest, ids: list[str]) -> float:
    """The longest of the calls of one slice, over the SDK and over REST in turn."""
    longest_s, end_s = 0.0, time.monotonic() + SLICE_S
    while time.monotonic() < end_s:
        wanted = random.choice(ids)
        began_s = time.monotonic()
        assert client.servers.get(wanted).id == wanted
        then_s = time.monotonic()
        assert rest.send("GET", "compute", "/v2.1/flavors/1").status == 200
        longest_s = max(longest_s, then_s - began_s, time.monotonic() - then_s)
    return longest_s


def test_the_id_of_another_clients_call_brings_nothing(cloud: Cloud, victim: tuple[Client, list[str]]) -> None:
    """Two clients, one id: each is answered for himself."""
    _, ids = victim
    call_id = os.urandom(wire.ID_BYTES)
    mine = Asks(asks=(Ask("compute", "GET", f"/v2.1/servers/{ids[0]}"),), token=Rest(cloud).token)
    theirs = msgspec.structs.replace(mine, token="")
    statuses = [exchange(settings(cloud).addresses[0], call_id, message) for message in (mine, theirs, mine)]
    assert statuses == [200, 401, 200]


def exchange(address: str, call_id: bytes, message: Asks) -> int:
    """One bare call of a new client; the status of its answer."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(address)
        hello = wire.Hello(name=f"client.{os.urandom(8).hex()}", session=os.urandom(16), protocol=wire.PROTOCOL)
        socket.send(wire.pack(wire.HELLO, body=ENCODER.encode(hello)))
        socket.send(wire.pack(wire.CALL, call_id, 0, ENCODER.encode(message)))
        while socket.poll(60_000):
            frame = socket.recv()
            if frame[1] == wire.REPLY:
                assert frame[2:18] == call_id
                answers = msgspec.msgpack.decode(frame[wire.HEADER_BYTES :])["answers"]
                return int(answers[0][0])
    raise AssertionError("no answer")
