"""Whoever outlives a test that was killed, and puts away what it left: daemons, guests, networks, files.

    python -m tests.cloud.guardian

A test's cloud survives its pytest on purpose, as an operator's survives his shell. A pytest that ends puts its cloud
away itself; one that gets SIGKILL cannot. So each cloud of a test has a small process in a session of its own, which
sleeps until its parent is gone. What it guards stands in its environment: whoever counts what is left of a cloud looks
for its folder in the command lines of processes, and this one belongs to the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nova_fast.cli import libvirt_host
from nova_fast.config import load

ROOT = Path(__file__).resolve().parents[2]
DOWN_TIMEOUT_S = 300
GUARDED = "NOVA_FAST_GUARDED"  # process id, kind (cloud or libvirt), folder, configuration


@contextlib.contextmanager
def guarded(kind: str, folder: Path, config: Path) -> Iterator[None]:
    """Meanwhile somebody watches over this process; who leaves has put everything away himself."""
    watcher = subprocess.Popen(
        [sys.executable, "-m", "tests.cloud.guardian"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), GUARDED: json.dumps([os.getpid(), kind, str(folder), str(config)])},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.wait()


def wait_for_the_end_of(pid: int) -> None:
    """Return when this process is gone, which is our parent as long as it lives."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        if os.getppid() == pid:
            select.select([handle], [], [])
        os.close(handle)


def put_away(kind: str, folder: Path, config: Path) -> None:
    """End it as its owner would, then remove its files, and what a test has mounted among them."""
    if kind == "libvirt":
        libvirt_host.stop(load(config))
    else:
        command = [sys.executable, "-m", "nova_fast.cli.main", "down", "--all", "--config", str(config)]
        subprocess.run(command, cwd=folder, timeout=DOWN_TIMEOUT_S, check=False)
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed([place for place in places if place.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", place], timeout=DOWN_TIMEOUT_S, check=False)
    if not os.environ.get("NOVA_FAST_KEEP_TEST_CLOUDS"):
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    pid, what, place, config_file = json.loads(os.environ[GUARDED])
    wait_for_the_end_of(pid)
    put_away(what, Path(place), Path(config_file))
