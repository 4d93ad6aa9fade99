"""Settings that are lists of ``name=ratio``."""

from __future__ import annotations

import math

from nova_fast.model.errors import BadRequest


def ratios(settings: tuple[str, ...]) -> tuple[tuple[str, float], ...]:
    """The names with their ratios, in order. Raises BadRequest for an entry that is none."""
    return tuple(map(_ratio, settings))


def _ratio(entry: str) -> tuple[str, float]:
    name, _equals, text = entry.partition("=")
    try:
        ratio = float(text)
    except ValueError:
        ratio = math.nan
    if not name or not math.isfinite(ratio):
        raise BadRequest(f"{entry!r} is not name=ratio.", field="scheduler", hint="like cpu.idle.percent=1.0")
    return name, ratio
