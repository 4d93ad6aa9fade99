"""Run the benchmarks one after the other: ``python -m bench [--quick] [NAME …]``."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys

NAMES = ("scheduler", "hub", "cloud")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all by default")
    parser.add_argument("--quick", action="store_true", help="small numbers, for a look")
    options = parser.parse_args()
    print(f"machine: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    for name in options.names or NAMES:
        print(f"== {name}", flush=True)
        module = importlib.import_module(f"bench.bench_{name}")
        os.environ["NOVA_FAST_BENCH_QUICK"] = "1" if options.quick else ""
        module.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
