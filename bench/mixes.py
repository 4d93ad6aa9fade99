"""The mixes of requests in an open loop: up to the knee, and at half of it.

Used for REST (``bench/bench_api.py``) and for the SDK (``bench/bench_sdk.py``): ``module`` is the generator's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from bench import open_loop
from bench.arrivals import POISSON
from bench.cloud import Cloud
from bench.knee import ramp
from bench.results import Refused, not_measured, report

REST = "bench.open_loop"
TAIL_MIN = 3  # arrivals behind a percentile, else it is an accident


class Mix(msgspec.Struct, frozen=True):
    """How a mix of requests is ramped: from this rate on, until p99 is above this."""

    name: str
    first_rate: float
    p99_ms_max: float


#: Bounds are a few times what the mix takes when nothing waits; a lifecycle looks every 50 ms.
MIXES = (
    Mix("read", 500, 20),
    Mix("list", 10, 100),
    Mix("create_delete", 100, 100),
    Mix("lifecycle", 20, 1000),
    Mix("mixed", 100, 250),  # one in a hundred is a whole life, so its p99 is at least that
)


class Way(msgspec.Struct, frozen=True):
    """Which generator, and what it calls what it finds."""

    module: str = REST
    prefix: str = "open_loop"
    headers: dict[str, str] | None = None  # in place of the cloud's


def job(cloud: Cloud, create: dict[str, Any], mix: str, rate: float, seconds: float) -> open_loop.Job:
    with cloud.books() as books:
        ids = books.server_ids(200)
    return open_loop.Job(
        port=cloud.ports["compute"], rate=rate, seconds=seconds, mix=mix, headers=cloud.headers, create=create,
        ids=ids, warm_up_s=min(1.0, seconds / 2),
    )  # fmt: skip


def measure_mix(cloud: Cloud, create: dict[str, Any], mix: Mix, step_s: float, way: Way = Way()) -> None:  # noqa: B008 - frozen
    """The knee of a mix, and its percentiles at half of it with users that come at random."""

    def load(rate: float, seconds: float = step_s, arrivals: str = "") -> open_loop.Run:
        wanted = job(cloud, create, mix.name, rate, seconds)
        wanted = msgspec.structs.replace(
            wanted, headers=way.headers or wanted.headers, arrivals=arrivals or wanted.arrivals
        )
        found = open_loop.run(wanted, way.module)
        cloud.wait_idle()
        return found

    knee = ramp(load, mix.first_rate, mix.p99_ms_max)
    name = f"{way.prefix}_{mix.name}"
    print(f"ramp of {name}: " + ", ".join(f"{rate:.0f}/s p99 {p99_ms:.1f} ms" for rate, p99_ms in knee.steps))
    print(f"the ramp of {name} ended: {knee.why}")
    if knee.run is None:
        not_measured(name, knee.why)
        return
    report(f"{name}_knee{'_of_generator' if knee.by_generator else ''}", knee.rate, "1/s", None)
    report_run(f"{name}_half_load", load(knee.rate / 2, 2 * step_s, POISSON))


def report_run(name: str, run: open_loop.Run) -> None:
    """The percentiles of an open loop, as far as it has enough arrivals for them."""
    try:
        latencies = run.checked().percentiles()
    except Refused as refused:
        not_measured(name, refused)
        return
    for percent in (50, 99, 99.9):
        if latencies.count * (1 - percent / 100) >= TAIL_MIN:
            report(f"{name}_p{percent:g}", latencies.ms(percent), "ms", None)
        else:
            not_measured(f"{name}_p{percent:g}", f"{latencies.count} arrivals are too few")
    report(f"{name}_generator_cpu", 100 * run.cpu_share, "% of a core", None)
