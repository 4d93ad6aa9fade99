"""The comparison of two commits: it finds what is slower, and is not alarmed by a machine that others use."""

from __future__ import annotations

import random

import pytest

from bench.compare import NOISE_MIN, judge, verdicts


def rounds_of(rng: random.Random, change: float, noise: float, count: int = 7) -> list[tuple[float, float, float]]:
    """Runs of a step of 10 µs; each is off by up to so much (more rather than less, as noise is)."""
    return [
        tuple(1e-5 * factor * (1 + abs(rng.gauss(0, noise))) for factor in (1, change, 1))  # type: ignore[misc]
        for _ in range(count)
    ]


@pytest.mark.parametrize("noise", [0.005, 0.03, 0.1])
def test_the_same_code_is_seldom_called_slower(noise: float) -> None:
    rng = random.Random(1)
    alarms = sum(judge("x", rounds_of(rng, 1.0, noise)).regressed for _ in range(1000))
    assert alarms <= 10  # and each is run again before it counts


@pytest.mark.parametrize(("noise", "change"), [(0.005, 1.06), (0.03, 1.15), (0.1, 1.6)])
def test_what_is_slower_beyond_the_noise_is_found(noise: float, change: float) -> None:
    rng = random.Random(2)
    found = [judge("x", rounds_of(rng, change, noise)) for _ in range(200)]
    assert sum(verdict.regressed for verdict in found) >= 180
    assert not any(verdict.improved for verdict in found)


def test_what_is_faster_is_said_and_no_alarm() -> None:
    found = judge("x", rounds_of(random.Random(3), 0.5, 0.01))
    assert found.improved
    assert not found.regressed
    assert found.ratio == pytest.approx(0.5, rel=0.05)


def test_a_quiet_machine_does_not_make_a_percent_an_alarm() -> None:
    found = judge("x", [(1.0, 1.02, 1.0)] * 7)
    assert found.noise == NOISE_MIN
    assert not found.regressed


def test_a_machine_that_slows_down_all_the_time_does_not_blame_the_new_code() -> None:
    """Each run takes a twentieth more than the one before: the old after the new shows it."""
    drifting = [(1.05**n, 1.05 ** (n + 1), 1.05 ** (n + 2)) for n in range(0, 21, 3)]
    assert not judge("x", drifting).regressed


def test_steps_that_one_tree_does_not_have_are_named() -> None:
    runs = [({"a": 1.0}, {"a": 1.0, "b": 2.0}, {"a": 1.0})] * 3
    judged, missing = verdicts(runs)
    assert [verdict.name for verdict in judged] == ["a"]
    assert missing == ["b"]
