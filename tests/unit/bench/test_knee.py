"""The ramp finds the knee of a server that is known, and does not take the generator's for it."""

from __future__ import annotations

import pytest

from bench.histogram import Latencies
from bench.knee import ramp
from bench.open_loop import Run


def run_of(rate: float, capacity: float, generator: float = 1e9, p99_s: float | None = None, errors: int = 0) -> Run:
    """What a server with one queue does: answers come later the nearer the rate is to what it can do."""
    late_s = p99_s if p99_s is not None else (0.001 / (1 - rate / capacity) if rate < capacity else 5.0)
    found = Latencies()
    found.add([late_s] * 100)
    return Run(
        offered=rate, achieved=min(rate, capacity), answered=100, errors=errors, unanswered=0,
        latencies=found.encode(), latencies_of={}, lag_p99_s=0.0 if rate < generator else 1.0, cpu_share=0.5,
    )  # fmt: skip


@pytest.mark.parametrize("capacity", [300, 1000, 12_345])
def test_the_knee_is_near_what_the_server_can_do(capacity: float) -> None:
    found = ramp(lambda rate: run_of(rate, capacity), first=100, p99_ms_max=20)
    assert 0.85 * capacity < found.rate < capacity
    assert not found.by_generator
    assert found.run is not None
    assert found.run.offered == found.rate


def test_late_answers_end_the_ramp_even_if_all_are_answered() -> None:
    found = ramp(lambda rate: run_of(rate, 1e9, p99_s=rate / 1e5), first=100, p99_ms_max=10)
    assert 800 < found.rate <= 1000
    assert "p99" in found.why


def test_a_generator_that_gives_up_first_is_named() -> None:
    found = ramp(lambda rate: run_of(rate, 1e9, generator=2000), first=100, p99_ms_max=10)
    assert found.by_generator
    assert found.rate < 2000
    assert "generator" in found.why


def test_one_bad_moment_of_the_machine_does_not_end_the_ramp() -> None:
    calls = 0

    def load(rate: float) -> Run:
        nonlocal calls
        calls += 1
        return run_of(rate, 1000, p99_s=9.0 if calls == 3 else None)

    assert ramp(load, first=100, p99_ms_max=20).rate > 850


def test_a_server_that_cannot_do_the_first_rate_has_no_knee() -> None:
    found = ramp(lambda rate: run_of(rate, 50), first=100, p99_ms_max=20)
    assert (found.rate, found.run) == (0, None)


def test_a_server_without_a_knee_is_not_given_one() -> None:
    found = ramp(lambda rate: run_of(rate, 1e12), first=100, p99_ms_max=20)
    assert found.why == f"the ramp ends at {found.rate:.0f}/s"
    assert not found.by_generator


def test_errors_end_it_at_once() -> None:
    with pytest.raises(AssertionError, match="errors"):
        ramp(lambda rate: run_of(rate, 1000, errors=1), first=100, p99_ms_max=20)
