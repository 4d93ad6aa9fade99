"""Many fake computes in few processes: the real compute daemon, host by host, over one ZeroMQ context for each process.

Whoever measures starts a crowd beside a running cloud, and asks it how many heartbeats were answered: a crowd that
cannot keep its rhythm would make the hub look cheap.

    python -m bench.crowd config.toml NAME COUNT [--networks]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from bench.cloud import ROOMY, Cloud
from bench.machine import ROOT, cpu_s
from bench.results import Refused
from nova_fast.compute.daemon import HostDaemon
from nova_fast.config import Config, load
from nova_fast.daemon import set_up_logging, settle_memory
from nova_fast.edges import shared_wire
from nova_fast.hub.keys import load_server_keys, make_peer_keys, save_allowed
from nova_fast.model.base import Message
from nova_fast.network.daemon import Daemon as NetworkDaemon

IN_ONE_PROCESS = 2_500
UP_WITHIN_S = 300.0
TOGETHER = 100  # hosts that arrive at the same time
HEARD_SHARE_MIN = 0.95  # of the heartbeats that are due
#: Of few hosts that beat at about the same moment, one beat may fall just outside.
EDGE_MAX = 50


class Heard(msgspec.Struct, frozen=True):
    """What a crowd has done since it began."""

    heartbeats: int  # answered
    cpu_s: float


class Crowd:
    """Fake computes beside a cloud, from outside."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._processes: list[subprocess.Popen[bytes]] = []
        self.hosts = 0
        self._config = _config_of(cloud)

    def grow(self, hosts: int, *, networks: bool = False) -> float:
        """As many hosts as this in all; returns the seconds until the conductor knew them all."""
        begin = time.monotonic()
        while self.hosts < hosts:
            count = min(IN_ONE_PROCESS, hosts - self.hosts)
            command = [sys.executable, "-m", "bench.crowd", str(self._config), f"crowd{self.hosts:05d}", str(count)]
            self._processes.append(
                subprocess.Popen(
                    command + (["--networks"] if networks else []), cwd=ROOT,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
            )  # fmt: skip
            self.hosts += count
        with self._cloud.books() as books:
            while (up := books.hosts_up("crowd")) < self.hosts:
                assert time.monotonic() - begin < UP_WITHIN_S, f"{up} of {self.hosts} hosts came up"
                assert all(process.poll() is None for process in self._processes), "a crowd died"
                time.sleep(0.1)
        return time.monotonic() - begin

    def heard(self) -> Heard:
        """All crowds together."""
        answers = []
        for process in self._processes:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(b"?\n")
            process.stdin.flush()
            answers.append(msgspec.json.decode(process.stdout.readline(), type=Heard))
        return Heard(sum(answer.heartbeats for answer in answers), sum(answer.cpu_s for answer in answers))

    def check_rhythm(self, before: Heard, after: Heard, seconds: float, every_s: float) -> None:
        """Raise Refused when fewer heartbeats were answered than were due."""
        due = self.hosts * seconds / every_s
        heard = after.heartbeats - before.heartbeats
        if heard < HEARD_SHARE_MIN * due - min(self.hosts, EDGE_MAX):
            raise Refused(f"{heard} heartbeats were answered in {seconds:.0f} s, {due:.0f} were due")

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@contextlib.contextmanager
def crowd_of(cloud: Cloud) -> Iterator[Crowd]:
    """A crowd, empty at first, that ends with the block."""
    crowd = Crowd(cloud)
    try:
        yield crowd
    finally:
        crowd.close()


def _config_of(cloud: Cloud) -> Path:
    """The crowd's own configuration: the cloud's hub, and over tcp a key of its own that the hub lets in."""
    config = load(cloud.config)
    folder = cloud.folder / "crowd"
    folder.mkdir(exist_ok=True)
    if config.hub_address.startswith("tcp://"):
        keys = cloud.folder / "var" / "keys"
        make_peer_keys(folder / "keys", load_server_keys(keys).public)
    path = folder / "crowd.toml"
    lines = [f'state_dir = "{folder}"', 'log_level = "ERROR"', "[hub]", f'address = "{config.hub_address}"']
    lines += ["[compute]", *ROOMY, "[network]", 'driver = "fake"']
    path.write_text("\n".join(lines) + "\n")
    return path


def let_in(cloud: Cloud) -> None:
    """Before the cloud starts: the hub on tcp will know the key of a crowd. Makes the keys of both."""
    from nova_fast.hub.local import local_server_keys

    keys = local_server_keys(load(cloud.config))
    assert keys is not None, "the hub is not on tcp"
    crowd = make_peer_keys(cloud.folder / "crowd" / "keys", keys.public)
    keys.allowed.allow(crowd.public, ["compute@*", "network@*"])
    save_allowed(cloud.folder / "var" / "keys", keys.allowed)


# ------------------------------------------------------------------------------------------------ inside
class _Host(HostDaemon):
    """A compute daemon that counts its heartbeats."""

    heartbeats = 0

    def _heard(self, answer: Message) -> None:
        _Host.heartbeats += 1
        super()._heard(answer)


async def serve(config: Config, name: str, count: int, networks: bool) -> None:
    names = [f"{name}-{number:05d}" for number in range(count)]
    with shared_wire(2 * count) as edges:
        daemons: list[HostDaemon | NetworkDaemon] = [_Host(config, host, edges) for host in names]
        if networks:
            daemons += [NetworkDaemon(config, host, edges) for host in names]
        await _play(daemons)


async def _play(daemons: list[HostDaemon | NetworkDaemon]) -> None:
    stop = asyncio.Event()
    # As racks are switched on, not all in one millisecond: a storm of arrivals is what tests/hub measures.
    for first in range(0, len(daemons), TOGETHER):
        some = daemons[first : first + TOGETHER]
        for daemon in some:
            await daemon.start(stop)
        for daemon in some:
            await daemon._peer.connected(UP_WITHIN_S)
    settle_memory()

    def tell() -> None:
        if not os.read(0, 64):
            os._exit(0)  # whoever measures is gone
        heard = Heard(_Host.heartbeats, cpu_s(os.getpid()))
        os.write(1, msgspec.json.encode(heard) + b"\n")

    asyncio.get_running_loop().add_reader(0, tell)
    await stop.wait()


def main() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config = load(sys.argv[1])
    set_up_logging(config)
    uvloop.run(serve(config, sys.argv[2], int(sys.argv[3]), "--networks" in sys.argv))


if __name__ == "__main__":
    main()
