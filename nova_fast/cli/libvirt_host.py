"""libvirt where nobody else runs it: a container, a small machine without systemd.

If something answers at the configured URI we use it and leave it alone. If systemd runs, it is asked to start
libvirtd. Else ``virtlogd`` and ``libvirtd`` become programs of a supervisor of their own, which is a child subreaper:
QEMU processes are orphans by design, and libvirt waits for their zombies to vanish; a PID 1 that reaps lazily costs 2 s
per guest.

That supervisor outlives ``nova-fast down``, because guests do; ``nova-fast down --all`` ends it.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from nova_fast.cli import processes, programs, supervisor
from nova_fast.cli.programs import Program
from nova_fast.compute.drivers.libvirt.virt_type import choose_virt_type, read_virt_facts
from nova_fast.config import Config
from nova_fast.model.errors import Unavailable

SETTING_NAME = "libvirt-host"
LOCAL_URI = "qemu:///system"
START_TIMEOUT_S = 15.0
_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")
_SYSTEMD = Path("/run/systemd/system")  # sd_booted(3)


def setting(config: Config) -> supervisor.Setting:
    """The supervisor of the two libvirt daemons."""
    return supervisor.Setting(
        name=SETTING_NAME,
        run_path=config.run_path,
        log_path=config.log_path,
        programs=[Program("virtlogd", (_binary("virtlogd"),), 0), Program("libvirtd", _libvirtd(config), 1)],
        subreaper=True,
        adopts=True,  # guests write their consoles to virtlogd, which cannot be exchanged under them
    )


def _libvirtd(config: Config) -> tuple[str, ...]:
    """The command line of libvirtd; where guests are emulated it is kept from a KVM device that is of no use."""
    libvirtd = _binary("libvirtd")
    if choose_virt_type(read_virt_facts(config.compute.virt_type)) == "kvm":
        return (libvirtd,)
    return (sys.executable, "-P", "-m", "nova_fast.cli.hidden_kvm", str(config.run_path / "dev"), libvirtd)


def local_sockets(uri: str) -> tuple[str, ...]:
    """The sockets at which a local hypervisor of this URI would answer; none for a remote one."""
    parts = urlsplit(uri)
    if parts.hostname or parts.path != "/system" or parts.scheme not in ("qemu", "qemu+unix"):
        return ()
    given = parse_qs(parts.query).get("socket")
    return tuple(given) if given else _SOCKETS


def answers(uri: str) -> bool:
    """Whether a local libvirt accepts connections."""
    return any(_accepts(path) for path in local_sockets(uri))


def is_ours(config: Config) -> bool:
    """Whether we started the libvirt that runs here."""
    return processes.running(config.run_path / f"{SETTING_NAME}.pid") is not None


def ensure(config: Config, config_file: str | None) -> str:
    """See to it that libvirt answers; returns what was done, for the person.

    Raises Unavailable with what to do when libvirt cannot be had.
    """
    uri = config.compute.libvirt_uri
    if not local_sockets(uri):
        return f"libvirt at {uri} is not of this machine: left alone"
    abandoned = _is_abandoned(config)
    if answers(uri) and not abandoned:
        return "libvirt runs (started by nova-fast)" if is_ours(config) else "libvirt runs already: left alone"
    if abandoned:
        _start_supervisor(config, config_file)
        _wait_for_supervisor(config)
    elif _SYSTEMD.is_dir():
        _run_systemctl()
    elif uri != LOCAL_URI:
        raise Unavailable(f"no libvirt answers at {uri}", hint="start it, or set compute.libvirt_uri")
    elif not is_ours(config):
        _start_supervisor(config, config_file)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(uri):
        if time.monotonic() > deadline:
            raise Unavailable("libvirtd does not answer", hint=f"see {config.log_path}/libvirtd.log")
        time.sleep(0.02)
    return "libvirtd started"


def _is_abandoned(config: Config) -> bool:
    """Whether libvirt daemons that we started run without the supervisor that would bring them back."""
    if is_ours(config) or not (_find("virtlogd") and _find("libvirtd")):
        return False
    return bool(supervisor.leftovers(setting(config)))


def _wait_for_supervisor(config: Config) -> None:
    """Until the one that has just been started looks after what was there."""
    deadline = time.monotonic() + 3 * setting(config).policy.stop_deadline_s
    while not is_ours(config):
        if time.monotonic() > deadline:
            raise Unavailable("libvirtd is not looked after", hint=f"see {config.log_path}/{SETTING_NAME}.log")
        time.sleep(0.02)


def stop(config: Config) -> bool:
    """End the libvirt daemons that we started, and nothing else; whether there were any. Guests are not touched."""
    if not (_find("virtlogd") and _find("libvirtd")):
        return False  # we cannot have started what is not there
    ours = setting(config)
    identity = processes.running(ours.pid_path)
    if identity is not None:
        processes.stop([identity], 3 * ours.policy.stop_deadline_s)
    return bool(supervisor.stop_leftovers(ours)) or identity is not None


def _start_supervisor(config: Config, config_file: str | None) -> None:
    import subprocess

    if os.geteuid() != 0:
        raise Unavailable("libvirtd is not running, and only root can start it", hint="run nova-fast as root")
    setting(config)  # says what is missing, before anything is started
    log = config.log_path / f"{SETTING_NAME}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.Popen(
            programs.own_argv("supervise", SETTING_NAME, *programs.config_arguments(config_file)),
            env=programs.own_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def _run_systemctl() -> None:
    import subprocess

    command = ["systemctl", "start", "libvirtd"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(command)} failed: {done.stderr.strip()}", hint="start libvirtd by hand")


def _accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(path)
        except OSError:
            return False
    return True


def _find(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _binary(name: str) -> str:
    path = _find(name)
    if path is None:
        raise Unavailable(f"{name} is not installed", hint="apt install libvirt-daemon-system qemu-system-x86")
    return path
