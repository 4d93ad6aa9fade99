"""Promises of time on a machine that others use: of several tries the best one counts, for a promise that is broken is
broken each time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

TRIES_MAX = 6


async def least(attempt: Callable[[], Awaitable[float]], enough: float) -> float:
    """The smallest figure that a few attempts come to; the first that is below ``enough`` ends them."""
    best = float("inf")
    for _ in range(TRIES_MAX):
        best = min(best, await attempt())
        if best < enough:
            break
    return best


def least_of(attempt: Callable[[], float], enough: float) -> float:
    """The same of a plain function."""
    best = float("inf")
    for _ in range(TRIES_MAX):
        best = min(best, attempt())
        if best < enough:
            break
    return best
