"""A hub on tcp has a second way in, for the daemons of its own machine: no key is asked for there, and only there."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest
import zmq

from nova_fast.config import Config, ConfigError, HubConfig
from nova_fast.hub.keys import PeerKeys
from nova_fast.hub.local import local_peer, local_server_keys
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer
from nova_fast.hub.transport import cut_connection
from nova_fast.model.errors import Forbidden, Unavailable
from nova_fast.model.tasks import Done, ServiceReport

from .rig import Rig, run, until

REPORT = ServiceReport(name="n", binary="nova-api", host="h", zone="internal")


class TwoWays(Rig):
    """A hub with both ways in, and peers on each."""

    def __init__(self) -> None:
        super().__init__("tcp")
        self.local_address = f"ipc://{self.path}/run/hub.sock"
        self.asked: list[str] = []

    async def open(self) -> HubServer:
        server = HubServer(
            self.address,
            local_address=self.local_address,
            config=self.config,
            keys=self.server_keys,
            limits=self.limits,
        )
        self._closers.append(server.close)
        server.handle(ServiceReport, lambda peer, _message, _call_id: self.asked.append(peer) or Done())
        await server.start()
        return server

    async def peer(self, name: str, address: str, keys: PeerKeys | None = None) -> Peer:
        peer = Peer(name, address, config=self.config, keys=keys, limits=self.limits)
        self._closers.append(peer.close)
        await peer.start()
        return peer

    async def both(self, far_name: str, keys: PeerKeys) -> tuple[HubServer, Peer, Peer]:
        """A hub, ``api.0`` beside it, and another over tcp; both connected."""
        server = await self.open()
        near = await self.peer("api.0", self.local_address)
        far = await self.peer(far_name, server.address, keys)
        for peer in (near, far):
            await peer.connected(60)
        return server, near, far

    def keys(self, *names: str) -> PeerKeys:
        """Of a node that may use these names."""
        assert self.server_keys is not None
        public, secret = zmq.curve_keypair()
        if names:
            self.allowed.allow(public, names)
        return PeerKeys(public, secret, self.server_keys.public)


def test_both_ways_lead_to_one_hub() -> None:
    async def test() -> None:
        async with TwoWays() as rig:
            server, near, far = await rig.both("compute@h", rig.keys("compute@h"))
            assert stat.S_IMODE((rig.path / "run" / "hub.sock").stat().st_mode) == 0o600
            for peer in (near, far):
                assert await peer.call(REPORT, timeout_s=60) == Done()
            assert rig.asked == ["api.0", "compute@h"]
            assert server.key_of("api.0") == b"" != server.key_of("compute@h")

    run(test)


def test_who_comes_over_tcp_needs_a_key_that_may_use_the_name() -> None:
    async def test() -> None:
        async with TwoWays() as rig:
            server = await rig.open()
            other_name = await rig.peer("scheduler", server.address, rig.keys("compute@h"))
            with pytest.raises(Forbidden, match="may not use the name"):
                await other_name.connected(60)
            unknown = await rig.peer("compute@x", server.address, rig.keys())
            context = zmq.Context()
            bare = context.socket(zmq.DEALER)
            bare.connect(server.address)
            bare.send(b"")
            try:
                with pytest.raises(Unavailable):
                    await unknown.connected(1.5)
                assert bare.poll(0) == 0, "without a key nobody is spoken to"
            finally:
                context.destroy(0)
            assert list(server.peers()) == []

    run(test)


def test_a_key_that_is_taken_back_cuts_who_has_it_and_nobody_else() -> None:
    async def test() -> None:
        async with TwoWays() as rig:
            keys = rig.keys("compute@h")
            server, near, _ = await rig.both("compute@h", keys)
            lost: list[str] = []
            near.on_disconnected = lambda: lost.append("near")
            rig.allowed.forbid(keys.public)
            await until(lambda: not server.peers()["compute@h"].up)
            await asyncio.sleep(3 * rig.config.heartbeat_s)
            assert server.peers()["api.0"].up and near.is_connected and lost == []

    run(test)


def test_a_connection_of_either_way_can_be_cut() -> None:
    async def test() -> None:
        async with TwoWays() as rig:
            server, near, far = await rig.both("api.1", rig.keys("api.*"))
            for peer in (near, far):
                descriptor = server._links[peer.name].descriptor
                lost = asyncio.Event()
                peer.on_disconnected = lost.set
                cut_connection(descriptor, ("tcp://127.0.0.1:1", "ipc:///elsewhere"))
                assert await peer.call(REPORT, timeout_s=60) == Done()
                assert not lost.is_set(), "it is another hub's"
                cut_connection(descriptor, (server.address, server.local_address))
                await asyncio.wait_for(lost.wait(), 60)
                await peer.connected(60)
                assert await peer.call(REPORT, timeout_s=60) == Done()

    run(test)


def test_daemons_of_the_hubs_machine_come_in_by_its_socket(tmp_path: Path) -> None:
    own = Config(state_dir=str(tmp_path / "own"), hub=HubConfig(address="tcp://127.0.0.1:7000"))
    assert local_server_keys(own) is not None
    peer = local_peer("scheduler", own)
    assert peer.address == f"ipc://{tmp_path}/own/run/hub.sock"
    node = Config(state_dir=str(tmp_path / "node"), hub=HubConfig(address="tcp://127.0.0.1:7000"))
    with pytest.raises(ConfigError, match=r"cannot read .*peer.key"):
        local_peer("compute@h", node)
