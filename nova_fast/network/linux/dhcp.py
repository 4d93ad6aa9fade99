"""DHCP: one dnsmasq for each network, with a fixed lease for each port.

The command line and the hosts file are made by pure functions from a checked plan. A running dnsmasq is known by its
pid file, its command line and its namespace, so one that an earlier run of ours started is taken over, not doubled. New
ports need SIGHUP only; where an address leaves a MAC address, dnsmasq is started anew, as it would keep the old lease
and refuse the address to the next port for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from nova_fast.files import write_atomically
from nova_fast.model.errors import InternalError, Unavailable
from nova_fast.network.linux import namespaces
from nova_fast.network.linux.plan import METADATA_ADDRESS, NetworkPlan, SubnetPlan

LEASE_S = 86400
_START_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 3.0
_ON_LINK = "0.0.0.0"  # noqa: S104 as a next hop in option 121 (RFC 3442)
_USERS = ("dnsmasq", "nobody")


class DhcpPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one dnsmasq must be."""

    arguments: tuple[str, ...]  # empty = no DHCP on this network
    hosts: tuple[str, ...]  # lines of the hosts file
    hosts_file: Path
    pid_file: Path


def server_user() -> str:
    """The user that dnsmasq becomes. Raises Unavailable when the machine has no harmless one."""
    for name in _USERS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Unavailable("there is neither a user dnsmasq nor a user nobody")


def plan_dhcp(network: NetworkPlan, folder: Path, user: str, default_dns: tuple[str, ...]) -> DhcpPlan:
    """The dnsmasq of a network; IPv4 only."""
    subnets = [subnet for subnet in network.subnets if subnet.dhcp and subnet.prefix.version == 4]
    hosts_file, pid_file = folder / f"{network.id}.hosts", folder / f"{network.id}.pid"
    lines = []
    for port in network.ports:
        for address in port.addresses:
            if address.version == 4 and any(address in subnet.prefix for subnet in subnets):
                lines.append(f"{port.mac_address},{address},{port.host_name}")
    arguments = [
        "dnsmasq",
        "--conf-file=/dev/null",
        "--no-hosts",
        "--no-resolv",
        "--port=0",
        "--bind-dynamic",
        "--interface=lan",
        "--except-interface=lo",
        "--dhcp-authoritative",
        "--dhcp-ignore=tag:!known",
        "--no-ping",
        "--leasefile-ro",
        "--quiet-dhcp",
        f"--user={user}",
        f"--pid-file={pid_file}",
        f"--dhcp-hostsfile={hosts_file}",
        f"--dhcp-lease-max={max(1000, 2 * len(subnets) * 1000)}",
        f"--dhcp-option=option:mtu,{network.mtu}",
    ]
    for index, subnet in enumerate(subnets):
        arguments += _subnet_arguments(subnet, f"s{index}", default_dns)
    return DhcpPlan(
        arguments=tuple(arguments) if subnets else (),
        hosts=tuple(sorted(lines)),
        hosts_file=hosts_file,
        pid_file=pid_file,
    )


def _subnet_arguments(subnet: SubnetPlan, tag: str, default_dns: tuple[str, ...]) -> list[str]:
    network, mask = subnet.prefix.network_address, subnet.prefix.netmask
    found = [f"--dhcp-range=set:{tag},{network},static,{mask},{LEASE_S}s"]
    if subnet.gateway is None:
        found.append(f"--shared-network=lan,{network}")
    routes = [f"{METADATA_ADDRESS}/32", str(subnet.gateway or _ON_LINK)]
    for destination, via in subnet.routes:
        if ":" not in destination and ":" not in via:
            routes += [destination, via]
    if subnet.gateway is not None:
        routes += ["0.0.0.0/0", str(subnet.gateway)]
        found.append(f"--dhcp-option=tag:{tag},option:router,{subnet.gateway}")
    else:
        found.append(f"--dhcp-option=tag:{tag},option:router")
    found.append(f"--dhcp-option=tag:{tag},option:classless-static-route,{','.join(routes)}")
    servers = [server for server in subnet.dns or default_dns if ":" not in server]
    if servers:
        found.append(f"--dhcp-option=tag:{tag},option:dns-server,{','.join(servers)}")
    return found


def leaves_an_address(before: tuple[str, ...], after: tuple[str, ...]) -> bool:
    """Whether an address that a MAC address had is no longer its own."""
    return not {line.rsplit(",", 1)[0] for line in before} <= {line.rsplit(",", 1)[0] for line in after}


# ------------------------------------------------------------------------------------------------ processes


def running(plan: DhcpPlan) -> int | None:
    """The process that the pid file names, if it really is this dnsmasq (whatever its options)."""
    try:
        pid = int(plan.pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return pid if f"--pid-file={plan.pid_file}" in _command_line(pid) else None


def _command_line(pid: int) -> tuple[str, ...]:
    try:
        return tuple(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1])
    except (FileNotFoundError, ProcessLookupError):
        return ()


def _in_namespace(pid: int, namespace: str) -> bool:
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino == namespaces.inode(namespace)
    except (FileNotFoundError, ProcessLookupError):
        return False


def ensure_server(plan: DhcpPlan, namespace: str) -> int | None:
    """Make the process and its files as planned; its pid, or None where the network has no DHCP.

    Raises InternalError when dnsmasq refuses, Unavailable when it is not installed.
    """
    pid = running(plan)
    if not plan.arguments:
        remove_server(plan)
        return None
    before = _read_hosts(plan.hosts_file)
    same = pid is not None and _command_line(pid)[1:] == plan.arguments[1:] and _in_namespace(pid, namespace)
    if pid is not None and (not same or leaves_an_address(before, plan.hosts)):
        stop(pid)
        pid = None
    if before != plan.hosts or not plan.hosts_file.exists():
        _write_hosts(plan)
        if pid is not None:
            os.kill(pid, signal.SIGHUP)
    if pid is None:
        pid = _start(plan, namespace)
    return pid


def reread(pid: int) -> None:
    """Have a server that was taken over read its hosts file again, as the last run may have died before it said so."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGHUP)


def remove_server(plan: DhcpPlan) -> None:
    """Stop the process and remove its files."""
    pid = running(plan)
    if pid is not None:
        stop(pid)
    _stop_strays(plan)
    plan.pid_file.unlink(missing_ok=True)
    plan.hosts_file.unlink(missing_ok=True)


def networks_with_files(folder: Path) -> set[str]:
    """The networks that have files of dnsmasq, wanted or not."""
    return {path.stem for path in folder.glob("*") if path.suffix in (".pid", ".hosts")}


def remove_files(folder: Path, network_id: str) -> None:
    """Stop the dnsmasq of a network, if it runs, and remove its files."""
    paths = {suffix: folder / f"{network_id}.{suffix}" for suffix in ("hosts", "pid")}
    remove_server(DhcpPlan(arguments=(), hosts=(), hosts_file=paths["hosts"], pid_file=paths["pid"]))


def stop(pid: int) -> None:
    """End a process: SIGTERM, and SIGKILL if that does not help in time. Returns when it has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if _ended(descriptor, _STOP_TIMEOUT_S):
                return
        raise InternalError(f"process {pid} does not end")
    finally:
        os.close(descriptor)


def _ended(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _read_hosts(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text().splitlines())
    except FileNotFoundError:
        return ()


def _write_hosts(plan: DhcpPlan) -> None:
    plan.hosts_file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(plan.hosts_file, "".join(line + "\n" for line in plan.hosts).encode())


def _stop_strays(plan: DhcpPlan) -> None:
    """Stop what an earlier run started and did not live to see write its pid file."""
    for folder in Path("/proc").glob("[0-9]*"):
        if f"--pid-file={plan.pid_file}" in _command_line(int(folder.name)):
            stop(int(folder.name))


def _start(plan: DhcpPlan, namespace: str) -> int:
    """Start dnsmasq, which goes into the background by itself once it serves."""
    _stop_strays(plan)
    plan.pid_file.unlink(missing_ok=True)
    try:
        with namespaces.visit(namespace):
            done = subprocess.run(
                plan.arguments, capture_output=True, text=True, timeout=_START_TIMEOUT_S, check=False, cwd="/",
                start_new_session=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
    except FileNotFoundError:
        raise Unavailable("dnsmasq is not installed", hint="install the package dnsmasq-base") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"dnsmasq did not start in {_START_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise InternalError(f"dnsmasq does not start: {done.stderr.strip()}")
    deadline = time.monotonic() + _START_TIMEOUT_S
    while (pid := running(plan)) is None:
        if time.monotonic() > deadline:
            raise InternalError("dnsmasq started and ended at once")
        time.sleep(0.005)
    return pid


class Watch:
    """Tells when a process that is not our child ends; belongs to the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[str], None]) -> None:
        self._loop = loop
        self._on_end = on_end
        self._watched: dict[str, tuple[int, int]] = {}  # network id → pid, pidfd

    def set(self, network_id: str, pid: int | None) -> None:
        """Watch this process for the network; None = watch none."""
        old = self._watched.get(network_id)
        if old is not None and old[0] == pid:
            return
        self._forget(network_id)
        if pid is None:
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_soon(self._on_end, network_id)
            return
        self._watched[network_id] = (pid, descriptor)
        self._loop.add_reader(descriptor, self._ended, network_id)

    def pid(self, network_id: str) -> int | None:
        """The process that is watched for a network."""
        return self._watched[network_id][0] if network_id in self._watched else None

    def keep_only(self, network_ids: frozenset[str]) -> None:
        """Stop watching for networks that are no longer wanted."""
        for network_id in set(self._watched) - network_ids:
            self._forget(network_id)

    def close(self) -> None:
        """Watch nothing any more."""
        for network_id in list(self._watched):
            self._forget(network_id)

    def _ended(self, network_id: str) -> None:
        self._forget(network_id)
        self._on_end(network_id)

    def _forget(self, network_id: str) -> None:
        if network_id in self._watched:
            _, descriptor = self._watched.pop(network_id)
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
