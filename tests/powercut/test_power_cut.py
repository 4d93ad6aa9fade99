"""The power goes at a random moment: no acknowledged commit is lost, and the store opens as some commit left it.

A real writer is recorded (``recorder.c``, ``workload.py``), its log is cut at random places (``cutter.py``), and the
disk forgets what was not synced (``disk.py``). What is left is opened with the production store and must be, byte for
byte in every table and index, the state after some commit: not before the newest acknowledged, not one never begun.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lengths import repeats
from tests.powercut.disk import read_log

pytestmark = [pytest.mark.torture, pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")]

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
SEEDS = repeats(1, 6)
OPERATIONS = repeats(250, 500)
CUTS = repeats(75, 1000)  # of each recorded log, on each of the two kinds of disk
CONTROL_OPERATIONS = 120
CONTROL_CUTS = 400  # ends with the first that is seen
TIMEOUT_S = 600


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder, built by the compiler of this machine."""
    library = tmp_path_factory.mktemp("recorder") / "recorder.so"
    build = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(library)]
    subprocess.run([*build, str(HERE / "recorder.c"), "-ldl", "-lpthread"], check=True, timeout=60)
    return library


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where a thousand stores can be written out quickly."""
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def record(recorder: Path, folder: Path, seed: int, operations: int, *how: str) -> Path:
    """Run the writer under the recorder. It syncs to a real disk, or commits would hardly ever be shared."""
    folder.mkdir()
    environment = {
        **os.environ, "LD_PRELOAD": str(recorder), "POWERCUT_LOG": str(folder / "log"),
        "POWERCUT_FOLDER": str(folder), "PYTHONPATH": str(TOP),
    }  # fmt: skip
    workload = [sys.executable, str(HERE / "workload.py"), str(folder), str(seed), str(operations), *how]
    subprocess.run(workload, env=environment, check=True, timeout=TIMEOUT_S)
    kinds = {line.kind for line in read_log(folder / "log")}
    assert {"W", "M"} <= kinds, "the calls are not intercepted"
    assert ("D" in kinds) == ("without-sync" not in how)
    return folder


def cut(recorded: Path, scratch: Path, seed: int, cuts: int, kind: str) -> tuple[int, str]:
    """Run the cutter; its exit code (negative: a signal) and what it said."""
    done = subprocess.run(
        [sys.executable, str(HERE / "cutter.py"), str(recorded), str(scratch), str(seed), str(cuts), kind],
        env={**os.environ, "PYTHONPATH": str(TOP)}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_acknowledged_commit_is_lost_when_the_power_goes(
    recorder: Path, tmp_path: Path, scratch: Path, seed: int
) -> None:
    recorded = record(recorder, tmp_path / "recorded", seed, OPERATIONS)
    for kind in ("honest", "forgetful"):
        code, said = cut(recorded, scratch, seed, CUTS, kind)
        assert code == 0, f"{kind}: ended with {code}: {said}"


@pytest.mark.parametrize(
    ("how", "kind"), [("without-sync", "honest"), ("without-growth", "forgetful"), ("growth-after", "forgetful")]
)
def test_the_check_sees_a_store_that_does_not_sync(
    recorder: Path, tmp_path: Path, scratch: Path, how: str, kind: str
) -> None:
    recorded = record(recorder, tmp_path / "recorded", 7, CONTROL_OPERATIONS, how)
    code, said = cut(recorded, scratch, 7, CONTROL_CUTS, kind)
    assert code != 0 and "Traceback" not in said, said
