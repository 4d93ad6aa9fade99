"""One line for each measure, the same everywhere: ``RESULT name=… value=… unit=… target=… ok=yes|no``.

What was reported in this process is kept, so that a run can be written down whole (``bench/history.py``) and its end
can say which promises were measured (``bench/targets.py``).
"""

from __future__ import annotations

import msgspec


class Measure(msgspec.Struct, frozen=True):
    """One measure as it was found."""

    name: str
    value: float
    unit: str
    target: float | None
    less_is_better: bool
    ok: bool


#: Everything that was reported in this process, in order.
MEASURES: list[Measure] = []


class Refused(Exception):
    """A figure that would not mean what it says is not given: the sentence says why."""


def report(name: str, value: float, unit: str, target: float | None, *, less_is_better: bool = False) -> bool:
    """Print a measure; returns whether it reached its target (a measure without one always does)."""
    ok = target is None or (value <= target if less_is_better else value >= target)
    wanted = "none" if target is None else f"{'<=' if less_is_better else '>='}{target:g}"
    print(f"RESULT name={name} value={shown(value)} unit={unit} target={wanted} ok={'yes' if ok else 'no'}", flush=True)
    MEASURES.append(Measure(name, value, unit, target, less_is_better, ok))
    return ok


def not_measured(what: str, why: object) -> None:
    """Say that something has no figure in this run."""
    print(f"NOT MEASURED {what}: {why}", flush=True)


def shown(value: float) -> str:
    """A value with as many digits as mean something."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3g}"


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies."""
    assert values
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
