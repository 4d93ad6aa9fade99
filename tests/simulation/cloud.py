"""One cloud under one seed: a controller with everything central, and hosts with a compute and a network daemon each.

The programs are the production ones, started as their ``main`` starts them, and started again when they end, as the
supervisor would.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import mmap
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from nova_fast.commands.registry import load_all
from nova_fast.commands.registry import run as run_command
from nova_fast.compute.daemon import HostDaemon
from nova_fast.conductor import daemon as conductor
from nova_fast.conductor.bootstrap import catalog
from nova_fast.config import ConductorConfig, Config, HubConfig, SchedulerConfig
from nova_fast.edges import Edges
from nova_fast.hub.local import local_peer
from nova_fast.hub.peer import Peer
from nova_fast.model.commands.identity import Bootstrap
from nova_fast.model.commands.networks import CreateNetworks, CreateSubnets, NewNetwork, NewSubnet
from nova_fast.model.events import Event
from nova_fast.model.flavors import Flavor
from nova_fast.model.identity import Caller
from nova_fast.model.images import Image, ImageStatus, Visibility
from nova_fast.network import daemon as network
from nova_fast.scheduler import daemon as scheduler
from nova_fast.state import schema as tables
from nova_fast.state.store import Store

from .disk import Disk, SimBatches, SimStore
from .loop import Process, SimLoop
from .machines import EPOCH_US, Hypervisor, Machine, NetworkPlane, SimBackend, SimDriver
from .wire import Network

PROJECTS = ("a" * 32, "b" * 32)
ADMIN = Caller(user_id="root", project_id="c" * 32, roles=("admin", "manager", "member", "reader"))
#: vcpus, MiB, GiB; the last fits nowhere. The vCPUs of "3" have CPUs of their own.
FLAVORS = {"1": (1, 512, 1), "2": (2, 1024, 2), "3": (1, 256, 1), "9": (64, 999_999, 1)}
PINNED = "3"
IMAGE_ID = "12345678-0000-4000-8000-000000000000"
CONTROLLER = "controller"
# A daemon that settles its memory at its start would settle that of all others, again and again.
conductor.settle_memory = scheduler.settle_memory = lambda: None  # type: ignore[attr-defined]
_SHM = Path("/dev/shm")
FOLDERS = _SHM if _SHM.is_dir() else None


class Furniture(msgspec.Struct):
    """What every cloud has before its first user comes."""

    data: bytes  # of the store's file
    network_id: str


@functools.cache
def furniture() -> Furniture:
    """A founded store, made once for all seeds of this process and written anew for each."""
    load_all()
    with tempfile.TemporaryDirectory(prefix="nf-sim-base-", dir=FOLDERS) as folder:
        network_id = _found(Path(folder) / "store")
        data = (Path(folder) / "store" / "data.mdb").read_bytes()
    return Furniture(data.rstrip(b"\0") + bytes(mmap.PAGESIZE), network_id)  # without its empty room


def _found(path: Path) -> str:
    """Make the store; the id of the network in it."""
    rng = random.Random(0)
    store = Store.open(path)
    with store.transaction(EPOCH_US - 1_000_000, rng.randbytes) as tx:
        request = Bootstrap(
            admin_password_hash="x", token_key=bytes(32), region="RegionOne", catalog=catalog(Config(state_dir="/none"))
        )
        run_command(tx, request)
        for name, (vcpus, ram_mib, disk_gib) in FLAVORS.items():
            specs = {"hw:cpu_policy": "dedicated"} if name == PINNED else {}
            flavor = Flavor(
                id=name, name=f"f{name}", vcpus=vcpus, ram_mib=ram_mib, disk_gib=disk_gib, extra_specs=specs
            )
            tx.put(tables.FLAVORS, flavor)
        image = Image(
            id=IMAGE_ID, name="tiny", project_id=ADMIN.project_id, status=ImageStatus.ACTIVE,
            visibility=Visibility.PUBLIC, created_at_us=1, updated_at_us=1, size=1, virtual_size=1 << 30,
            disk_format="qcow2", container_format="bare",
        )  # fmt: skip
        tx.put(tables.IMAGES, image)
        shared = NewNetwork(name="blue", shared=True)
        made: Any = run_command(tx, CreateNetworks(caller=ADMIN, networks=(shared,)))
        network_id: str = made.networks[0].network.id
        subnet = NewSubnet(network_id=network_id, ip_version=4, cidr="10.0.0.0/27")
        run_command(tx, CreateSubnets(caller=ADMIN, subnets=(subnet,)))
    store.close()
    return network_id


class Program:
    """A daemon that is kept running: its name, its machine, and its process now."""

    def __init__(self, name: str, machine: Machine, main: Callable[[], Awaitable[Any]]) -> None:
        self.name = name
        self.machine = machine
        self.main = main
        self.process: Process | None = None
        self.runs = 0
        self.peer: Peer | None = None  # of an API worker
        self.daemon: Any = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive


class Notes(logging.Handler):
    """What the daemons log: the last lines for whoever looks into a seed, and what nobody foresaw."""

    def __init__(self, loop: SimLoop) -> None:
        super().__init__()
        self._loop = loop
        self.lines: list[str] = []
        self.unforeseen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{self._loop.time():10.4f} {self._loop.current().name:12} {record.levelname} {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            line += f" [{record.exc_info[1]!r}]"
            if record.levelno >= logging.ERROR:
                self.unforeseen.append(self.format(record))
        self.lines.append(line)


class Cloud:
    """All of it."""

    def __init__(self, seed: int, *, traced: bool = True) -> None:
        self.seed = seed
        self.rng = random.Random(f"cloud {seed}")
        self.loop = SimLoop(random.Random(f"loop {seed}"), traced=traced)
        self.notes = Notes(self.loop)
        self.network = Network(self.loop, random.Random(f"network {seed}"))
        self.folder = Path(tempfile.mkdtemp(prefix="nf-sim-", dir=FOLDERS))
        base = furniture()
        self.network_id = base.network_id
        (self.folder / "store").mkdir()
        (self.folder / "store" / "data.mdb").write_bytes(base.data)
        self.disk = Disk(self.loop, random.Random(f"disk {seed}"), self.folder / "store")
        self.config = Config(
            state_dir=str(self.folder),
            host=CONTROLLER,
            hub=HubConfig(heartbeat_s=10.0, down_after_s=30.0),
            conductor=ConductorConfig(task_timeout_s=self.rng.choice((40, 120, 300))),
            scheduler=SchedulerConfig(host_subset_size=self.rng.choice((1, 2))),
        )
        self.machines = {CONTROLLER: Machine(CONTROLLER, self.network)}
        self.hosts = [f"h{n}" for n in range(1, 2 + self.rng.randrange(3))]
        self.hypervisors: dict[str, Hypervisor] = {}
        self.planes: dict[str, NetworkPlane] = {}
        self.programs: dict[str, Program] = {}
        self.on_event: Callable[[str, int, Event], None] = lambda *_: None
        self.on_gap: Callable[[str], None] = lambda _name: None
        self.positions: dict[str, int] = {}  # of the watchers
        self._plan()

    def _plan(self) -> None:
        self._add("conductor", CONTROLLER, self._conductor)
        self._add("scheduler", CONTROLLER, self._scheduler)
        for worker in range(2):
            self._add(f"api.{worker}", CONTROLLER, functools.partial(self._api, f"api.{worker}"))
        for host in self.hosts:
            machine = self.machines[host] = Machine(host, self.network)
            self.hypervisors[host] = Hypervisor(machine, random.Random(f"{host} {self.seed}"))
            self.planes[host] = NetworkPlane(machine, random.Random(f"net {host} {self.seed}"))
            self._add(f"compute@{host}", host, functools.partial(self._compute, host))
            self._add(f"network@{host}", host, functools.partial(self._network, host))

    def _add(self, name: str, machine: str, main: Callable[[], Awaitable[Any]]) -> None:
        self.programs[name] = Program(name, self.machines[machine], main)

    # ------------------------------------------------------------------ programs
    def start(self, name: str) -> None:
        """Start a program, unless it runs."""
        program = self.programs[name]
        if program.alive:
            return
        program.runs += 1
        program.process = Process(name)
        self.loop.start(program.process, self._run(program, program.process))

    async def _run(self, program: Program, process: Process) -> None:
        try:
            await program.main()
            logging.getLogger("simulation").warning("%s ended by itself", program.name)
        finally:  # whatever it ended with, asyncio reports it
            self.network.later(0, self.loop.kill, process)
            self.network.later(0.3 + self.rng.random(), self.start, program.name)

    def kill(self, name: str, back_after_s: float) -> None:
        """``kill -9``, and the supervisor's new start."""
        program = self.programs[name]
        if program.process is not None:
            self.loop.kill(program.process)
        self.network.later(back_after_s, self.start, name)

    def edges(self, machine: str) -> Edges:
        """The outside of a process on a machine."""
        return Edges(
            now_us=self.machines[machine].now_us,
            monotonic_s=self.loop.time,
            entropy=self.rng.randbytes,
            new_context=functools.partial(self.network.new_context, machine),  # type: ignore[arg-type]
        )

    async def _conductor(self) -> None:
        daemon = conductor.Conductor(
            self.config,
            SimStore(self.disk),  # type: ignore[arg-type]
            self.edges(CONTROLLER),
            functools.partial(SimBatches, self.disk),
        )
        self.programs["conductor"].daemon = daemon
        await daemon.run(asyncio.Event())

    async def _scheduler(self) -> None:
        async def open_store(_path: Path, _stop: asyncio.Event) -> SimStore:
            return SimStore(self.disk)

        daemon = scheduler.Daemon(self.config, self.edges(CONTROLLER), open_store)  # type: ignore[arg-type]
        self.programs["scheduler"].daemon = daemon
        await daemon.run(asyncio.Event())

    async def _api(self, name: str) -> None:
        """An API worker without its HTTP: its link, a watcher on it, and whatever users ask through it."""
        peer = self.programs[name].peer = local_peer(name, self.config, self.edges(CONTROLLER))
        if name not in self.positions:
            with self.disk.store.snapshot() as snapshot:
                self.positions[name] = snapshot.generation()
        peer.subscribe(
            self.positions[name],
            lambda generation, event: self.on_event(name, generation, event),
            lambda: self.on_gap(name),
        )
        await peer.start()
        await asyncio.Event().wait()

    async def _compute(self, host: str) -> None:
        stop = asyncio.Event()
        daemon = HostDaemon(
            self.config, host, self.edges(host), lambda _config, on_change: SimDriver(self.hypervisors[host], on_change)
        )
        await daemon.start(stop)
        await stop.wait()

    async def _network(self, host: str) -> None:
        stop = asyncio.Event()
        daemon = network.Daemon(
            self.config, host, self.edges(host), lambda _config, _ask: SimBackend(self.planes[host])
        )
        await daemon.start(stop)
        await stop.wait()

    # ------------------------------------------------------------------ the end
    def close(self) -> None:
        """Let everything go."""
        self.loop.bury([program.process for program in self.programs.values() if program.process is not None])
        self.disk.close()
        shutil.rmtree(self.folder, ignore_errors=True)
