"""Percentiles of the load generators: right to three digits, nothing lost, and they add up."""

from __future__ import annotations

import math
import random

import pytest

from bench.histogram import Latencies


@pytest.mark.parametrize("percent", [50, 90, 99, 99.9])
def test_percentiles_agree_with_the_sorted_values_to_three_digits(percent: float) -> None:
    rng = random.Random(1)
    values = [rng.lognormvariate(-7, 2) for _ in range(20_000)]
    found = Latencies()
    found.add(values)
    exact_ms = sorted(values)[math.ceil(len(values) * percent / 100) - 1] * 1000
    assert found.count == len(values)
    assert found.ms(percent) == pytest.approx(exact_ms, rel=0.003, abs=0.002)


def test_what_is_longer_than_the_longest_is_counted_as_the_longest() -> None:
    found = Latencies()
    found.add([0.0, 1e6])
    assert found.count == 2
    assert found.ms(100) == pytest.approx(120_000, rel=0.001)


def test_two_processes_add_up_and_a_histogram_survives_the_way_between_them() -> None:
    one, other = Latencies(), Latencies()
    one.add([0.001] * 90)
    other.add([0.1] * 10)
    one.merge(Latencies.decode(other.encode()))
    assert one.count == 100
    assert one.ms(90) == pytest.approx(1, rel=0.01)
    assert one.ms(91) == pytest.approx(100, rel=0.01)


def test_nothing_has_no_latency() -> None:
    assert (Latencies().ms(99), Latencies().max_ms) == (0, 0)
