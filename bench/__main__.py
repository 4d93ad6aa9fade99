"""Run the benchmarks one after the other: ``python -m bench [--quick] [NAME …]``.

Every measure is a line ``RESULT name=… value=… unit=… target=… ok=yes|no``. A target that is missed is told, not an
error: the exit status is 1 only when something could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
import traceback

NAMES = ("scheduler", "hub", "cloud", "start")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure; all benchmarks by default.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)}")
    parser.add_argument(
        "--quick", action="store_true", help="small numbers, in about a minute: for a look, not to quote"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"there is no benchmark named {sorted(unknown)[0]}; there are {', '.join(NAMES)}")
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    print(f"machine: {platform.machine()}, {cores} cores, Python {platform.python_version()}, load {load:.2f}")
    failed = False
    for name in options.names or NAMES:
        print(f"== {name}", flush=True)
        begin = time.monotonic()
        try:
            importlib.import_module(f"bench.bench_{name}").main(quick=options.quick)
        except Exception:  # noqa: BLE001 - the others are worth measuring all the same
            traceback.print_exc()
            failed = True
        print(f"== {name}: {time.monotonic() - begin:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
