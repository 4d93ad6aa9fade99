"""How the many come back: over a time that the hub names, each after a random part of it."""

from __future__ import annotations

import asyncio
import os

import pytest

from nova_fast.config import HubConfig
from nova_fast.edges import Edges
from nova_fast.hub import pace, wire
from nova_fast.hub.limits import Limits
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer
from nova_fast.model.tasks import Done, ServiceReport
from tests.tries import least
from tests.unit.hub.rig import TRANSPORTS, Rig, run, until

REPORT = ServiceReport(name="compute@h1", binary="b", host="h", zone="z")
CONFIG = HubConfig(heartbeat_s=0.1, down_after_s=4.0)
LIMITS = Limits(hello_retry_s=0.05, returns_per_s=2.0)  # two peers: a second
SOON_S = 0.7


def spread_s(ping: bytes) -> float:
    parsed = wire.parse(ping)
    assert parsed is not None and parsed[0] == wire.PING
    return wire.PACE_DECODER.decode(parsed[3]).spread_s


def test_a_small_cloud_does_not_spread_and_a_large_one_not_for_ever() -> None:
    found = [spread_s(pace.ping(peers, 500.0, 20.0)) for peers in (1, 99, 100, 1000, 5000, 10_000)]
    assert found == [0.0, 0.0, 0.2, 2.0, 10.0, 10.0]


def test_whoever_waits_does_so_for_any_part_of_it() -> None:
    patient = pace.Return(os.urandom, waits=True)
    assert patient.wait_s() == 0.0 and patient.reconnect_ms == (250, 1000)
    ping = wire.parse(pace.ping(1000, 500.0, 20.0))
    assert ping is not None
    patient.heard(ping[3])
    waits_s = [patient.wait_s() for _ in range(1000)]
    assert patient.reconnect_ms == (1000, 0)  # as much again at random
    assert 0 <= min(waits_s) < 0.1 and 1.9 < max(waits_s) < 2.0


def last_of_all(count: int) -> bytes:
    """Entropy of a peer whose turn comes last."""
    return b"\xff" * count if count == 4 else os.urandom(count)


def node(rig: Rig) -> Peer:
    keys = rig.peer_keys("compute@h1")
    edges = Edges(entropy=last_of_all)
    return Peer("compute@h1", rig.address, config=rig.config, keys=keys, limits=rig.limits, edges=edges)


async def acquainted(rig: Rig) -> tuple[HubServer, Peer]:
    """A hub, and a node that has heard from it over how long to spread."""
    server = await rig.start(rig.new_server())
    await rig.join(rig.new_peer("api.0"))
    patient = await rig.join(node(rig))
    await until(lambda: patient._return.spread_s == 1.0)
    return server, patient


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_node_that_loses_the_hub_waits_for_its_turn_and_an_api_worker_does_not(transport: str) -> None:
    async def took_s() -> float:
        """How long a first connection takes, or the way back of a worker, whichever is longer."""
        async with Rig(transport, config=CONFIG, limits=LIMITS) as rig:
            loop = asyncio.get_running_loop()
            first = await rig.start(rig.new_server())
            worker = await rig.join(rig.new_peer("api.0"))
            patient = node(rig)
            begin_s = loop.time()
            await rig.join(patient)
            first_s = loop.time() - begin_s
            await until(lambda: patient._return.spread_s == 1.0)
            assert worker._return.spread_s == 0.0

            lost_s = loop.time()
            await first.close()
            second = rig.new_server()
            second.handle(ServiceReport, lambda peer, message, call_id: Done())
            await rig.start(second)
            await until(lambda: "api.0" in second.peers())
            back_s = loop.time() - lost_s
            assert back_s > SOON_S or "compute@h1" not in second.peers()
            asked = asyncio.ensure_future(patient.call(REPORT, timeout_s=60))
            await until(lambda: "compute@h1" in second.peers())
            assert loop.time() - lost_s >= 1.0, "it came before its turn"
            assert await asked == Done() and patient.counters.malformed == 0
            await patient.close()
            return max(first_s, back_s)

    async def test() -> None:
        assert await least(took_s, SOON_S) < SOON_S, "a first connection, or a worker's, was put off"

    run(test)


def test_a_node_whose_hub_is_away_for_long_goes_on_trying_and_keeps_its_deadlines() -> None:
    async def test() -> None:
        async with Rig(config=CONFIG, limits=LIMITS) as rig:
            first, patient = await acquainted(rig)
            await first.close()
            with pytest.raises(Exception, match="did not answer in time"):
                await patient.call(REPORT, timeout_s=0.3)
            await asyncio.sleep(2.0)
            await rig.start(rig.new_server())
            await until(lambda: patient.is_connected)
            await patient.close()

    run(test)


def test_a_peer_that_is_closed_while_it_waits_does_not_come_back() -> None:
    async def test() -> None:
        async with Rig(config=CONFIG, limits=LIMITS) as rig:
            first, patient = await acquainted(rig)
            await first.close()
            await until(lambda: not patient.is_connected)
            await patient.close()
            second = await rig.start(rig.new_server())
            await asyncio.sleep(1.3)
            assert "compute@h1" not in second.peers()

    run(test)


def test_the_hub_pings_some_peers_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """ZeroMQ's thread sends all it has been given before it reads what others have sent."""
    turns: list[list[str]] = []

    async def test() -> None:
        async with Rig(config=CONFIG, limits=LIMITS) as rig:
            server = await rig.start(rig.new_server())
            names = {server._link(f"compute@h{number}").name for number in range(100)}

            def in_turn(*_: object) -> None:
                turns.append([])
                some(server, *_)

            some = type(server)._tick_some
            monkeypatch.setattr(server, "_tick_some", in_turn)
            monkeypatch.setattr(server, "_tick_link", lambda link, now_s: turns[-1].append(link.name))
            await until(lambda: {name for turn in turns for name in turn} == names)
            assert max(map(len, turns)) == 16

    run(test)
