"""Nova's own filters and weighers as a peer to race against: the same fleet, the same request, in the same run.

Nova lives in an environment of its own (``tools/nova-environment`` makes it), so this starts a process there and asks
it for one decision at a time; whoever measures can let the two take turns::

    if NovaPeer.missing():
        print(NovaPeer.missing())
    with NovaPeer() as nova:
        nova.load(hosts)
        turn = nova.decide(PeerRequest(vcpus=2, ram_mib=4096, disk_gib=20))
        turn.filter_s + turn.weigh_s, turn.best, turn.weight

Also a program: ``python -m bench.nova_peer --hosts 1000 10000 --rounds 5`` prints what it measured as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

TOP = Path(__file__).resolve().parent.parent
#: Where Nova is, if not in .venv-nova.
VARIABLE = "NOVA_ENVIRONMENT"


class PeerHost(NamedTuple):
    """One host as Nova's scheduler sees it; amounts without ratios."""

    name: str
    vcpus: int
    vcpus_used: int
    ram_mib: int
    ram_used_mib: int  # reserved too
    disk_gib: int
    disk_used_gib: int
    cpu_ratio: float = 4.0
    ram_ratio: float = 1.0
    disk_ratio: float = 1.0
    io_ops: int = 0
    servers: int = 0
    failed_builds: int = 0
    hypervisor_version: int = 1


class PeerRequest(NamedTuple):
    vcpus: int
    ram_mib: int
    disk_gib: int


class Turn(NamedTuple):
    """One decision of Nova's."""

    filter_s: float  # HostManager.get_filtered_hosts, on the hosts that placement would have left
    weigh_s: float  # HostManager.get_weighed_hosts
    candidates: int  # hosts that have room
    passed: int  # of them, through all filters
    best: tuple[str, ...]  # the hosts of the highest weight
    weight: float


class NovaPeer:
    """A Nova that decides when it is asked."""

    def __init__(self) -> None:
        reason = self.missing()
        if reason:
            raise FileNotFoundError(reason)
        self._process = subprocess.Popen(
            [str(self.python()), "-W", "ignore", "-m", "bench.nova_rounds"],
            cwd=TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.version = str(self._answer()["nova"])

    @staticmethod
    def python() -> Path:
        """Nova's interpreter."""
        return Path(os.environ.get(VARIABLE) or TOP / ".venv-nova") / "bin" / "python"

    @classmethod
    def missing(cls) -> str:
        """Why there is no Nova to race against; "" when there is one."""
        return "" if cls.python().exists() else f"no Nova in {cls.python().parent.parent}: make nova-environment"

    def __enter__(self) -> NovaPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def load(self, hosts: Iterable[PeerHost]) -> None:
        """This is the fleet from now on."""
        self._ask({"hosts": list(hosts)})

    def decide(self, request: PeerRequest) -> Turn:
        """Filter and weigh the whole fleet once."""
        answer = self._ask({"request": request})
        return Turn(**{**answer, "best": tuple(answer["best"]), "weight": float.fromhex(answer["weight"])})

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("Nova's process has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def fleet(count: int, rng: random.Random) -> list[PeerHost]:
    """Hosts of three models, about two thirds full."""
    hosts = []
    for number in range(count):
        vcpus, ram_mib, disk_gib = rng.choice(((32, 131072, 2000), (64, 262144, 4000), (128, 1048576, 8000)))
        full = rng.uniform(0.4, 0.9)
        hosts.append(
            PeerHost(
                name=f"host{number:06}",
                vcpus=vcpus,
                vcpus_used=int(vcpus * 4 * full),
                ram_mib=ram_mib,
                ram_used_mib=512 + int((ram_mib - 512) * full),
                disk_gib=disk_gib,
                disk_used_gib=int(disk_gib * full),
                servers=int(vcpus * full),
                io_ops=rng.randrange(4),
            )
        )
    return hosts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.nova_peer", description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if NovaPeer.missing():
        sys.exit(NovaPeer.missing())
    with NovaPeer() as nova:
        for count in options.hosts:
            nova.load(fleet(count, random.Random(count)))
            turns = [nova.decide(PeerRequest(2, 4096, 20)) for _ in range(options.rounds)]
            measured = {
                "nova": nova.version,
                "hosts": count,
                "rounds": options.rounds,
                "filter_s": statistics.median(turn.filter_s for turn in turns),
                "weigh_s": statistics.median(turn.weigh_s for turn in turns),
                "total_s": statistics.median(turn.filter_s + turn.weigh_s for turn in turns),
                "candidates": turns[0].candidates,
                "passed": turns[0].passed,
            }
            print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
