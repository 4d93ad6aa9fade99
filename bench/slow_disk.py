"""A disk that takes longer: ``bench/slow_disk.c`` loaded into every daemon of a cloud.

What a sync takes then is measured as the daemons suffer it, in a process that has the same library loaded.

    python -m bench.slow_disk FOLDER    the median of a sync in this folder, ms
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.machine import ROOT, sync_p50_ms

#: How much longer a sync takes: a network disk or a good SSD, an SSD that keeps its promise, a disk that turns.
SYNCS_MS = (1, 4, 10)
_SOURCE = Path(__file__).with_suffix(".c")


def environment(folder: Path, sync_ms: float) -> dict[str, str]:
    """What a process is started with whose disk is to take so much longer; makes the library in a folder."""
    library = folder / "slow_disk.so"
    if not library.exists():
        build = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library)]
        subprocess.run([*build, str(_SOURCE), "-ldl"], check=True, timeout=60)
    return {**os.environ, "LD_PRELOAD": str(library), "SLOW_DISK_US": str(int(sync_ms * 1000))}


def suffered_ms(folder: Path, environment: dict[str, str]) -> float:
    """The median of a sync in a folder, for a process with this environment."""
    command = [sys.executable, "-m", "bench.slow_disk", str(folder)]
    done = subprocess.run(command, env=environment, check=True, cwd=ROOT, stdout=subprocess.PIPE, timeout=60)
    return float(done.stdout)


if __name__ == "__main__":
    print(sync_p50_ms(Path(sys.argv[1])))
