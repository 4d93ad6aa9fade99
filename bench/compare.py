"""Whether this tree is slower than another commit, in the steps of ``bench/micro``; exit status 1 when it is.

Never against figures of yesterday: both trees are run now, process after process in turns, each with its own extensions
and with this tree's benchmarks. Each round runs old, new, old. New against old is the answer; old against old is what
the machine does by itself, and only what is beyond that counts::

    ratio  = median over rounds of  new / geometric mean of the two olds
    noise  = |median| + 3 standard errors of  old / old,  and never less than 3 %

    python -m bench.compare [--against COMMIT] [--rounds N] [--only STEP …]

What a process found is the shortest of its rounds, in processor time of all its threads. The result lies in
``.benchmarks/``, one file for each pair of commits.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from bench import machine
from bench.machine import ROOT

ROUNDS = 7
NOISE_MIN = 0.03
FOLDER = ROOT / ".benchmarks"
MICRO = "bench/micro"
#: What furnishes a store knows the inside of its own tree.
OWN = ("fill.py",)
#: pytest-benchmark: a round is long enough for the clock, a step is measured for a tenth of a second.
OPTIONS = (
    "--benchmark-enable", "--benchmark-timer=time.process_time", "--benchmark-max-time=0.1", "--benchmark-min-rounds=7",
    "--benchmark-min-time=0.0003", "--benchmark-warmup=on", "--benchmark-warmup-iterations=3", "--benchmark-quiet",
    "--benchmark-disable-gc",
)  # fmt: skip

#: Name of a step → seconds.
Found = dict[str, float]


class Verdict(msgspec.Struct, frozen=True):
    """One step, old against new."""

    name: str
    ratio: float  # new / old; 1.1 = a tenth slower
    noise: float  # what must be exceeded, as a share
    rounds: int
    behind: int  # rounds in which the new was slower than both olds

    @property
    def regressed(self) -> bool:
        return self.ratio > 1 + self.noise and self.behind >= self.rounds - self.rounds // 7

    @property
    def improved(self) -> bool:
        return self.ratio < 1 / (1 + self.noise)


def judge(name: str, rounds: Sequence[tuple[float, float, float]]) -> Verdict:
    """``rounds``: what old, new and old again found, one after the other."""
    changes = [math.log(new / math.sqrt(old * again)) for old, new, again in rounds]
    same = [math.log(again / old) for old, _, again in rounds]
    middle = median(same)
    spread = 1.4826 * median(abs(value - middle) for value in same)  # the standard deviation, robustly
    # 1.25: what a median of samples is less certain than their mean.
    noise = abs(middle) + 3 * 1.25 * spread / math.sqrt(len(rounds))
    behind = sum(new > max(old, again) for old, new, again in rounds)
    return Verdict(name, math.exp(median(changes)), max(NOISE_MIN, math.expm1(noise)), len(rounds), behind)


def verdicts(runs: Sequence[tuple[Found, Found, Found]]) -> tuple[list[Verdict], list[str]]:
    """The judgement of every step that all runs have, and the names of the others."""
    every = {name for run in runs for found in run for name in found}
    shared = sorted(name for name in every if all(name in found for run in runs for found in run))
    judged = [judge(name, [(old[name], new[name], again[name]) for old, new, again in runs]) for name in shared]
    return judged, sorted(every - set(shared))


# ------------------------------------------------------------------------------------------------ trees
def tree_of(commit: str, folder: Path) -> Path:
    """The files of a commit with its own extensions, and with this tree's benchmarks."""
    tree = folder / "old"
    tree.mkdir()
    git = ["git", "-c", "safe.directory=*", "archive", "--format=tar", commit]
    archive = subprocess.run(git, cwd=ROOT, check=True, capture_output=True, timeout=120)
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True, timeout=120)
    own = {name: path.read_bytes() for name in OWN if (path := tree / "bench" / name).exists()}
    shutil.rmtree(tree / "bench", ignore_errors=True)
    shutil.copytree(ROOT / "bench", tree / "bench", ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in own.items():
        (tree / "bench" / name).write_bytes(content)
    if _sources(tree) == _sources(ROOT):
        for built in (ROOT / "nova_fast" / "_ext").glob("*.so"):
            shutil.copy(built, tree / "nova_fast" / "_ext")
    else:
        print(f"building the extensions of {commit}", flush=True)
        build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        subprocess.run(build, cwd=tree, check=True, stdout=subprocess.DEVNULL, timeout=900)
    return tree


def _sources(tree: Path) -> dict[str, bytes]:
    """What the extensions are built from."""
    paths = [tree / "setup.py", *sorted((tree / "_ext").glob("*.[ph]*"))]
    return {path.name: path.read_bytes() for path in paths if path.is_file()}


def run_once(tree: Path, result: Path, only: Sequence[str] = ()) -> Found:
    """All steps, or only these, in one process of a tree; those that failed there are missing."""
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", MICRO, *OPTIONS, f"--benchmark-json={result}"]
    if only:
        command += ["-k", " or ".join(only)]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert result.exists() and result.stat().st_size, f"{tree}: {done.stdout[-3000:]}{done.stderr[-1000:]}"
    found = json.loads(result.read_text())
    return {step["name"]: step["stats"]["min"] for step in found["benchmarks"]}


def default_commit() -> str:
    """The last commit when this tree differs from it, else the one before."""
    changed = subprocess.run(
        ["git", "-c", "safe.directory=*", "status", "--porcelain", "--untracked-files=no"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return "HEAD" if changed.stdout.strip() else "HEAD~1"


# ------------------------------------------------------------------------------------------------ the whole
def compare(commit: str, rounds: int, only: Sequence[str] = ()) -> list[Verdict]:
    """Run both trees in turns; prints and keeps the verdicts, and returns those that are slower twice."""
    with tempfile.TemporaryDirectory(prefix="nf-compare-", dir="/var/tmp") as folder:
        trees = (tree_of(commit, Path(folder)), ROOT)
        result = Path(folder) / "result.json"
        for tree in trees:
            run_once(tree, result, only)  # caches of files and of compiled modules are filled
        runs = _rounds(trees, result, rounds, only)
        judged, missing = verdicts(runs)
        suspects = [verdict.name for verdict in judged if verdict.regressed]
        again = verdicts(_rounds(trees, result, rounds, suspects))[0] if suspects else []
    for verdict in [*judged, *again]:
        word = "SLOWER" if verdict.regressed else "faster" if verdict.improved else "same"
        print(f"COMPARE name={verdict.name} ratio={verdict.ratio:.3f} noise={verdict.noise:.3f} {word}")
    for name in missing:
        print(f"COMPARE name={name} cannot be compared: it does not run in both trees")
    _keep(commit, [*judged, *again], runs)
    return [verdict for verdict in again if verdict.name in suspects and verdict.regressed]


def _rounds(
    trees: tuple[Path, Path], result: Path, rounds: int, only: Sequence[str]
) -> list[tuple[Found, Found, Found]]:
    old, new = trees
    runs = []
    for number in range(rounds):
        runs.append((run_once(old, result, only), run_once(new, result, only), run_once(old, result, only)))
        print(f"round {number + 1} of {rounds}" + (f" of {', '.join(only)}" if only else ""), flush=True)
    return runs


def _keep(commit: str, judged: list[Verdict], runs: list[tuple[Found, Found, Found]]) -> None:
    FOLDER.mkdir(exist_ok=True)
    git = ["git", "-c", "safe.directory=*", "rev-parse", "--short=10", commit]
    old = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    here = machine.this_machine()
    kept = {"machine": here, "old": old, "verdicts": judged, "runs": runs}
    path = FOLDER / f"compare-{here.commit}-{old}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(kept)))
    print(f"kept in {path.relative_to(ROOT)}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="COMMIT", help="the last commit, or the one before when nothing changed")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"each runs old, new, old (default {ROUNDS})")
    parser.add_argument("--only", nargs="+", default=(), metavar="STEP", help="steps by a part of their names")
    options = parser.parse_args()
    commit = options.against or default_commit()
    slower = compare(commit, options.rounds, options.only)
    for verdict in slower:
        print(f"{verdict.name} takes {verdict.ratio - 1:.0%} more than at {commit} (noise {verdict.noise:.0%})")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
