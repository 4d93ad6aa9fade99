"""What a figure depends on besides the code: the machine, its disk, the commit; and what processes cost."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from pathlib import Path

import msgspec

from bench.results import percentile

ROOT = Path(__file__).resolve().parent.parent
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Machine(msgspec.Struct, frozen=True):
    """Where and when a run was made."""

    at: str  # UTC
    commit: str  # with "+" when the tree had changes
    processor: str
    cores: int
    memory_gib: int
    kernel: str
    python: str
    load: float  # when the run began


def this_machine() -> Machine:
    """The machine as it is now."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Machine(
        at=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        commit=commit(),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(pages * page_bytes / (1 << 30)),
        kernel=platform.release(),
        python=platform.python_version(),
        load=os.getloadavg()[0],
    )


def commit() -> str:
    """The commit of this tree, short."""
    found = _git("rev-parse", "--short=10", "HEAD")
    return found + ("+" if found and _git("status", "--porcelain", "--untracked-files=no") else "") or "none"


def _git(*arguments: str) -> str:
    command = ["git", "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def sync_ms(folder: Path, times: int = 50) -> list[float]:
    """How long this disk takes to write and sync one page, so many times; ms. What a durable write is compared with."""
    found = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(times):
            begin = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fdatasync(file.fileno())
            found.append((time.perf_counter() - begin) * 1000)
    return found


def sync_p50_ms(folder: Path, times: int = 50) -> float:
    """The median of :func:`sync_ms`."""
    return percentile(sync_ms(folder, times), 0.5)


def cpu_s(pid: int) -> float:
    """User and system time of a process and its threads since it began, in steps of 10 ms."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    fields = stat[stat.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def waited_s(pid: int) -> float:
    """How long the threads of a process that are there now have waited for a processor since they began."""
    waits = [Path(f"/proc/{pid}/task/{thread}/schedstat").read_text() for thread in os.listdir(f"/proc/{pid}/task")]
    return sum(int(wait.split()[1]) for wait in waits) / 1e9


def busy_s() -> float:
    """What all processes have used of all processors since the machine began."""
    user, nice, system, _idle, _iowait, interrupts, softer, *_ = _processors()
    return (user + nice + system + interrupts + softer) / _TICKS_A_SECOND


def stolen_s() -> float:
    """What the host has taken away of all processors since the machine began, while somebody here wanted them."""
    return _processors()[7] / _TICKS_A_SECOND


def _processors() -> list[int]:
    return [int(ticks) for ticks in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]


def pss_mib(pid: int, what: str = "Pss") -> float:
    """Proportional set size: shared pages are divided among those who share them. ``Pss_File``: of files only."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith(f"{what}:")) / 1024


def processes_with(text: str) -> dict[int, list[str]]:
    """The processes whose command line has this text: pid → arguments."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            raw = (process / "cmdline").read_bytes()
            if text.encode() in raw:
                found[int(process.name)] = raw.decode(errors="replace").rstrip("\0").split("\0")
    return found
