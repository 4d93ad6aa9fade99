"""One line for each measure, the same everywhere: ``RESULT name=… value=… unit=… target=… ok=yes|no``."""

from __future__ import annotations


def report(name: str, value: float, unit: str, target: float | None, *, less_is_better: bool = False) -> bool:
    """Print a measure; returns whether it reached its target (a measure without one always does)."""
    ok = target is None or (value <= target if less_is_better else value >= target)
    shown = f"{value:.0f}" if value >= 1000 else f"{value:.2f}"
    wanted = "none" if target is None else f"{'<=' if less_is_better else '>='}{target:g}"
    print(f"RESULT name={name} value={shown} unit={unit} target={wanted} ok={'yes' if ok else 'no'}", flush=True)
    return ok


def percentile(values: list[float], share: float) -> float:
    """The value below which this share of the values lies."""
    assert values
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
