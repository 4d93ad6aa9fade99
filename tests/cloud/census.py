"""What there is of a cloud on this machine, counted by looking at the machine and not by asking the cloud."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nova_fast.cli import libvirt_host, supervisor
from nova_fast.config import load
from nova_fast.model.networks import bridge_name, tap_name
from nova_fast.network.backend import cloud_id_of
from nova_fast.state.store import Store
from tests.unit.recount import assert_nothing_leaks, assert_nothing_left

from .conftest import Cloud, run
from .rest import Rest

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
HAS_GUEST = (1, 3)  # power states: running, paused


@dataclass
class Census:
    """Everything by name; for guests the processes that run them."""

    guests: dict[str, list[int]] = field(default_factory=dict)  # server id → QEMU processes
    daemons: list[str] = field(default_factory=list)  # command lines of everything else that names the cloud
    dhcp: list[str] = field(default_factory=list)  # network ids of its dnsmasq processes
    domains: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    half_files: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)  # its bridges and veth pairs
    taps: set[str] = field(default_factory=set)  # in its bridges, or named in its packet filter
    namespaces: set[str] = field(default_factory=set)
    tables: set[str] = field(default_factory=set)


def take(cloud: Cloud, networks: set[str], *, domains: bool = True) -> Census:
    """Count everything of this cloud, which ever had these networks.

    ``domains=False`` when libvirt is not there to be asked.
    """
    found, cloud_id = Census(), cloud_id_of(cloud.state)
    _processes(found, cloud, cloud_id)
    _links(found, cloud, cloud_id)
    for table in json.loads(run("nft", "-j", "list", "tables"))["nftables"]:
        name = table.get("table", {}).get("name", "")
        if cloud_id in name:
            found.tables.add(name)
            rules = run("nft", "list", "table", table["table"]["family"], name)
            found.taps |= set(re.findall(r"tap[0-9a-f]{8}-[0-9a-f]{2}", rules))
    namespaces = {line.split()[0] for line in run("ip", "netns", "list").splitlines() if line}
    found.namespaces = namespaces & {f"nf-{network_id}" for network_id in networks}
    instances = cloud.state / "instances"
    if instances.is_dir():
        found.folders = {path.name for path in instances.iterdir() if path.name != "_base"}
        found.half_files = {path.name for path in instances.rglob("*partial*")}
    if domains:
        for server_id in run("virsh", "list", "--all", "--uuid").split():
            if str(cloud.state) in run("virsh", "dumpxml", server_id):
                found.domains.add(server_id)
    return found


def _processes(found: Census, cloud: Cloud, cloud_id: str) -> None:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        line = " ".join(words)
        if f"/{cloud_id}/dhcp/" in line:
            found.dhcp += _UUID.findall(line)[:1]
        elif str(cloud.folder) not in line:
            continue
        elif "qemu-system" in words[0]:
            server_id = words[words.index("-uuid") + 1]
            found.guests.setdefault(server_id, []).append(int(path.name))
        else:
            found.daemons.append(line)


def _links(found: Census, cloud: Cloud, cloud_id: str) -> None:
    links: list[dict[str, Any]] = json.loads(run("ip", "-j", "link"))
    found.links = {link["ifname"] for link in links if cloud_id in link.get("ifalias", "")}
    found.taps |= {link["ifname"] for link in links if link.get("master") in found.links and "tap" in link["ifname"]}


def recount(cloud: Cloud, *, nothing_left: bool) -> None:
    """Compare what is recorded as taken with what the servers take."""
    store = Store.open(cloud.state / "store", readonly=True)
    try:
        with store.snapshot() as snapshot:
            (assert_nothing_left if nothing_left else assert_nothing_leaks)(snapshot)
    finally:
        store.close()


def assert_as_promised(cloud: Cloud, rest: Rest) -> None:
    """The machine has what the servers need, each once, and nothing else."""
    servers = rest.servers()
    ids = {server["id"] for server in servers}
    running = {server["id"] for server in servers if server["OS-EXT-STS:power_state"] in HAS_GUEST}
    ports = [port for port in rest.send("GET", "network", "/v2.0/ports").json["ports"] if port["device_id"] in ids]
    networks = {port["network_id"] for port in ports}
    made = {network["id"] for network in rest.send("GET", "network", "/v2.0/networks").json["networks"]}
    found = take(cloud, made)
    assert found.guests.keys() == running, "QEMU processes and servers differ"
    assert all(len(pids) == 1 for pids in found.guests.values()), found.guests
    assert (found.domains, found.folders, found.half_files) == (ids, ids, set())
    assert found.taps == {tap_name(port["id"]) for port in ports}
    assert sorted(found.dhcp) == sorted(networks), "one dnsmasq for each network"
    assert found.namespaces == {f"nf-{network_id}" for network_id in networks}
    bridges = {name for name in found.links if name.startswith("nfb")}
    assert bridges == {bridge_name(network_id) for network_id in networks}


def assert_gone(cloud: Cloud, networks: set[str]) -> None:
    """After ``down --all``: nothing."""
    config = load(cloud.config)
    found = take(cloud, networks, domains=libvirt_host.answers(config.compute.libvirt_uri))
    assert found == Census(), found
    assert supervisor.leftovers(libvirt_host.setting(config)) == {}
    assert not (Path("/run/nova-fast") / cloud_id_of(cloud.state)).exists()
    assert str(cloud.folder) not in Path("/proc/mounts").read_text()
