"""``up``, ``down``: the cloud of this machine as one thing.

``up`` prepares what must be there before the first daemon (credentials, libvirt, free ports), starts the supervisor
in the background and returns when the API answers. ``down`` stops the daemons and leaves guests running; ``down --all``
also shuts the guests down, removes the networks and ends the libvirt that we started. One of them runs at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from nova_fast.cli import libvirt_host, processes, programs, supervisor
from nova_fast.cli.credentials import CLOUD_NAME, Credentials, ensure_credentials, url_host
from nova_fast.cli.sdk import write_sdk_file
from nova_fast.config import Config
from nova_fast.model.errors import Conflict, Forbidden, NovaFastError, Unavailable
from nova_fast.waits import PATIENT, path_of, waited_for

SETTING_NAME = "cloud"
START_TIMEOUT_S = 60.0
LOCK_TIMEOUT_S = 120.0
TEARDOWN_TIMEOUT_S = 300.0
RESTARTS_MAX = 3  # while starting: a daemon that dies so often will not come up by waiting
SETTLED_S = 1.0
PATIENCE_S = 10.0  # with a daemon that waits for something, when everybody else has begun
LOG_TAIL_LINES = 15


class Cloud(msgspec.Struct, frozen=True):
    """What every command needs to know: the configuration and where it came from."""

    config: Config
    config_file: str | None

    @property
    def setting(self) -> supervisor.Setting:
        return supervisor.Setting(
            name=SETTING_NAME,
            run_path=self.config.run_path,
            log_path=self.config.log_path,
            programs=programs.cloud_programs(self.config, self.config_file),
        )


def up(cloud: Cloud, *, foreground: bool = False) -> int:
    """Start the cloud unless it runs; returns the exit code. Raises NovaFastError when it cannot run."""
    with exclusive(cloud.config):
        if processes.running(cloud.setting.pid_path):
            return _already_up(cloud)
        _check_rights(cloud.config)
        credentials = ensure_credentials(cloud.config)
        _ensure_hub_keys(cloud.config)
        write_sdk_file(cloud.config, credentials)
        if names := supervisor.stop_leftovers(cloud.setting):
            say(f"stopped what an earlier run left behind: {', '.join(names)}")
        check_ports(cloud.config)
        if cloud.config.compute.driver == "libvirt":
            say(libvirt_host.ensure(cloud.config, cloud.config_file))
        if not foreground:
            _start_in_background(cloud)
            _say_up(cloud, credentials)
            return _say_waits(cloud)
    os.environ.update(programs.own_environment())
    return supervisor.Supervisor(cloud.setting).run()


def down(cloud: Cloud, *, everything: bool = False) -> int:
    """Stop the daemons; with ``everything`` also guests, networks and our libvirt. Returns the exit code."""
    with exclusive(cloud.config):
        stopped = _stop_daemons(cloud)
        say("the daemons are stopped" if stopped else "no daemon was running")
        if not everything:
            return 0
        failed = [name for name in _teardowns(cloud.config) if not _tear_down(cloud, name)]
        if not failed and libvirt_host.stop(cloud.config):
            say("libvirtd is stopped")
        if failed:
            say(f"not everything could be removed: {', '.join(failed)} (see above); libvirtd was left running")
            return 1
        return 0


def supervise(cloud: Cloud, name: str) -> int:
    """Be one of the two supervisors, in the foreground."""
    setting = cloud.setting if name == SETTING_NAME else libvirt_host.setting(cloud.config)
    return supervisor.Supervisor(setting).run()


def _ensure_hub_keys(config: Config) -> None:
    """Make the CURVE keys of a hub on tcp before any daemon asks for them. Raises ConfigError."""
    if config.hub_address.startswith("tcp://"):
        from nova_fast.hub.local import local_server_keys  # brings ZeroMQ, which nothing else here needs

        local_server_keys(config)


def api_address(config: Config) -> str:
    """The address at which this machine reaches its own API."""
    wildcards = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, never bound
    return wildcards.get(config.api.listen, config.api.listen)


def api_ports(config: Config) -> dict[str, int]:
    """The port of each face, by option name."""
    names = ("identity_port", "compute_port", "image_port", "network_port", "placement_port")
    return {name: getattr(config.api, name) for name in names}


def check_ports(config: Config) -> None:
    """Make sure that nobody else listens where the API will. Raises Conflict that names the option.

    Needed because SO_REUSEPORT would let two clouds share a port, each answering a part of the requests.
    """
    for option, port in api_ports(config).items():
        family = socket.AF_INET6 if ":" in config.api.listen else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((config.api.listen, port))
                probe.listen(1)
            except OSError as e:
                raise Conflict(
                    f"cannot listen on {config.api.listen} port {port}: {e.strerror}",
                    hint=f"end what uses it (ss -ltnp), or set api.{option} or api.listen in the configuration",
                ) from e


def api_answers(config: Config) -> bool:
    """Whether the identity face answers its version document and the other faces accept connections."""
    address = api_address(config)
    for port in list(api_ports(config).values())[1:]:
        try:
            socket.create_connection((address, port), timeout=2).close()
        except OSError:
            return False
    request = f"GET /v3 HTTP/1.1\r\nHost: {url_host(address)}\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection((address, config.api.identity_port), timeout=5) as client:
            client.sendall(request.encode())
            first_line = client.makefile("rb").readline()
    except OSError:
        return False
    return first_line.split()[1:2] == [b"200"]


def has_host(config: Config) -> bool:
    """Whether the cloud knows a compute host of this machine: until then no server would fit anywhere."""
    from nova_fast.queries.hosts import known  # brings LMDB, which nothing else here needs
    from nova_fast.state.store import EngineError, Store, StoreError

    try:
        store = Store.open(config.store_path, readonly=True)
    except (StoreError, EngineError, OSError):
        return False
    try:
        with store.snapshot() as snapshot:
            return any(known(snapshot, name) for name in config.played_hosts)
    finally:
        store.close()


def say(message: str) -> None:
    print(f"nova-fast: {message}", flush=True)


def _already_up(cloud: Cloud) -> int:
    status = supervisor.read_status(cloud.setting)
    dead = [program.name for program in status.programs if not program.is_up] if status else ["all"]
    if not dead and api_answers(cloud.config):
        say("is up already")
        return _say_waits(cloud)
    say(f"is up already, but not well: {', '.join(dead) or 'the API'} does not answer (nova-fast status)")
    return 1


def _check_rights(config: Config) -> None:
    if os.geteuid() != 0 and config.network.driver == "linux":
        raise Forbidden(
            "bridges and network namespaces take root",
            hint="run as root, or set network.driver and compute.driver to fake",
        )


@contextlib.contextmanager
def exclusive(config: Config) -> Iterator[None]:
    """Let one ``up``, ``down`` or ``restore`` run at a time."""
    for folder in (config.state_path, config.run_path, config.log_path):
        folder.mkdir(parents=True, exist_ok=True)
    path = config.run_path / "command.lock"
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    with path.open("w") as lock:
        while True:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Conflict("another nova-fast up, down or restore is under way") from None
                time.sleep(0.1)
        yield


def _start_in_background(cloud: Cloud) -> None:
    with (cloud.config.log_path / "supervisor.log").open("ab") as output:
        process = subprocess.Popen(
            programs.own_argv("supervise", SETTING_NAME, *programs.config_arguments(cloud.config_file)),
            env=programs.own_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_until_up(cloud, process)
    except NovaFastError:
        _stop_daemons(cloud)  # nothing half done
        raise


def _wait_until_up(cloud: Cloud, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    begun_s: float | None = None  # when everybody but those who are patient had
    while True:
        status = supervisor.read_status(cloud.setting)
        ours = status is not None and status.supervisor.pid == process.pid  # one that was killed leaves its last words
        members = status.programs if status and ours else []
        runs = bool(members) and all(_settled(program) for program in members) and api_answers(cloud.config)
        if runs and has_host(cloud.config):
            begun_s = begun_s or time.monotonic()
            if not _waiting(cloud, members) or time.monotonic() > begun_s + PATIENCE_S:
                return
        for program in members:
            if program.restarts >= RESTARTS_MAX:
                raise Unavailable(
                    f"{program.name} does not stay up: {program.last_exit}", hint=_tail(cloud, program.name)
                )
        if process.poll() is not None:
            raise Unavailable(f"the supervisor ended with code {process.returncode}", hint=_tail(cloud, "supervisor"))
        if time.monotonic() > deadline:
            down_names = ", ".join(program.name for program in members if not program.is_up)
            if runs:
                why = _waiting(cloud, members).get("compute")
                raise Unavailable(
                    f"no compute host of this machine has reported within {START_TIMEOUT_S:g} s"
                    + (f": {why}" if why else ""),
                    hint=_tail(cloud, "compute"),
                )
            raise Unavailable(
                f"the API does not answer after {START_TIMEOUT_S:g} s"
                + (f"; down: {down_names}" if down_names else ""),
                hint=_tail(cloud, down_names.split(", ")[0] or "api-0"),
            )
        time.sleep(0.02)


def _waiting(cloud: Cloud, members: Iterable[supervisor.ProgramStatus]) -> dict[str, str]:
    """What daemons that run wait for before they can serve: name → sentence."""
    pids = {program.name: program.identity.pid for program in members if program.identity and program.is_up}
    return waited_for(cloud.config.run_path, pids)


def _settled(program: supervisor.ProgramStatus) -> bool:
    """Whether a program runs, and not only for the moment before it finds that it cannot."""
    return program.is_up and program.started_at_s is not None and time.time() - program.started_at_s >= SETTLED_S


def _tail(cloud: Cloud, name: str) -> str:
    path = cloud.config.log_path / f"{name}.log"
    lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if path.exists() else []
    return "\n  ".join([f"the end of {path}:", *lines])


def _say_up(cloud: Cloud, credentials: Credentials) -> None:
    say(f"is up: {credentials.auth_url} (user {credentials.username}, password in {credentials.password_file})")
    say(f"to use it: export OS_CLIENT_CONFIG_FILE={credentials.clouds_file} OS_CLOUD={CLOUD_NAME}")
    say(f"       or: . {credentials.openrc_file}")


def _say_waits(cloud: Cloud) -> int:
    """Say which daemons cannot serve yet, and why; 1 when there is one."""
    status = supervisor.read_status(cloud.setting)
    found = _waiting(cloud, status.programs if status else [])
    for name, sentence in found.items():
        say(f"but {name} waits: {sentence}")
    return 1 if found else 0


def _stop_daemons(cloud: Cloud) -> bool:
    """Stop the supervisor, and what it may have left; whether anything ran."""
    setting = cloud.setting
    identity = processes.running(setting.pid_path)
    if identity is not None:
        groups = len({program.group for program in setting.programs})
        processes.stop([identity], (groups + 1) * setting.policy.stop_deadline_s)
    left = supervisor.stop_leftovers(setting)
    told = [path_of(cloud.config.run_path, name) for name in PATIENT]
    for path in (setting.pid_path, setting.status_path, *told):
        path.unlink(missing_ok=True)
    return identity is not None or bool(left)


def _teardowns(config: Config) -> list[str]:
    """The daemons that have something to remove from this machine, guests before their networks."""
    names = []
    if config.compute.driver == "libvirt" and _has_entries(config.instances_path):
        names.append("compute")
    if config.network.driver == "linux" and os.geteuid() == 0:
        names.append("network")
    return names


def _has_entries(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _tear_down(cloud: Cloud, name: str) -> bool:
    if name == "compute":
        say(libvirt_host.ensure(cloud.config, cloud.config_file))
    argv = programs.own_argv(name, "--teardown", *programs.config_arguments(cloud.config_file))
    try:
        done = subprocess.run(argv, env=programs.own_environment(), timeout=TEARDOWN_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        say(f"{name}: could not remove everything within {TEARDOWN_TIMEOUT_S:g} s")
        return False
    if done.returncode == 0:
        say({"compute": "the guests are shut down", "network": "the networks are removed"}[name])
    return done.returncode == 0
