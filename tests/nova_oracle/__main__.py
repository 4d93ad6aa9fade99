"""``python -m tests.nova_oracle --cases 20000 --first 0``: ask Nova and ourselves, and print what differs.

``--case N`` plays one, with both answers; ``--file case.json`` plays what an earlier run printed. Each difference is
made as small as it gets and printed as a case that can be played again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from .generate.options import FILTERS
from .peer import missing
from .run import OURS, Figures, Found, record, show, sweep


def main() -> int:
    """Returns 0 when nothing differs."""
    options = _parser().parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 2
    if options.case is not None or options.file:
        return show(json.loads(Path(options.file).read_text()) if options.file else options.case)
    if options.record:
        record(options.record)
        return 0
    started = time.monotonic()
    figures = Figures()
    found: list[Found] = []
    for part, differing in sweep(options.first, options.cases, options.jobs):
        figures.merge(part)
        for one in differing:
            print(one, flush=True)
            found.append(one)
        if len(found) >= options.differences:
            break
    print(figures.table())
    if absent := sorted(set(FILTERS) - OURS):
        print(f"not compared, because we have no such filters: {', '.join(absent)}")
    print(f"{figures.counts['cases']} cases in {time.monotonic() - started:.0f} s: {len(found)} differ")
    return 1 if found else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.nova_oracle", description=__doc__)
    parser.add_argument("--cases", type=int, default=500, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--case", type=int, help="play this one and print both answers")
    parser.add_argument("--file", help="play the case in this file")
    parser.add_argument("--record", type=int, help="keep Nova's answers to so many cases in the tree")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes, each with a Nova")
    parser.add_argument("--differences", type=int, default=10, help="stop after so many cases that differ")
    return parser


if __name__ == "__main__":
    sys.exit(main())
