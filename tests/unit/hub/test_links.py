"""Connections that come and go: restarts on either side, silence, stolen names, keys, and frames that are not ours."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import socket as unix
import stat
from pathlib import Path

import pytest
import uvloop
import zmq

from nova_fast.config import ConfigError, HubConfig
from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER, encode_event
from nova_fast.hub.keys import PeerKeys
from nova_fast.hub.limits import Limits
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer
from nova_fast.hub.transport import connection_of, cut_connection
from nova_fast.model.base import Message
from nova_fast.model.commands.hosts import RemoveHost
from nova_fast.model.errors import BadRequest, Conflict, Forbidden, NovaFastError, Unavailable
from nova_fast.model.events import HostRemoved
from nova_fast.model.identity import Caller
from nova_fast.model.tasks import ConsoleOutput, Done, MetadataAnswer, MetadataRequest, ReadConsole, ServiceReport
from tests.tries import least
from tests.unit.hub.rig import CONFIG, TRANSPORTS, MemoryEvents, Rig, in_s, insist, run, taken, until

REPORT = ServiceReport(name="api.0", binary="nova-api", host="h", zone="internal")
CONSOLE = ReadConsole(server_id="s", domain_name="d")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_call_survives_the_death_of_the_hub_with_its_id(transport: str) -> None:
    async def test() -> None:
        async with Rig(transport) as rig:
            first = rig.new_server()
            seen: list[bytes] = []

            async def never(peer: str, message: ServiceReport, call_id: bytes) -> Message:
                seen.append(call_id)
                await asyncio.sleep(60)
                raise AssertionError

            first.handle(ServiceReport, never)
            await rig.start(first)
            peer = await rig.join(rig.new_peer("api.0"))
            welcomes: list[bool] = []
            peer.on_connected = welcomes.append
            call = asyncio.create_task(peer.call(REPORT, timeout_s=60))
            await until(lambda: len(seen) == 1)
            await first.close()
            second = rig.new_server()
            second.handle(ServiceReport, lambda p, m, i: seen.append(i) or Done())
            await rig.start(second)
            assert await call == Done()
            assert len(seen) == 2 and seen[0] == seen[1]
            assert welcomes == [True]

    run(test)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_call_to_a_peer_survives_the_restart_of_the_peer(transport: str) -> None:
    async def test() -> None:
        async with Rig(transport) as rig:
            server = rig.new_server()
            ups: list[tuple[str, bool]] = []
            downs: list[str] = []
            server.on_peer_up = lambda name, new: ups.append((name, new))
            server.on_peer_down = downs.append
            await rig.start(server)
            keys = rig.peer_keys("compute@h")
            early = asyncio.create_task(server.call("compute@h", CONSOLE, timeout_s=60))
            old = rig.new_peer("compute@h", keys)
            started = asyncio.Event()

            async def never(message: ReadConsole, call_id: bytes) -> Message:
                started.set()
                await asyncio.sleep(60)
                raise AssertionError

            old.handle(ReadConsole, never)
            await rig.join(old)
            await started.wait()
            await old.close()
            await until(lambda: downs == ["compute@h"])
            assert not early.done()
            new = rig.new_peer("compute@h", keys)
            new.handle(ReadConsole, lambda m, i: ConsoleOutput(text="new"))
            await rig.join(new)
            assert await early == ConsoleOutput(text="new")
            assert ups == [("compute@h", True), ("compute@h", True)]

    run(test)


def test_a_peer_whose_connection_breaks_comes_back_as_the_same_session() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda p, m, i: Done())
            ups: list[tuple[str, bool]] = []
            server.on_peer_up = lambda name, new: ups.append((name, new))
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            peer._socket.disconnect(rig.address)
            await asyncio.sleep(0.05)
            peer._socket.connect(rig.address)
            await until(lambda: len(ups) == 2)
            assert ups == [("api.0", True), ("api.0", False)]
            assert await peer.call(REPORT, timeout_s=60) == Done()

    run(test)


def test_a_silent_peer_is_down_and_up_again_when_it_is_heard() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            loop = asyncio.get_running_loop()
            downs: list[tuple[str, float]] = []
            ups: list[tuple[str, bool, float]] = []
            server.on_peer_down = lambda name: downs.append((name, loop.time()))
            server.on_peer_up = lambda name, new: ups.append((name, new, loop.time()))
            await rig.start(server)
            _, socket = rig.raw()
            hello = _hello("scheduler", b"s" * 16)

            async def silent_s() -> float:
                """For how long it is taken for alive; a loop that stalls has not listened, and begins anew."""
                times = len(ups) + 1
                await insist(lambda: socket.send(hello), lambda: len(ups) == times)
                await until(lambda: len(downs) == times)
                assert not server.peers()["scheduler"].up
                await insist(lambda: socket.send(wire.pack(wire.PING)), lambda: wire.WHO in _kinds(socket))
                return downs[-1][1] - ups[-1][2]

            assert CONFIG.down_after_s * 0.9 < await least(silent_s, CONFIG.down_after_s + 1) < CONFIG.down_after_s + 1
            await insist(lambda: socket.send(hello), lambda: len(ups) > len(downs))
            assert [up[:2] for up in ups] == [("scheduler", True), *[("scheduler", False)] * len(downs)]
            assert {name for name, _ in downs} == {"scheduler"}

    run(test)


def test_heartbeats_keep_an_idle_peer_up_and_carry_its_report() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            downs: list[str] = []
            reports: list[str] = []
            server.on_peer_down = downs.append
            server.handle(ServiceReport, lambda p, m, i: reports.append(p) or Done())
            await rig.start(server)
            peer = rig.new_peer("api.0")
            peer.heartbeat = lambda: REPORT
            lost: list[None] = []
            peer.on_disconnected = lambda: lost.append(None)
            await rig.join(peer)
            await rig.join(rig.new_peer("scheduler"))
            await asyncio.sleep(CONFIG.down_after_s * 2)
            await until(lambda: len(reports) > 5)
            assert downs == [] and lost == []
            assert set(reports) == {"api.0"}

    run(test)


def test_a_peer_notices_a_hub_that_is_silent() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = await rig.start(rig.new_server())
            peer = await rig.join(rig.new_peer("api.0"))
            lost = asyncio.Event()
            peer.on_disconnected = lost.set
            assert server._fd is not None and server._tick_timer is not None
            server._tick_timer.cancel()
            asyncio.get_running_loop().remove_reader(server._fd._fd)  # as if its loop hung
            await asyncio.wait_for(lost.wait(), 60)
            assert not peer.is_connected

    run(test)


def test_the_newer_process_of_a_name_wins_and_the_older_is_told() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = await rig.start(rig.new_server())
            old = rig.new_peer("compute@h")
            told: list[None] = []
            old.on_replaced = lambda: told.append(None)
            old.handle(ReadConsole, lambda m, i: ConsoleOutput(text="old"))
            await rig.join(old)
            new = rig.new_peer("compute@h")
            new.handle(ReadConsole, lambda m, i: ConsoleOutput(text="new"))
            await rig.join(new)
            await until(lambda: told == [None])
            assert await server.call("compute@h", CONSOLE, timeout_s=60) == ConsoleOutput(text="new")
            with pytest.raises(Unavailable, match="newer process"):
                await old.call(REPORT, timeout_s=60)
            with pytest.raises(Conflict):
                await old.connected(1)
            await asyncio.sleep(0.3)
            assert new.is_connected and server.counters.replaced == 1

    run(test)


def test_a_peer_that_does_not_read_delays_nobody() -> None:
    async def test() -> None:
        config = HubConfig(heartbeat_s=1, down_after_s=30, credits=64)
        limits = Limits(outbox_frames_max=50, resend_after_s=0.05, resend_after_s_max=0.05)
        async with Rig(config=config, limits=limits) as rig:
            server = await rig.start(rig.new_server())
            _, stuck = rig.raw()
            stuck.setsockopt(zmq.RCVHWM, 1)
            stuck.send(_hello("compute@stuck", b"s" * 16))
            await until(lambda: "compute@stuck" in server.peers())
            big = ReadConsole(server_id="s" * 500_000, domain_name="d")
            calls = [asyncio.create_task(server.call("compute@stuck", big, timeout_s=3)) for _ in range(200)]
            peer = rig.new_peer("compute@quick")
            peer.handle(ReadConsole, lambda m, i: ConsoleOutput(text="x"))
            await rig.join(peer)
            link = server._links["compute@stuck"]
            await until(lambda: link.outbox.stuck and server.counters.dropped > 0)
            loop = asyncio.get_running_loop()

            async def slowest_s() -> float:
                slowest = 0.0
                for _ in range(100):
                    start_s = loop.time()
                    await server.call("compute@quick", CONSOLE, timeout_s=60)
                    slowest = max(slowest, loop.time() - start_s)
                return slowest

            assert await least(slowest_s, 0.5) < 0.5
            assert len(link.outbox._frames) <= 50
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {Unavailable}

    run(test)


def test_frames_that_are_not_ours_are_counted_and_dropped() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda p, m, i: Done())
            await rig.start(server)
            peer = await rig.join(rig.new_peer("api.0"))
            _, socket = rig.raw()
            rng = random.Random(4)
            good = wire.pack(wire.CALL, b"i" * 16, in_s(60), ENCODER.encode(REPORT))
            junk = [b"x", b"\x01", good[:25], b"\x02" + good[1:], b"\x01\xff" + good[2:], rng.randbytes(500)]

            def flood(send: zmq.Socket[bytes]) -> None:
                for frame in junk:
                    send.send(frame)
                send.send_multipart([good, b"second", b"third"])
                for kind in sorted(wire.KINDS - {wire.BYE, wire.REPLY}):
                    send.send(wire.pack(kind, os.urandom(16), in_s(60), rng.randbytes(40)))

            flood(socket)
            await until(lambda: server.counters.malformed >= len(junk) + 2)
            before = server.counters.malformed
            socket.send(_hello("scheduler", b"s" * 16))
            await until(lambda: "scheduler" in server.peers())
            flood(socket)
            await until(lambda: server.counters.malformed >= before + len(junk) + 2)
            assert await peer.call(REPORT, timeout_s=60) == Done()
            # The flood's own link still works, too.
            socket.send(wire.pack(wire.CALL, b"j" * 16, in_s(60), ENCODER.encode(REPORT)))
            answers: list[bytes] = []
            await until(lambda: any(f[1] == wire.REPLY and f[2:18] == b"j" * 16 for f in taken(socket, answers)))

    run(test)


def test_a_name_that_the_key_may_not_use_is_refused() -> None:
    async def test() -> None:
        async with Rig("tcp") as rig:
            server = await rig.start(rig.new_server())
            keys = rig.peer_keys("compute@host1", "network@host1", "api.*")
            thief = rig.new_peer("compute@host2", keys)
            await thief.start()
            with pytest.raises(Forbidden) as caught:
                await thief.connected(60)
            assert caught.value.code == "name_not_allowed"
            assert "compute@host2" not in server.peers() and server.counters.refused > 0
            for name in ("compute@host1", "network@host1", "api.7"):
                await rig.join(rig.new_peer(name, keys))
            assert set(server.peers()) == {"compute@host1", "network@host1", "api.7"}

    run(test)


def test_an_unknown_key_does_not_connect_until_it_is_let_in() -> None:
    async def test() -> None:
        async with Rig("tcp") as rig:
            server = await rig.start(rig.new_server())
            assert rig.server_keys is not None
            public, secret = zmq.curve_keypair()
            stranger = rig.new_peer("compute@h", PeerKeys(public, secret, rig.server_keys.public))
            await stranger.start()
            with pytest.raises(Unavailable):
                await stranger.connected(1)
            await until(lambda: server.counters.refused > 0)
            assert server.peers() == {}
            rig.allowed.allow(public, ["compute@h"])
            await stranger.connected(60)

    run(test)


def test_a_peer_that_expects_another_hub_key_does_not_connect() -> None:
    async def test() -> None:
        async with Rig("tcp") as rig:
            server = await rig.start(rig.new_server())
            keys = rig.peer_keys("compute@h")
            assert keys is not None
            other, _ = zmq.curve_keypair()
            peer = rig.new_peer("compute@h", PeerKeys(keys.public, keys.secret, other))
            await peer.start()
            with pytest.raises(Unavailable):
                await peer.connected(0.7)
            assert server.peers() == {}

    run(test)


def test_an_unencrypted_client_does_not_get_in_over_tcp() -> None:
    async def test() -> None:
        async with Rig("tcp") as rig:
            server = await rig.start(rig.new_server())
            _, socket = rig.raw()
            socket.send(_hello("compute@h", b"s" * 16))
            await asyncio.sleep(0.5)
            assert server.peers() == {} and _kinds(socket) == []

    run(test)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "udp://x", "ipc://", "nonsense", "ipc:///" + "x" * 120])
def test_an_address_that_cannot_be_used_is_refused_before_anything_starts(address: str) -> None:
    with pytest.raises(ConfigError, match=r"hub\.address"):
        HubServer(address, config=CONFIG)
    with pytest.raises(ConfigError, match=r"hub\.address"):
        Peer("api.0", address, config=CONFIG)


def test_an_address_in_use_is_a_clear_error() -> None:
    async def test() -> None:
        async with Rig("tcp") as rig:
            await rig.start(rig.new_server())
            with pytest.raises(ConfigError, match="in use"):
                await rig.new_server().start()

    run(test)


def test_the_socket_file_and_its_folder_are_private() -> None:
    async def test() -> None:
        async with Rig() as rig:
            await rig.start(rig.new_server())
            path = Path(rig.address.removeprefix("ipc://"))
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    run(test)


def test_closing_fails_what_is_pending_on_both_sides() -> None:
    async def test() -> None:
        async with Rig() as rig:
            server = await rig.start(rig.new_server())
            peer = await rig.join(rig.new_peer("api.0"))
            to_nobody = asyncio.create_task(server.call("compute@x", CONSOLE, timeout_s=30))
            await asyncio.sleep(0.05)
            await server.close()
            with pytest.raises(Unavailable, match="closing"):
                await to_nobody
            with pytest.raises(Unavailable):
                await server.call("api.0", CONSOLE, timeout_s=60)
            call = asyncio.create_task(peer.call(REPORT, timeout_s=30))
            await asyncio.sleep(0.05)
            await peer.close()
            with pytest.raises(Unavailable, match="closing"):
                await call

    run(test)


def test_a_peer_of_another_protocol_is_told_why_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Rig() as rig:
            await rig.start(rig.new_server())
            _, socket = rig.raw()
            hello = wire.Hello(name="api.0", session=b"s" * 16, protocol=wire.PROTOCOL + 1)
            socket.send(wire.pack(wire.HELLO, body=ENCODER.encode(hello)))
            frames: list[bytes] = []
            await until(lambda: any(f[1] == wire.REFUSED for f in taken(socket, frames)))
            refused = wire.REFUSED_DECODER.decode(next(f for f in frames if f[1] == wire.REFUSED)[26:])
            assert refused.failure.code == "protocol_mismatch"

    run(test)


def test_a_socket_file_that_is_served_is_not_taken_away() -> None:
    async def test() -> None:
        async with Rig() as rig:
            await rig.start(rig.new_server())
            with pytest.raises(ConfigError, match="in use"):
                await rig.new_server().start()
            await rig.join(rig.new_peer("api.0"))

    run(test)


def test_a_key_that_is_taken_off_the_list_is_cut() -> None:
    async def test() -> None:
        async with Rig("tcp") as rig:
            server = await rig.start(rig.new_server())
            keys = rig.peer_keys("compute@h")
            assert keys is not None
            peer = await rig.join(rig.new_peer("compute@h", keys))
            await rig.join(rig.new_peer("compute@other"))
            rig.allowed.forbid(keys.public)
            await until(lambda: not server.peers()["compute@h"].up)
            await until(lambda: not peer.is_connected)
            await asyncio.sleep(0.5)
            assert not server.peers()["compute@h"].up and server.peers()["compute@other"].up
            with pytest.raises(NovaFastError):
                await peer.call(REPORT, timeout_s=0.2)

    run(test)


def test_a_node_may_report_but_neither_command_nor_read_events() -> None:
    async def test() -> None:
        async with Rig() as rig:
            source = MemoryEvents()
            source.add(1, encode_event(HostRemoved(host="h")))
            server = rig.new_server(source)
            server.handle(ServiceReport, lambda p, m, i: Done())
            ran: list[str] = []
            server.handle(RemoveHost, lambda p, m, i: ran.append(p) or Done())
            await rig.start(server)
            node = await rig.join(rig.new_peer("compute@h"))
            assert await node.call(REPORT, timeout_s=60) == Done()
            command = RemoveHost(caller=Caller(user_id="u", project_id="p", roles=("admin",)), host="h")
            with pytest.raises(BadRequest):
                await node.call(command, timeout_s=60)
            seen: list[int] = []
            node.subscribe(0, lambda generation, event: seen.append(generation), lambda: None)
            api = await rig.join(rig.new_peer("api.0"))
            assert await api.call(command, timeout_s=60) == Done()
            api_seen: list[int] = []
            api.subscribe(0, lambda generation, event: api_seen.append(generation), lambda: None)
            await until(lambda: api_seen == [1])
            assert ran == ["api.0"] and seen == [] and server.counters.refused >= 1

    run(test)


def _serve(address: str, text: str) -> None:
    async def main() -> None:
        server = HubServer(address, config=CONFIG)

        async def answer(peer: str, message: MetadataRequest, call_id: bytes) -> Message:
            if text == "never":
                await asyncio.sleep(60)
            return MetadataAnswer(status=200, content_type="text/plain", body=text.encode())

        server.handle(MetadataRequest, answer)
        await server.start()
        await asyncio.Event().wait()

    uvloop.run(main())


def test_a_killed_hub_process_is_found_again() -> None:
    async def test() -> None:
        spawn = multiprocessing.get_context("spawn")
        async with Rig() as rig:
            first = spawn.Process(target=_serve, args=(rig.address, "never"), daemon=True)
            second = spawn.Process(target=_serve, args=(rig.address, "again"), daemon=True)
            first.start()
            try:
                peer = rig.new_peer("network@h")
                await peer.start()
                await peer.connected(60)
                request = MetadataRequest(network_id="n", address="a", method="GET", path="/")
                calls = [asyncio.create_task(peer.call(request, timeout_s=60)) for _ in range(20)]
                await asyncio.sleep(0.2)
                first.kill()
                first.join()
                second.start()
                answers = await asyncio.gather(*calls)
                assert [answer.body for answer in answers if isinstance(answer, MetadataAnswer)] == [b"again"] * 20
            finally:
                for process in (first, second):
                    process.kill()
                    process.join()

    run(test)


def _hello(name: str, session: bytes) -> bytes:
    return wire.pack(wire.HELLO, body=ENCODER.encode(wire.Hello(name=name, session=session, protocol=wire.PROTOCOL)))


def _kinds(socket: zmq.Socket[bytes]) -> list[int]:
    return [frame[1] for frame in taken(socket, [])]


def test_looking_for_a_connection_leaves_no_descriptor_open() -> None:
    """A descriptor of a connection may be another file by the time somebody comes to cut it."""
    read, write = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    try:
        for _ in range(3):
            cut_connection(read, ("tcp://127.0.0.1:1", ""))
            assert connection_of(write) is None
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(read)
        os.close(write)
    assert connection_of(read) is None, "it is closed"


def test_a_socket_without_a_name_is_nobodys_connection() -> None:
    """A hub with one way in has no second address, and a descriptor may be a socket of another library by now."""
    ours, theirs = unix.socketpair()
    with ours, theirs:
        cut_connection(ours.fileno(), ("ipc:///somewhere", ""))
        ours.sendall(b"still there")
        assert theirs.recv(32) == b"still there"
