"""Records to bytes and back: the store's arrays, the hub's maps and frames."""

from __future__ import annotations

from typing import Any

import pytest

from bench.stand import Stand
from nova_fast.hub import wire
from nova_fast.hub.contracts import ENCODER, HUB_DECODER
from nova_fast.model.commands.servers import CreateServers
from nova_fast.state import schema as tables


@pytest.fixture(scope="module")
def server(stand: Stand) -> Any:
    with stand.store.snapshot() as snapshot:
        return snapshot.get(tables.SERVERS, stand.server_ids[0])


@pytest.fixture(scope="module")
def command(stand: Stand) -> CreateServers:
    return CreateServers(
        caller=stand.caller, name="web", flavor_id="42", image_id="i" * 36, networks="none", metadata={"role": "web"}
    )


def test_encode_record(benchmark: Any, server: Any) -> None:
    assert len(benchmark(ENCODER.encode, server)) > 100


def test_decode_record(benchmark: Any, server: Any) -> None:
    raw = ENCODER.encode(server)
    assert benchmark(tables.SERVERS.decode, raw) == server


def test_encode_command(benchmark: Any, command: CreateServers) -> None:
    assert len(benchmark(ENCODER.encode, command)) > 100


def test_decode_command(benchmark: Any, command: CreateServers) -> None:
    raw = ENCODER.encode(command)
    assert benchmark(HUB_DECODER.decode, raw) == command


def test_pack_and_parse_frame(benchmark: Any) -> None:
    body = b"x" * 400

    def there_and_back() -> Any:
        return wire.parse(wire.pack(wire.CALL, b"i" * wire.ID_BYTES, 1_000_000, body))

    parsed = benchmark(there_and_back)
    assert bytes(parsed[3]) == body
