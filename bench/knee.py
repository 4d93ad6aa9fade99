"""Where a server bends: the highest rate that it still serves in time.

The rate is raised step by step until the answers come late, or fewer are answered than were asked, then the last step
is halved a few times. When the generator gives up first, the knee is not the server's and that is said.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bench.open_loop import Run

ACHIEVED_MIN = 0.97  # of what was offered
STEP = 1.4
HALVINGS = 2
STEPS_MAX = 20
#: A single step may fall into a moment in which the machine was away: it is asked again before it counts.
TRIES = 2


class Knee(msgspec.Struct, frozen=True):
    """What a ramp found."""

    rate: float  # the highest that was served in time; 0 when the first was too much
    run: Run | None  # at that rate
    why: str  # what ended the ramp
    by_generator: bool  # it was the generator that could do no more
    steps: list[tuple[float, float]]  # rate and p99 in ms of every run


def served(found: Run, p99_ms_max: float) -> str:
    """Why a rate is too much; "" when it is not. Raises AssertionError on errors."""
    assert not found.errors, f"{found.errors} of {found.answered} answers were errors at {found.offered:.0f}/s"
    if found.unanswered:
        return f"{found.unanswered} were not answered at {found.offered:.0f}/s"
    if found.achieved < ACHIEVED_MIN * found.offered:
        return f"{found.achieved:.0f}/s answered of {found.offered:.0f}/s"
    p99_ms = found.percentiles().ms(99)
    return f"p99 {p99_ms:.1f} ms at {found.offered:.0f}/s" if p99_ms > p99_ms_max else ""


def ramp(load: Callable[[float], Run], first: float, p99_ms_max: float) -> Knee:
    """Find the knee; ``load(rate)`` makes one run."""
    steps: list[tuple[float, float]] = []

    def attempt(rate: float) -> tuple[Run, str, bool]:
        for _ in range(TRIES):
            found = load(rate)
            steps.append((rate, found.percentiles().ms(99)))
            why = found.saturated or served(found, p99_ms_max)
            if not why:
                break
        return found, why, bool(found.saturated)

    rate, best, best_run = first, 0.0, None
    for _ in range(STEPS_MAX):
        found, why, by_generator = attempt(rate)
        if why:
            break
        best, best_run = rate, found
        rate *= STEP
    else:
        return Knee(best, best_run, f"the ramp ends at {best:.0f}/s", False, steps)
    low, high = best, rate
    for _ in range(HALVINGS if best else 0):
        middle = (low + high) / 2
        found, reason, generator = attempt(middle)
        if reason:
            high, why, by_generator = middle, reason, generator
        else:
            low, best, best_run = middle, middle, found
    return Knee(best, best_run, why, by_generator, steps)
