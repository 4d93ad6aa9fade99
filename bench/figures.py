"""The tables of figures in README.md and docs/benchmarks.md, made from the newest release's history.

A table is declared once (``bench/figure_tables.py``): what a row says, which measures its cells show, whose aims stand
beside them. Numbers, units, aims, misses and the line of when and where are the history's, so no document says
anything else. ``python tools/documents.py --update`` and every ``--record`` write them; a test holds them.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from bench.figure_tables import TABLES, Table
from bench.history import FOLDER, Recorded, Release
from bench.machine import ROOT

README, BENCHMARKS = ROOT / "README.md", ROOT / "docs" / "benchmarks.md"
_MEASURE = re.compile(r"\{([\w.-]+)\}")
#: What a knee is called when the generator could do no more: the server's is above it.
_OF_GENERATOR = "_of_generator"
#: unit of a measure → what is written behind its number.
_UNITS = {
    "1/s": "/s",
    "servers/s": " servers/s",
    "decisions/s": " decisions/s",
    "us": " µs",
    "us a request": " µs",
    "ns/host": " ns a host",
    "times": " x",
    "ratio": " x",
    "cores": " core",
    "% of the rate at rest": " %",
    "% of the processors": " %",
    "% of a core": " %",
}


def newest() -> Release:
    """The release whose last run is the newest."""
    releases = [msgspec.json.decode(path.read_bytes(), type=Release) for path in FOLDER.glob("*.json")]
    return max(releases, key=lambda release: release.runs[-1].at)


def filled(document: str, release: Release) -> str:
    """A document with its tables as the history has them. Raises KeyError for a table that is not declared."""
    return re.sub(
        r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)",
        lambda found: found[1] + _written(TABLES[found[2]], release) + found[3],
        document,
        flags=re.DOTALL,
    )


def made(path: Path) -> str:
    """A document with its tables as the newest release's history has them."""
    return filled(path.read_text(), newest())


def write() -> None:
    """Bring both documents up to the newest release."""
    for path in (README, BENCHMARKS):
        path.write_text(made(path))


def names_in(table: Table) -> set[str]:
    """The measures that a table shows."""
    return {name for row in table.rows for cell in row[1:-1] for name in _MEASURE.findall(cell)}


def _written(table: Table, release: Release) -> str:
    measures: dict[str, Recorded] = {}
    for measure in release.measures:
        name = measure.name.removesuffix(_OF_GENERATOR)
        if name not in measures or measures[name].at <= measure.at:
            measures[name] = measure
    shown = [measures[name] for name in names_in(table) if name in measures]
    lines = [_where(shown, release), "", _line(table.head), _line(["---"] * len(table.head))]
    for says, *cells, aims in table.rows:
        lines.append(_line([says, *[_shown(cell, measures) for cell in cells], _aims(aims, measures)]))
    return "\n".join(lines) + "\n"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|"


def _where(shown: list[Recorded], release: Release) -> str:
    """When the runs began that these are of, and the machine of the newest."""
    starts = sorted({measure.at for measure in shown})
    run = next(run for run in release.runs if run.at == starts[-1])
    return f"{_times(starts)} UTC, {run.cores} shared cores ({run.processor}), Python {run.python}, Linux {run.kernel}."


def _times(starts: list[str]) -> str:
    days: dict[str, list[str]] = {}
    for at in starts:
        day, _, hour = at.partition(" ")
        days.setdefault(day, []).append(hour)
    return "; ".join(f"{day}, {' and '.join(hours)}" for day, hours in days.items())


def _shown(cell: str, measures: dict[str, Recorded]) -> str:
    return _MEASURE.sub(lambda found: figure(measures[found[1]]) if found[1] in measures else "not measured", cell)


def _aims(names: str, measures: dict[str, Recorded]) -> str:
    """The aims of the named measures, and which of them were missed."""
    return "; ".join([_aim(measures[name]) for name in names.split() if name in measures])


def _aim(measure: Recorded) -> str:
    assert measure.target is not None, f"{measure.name} has no aim"
    wanted = f"{'≤' if measure.less_is_better else '≥'} {measure.target:,.10g}{_unit(measure)}"
    return wanted if measure.ok else f"{wanted}: **missed**"


def figure(measure: Recorded) -> str:
    """A measure with its unit and as many digits as mean something; more, where fewer would hide that it was missed."""
    size = abs(measure.value)
    digits = 0 if size >= 10 else 1 if size >= 1 else 2
    while not measure.ok and digits < 3 and _would_do(round(measure.value, digits), measure):
        digits += 1
    more = " and more" if measure.name.endswith(_OF_GENERATOR) else ""
    return f"{measure.value:,.{digits}f}{_unit(measure)}{more}"


def _would_do(value: float, measure: Recorded) -> bool:
    assert measure.target is not None
    return value <= measure.target if measure.less_is_better else value >= measure.target


def _unit(measure: Recorded) -> str:
    return _UNITS.get(measure.unit, f" {measure.unit}")
