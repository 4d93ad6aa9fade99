"""The tables in the documents show what was measured, and never hide a miss."""

from __future__ import annotations

import pytest

from bench import figures
from bench.figure_tables import TABLES
from bench.history import Recorded, Release
from bench.machine import Machine

RUN = Machine("2026-11-27 01:40", "abc", "AMD EPYC", 2, 24, "6.18", "3.11.2", 0.0)


def measure(
    value: float, unit: str = "ms", target: float | None = None, *, less: bool = True, name: str = "a"
) -> Recorded:
    ok = target is None or (value <= target if less else value >= target)
    return Recorded(name, value, unit, target, less, ok, RUN.at)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (measure(12_345.6, "1/s"), "12,346/s"),
        (measure(5.44, "us"), "5.4 µs"),
        (measure(0.4032), "0.40 ms"),
        (measure(106.2, "%"), "106 %"),
        (measure(2.0026, "s", 2.0), "2.003 s"),  # "2.0 s" would look as if it were reached
        (measure(2.6, "s", 2.0), "2.6 s"),
        (measure(2_999.7, "1/s", 3000.0, less=False), "2,999.7/s"),
        (measure(40_000.0, "1/s", name="open_loop_read_knee_of_generator"), "40,000/s and more"),
    ],
)
def test_a_figure_has_the_digits_that_mean_something(found: Recorded, text: str) -> None:
    assert figures.figure(found) == text


def test_a_table_names_its_runs_its_aims_and_its_misses() -> None:
    measures = [measure(9.0, target=5.0, name="idle_pss"), measure(1.0, "s", 2.0, name="up_to_first_answer")]
    document = "before\n<!-- figures: overview -->\nold\n<!-- end of figures -->\nbehind\n"
    made = figures.filled(document, Release("1", [RUN], measures))
    assert made.startswith("before\n<!-- figures: overview -->\n2026-11-27, 01:40 UTC, 2 shared cores (AMD EPYC)")
    assert made.endswith("<!-- end of figures -->\nbehind\n")
    assert "old" not in made
    assert "| memory of the whole idle control plane (PSS) | 9.0 ms | ≤ 5 ms: **missed** |" in made
    assert "| `nova-fast up` to the first answer | 1.0 s | ≤ 2 s |" in made
    assert "| — with a port each | not measured | |" in made
    assert figures.filled(made, Release("1", [RUN], measures)) == made


def test_every_table_stands_in_a_document_and_shows_what_is_measured() -> None:
    documents = figures.README.read_text() + figures.BENCHMARKS.read_text()
    known = {measure.name.removesuffix("_of_generator") for measure in figures.newest().measures}
    for name, table in TABLES.items():
        assert f"<!-- figures: {name} -->" in documents
        assert figures.names_in(table) <= known
        for row in table.rows:
            assert len(row) == len(table.head), row
            assert set(row[-1].split()) <= figures.names_in(table), row
