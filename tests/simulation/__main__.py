"""``python -m tests.simulation --seeds 400 --first 0``: plays seeds side by side and prints those that fail.

``--seed N`` plays one and prints its log. A failing seed is played again by its number: nothing else decides what
happens, because this program runs itself with a fixed PYTHONHASHSEED.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time

from .cloud import furniture
from .run import Verdict, play

CHUNK = 8
CLOSELY_EACH = 16


def main() -> int:
    """Returns 0 when nothing was found."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    options = _parser().parse_args()
    if options.seed is not None:
        return _one(options.seed, options.lines)
    return _many(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="play this one and print its log")
    parser.add_argument("--lines", type=int, default=80, help="of the log, with --seed")
    parser.add_argument("--seeds", type=int, default=400, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--these", type=int, nargs="+", help="play these and no others")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then, and say how far it came")
    parser.add_argument("--closely", action="store_true", help="tell a digest of all, equal for equal runs")
    parser.add_argument("--failures", type=int, default=20, help="stop after so many")
    return parser


def _one(seed: int, lines: int) -> int:
    verdict = play(seed)
    for line in verdict.log[len(verdict.log) - lines :] if lines else ():
        print(line)
    _tell(verdict)
    print(
        f"{verdict.steps} steps, {verdict.virtual_s:.0f} s of virtual time, {verdict.commits} commits, "
        f"{verdict.answered} answers, at rest after {verdict.settled_s:.0f} s, digest {verdict.digest:08x}"
    )
    return 1 if verdict.found else 0


def _many(options: argparse.Namespace) -> int:
    start_s = time.monotonic()
    passed, failed, commits, answers, digest, slowest = 0, 0, 0, 0, 0, 0.0
    seeds = options.these or range(options.first, options.first + options.seeds)
    furniture()  # made once, before the processes part
    with multiprocessing.get_context("fork").Pool(options.jobs, initializer=_be_quick) as pool:
        for verdict in pool.imap_unordered(play if options.closely else _glance, seeds, chunksize=CHUNK):
            digest ^= verdict.digest
            commits += verdict.commits
            answers += verdict.answered
            slowest = max(slowest, verdict.settled_s)
            if verdict.found:
                failed += 1
                _tell(verdict)
                if failed >= options.failures:
                    break
            else:
                passed += 1
            if time.monotonic() - start_s > options.seconds:
                break
        pool.terminate()
    took_s = time.monotonic() - start_s
    print(
        f"seeds from {seeds[0]}: {answers} answers, {commits} commits, "
        f"slowest to rest {slowest:.0f} s of virtual time, {(passed + failed) / took_s:.1f} seeds/s"
    )
    if options.closely:
        print(f"digest {digest:08x}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def _glance(seed: int) -> Verdict:
    """Most seeds without a log; some with it, so that every line that is logged can be written, too."""
    return play(seed, closely=seed % CLOSELY_EACH == 0)


def _be_quick() -> None:
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _tell(verdict: Verdict) -> None:
    for line in verdict.found[:6]:
        print(f"seed {verdict.seed}: {line}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
