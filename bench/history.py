"""The figures of a release as a file, and the plot of them that a newcomer understands.

``docs/benchmarks/history/RELEASE.json`` has every measure of one run with its machine and date; a second run for the
same release (``make bench-large``) adds to it. The plot shows the newest release, nova_fast beside what it is compared
with, from the same run.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from bench.machine import ROOT, Machine
from bench.plot import COLORS, Bar, write_bars
from bench.results import MEASURES, Measure, shown

FOLDER = ROOT / "docs" / "benchmarks" / "history"
PLOT = ROOT / "docs" / "benchmarks" / "overview.svg"
OURS, OTHER = COLORS[0], "#b9b9b9"
#: Real Nova 34 with its fake driver on two cores of the same kind; not of the same run, and the plot says it.
NOVA = {"boots": 2.3, "reads": 46.0, "accepted": 7.0}


class Recorded(Measure, frozen=True):
    """A measure, and when the run began that it is of: the ``at`` of a machine."""

    at: str


class Release(msgspec.Struct):
    """What was measured of one release, perhaps in several runs."""

    release: str
    runs: list[Machine]
    measures: list[Recorded]


def record(release: str, machine: Machine, folder: Path = FOLDER, plot: Path = PLOT) -> Path:
    """Write down what this process has reported. A measure that is there already is replaced, and a run forgotten of
    which nothing is left."""
    assert re.fullmatch(r"[\w.+-]+", release), "a release is a short name"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{release}.json"
    found = Release(release, [], [])
    if path.exists():
        found = msgspec.json.decode(path.read_bytes(), type=Release)
    new = {measure.name: Recorded(**msgspec.structs.asdict(measure), at=machine.at) for measure in MEASURES}
    kept = [measure for measure in found.measures if measure.name not in new]
    used = {measure.at for measure in kept}
    found = Release(release, [*(run for run in found.runs if run.at in used), machine], [*kept, *new.values()])
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    draw(found, plot)
    return path


def draw(found: Release, path: Path) -> None:
    """Bars of what people ask first; groups that were not measured are left out."""
    values = {measure.name: measure.value for measure in found.measures}
    groups = [
        (
            "servers brought to ACTIVE a second, fake hypervisors",
            [
                *_bar(values, "boots_to_active_100_computes", "nova_fast, 100 computes"),
                Bar("Nova 34 (earlier run)", NOVA["boots"], f"{NOVA['boots']}/s", OTHER),
            ],
        ),
        (
            "servers accepted a second, each durable before the answer",
            [
                *_bar(values, "bulk_create_accepted_10000", "nova_fast, 10,000 in one call"),
                *_bar(values, "post_servers_accepted_64_clients", "nova_fast, one by one"),
                Bar("Nova 34 (earlier run)", NOVA["accepted"], f"{NOVA['accepted']:.0f}/s", OTHER),
            ],
        ),
        (
            "reads of one server a second",
            [
                *_bar(values, "sdk_reads_pipelined", "nova_fast, ZeroMQ SDK"),
                *_bar(values, "get_server_per_worker", "nova_fast, REST, one worker"),
                *_bar(values, "bare_falcon_json", "bare Falcon, the same JSON", OTHER),
                Bar("Nova 34 (earlier run)", NOVA["reads"], f"{NOVA['reads']:.0f}/s", OTHER),
            ],
        ),
    ]
    measured = [(heading, bars) for heading, bars in groups if any(bar.color == OURS for bar in bars)]
    path.parent.mkdir(parents=True, exist_ok=True)
    where = found.runs[-1]
    write_bars(path, f"nova_fast {found.release}, {where.cores} shared cores, {where.at[:10]}", measured)


def _bar(values: dict[str, float], name: str, label: str, color: str = OURS) -> list[Bar]:
    if name not in values:
        return []
    value = values[name]
    number = f"{value:,.0f}" if value >= 1000 else shown(value)
    return [Bar(label, value, f"{number}/s", color)]
