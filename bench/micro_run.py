"""The steps of ``bench/micro`` once, for a look; the result is kept in ``.benchmarks/``, one file for each commit.

python -m bench.micro_run
"""

from __future__ import annotations

import subprocess
import sys

from bench.compare import FOLDER, MICRO, OPTIONS
from bench.machine import ROOT, commit


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"micro-{commit()}.json"
    options = [option for option in OPTIONS if option != "--benchmark-quiet"]
    shown = ["--benchmark-columns=min,median,iqr,rounds,iterations", "--benchmark-sort=name"]
    command = [sys.executable, "-m", "pytest", "-q", MICRO, *options, *shown, f"--benchmark-json={path}"]
    done = subprocess.run(command, cwd=ROOT, check=False, timeout=900)
    print(f"kept in {path.relative_to(ROOT)}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
