"""What connections leave behind when they have been let in."""

from __future__ import annotations

import asyncio

import pytest
import zmq

from nova_fast.config import HubConfig
from nova_fast.hub import keys
from nova_fast.hub.keys import PeerKeys
from nova_fast.hub.limits import Limits
from nova_fast.model.errors import Unavailable
from nova_fast.model.tasks import Done, ServiceReport
from tests.unit.hub.rig import Rig, run, until

REPORT = ServiceReport(name="api.0", binary="b", host="h", zone="z")


def test_what_handshakes_took_is_given_back_and_others_come_in_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """ZeroMQ keeps for each connection the pipes on which it asked, until the socket that was asked is closed."""
    given: list[int] = []
    monkeypatch.setattr(keys, "_ASKED_MIN", 3)
    monkeypatch.setattr(keys, "_QUIET_S", 0.2)
    monkeypatch.setattr(keys, "give_memory_back", lambda: given.append(1))

    async def test() -> None:
        # Nobody knocks twice because the machine is busy.
        config = HubConfig(heartbeat_s=0.1, down_after_s=30, credits=8)
        async with Rig("tcp", config=config, limits=Limits(reopen_after_s=30)) as rig:
            server = rig.new_server()
            server.handle(ServiceReport, lambda peer, message, call_id: Done())
            await rig.start(server)
            asker = server._authenticator
            assert asker is not None
            first = asker._now
            peers = [await rig.join(rig.new_peer(f"api.{number}")) for number in range(3)]
            await until(lambda: bool(given))
            assert asker._now is not first and first._socket.closed and asker._before is None
            for peer in (*peers, await rig.join(rig.new_peer("api.3"))):
                assert await peer.call(REPORT, timeout_s=60) == Done()
            await asyncio.sleep(0.5)
            assert len(given) == 1, "one has come since"
            assert rig.server_keys is not None
            stranger = rig.new_peer("api.4", PeerKeys(*zmq.curve_keypair(), rig.server_keys.public))
            await stranger.start()
            with pytest.raises(Unavailable):
                await stranger.connected(0.5)

    run(test)
