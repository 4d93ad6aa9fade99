"""A hub with contracts of its own: other names, other messages, and nothing of the daemons' behind it."""

from __future__ import annotations

import msgspec
import pytest

from nova_fast.hub.contracts import ENCODER, HUB_TO_PEER_REPLIES, PEER_TO_HUB, SDK, Contracts, decoder_of
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer
from nova_fast.model.base import Message
from nova_fast.model.commands import COMMANDS
from nova_fast.model.commands.hosts import RemoveHost
from nova_fast.model.errors import BadRequest, Failure, Forbidden
from nova_fast.model.identity import Caller
from nova_fast.model.tasks import Done, MetadataRequest
from tests.unit.hub.rig import CONFIG, MemoryEvents, Rig, run, until

CALL = MetadataRequest(network_id="n", address="a", method="GET", path="/")
OTHERS = Contracts(
    hub="the shop",
    hub_reads=lambda _name: decoder_of((MetadataRequest,)),
    peer_reads=decoder_of((Done, Failure)),
    admits=lambda name: name.startswith("guest."),
    shows_events=lambda _name: False,
)


async def open_shop(rig: Rig) -> HubServer:
    shop = HubServer(rig.address, config=CONFIG, events=MemoryEvents(), limits=rig.limits, contracts=OTHERS)
    shop.handle(MetadataRequest, lambda peer, message, call_id: Done())
    shop.handle(RemoveHost, lambda peer, message, call_id: pytest.fail("a command came through"))
    return await rig.start(shop)


def guest(rig: Rig, name: str) -> Peer:
    return Peer(name, rig.address, config=CONFIG, limits=rig.limits, contracts=OTHERS)


def test_who_is_called_otherwise_is_not_let_in() -> None:
    async def test() -> None:
        async with Rig() as rig:
            shop = await open_shop(rig)
            peer = guest(rig, "api.0")
            await peer.start()
            with pytest.raises(Forbidden, match=r"no peer of this hub is called 'api\.0'"):
                await peer.connected(5)
            await peer.close()
            await shop.close()

    run(test)


def test_only_messages_of_the_contracts_can_be_read() -> None:
    async def test() -> None:
        async with Rig() as rig:
            shop = await open_shop(rig)
            peer = await rig.join(guest(rig, "guest.1"))
            assert await peer.call(CALL, timeout_s=5) == Done()
            foreign: Message = RemoveHost(caller=Caller(user_id="u", project_id="p", roles=("admin",)), host="h")
            with pytest.raises(BadRequest, match="cannot be read"):
                await peer.call(foreign, timeout_s=5)
            await peer.close()
            await shop.close()

    run(test)


def test_the_event_stream_is_not_for_them() -> None:
    async def test() -> None:
        async with Rig() as rig:
            shop = await open_shop(rig)
            peer = await rig.join(guest(rig, "guest.1"))
            peer.subscribe(0, lambda generation, event: pytest.fail("an event came"), lambda: pytest.fail("a gap came"))
            await until(lambda: shop.counters.refused == 1)
            await peer.close()
            await shop.close()

    run(test)


def test_a_client_of_the_sdk_can_say_nothing_that_a_daemon_or_a_face_says() -> None:
    assert not any(SDK.admits(name) for name in ("scheduler", "api.0", "cli.1", "compute@h", "client", "clients.1"))
    assert not SDK.shows_events("client.1")
    decode = SDK.hub_reads("client.1").decode
    foreign = {*PEER_TO_HUB, *HUB_TO_PEER_REPLIES, *COMMANDS}
    for kind in foreign:
        with pytest.raises(msgspec.ValidationError, match="Invalid value"):
            decode(ENCODER.encode({"type": kind.__name__}))
