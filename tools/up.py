"""``make up``: starts the cloud and proves it with a server named ``demo``, made with the ``openstack`` command line.

Every object is made only if it is not there, so a second run only looks. Ends with 0 when the guest answered by ssh.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from nova_fast.cli.credentials import CLOUD_NAME, give_to_caller_of_sudo, url_host
from nova_fast.cli.main import find_config_file
from nova_fast.config import Config, load
from nova_fast.model.networks import namespace_name

TOP = Path(__file__).resolve().parent.parent
DEMO = "demo"
FLAVOR = "m1.nano"
SUBNET_RANGE = "10.20.0.0/24"
COMMAND_TIMEOUT_S = 300
BUILD_TIMEOUT_S = 600
HOST_TIMEOUT_S = 60
BOOT_TIMEOUT_S = 300
SSH_TIMEOUT_S = 60
POLL_S = 1.0


class UpError(Exception):
    """The cloud did not do what it should; the message says what."""


def say(message: str) -> None:
    print(f"up: {message}", flush=True)


class OpenStack:
    """The command line client, pointed at our ``clouds.yaml``."""

    def __init__(self, clouds_file: Path) -> None:
        program = Path(sys.executable).parent / "openstack"
        self._program = str(program) if program.exists() else "openstack"
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        self._environment |= {"OS_CLIENT_CONFIG_FILE": str(clouds_file), "OS_CLOUD": CLOUD_NAME}

    def run(self, *arguments: str) -> str:
        """What a command prints. Raises UpError with what it complained of."""
        done = self._call(arguments)
        if done.returncode != 0:
            complaint = (done.stderr or done.stdout).strip()
            raise UpError(f"`openstack {shlex.join(arguments)}` failed: {complaint}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "-f", "json"))

    def names(self, *arguments: str) -> set[str]:
        """The names of a list."""
        return {row["Name"] for row in self.json(*arguments, "list")}

    def show(self, *arguments: str) -> dict[str, Any] | None:
        """One object; ``None`` when there is none of that name."""
        done = self._call([*arguments, "-f", "json"])
        if done.returncode == 0:
            found: dict[str, Any] = json.loads(done.stdout)
            return found
        if re.search(r"no \w+ found|could not be found", done.stderr, re.IGNORECASE):
            return None
        raise UpError(f"`openstack {shlex.join(arguments)}` failed: {done.stderr.strip()}")

    def _call(self, arguments: list[str] | tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        command = [self._program, *arguments]
        try:
            return subprocess.run(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise UpError(f"`openstack {shlex.join(arguments)}` did not end within {COMMAND_TIMEOUT_S} s") from e


class Demo:
    """The server ``demo`` and all that it needs."""

    def __init__(self, config: Config, openstack: OpenStack) -> None:
        self._openstack = openstack
        self._state = config.state_path
        self._key = self._state / "demo_key"
        self._known_hosts = self._state / "demo_known_hosts"

    def ensure(self) -> dict[str, Any]:
        """The running server; made if there is none. Raises UpError when it will not run."""
        server = self._openstack.show("server", "show", DEMO)
        if server is None:
            self._ensure_key()
            self._ensure_image()
            self._ensure_network()
            self._ensure_rules()
            self._wait_for_host()
            server = self._create_server()
        if server["status"] == "SHUTOFF":
            say("starting the server demo")
            self._openstack.run("server", "start", DEMO)
        deadline = time.monotonic() + BUILD_TIMEOUT_S
        while server["status"] != "ACTIVE":
            if server["status"] == "ERROR":
                fault = (server.get("fault") or {}).get("message", "no fault recorded")
                raise UpError(f"the server demo is in ERROR: {fault} (openstack server delete {DEMO}, then make up)")
            if server["status"] not in ("BUILD", "SHUTOFF", "REBOOT", "HARD_REBOOT"):
                raise UpError(f"the server demo is {server['status']}: bring it back with the openstack command line")
            if time.monotonic() > deadline:
                raise UpError(f"the server demo is still {server['status']} after {BUILD_TIMEOUT_S} s")
            time.sleep(POLL_S)
            server = self._openstack.json("server", "show", DEMO)
        return server

    def ssh_command(self, address: str, network_id: str) -> list[str]:
        """Through the router's namespace, because the network is private to the cloud."""
        options = [
            *("-i", str(self._key), "-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=5"),
            *("-o", f"UserKnownHostsFile={self._known_hosts}", "-o", "StrictHostKeyChecking=accept-new"),
        ]
        return ["ip", "netns", "exec", namespace_name(network_id), "ssh", *options, f"root@{address}"]

    def wait_for_ssh(self, command: list[str]) -> None:
        """Until the guest answers with its own name. Raises UpError with the end of its console."""
        if self._ssh(command) == DEMO:
            return
        self._wait_for_prompt()
        deadline = time.monotonic() + SSH_TIMEOUT_S
        while (said := self._ssh(command)) != DEMO:
            if time.monotonic() > deadline:
                raise UpError(f"the guest does not answer by ssh: {said}\n{self._console()}")
            time.sleep(POLL_S)

    def _wait_for_prompt(self) -> None:
        say("waiting for the login prompt")
        started = time.monotonic()
        while "login:" not in self._openstack.run("console", "log", "show", DEMO):
            waited_s = time.monotonic() - started
            if waited_s > BOOT_TIMEOUT_S:
                raise UpError(f"no login prompt after {BOOT_TIMEOUT_S} s\n{self._console()}")
            say(f"  {waited_s:.0f} s")
            time.sleep(POLL_S)

    def _console(self) -> str:
        return "the end of its console:\n" + self._openstack.run("console", "log", "show", "--lines", "20", DEMO)

    @staticmethod
    def _ssh(command: list[str]) -> str:
        """The guest's host name, or why there is none."""
        try:
            done = subprocess.run([*command, "hostname"], capture_output=True, text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return "ssh hangs"
        return (done.stdout if done.returncode == 0 else done.stderr).strip()

    def _ensure_key(self) -> None:
        if not self._key.exists():
            say("making a key pair")
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nova-fast-demo", "-f", str(self._key)]
            subprocess.run(command, check=True, timeout=60)
            give_to_caller_of_sudo(self._key)
            if DEMO in self._openstack.names("keypair"):
                self._openstack.run("keypair", "delete", DEMO)  # of a private key that is lost
        if DEMO not in self._openstack.names("keypair"):
            self._openstack.run("keypair", "create", "--public-key", f"{self._key}.pub", DEMO)

    def _ensure_image(self) -> None:
        if DEMO in self._openstack.names("image"):
            return
        say("building the guest image from Debian packages (about 20 s, cached)")
        builder = [
            sys.executable,
            str(TOP / "tools" / "build-guest-image"),
            "--output",
            str(self._state / "cache/guest"),
        ]
        built = subprocess.run(builder, stdout=subprocess.PIPE, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        if built.returncode != 0:
            raise UpError("the guest image could not be built (see above)")
        say("registering the image")
        self._openstack.run(
            *("image", "create", "--disk-format", "qcow2", "--container-format", "bare", "--public"),
            *("--file", built.stdout.strip(), DEMO),
        )

    def _ensure_network(self) -> None:
        if DEMO not in self._openstack.names("network"):
            say("making a network")
            self._openstack.run("network", "create", DEMO)
        if DEMO not in self._openstack.names("subnet"):
            self._openstack.run("subnet", "create", "--network", DEMO, "--subnet-range", SUBNET_RANGE, DEMO)

    def _ensure_rules(self) -> None:
        """Let ping and ssh in through the project's default group."""
        groups = self._openstack.json("security", "group", "list", "--project", "admin")
        group = next((row["ID"] for row in groups if row["Name"] == "default"), None)
        if group is None:
            raise UpError("the project admin has no security group named default")
        rules = self._openstack.json("security", "group", "rule", "list", "--ingress", group)
        protocols = {row["IP Protocol"] for row in rules}
        for protocol, options in (("icmp", []), ("tcp", ["--dst-port", "22"])):
            if protocol not in protocols:
                self._openstack.run("security", "group", "rule", "create", "--protocol", protocol, *options, group)

    def _wait_for_host(self) -> None:
        deadline = time.monotonic() + HOST_TIMEOUT_S
        while True:
            services = self._openstack.json("compute", "service", "list", "--service", "nova-compute")
            if any(row["State"] == "up" and row["Status"] == "enabled" for row in services):
                return
            if time.monotonic() > deadline:
                raise UpError(f"no compute host is up after {HOST_TIMEOUT_S} s (nova-fast status, var/log/compute.log)")
            time.sleep(POLL_S)

    def _create_server(self) -> dict[str, Any]:
        say("booting the server demo")
        self._known_hosts.unlink(missing_ok=True)  # a new guest has a new host key
        created: dict[str, Any] = self._openstack.json(
            *("server", "create", "--image", DEMO, "--flavor", FLAVOR, "--network", DEMO, "--key-name", DEMO, DEMO)
        )
        return created


def print_summary(config: Config, address: str, ssh: list[str]) -> None:
    """What a person needs next."""
    api, host = config.api, url_host(config.public_host)
    root = "sudo " if "SUDO_UID" in os.environ else ""
    print(f"""
The cloud is up, and the server {DEMO} answers at {address}.

  log in       {root}{shlex.join(ssh)}
  use it       export OS_CLIENT_CONFIG_FILE={config.state_path}/clouds.yaml OS_CLOUD={CLOUD_NAME}
          or   . {config.state_path}/openrc
  then         {Path(sys.executable).parent}/openstack server list
  endpoints    identity   http://{host}:{api.identity_port}/v3
               compute    http://{host}:{api.compute_port}/v2.1
               image      http://{host}:{api.image_port}
               network    http://{host}:{api.network_port}
               placement  http://{host}:{api.placement_port}
  stop         make down
""")


def let_qemu_pass(config: Config) -> None:
    """Guests' disks lie below the state folder, and QEMU has a user of its own: it must be able to get there.

    Only the right to pass through is given (o+x), not to look inside, and it is said.
    """
    if config.compute.driver != "libvirt" or config.compute.instances_dir:
        return
    config.state_path.mkdir(parents=True, exist_ok=True)
    open_way([*reversed(config.state_path.parents), config.state_path])


def open_way(folders: list[Path]) -> None:
    """Let everybody pass through these folders."""
    for folder in folders:
        mode = folder.stat().st_mode & 0o7777
        if not mode & 0o001:
            say(f"QEMU's user must pass through {folder}: chmod o+x (was {mode:04o})")
            folder.chmod(mode | 0o001)


def main() -> int:
    config_file = find_config_file(None)
    config = load(config_file)
    openstack = OpenStack(config.state_path / "clouds.yaml")
    demo = Demo(config, openstack)
    try:
        let_qemu_pass(config)
        command = [sys.executable, "-m", "nova_fast.cli.main", "up"]
        if subprocess.run(command, check=False, timeout=COMMAND_TIMEOUT_S).returncode != 0:
            raise UpError("the cloud did not start (see above)")
        server = demo.ensure()
        address = next(iter(server["addresses"].values()))[0]
        network = openstack.json("network", "show", DEMO)
        ssh = demo.ssh_command(address, network["id"])
        demo.wait_for_ssh(ssh)
    except (UpError, OSError, subprocess.SubprocessError) as e:
        print(f"up: {e}", file=sys.stderr)
        return 1
    print_summary(config, address, ssh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
