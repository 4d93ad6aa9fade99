"""The simulator in the test suite: three hundred seeds, the seeds that once failed, and proof that it would notice.

``make simulate SEEDS=… FIRST_SEED=…`` plays as many as one likes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lengths import repeats
from tests.simulation.mistakes import MISTAKES, Mistake, first_finding

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = repeats(1200, 40_000)

ALWAYS = 300  # seeds, from 0 on
PARTS = 5  # that may be played beside each other
JOBS = "1" if "PYTEST_XDIST_WORKER" in os.environ else str(os.cpu_count() or 1)
#: seed → what it found when it was first played. A seed tells another story once the code has changed; these stay as
#: the ones that once got through.
REGRESSIONS = {
    7: "a lost event frame stopped a watcher for ever",
    10: "a host whose clock was set back refused every call until it connected again",
    18: "a deletion passed over a host that was said to be down, and nobody told the host",
    23: "a deletion that was accepted ended in ERROR because its host failed",
    36: "the scheduler counted claims that were long gone, because its event stream had stopped",
    44: "an action accepted in the transaction that ended another one was an internal error",
    51: "a failed comparison of guests was not made again until the next connection",
    55: "a task recorded before the conductor's clock was set back waited for a day",
    73: "a server whose deletion had been accepted was brought back to life by a hard reboot",
    99: "a repeated command whose answer is that it is done was an internal error",
    1432: "events were numbered anew when they were sent again, and a watcher passed over some",
    1195: "networks that were applied while the disk was full were never recorded as applied",
    10467: "a subscription that came twice numbered its batches anew, and a watcher passed over some",
    10777: "a subscription that came twice numbered its batches anew, and a watcher passed over one",
    24318: "a host that had lost its power was told its networks once, and never again when it could not do it then",
    100213: "a server that was moved after its group had been deleted could not give back its next host",
    162308: "a late frame that was to make a watcher ask again was taken for the batch of that number",
    12799: "the simulator emptied the cloud while a worker that had stood still was about to ask for a server",
}


def simulate(*arguments: str, check: bool = True) -> str:
    """Run the command line; its output. Fails with it when a seed fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=TIMEOUT_S, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def played_again() -> str:
    """What the command line says of the seeds that once failed, all of them played in one run."""
    seeds = [str(seed) for seed in REGRESSIONS if seed >= ALWAYS]
    return simulate("--these", *seeds, "--jobs", JOBS, check=False)


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_is_lost_stuck_or_leaking_whatever_happens(part: int) -> None:
    seeds = repeats(ALWAYS, 10_000) // PARTS
    said = simulate("--seeds", str(seeds), "--first", str(part * seeds), "--jobs", JOBS)
    print(said)  # noqa: T201 - how many answers and commits that was
    assert f"{seeds} passed, 0 failed" in said


@pytest.mark.parametrize("seed", [99])
def test_a_seed_tells_the_same_story_to_the_last_step(seed: int) -> None:
    first, second = (simulate("--seed", str(seed), "--lines", "0").splitlines()[-1] for _ in range(2))
    assert first == second
    assert "digest" in first


@pytest.mark.parametrize("seed", [seed for seed in REGRESSIONS if seed >= ALWAYS], ids=REGRESSIONS.get)
def test_a_seed_that_once_failed_passes(played_again: str, seed: int) -> None:
    assert " passed, " in played_again, "it came to no end"
    assert f"seed {seed}:" not in played_again, played_again


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_found(mistake: Mistake, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)
    assert first_finding(), f"nobody found that {mistake.__name__.replace('_', ' ')}"
