"""Calls per second through the hub: a daemon asks the conductor over ipc, both ends encode and decode.

The hub runs in its own process, as in the cloud. ``python bench/bench_hub.py`` prints a RESULT line for each measure.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from nova_fast.config import HubConfig
from nova_fast.hub.peer import Peer
from nova_fast.hub.server import HubServer, Incoming
from nova_fast.model.tasks import Done, MetadataAnswer, MetadataRequest, ServiceReport

SECONDS = 1.5
REQUEST = MetadataRequest(
    network_id="n" * 36, address="10.0.0.5", method="GET", path="/openstack/latest/meta_data.json", body=b"x" * 300
)
ANSWER = MetadataAnswer(status=200, content_type="application/json", body=b"y" * 300)
REPORT = ServiceReport(name="api.0", binary="nova-api", host="host1", zone="internal")


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


async def measure(peer: Peer, message: MetadataRequest | ServiceReport, in_flight: int) -> tuple[float, float, float]:
    """Calls per second, p50 and p99 in milliseconds, with this many callers."""
    end_s = time.perf_counter() + SECONDS
    latencies_s: list[float] = []

    async def caller() -> None:
        while (start_s := time.perf_counter()) < end_s:
            await peer.call(message, timeout_s=10)
            latencies_s.append(time.perf_counter() - start_s)

    start_s = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    elapsed_s = time.perf_counter() - start_s
    latencies_s.sort()
    count = len(latencies_s)
    return count / elapsed_s, latencies_s[count // 2] * 1e3, latencies_s[count * 99 // 100] * 1e3


async def ask(address: str) -> bool:
    """Run all measures; whether every target was met."""
    peer = Peer("api.0", address, config=HubConfig())
    await peer.start()
    await peer.connected(10)
    await measure(peer, REQUEST, 64)  # warm up
    met = True
    for name, message, in_flight, target in (
        ("hub_rpc_1_in_flight", REQUEST, 1, 4_000),
        ("hub_rpc_64_in_flight", REQUEST, 64, 15_000),
        ("hub_rpc_64_in_flight_batched", REPORT, 64, 15_000),
    ):
        rate, p50_ms, p99_ms = await measure(peer, message, in_flight)
        met &= rate >= target
        print(
            f"RESULT name={name} value={rate:.0f} unit=calls/s target={target} ok={'yes' if rate >= target else 'no'}"
            f" p50_ms={p50_ms:.3f} p99_ms={p99_ms:.3f}",
            flush=True,
        )
    await peer.close()
    return met


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        address = f"ipc://{Path(folder) / 'hub.sock'}"
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(address,), daemon=True)
        process.start()
        try:
            return 0 if uvloop.run(ask(address)) else 1
        finally:
            process.kill()
            process.join()


if __name__ == "__main__":
    sys.exit(main())
