"""The conductor turns a question of capacity into the request that a create of such a server would be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from nova_fast.conductor.engine import Engine
from nova_fast.conductor.reports import Reports
from nova_fast.conductor.workflows.create_server import placement_request
from nova_fast.conductor.writer import Writer
from nova_fast.hub.contracts import HUB_DECODER, NODE_DECODER, PEER_DECODER, decoder_of
from nova_fast.model.commands import RESULTS
from nova_fast.model.errors import BadRequest, NotFound
from nova_fast.model.hosts import claim_of
from nova_fast.model.tasks import AskCapacity, Capacity, CountCapacity, GroupRule
from nova_fast.queries.capacity import request_of
from nova_fast.state import schema as tables
from nova_fast.state.testing import memory_store
from tests.unit.conductor.player import Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with memory_store() as store:
        yield Cloud(store)


def test_it_asks_for_what_creating_would_ask(cloud: Cloud) -> None:
    server_id = cloud.create()
    server, workflow = cloud.server(server_id), cloud.workflow(server_id)
    assert workflow is not None
    asked = AskCapacity(flavor=server.flavor.name, image=server.image_id)
    wanted = cloud.store.read(lambda r: placement_request(r, server, workflow))
    found = cloud.store.read(lambda r: request_of(r, asked))
    assert found == msgspec.structs.replace(wanted, server_id="", project_id="")
    assert found.claim == claim_of(server.flavor)


def test_the_scheduler_is_asked_and_its_answer_passed_on(cloud: Cloud) -> None:
    flavor = cloud.server(cloud.create()).flavor
    calls: list[tuple[str, Any]] = []

    async def call(peer: str, message: Any, *, timeout_s: float) -> Any:
        assert timeout_s > 0
        calls.append((peer, message))
        return Capacity(servers=3, hosts=1)

    async def run() -> Any:
        writer = Writer(cloud.store.store, Engine(60), decoder_of(RESULTS).decode)
        hub: Any = SimpleNamespace(call=call)
        ask = AskCapacity(flavor=flavor.id, zone="nova", group_policy="anti-affinity", max_servers_per_host=3)
        return await Reports(cloud.store.store, writer, Engine(60), hub).capacity("api.0", ask, b"")

    assert asyncio.run(run()) == Capacity(servers=3, hosts=1)
    [(peer, message)] = calls
    assert (peer, type(message)) == ("scheduler", CountCapacity)
    assert (message.request.zone, message.request.claim) == ("nova", claim_of(flavor))
    assert message.request.group == GroupRule(id="", policy="anti-affinity", max_servers_per_host=3)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"flavor": "nobody"}, NotFound),
        ({"image": "nobody"}, NotFound),
        ({"zone": "west"}, BadRequest),
        ({"group_policy": "near"}, BadRequest),
        ({"group_policy": "anti-affinity", "max_servers_per_host": 0}, BadRequest),
    ],
)
def test_what_is_not_there_is_refused(cloud: Cloud, changes: dict[str, Any], error: type[Exception]) -> None:
    flavor = cloud.store.read(lambda r: next(r.scan(tables.FLAVORS)))
    ask = msgspec.structs.replace(AskCapacity(flavor=flavor.id), **changes)
    with pytest.raises(error):
        cloud.store.read(lambda r: request_of(r, ask))


def test_a_daemon_of_a_node_cannot_ask() -> None:
    encoded = msgspec.msgpack.encode(AskCapacity(flavor="1"))
    assert isinstance(HUB_DECODER.decode(encoded), AskCapacity)
    with pytest.raises(msgspec.ValidationError):
        NODE_DECODER.decode(encoded)
    assert isinstance(PEER_DECODER.decode(msgspec.msgpack.encode(Capacity(servers=1, hosts=1))), Capacity)
