"""A real cloud for tests: real daemons, real libvirt and QEMU, real bridges, the real openstack CLI.

Each cloud has its own folder, ports, bridge and addresses, so it disturbs neither another test nor a cloud that a
person runs on this machine. Whatever a test started is ended by what was written down when it was started.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bench.ports import free_ports
from nova_fast.cli import libvirt_host, programs
from nova_fast.config import load

from .guardian import guarded
from .openstack_session import Session

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMMAND_TIMEOUT_S = 180
LOG_LINES = 30  # of each daemon, beside a failure
GUEST_BOOT_TIMEOUT_S = 240
T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float, every_s: float = 0.2) -> T:
    """Look again and again until there is something to see."""
    end = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {timeout_s:g} s")
        time.sleep(every_s)


def run(*arguments: str, check: bool = True, timeout_s: float = COMMAND_TIMEOUT_S, **options: Any) -> str:
    """Run a command; its standard output. Fails the test with both outputs when it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout_s, check=False, **options)
    if check and done.returncode != 0:
        pytest.fail(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Cloud:
    """One cloud, driven as its owner would."""

    def __init__(self, folder: Path, number: int, **compute: Any) -> None:
        self.folder = folder
        self.state = folder / "var"
        self.config = folder / "nova-fast.toml"
        self.external_bridge = external_bridge(number)
        self.ports = dict(zip(("identity", "compute", "image", "network", "placement"), free_ports(5), strict=True))
        compute = {"driver": "libvirt", "reserved_ram_mib": 0, **compute}
        network = {"external_bridge": self.external_bridge, "external_cidr": f"172.30.{number}.0/24"}
        if compute["driver"] == "fake":
            network = {"driver": "fake"}
        sections = {"api": {f"{face}_port": port for face, port in self.ports.items()}}
        sections |= {"compute": compute, "network": network, "hub": {"heartbeat_s": 1, "down_after_s": 5}}
        lines = [f"state_dir = {json.dumps(str(self.state))}", f'host = "host{number}"']
        for section, options in sections.items():
            lines += ["", f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
        self.config.write_text("\n".join(lines) + "\n")
        self._clis: dict[int, Session] = {}  # by thread

    # ------------------------------------------------------------------ the cloud
    def nova_fast(self, *arguments: str, check: bool = True) -> str:
        return run(
            sys.executable, "-m", "nova_fast.cli.main", *arguments, "--config", str(self.config),
            check=check, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    def up(self) -> None:
        self.nova_fast("up")

    def down(self, *, everything: bool = True) -> None:
        self.nova_fast("down", *(["--all"] if everything else []))

    def daemons(self) -> dict[str, int]:
        """name → process id of the daemons that run."""
        status = json.loads((self.state / "run" / "cloud.json").read_text())
        return {program["name"]: program["identity"]["pid"] for program in status["programs"] if program["identity"]}

    def kill(self, daemon: str) -> None:
        """Kill a daemon as a crash would, and wait until it is back under another process id."""
        old = self.daemons()[daemon]
        os.kill(old, signal.SIGKILL)
        wait_for(f"{daemon} is back", lambda: self.daemons().get(daemon) not in (None, old), 60)

    def log(self, daemon: str) -> str:
        return (self.state / "log" / f"{daemon}.log").read_text()

    def check(self) -> None:
        """Nothing in the store may disagree with anything else, whatever the test did."""
        if (self.state / "store" / "data.mdb").exists():
            done = self.nova_fast("check", check=False)
            assert "everything agrees" in done, done

    # ------------------------------------------------------------------ the user
    def environment(self) -> dict[str, str]:
        clean = {key: value for key, value in os.environ.items() if not key.startswith("OS_")}
        return {**clean, "OS_CLIENT_CONFIG_FILE": str(self.state / "clouds.yaml"), "OS_CLOUD": "nova-fast"}

    @property
    def cli(self) -> Session:
        """The openstack CLI, in one process for all commands of a thread."""
        thread = threading.get_ident()
        if thread not in self._clis:
            self._clis[thread] = Session(self.environment(), COMMAND_TIMEOUT_S)
        return self._clis[thread]

    def hang_up(self) -> None:
        """End the processes of the CLI."""
        for session in self._clis.values():
            session.close()
        self._clis.clear()

    def text(self, *arguments: str) -> str:
        """What the openstack CLI prints."""
        return self.cli.text(*arguments)

    def openstack(self, *arguments: str) -> Any:
        """The same as JSON."""
        return self.cli.openstack(*arguments)

    def refused(self, *arguments: str) -> str:
        """What the CLI says of a command that must fail."""
        return self.cli.refused(*arguments)

    def console(self, server: str) -> str:
        return self.text("console", "log", "show", server)

    def ssh(self, network_id: str, address: str, key: Path, command: str, *, check: bool = True) -> str:
        """Run a command in a guest, from the router of its network."""
        return run(
            "ip", "netns", "exec", f"nf-{network_id}", "ssh", "-i", str(key), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=10",
            "-o", "BatchMode=yes", f"root@{address}", command, check=check, timeout_s=60,
        )  # fmt: skip


@contextlib.contextmanager
def alone(config: Path, names: Iterable[str], logs: Path | None = None) -> Iterator[None]:
    """Some daemons without a supervisor; what they say goes to a folder, or nowhere."""
    started = []
    for name in names:
        with (logs / f"{name}.log" if logs is not None else Path(os.devnull)).open("wb") as log:
            command = programs.own_argv(name, "--config", str(config))
            started.append(subprocess.Popen(command, env=programs.own_environment(), stderr=log))
    try:
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failure stands what the daemons of its cloud said last: their folder is gone soon."""
    report = yield
    if report.failed:
        clouds = [getattr(value, "cloud", value) for value in item.funcargs.values()]
        for cloud in {id(cloud): cloud for cloud in clouds if isinstance(cloud, Cloud)}.values():
            for path in sorted(cloud.state.glob("log/*.log")):
                lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
                report.sections.append((f"the end of {path}", "\n".join(lines)))
    return report


@pytest.fixture(scope="session")
def guest_image() -> Path:
    """The small guest image, built once for a checkout."""
    given = os.environ.get("NOVA_FAST_TEST_IMAGE")
    if given:
        return Path(given)
    return Path(run(str(ROOT / "tools" / "build-guest-image"), timeout_s=600).strip().splitlines()[-1])


@pytest.fixture(scope="module")
def local_libvirt() -> Iterator[None]:
    """libvirt answers: the machine's own, or one that is started for a file of tests and ended after it."""
    folder = Path(tempfile.mkdtemp(prefix="nf-libvirt-", dir="/var/tmp"))
    config_file = folder / "nova-fast.toml"
    config_file.write_text(f"state_dir = {json.dumps(str(folder))}\n")
    config = load(config_file)
    for needed in (config.run_path, config.log_path):
        needed.mkdir(parents=True)
    with guarded("libvirt", folder, config_file):
        libvirt_host.ensure(config, str(config_file))
        try:
            yield
        finally:
            libvirt_host.stop(config)
            shutil.rmtree(folder)


_numbers = iter(range(200, 250))


def external_bridge(number: int) -> str:
    """The bridge of a cloud by its number; one that is there belongs to a test that was killed."""
    return f"nft{number}ext"


@contextlib.contextmanager
def new_cloud(**compute: Any) -> Iterator[Cloud]:
    """A cloud in a folder of its own that QEMU's user can reach; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="nf-test-", dir="/var/tmp"))  # QEMU's user must reach it
    folder.chmod(0o755)
    number = next(number for number in _numbers if not Path(f"/sys/class/net/{external_bridge(number)}").exists())
    cloud = Cloud(folder, number, **compute)
    with guarded("cloud", folder, cloud.config):
        try:
            yield cloud
            cloud.check()
        finally:
            cloud.hang_up()
            cloud.nova_fast("down", "--all", check=False)
            kept = os.environ.get("NOVA_FAST_KEEP_TEST_CLOUDS")
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)
