"""Nova's own filters and weighers and ours say the same of randomised fleets and requests, to the last bit.

The first 500 seeds in ``make test`` where ``make nova-environment`` has been run, 20,000 in ``make torture``. A failure
prints the seed and the smallest case that still differs; ``python -m tests.nova_oracle --case SEED`` shows both sides.
"""

from __future__ import annotations

import os

import pytest

from tests.lengths import repeats

from .generate.options import FILTERS
from .peer import missing
from .run import OURS, Figures, sweep

CASES = repeats(500, 20_000)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_nova_and_we_say_the_same() -> None:
    figures, found = Figures(), []
    for part, differing in sweep(0, CASES, os.cpu_count() or 1):
        figures.merge(part)
        found += differing
    assert found == [], "\n".join(map(str, found[:10]))
    _saw_enough(figures)


def _saw_enough(figures: Figures) -> None:
    """A run that compares nothing must not pass."""
    counts = figures.counts
    assert counts["cases"] == CASES
    assert counts["refused by Nova's API"] < CASES // 5
    assert counts["requests with several candidates"] > CASES // 10
    for name in sorted(OURS & set(FILTERS) - {"AllHostsFilter"}):
        assert 0 < counts[f"{name} passed"] < counts["hosts"] - counts[f"{name} raised"], name
