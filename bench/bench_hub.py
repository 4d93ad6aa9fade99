"""Calls per second through the hub: a daemon asks the conductor over ipc, both ends encode and decode.

The hub runs in its own process, as in the cloud.

    python -m bench hub
"""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench.results import percentile, report
from nova_fast.config import HubConfig
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer, Incoming
from nova_fast.model.tasks import Done, MetadataAnswer, MetadataRequest, ServiceReport

SECONDS, SECONDS_QUICK = 1.5, 0.5  # for each measure
REQUEST = MetadataRequest(
    network_id="n" * 36, address="10.0.0.5", method="GET", path="/openstack/latest/meta_data.json", body=b"x" * 300
)
ANSWER = MetadataAnswer(status=200, content_type="application/json", body=b"y" * 300)
REPORT = ServiceReport(name="api.0", binary="nova-api", host="host1", zone="internal")


class Measured(NamedTuple):
    """What one measure found."""

    calls_per_s: float
    latencies_ms: list[float]


def serve(address: str) -> None:
    """Answer until killed: MetadataRequest one by one, ServiceReport in batches."""

    def answer_all(calls: list[Incoming]) -> None:
        for call in calls:
            call.reply(Done())

    async def run() -> None:
        server = HubServer(address, config=HubConfig())
        server.handle(MetadataRequest, lambda peer, message, call_id: ANSWER)
        server.handle_batch((ServiceReport,), answer_all)
        await server.start()
        await asyncio.Event().wait()

    uvloop.run(run())


async def measure(peer: Peer, message: MetadataRequest | ServiceReport, in_flight: int, seconds: float) -> Measured:
    """Call for some seconds with this many callers."""
    latencies_ms: list[float] = []
    begin = time.perf_counter()
    end = begin + seconds

    async def caller() -> None:
        while (start := time.perf_counter()) < end:
            await peer.call(message, timeout_s=10)
            latencies_ms.append((time.perf_counter() - start) * 1e3)

    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return Measured(len(latencies_ms) / (time.perf_counter() - begin), latencies_ms)


async def ask(address: str, seconds: float) -> None:
    """Run all measures."""
    peer = Peer("api.0", address, config=HubConfig())
    await peer.start()
    await peer.connected(10)
    await measure(peer, REQUEST, 64, seconds)  # warm up
    for name, message, in_flight, target in (
        ("hub_rpc_1_in_flight", REQUEST, 1, 4_000),
        ("hub_rpc_64_in_flight", REQUEST, 64, 15_000),
        ("hub_rpc_64_in_flight_batched", REPORT, 64, 15_000),
    ):
        found = await measure(peer, message, in_flight, seconds)
        report(name, found.calls_per_s, "1/s", target)
        report(f"{name}_p99", percentile(found.latencies_ms, 0.99), "ms", None)
    await peer.close()


def main(*, quick: bool = False) -> None:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        address = f"ipc://{Path(folder) / 'hub.sock'}"
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(address,), daemon=True)
        process.start()
        try:
            uvloop.run(ask(address, SECONDS_QUICK if quick else SECONDS))
        finally:
            process.kill()
            process.join()


if __name__ == "__main__":
    main()
