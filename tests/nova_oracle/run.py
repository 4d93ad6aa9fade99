"""Play cases: ask both, compare, and make what differs small enough to be read."""

from __future__ import annotations

import atexit
import json
import lzma
import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nova_fast.scheduler import filters

from . import ours
from .compare import Difference, differences
from .generate import case as case_of
from .minimise import minimise, told
from .peer import Nova

Case = dict[str, Any]
OURS = frozenset(filters.by_name())
RECORDED = Path(__file__).with_name("recorded.json.xz")
CHUNK = 100  # cases that a process plays before it tells
UNDER_WAY = 4  # cases that Nova has while we judge others


class Figures:
    """What a run has looked at, so that one which sees nothing is noticed."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def merge(self, other: Figures) -> None:
        self.counts += other.counts

    def add(self, case: Case, nova: dict[str, Any]) -> None:
        """Count a case that Nova has judged."""
        self.counts["cases"] += 1
        if "refused" in nova:
            self.counts["refused by Nova's API"] += 1
            return
        self.counts["hosts"] += len(case["hosts"])
        self.counts["weights"] += len(nova["weights_of_all"]) + len(nova["weights"])
        self.counts["requests with several candidates"] += len(nova["chosen"]) > 1
        self.counts["requests with no candidate"] += not nova["chosen"]
        given = list(nova.get("cells", {}).values())
        self.counts["hosts that give cells"] += sum(isinstance(cells, list) for cells in given)
        self.counts["hosts that give cells no host can give"] += given.count("stale")
        self.counts["placement passed"] += len(nova["placement"])
        for name, verdict in nova["filters"].items():
            self.counts[f"{name} passed"] += len(verdict["passed"])
            self.counts[f"{name} raised"] += len(verdict["raised"])

    def table(self) -> str:
        return "\n".join(f"{name:50} {count:>9}" for name, count in sorted(self.counts.items()))


class Found:
    """A case in which both disagree; the first of its kind is made small."""

    def __init__(self, seed: int, case: Case | None, differing: list[Difference]) -> None:
        self.seed, self.case, self.differing = seed, case, differing

    def __str__(self) -> str:
        lines = [f"case {self.seed} differs:", *map(str, self.differing[: 6 if self.case else 1])]
        if self.case:
            lines.append(json.dumps(told(self.case), ensure_ascii=False))
        return "\n  ".join(lines)


def play(nova: Nova, seeds: Iterable[int]) -> tuple[Figures, list[Found]]:
    """Both sides' answers to these cases, and where they differ."""
    figures, found = Figures(), []
    for seed, case, answer in _answers(nova, seeds):
        figures.add(case, answer)
        differing = differences(answer, ours.judge(case))
        if differing:
            found.append((seed, case, differing))
    kinds: set[str] = set()
    small = []
    for seed, case, differing in found:
        first = differing[0]
        small.append(Found(seed, None, differing) if first.where in kinds else _small(nova, seed, case, first))
        kinds.add(first.where)
    return figures, small


def prepared(case: Case) -> Case:
    """The case without the filters that we do not have; ``make oracle`` names them."""
    return {**case, "filters": [name for name in case["filters"] if name in OURS], "asked": sorted(OURS)}


def _answers(nova: Nova, seeds: Iterable[int]) -> Iterator[tuple[int, Case, dict[str, Any]]]:
    waiting: list[tuple[int, Case]] = []
    for seed in seeds:
        case = prepared(case_of(seed))
        nova.ask(case)
        waiting.append((seed, case))
        if len(waiting) > UNDER_WAY:
            yield *waiting.pop(0), nova.answer()
    for one in waiting:
        yield *one, nova.answer()


def _small(nova: Nova, seed: int, case: Case, first: Difference) -> Found:
    def shows(smaller: Case) -> bool:
        return any(
            difference.where == first.where for difference in differences(nova.judge(smaller), ours.judge(smaller))
        )

    case = minimise(case, shows)
    return Found(seed, case, differences(nova.judge(case), ours.judge(case)))


def sweep(first: int, count: int, jobs: int) -> Iterator[tuple[Figures, list[Found]]]:
    """Play so many cases in processes side by side, each with a Nova of its own; in the order of their seeds."""
    starts = range(first, first + count, CHUNK)
    chunks = [range(start, min(start + CHUNK, first + count)) for start in starts]
    if jobs == 1:
        yield from map(_chunk, chunks)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(_chunk, chunks)


_nova: Nova | None = None


def _chunk(seeds: range) -> tuple[Figures, list[Found]]:
    global _nova
    if _nova is None:
        _nova = Nova()
        atexit.register(_nova.close)
    return play(_nova, seeds)


def record(count: int) -> None:
    """Keep Nova's answers to the first cases, for machines without a Nova."""
    with Nova() as nova:
        kept = [[case, answer] for _seed, case, answer in _answers(nova, range(count))]
    RECORDED.write_bytes(lzma.compress(json.dumps(kept, ensure_ascii=False).encode(), preset=9))


def recorded() -> list[list[dict[str, Any]]]:
    """Cases with Nova's answers, as they were kept."""
    kept: list[list[dict[str, Any]]] = json.loads(lzma.decompress(RECORDED.read_bytes()))
    return kept


def show(case: int | Case) -> int:
    """Both answers to one case, for a person."""
    played = prepared(case_of(case)) if isinstance(case, int) else case
    with Nova() as nova:
        answer, our_answer = nova.judge({**played, "raw": True}), ours.judge(played)
    print(json.dumps({"case": played, "nova": answer, "ours": our_answer}, indent=1, ensure_ascii=False))
    differing = differences(answer, our_answer)
    print("\n".join(map(str, differing)) or "both say the same")
    return 1 if differing else 0
