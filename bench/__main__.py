"""Run the benchmarks one after the other: ``python -m bench [--quick] [--record RELEASE] [NAME …]``.

Every measure is a line ``RESULT name=… value=… unit=… target=… ok=yes|no``. A target that is missed is told, not an
error: the exit status is 1 only when something could not be measured. A figure that would not mean what it says is a
line ``NOT MEASURED … : why``. A run of everything ends with the promises that have no figure.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import time
import traceback

from bench import figures, history
from bench.machine import this_machine
from bench.results import Refused, not_measured
from bench.targets import unmeasured

NAMES = ("store", "hub", "scheduler", "api", "sdk", "cloud", "start")
#: Not among all: it takes half an hour and 10 GB of disk.
LARGE = "large"
#: In a minute, on a machine that is not in a hurry.
QUICK_NAMES = ("store", "hub", "api", "sdk", "cloud")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure; all benchmarks by default.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}, {LARGE}")
    parser.add_argument(
        "--quick", action="store_true", help="small numbers, in about a minute: for a look, not to quote"
    )
    parser.add_argument(
        "--record", metavar="RELEASE", help="write the figures to docs/benchmarks/history and draw the README's plot"
    )
    options = parser.parse_args()
    unknown = set(options.names) - {*NAMES, LARGE}
    if unknown:
        parser.error(f"there is no benchmark named {sorted(unknown)[0]}; there are {', '.join(NAMES)}, {LARGE}")
    if options.record and options.quick:
        parser.error("what --quick finds is not to be quoted, so it is not recorded")
    # Whoever ends a run (``timeout``, a CI that stops) ends its clouds with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    machine = this_machine()
    print(
        f"machine: {machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, Linux {machine.kernel}, "
        f"Python {machine.python}, commit {machine.commit}, load {machine.load:.2f}, {machine.at} UTC"
    )
    names = options.names or (QUICK_NAMES if options.quick else NAMES)
    failed = [name for name in names if not run(name, quick=options.quick)]
    if not options.names and not options.quick:
        for name in unmeasured():
            not_measured(name, "make bench-large has it" if "1m" in name or "1000k" in name else "see above")
    if options.record:
        print(f"recorded: {history.record(options.record, machine)}")
        figures.write()
    return 1 if failed else 0


def run(name: str, *, quick: bool) -> bool:
    """One benchmark; whether it could be run. The others are worth measuring all the same."""
    print(f"== {name}", flush=True)
    begin = time.monotonic()
    try:
        importlib.import_module(f"bench.bench_{name}").main(quick=quick)
        found = True
    except Refused as refused:
        not_measured(name, refused)
        found = True
    except Exception:  # noqa: BLE001 - told, and the exit status says it
        traceback.print_exc()
        found = False
    print(f"== {name}: {time.monotonic() - begin:.0f} s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
