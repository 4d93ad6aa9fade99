"""Latencies kept as an HDR histogram: three significant digits from a microsecond to two minutes, any number of them.

Histograms of several processes add up exactly, which percentiles do not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hdrh.histogram import HdrHistogram

HIGHEST_US = 120_000_000
DIGITS = 3


class Latencies:
    """How long things took."""

    def __init__(self) -> None:
        self._histogram: Any = HdrHistogram(1, HIGHEST_US, DIGITS)

    def add(self, seconds: Iterable[float]) -> None:
        """Record times. PERF: 1 µs each; generators keep plain floats and add them when the load is over."""
        record = self._histogram.record_value
        for value in seconds:
            # Longer than the highest is recorded as the highest: it must not vanish.
            record(min(HIGHEST_US, max(1, round(value * 1e6))))

    def merge(self, other: Latencies) -> None:
        self._histogram.add(other._histogram)

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def ms(self, percent: float) -> float:
        """The latency that this share of all did not exceed, e.g. ``ms(99.9)``; 0 of nothing."""
        return float(self._histogram.get_value_at_percentile(percent)) / 1000 if self.count else 0.0

    @property
    def max_ms(self) -> float:
        return float(self._histogram.get_max_value()) / 1000 if self.count else 0.0

    def encode(self) -> str:
        """As text, to be sent between processes or kept."""
        return bytes(self._histogram.encode()).decode()

    @classmethod
    def decode(cls, text: str) -> Latencies:
        found = cls()
        found._histogram = HdrHistogram.decode(text)
        return found
