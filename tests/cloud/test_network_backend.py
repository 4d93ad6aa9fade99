"""The Linux network backend against the real kernel; veth pairs with namespaces stand in for guests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from nova_fast.model.errors import InternalError, NotFound
from nova_fast.model.tasks import (
    ApplyNetworks,
    GroupSpec,
    MetadataAnswer,
    MetadataRequest,
    NetworksApplied,
    NetworkSpec,
    PortSpec,
    RuleSpec,
    SubnetSpec,
)
from nova_fast.network.backend import BackendSettings
from nova_fast.network.linux import links, namespaces
from nova_fast.network.linux.backend import LinuxBackend
from nova_fast.network.linux.nftables import Nftables, tables
from tests.tries import least_of

T = TypeVar("T")


def _can_make_networks() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or any(shutil.which(each) is None for each in ("ip", "dnsmasq", "busybox", "ping")):
        return False
    with ThreadPoolExecutor(1) as worker:  # in a thread of its own, which ends with its namespace
        return bool(worker.submit(libc.unshare, 0x40000000).result() == 0)


pytestmark = [
    pytest.mark.needs_netadmin,
    pytest.mark.skipif(not _can_make_networks(), reason="needs root, ip, dnsmasq, busybox and ping"),
]

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
ALL_OUT = (RuleSpec(direction="egress", ethertype="IPv4"), RuleSpec(direction="egress", ethertype="IPv6"))
PING_IN = RuleSpec(direction="ingress", ethertype="IPv4", protocol="icmp")
UDHCPC_SCRIPT = """#!/bin/sh
[ "$1" = bound ] || exit 0
{ for v in ip mask router mtu staticroutes dns hostname serverid; do eval echo "$v=\\$$v"; done; } > "$LEASE"
busybox ip addr add "$ip/$mask" dev "$interface"
busybox ip link set "$interface" mtu "$mtu"
set -- $staticroutes
while [ $# -gt 1 ]; do
  if [ "$2" = 0.0.0.0 ]; then busybox ip route add "$1" dev "$interface"; else busybox ip route add "$1" via "$2"; fi
  shift 2
done
"""


def run(*words: str, timeout_s: float = 60, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def eventually(holds: Callable[[], bool], timeout_s: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class Guest:
    """A namespace with a veth whose other end stands where libvirt would put the tap."""

    def __init__(self, port: PortSpec, bridge: str, folder: Path, mtu: int = 1450) -> None:
        self.port = port
        self.folder = folder
        self.name = "t" + port.tap
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", port.tap, "mtu", str(mtu), "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "-n", self.name, "link", "set", "eth0", "address", port.mac_address, "mtu", str(mtu), "up")
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "link", "set", port.tap, "master", bridge, "up")

    def run(self, *words: str, check: bool = True, timeout_s: float = 60) -> str:
        return run("ip", "netns", "exec", self.name, *words, check=check, timeout_s=timeout_s)

    def set_address(self, address: str, gateway: str) -> None:
        run("ip", "-n", self.name, "addr", "add", f"{address}/24", "dev", "eth0")
        run("ip", "-n", self.name, "route", "add", "default", "via", gateway)

    def dhcp(self) -> dict[str, str]:
        """Ask for a lease and use it; {} when none came."""
        script, lease = self.folder / "udhcpc.sh", self.folder / f"{self.name}.lease"
        script.write_text(UDHCPC_SCRIPT)
        script.chmod(0o755)
        lease.unlink(missing_ok=True)
        command = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", "10", "-T", "1", "-s", str(script)]
        options = [word for each in ("mtu", "staticroutes", "dns", "router", "hostname") for word in ("-O", each)]
        self.run("env", f"LEASE={lease}", *command, *options, check=False)
        if not lease.exists():
            return {}
        return dict(line.split("=", 1) for line in lease.read_text().splitlines())

    def pings(self, address: str, count: int = 1, wait_s: int = 1) -> bool:
        words = ("ping", "-n", "-c", str(count), "-i", "0.1", "-W", str(wait_s), address)
        return " 0% packet loss" in self.run(*words, check=False)

    def inside(self, work: Callable[[], T]) -> T:
        """Do something in a thread that is in this guest."""

        def visit() -> T:
            with namespaces.visit(self.name):
                return work()

        with ThreadPoolExecutor(1) as worker:
            return worker.submit(visit).result()

    def raw(self) -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            made.bind(("eth0", 3))
            made.settimeout(0.4)
            return made

        return self.inside(make)

    def remove(self) -> None:
        run("ip", "netns", "del", self.name, check=False)
        run("ip", "link", "del", self.port.tap, check=False)


class Cloud:
    """A backend on an event loop of its own thread, and the guests of a test."""

    def __init__(self, folder: Path) -> None:
        # SAFETY: names of this run only, so that a cloud that really runs on this machine is not touched.
        self.tag = os.urandom(3).hex()
        self.forwarding = IP_FORWARD.read_text()
        self.octet = os.urandom(1)[0]
        self.folder = folder
        self.settings = BackendSettings(
            cloud_id="7e" + self.tag,
            run_dir=folder / "run",
            dhcp_dir=Path("/run/nova-fast-test") / self.tag / "dhcp",
            external_bridge="nfe" + self.tag,
            external_cidr=f"172.29.{self.octet}.0/24",
        )
        self.guests: list[Guest] = []
        self.asked: list[MetadataRequest] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test loop")
        self._thread.start()
        self.backend = self.new_backend()

    def new_backend(self) -> LinuxBackend:
        async def make() -> LinuxBackend:
            return LinuxBackend(self.settings, self._ask)

        return self.wait(make())

    async def _ask(self, request: MetadataRequest) -> MetadataAnswer:
        self.asked.append(request)
        if request.path == "/missing":
            raise NotFound("no such thing")
        body = f"{request.network_id} {request.address} {request.path} {len(request.body)}".encode()
        return MetadataAnswer(status=200, content_type="text/plain", body=body)

    def wait(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def start(self) -> None:
        self.wait(self.backend.start())

    def apply(self, message: ApplyNetworks) -> NetworksApplied:
        answer: NetworksApplied = self.wait(self.backend.apply(message))
        return answer

    def port(self, network: int, number: int, **changes: Any) -> PortSpec:
        port_id = f"{self.tag}{network}{number:x}"
        fields: dict[str, Any] = {
            "id": port_id,
            "tap": "tap" + port_id,
            "mac_address": f"fa:16:3e:00:{network:02x}:{number:02x}",
            "addresses": (f"10.77.1.{number}",),
            "hostname": f"vm{number}",
            "server_id": f"server-{number}",
            "project_id": "p",
            "security_groups": ("default",),
        }
        return PortSpec(**{**fields, **changes})

    def network(self, number: int, *ports: PortSpec, **changes: Any) -> NetworkSpec:
        subnet = SubnetSpec(id="s", ip_version=4, cidr="10.77.1.0/24", gateway_ip="10.77.1.1", enable_dhcp=True)
        fields: dict[str, Any] = {
            "id": f"{self.tag}-net-{number}",
            "number": number,
            "bridge": f"nfb{self.tag}{number}",
            "namespace": f"nf-{self.tag}-{number}",
            "mtu": 1450,
            "subnets": (subnet,),
            "ports": ports,
        }
        return NetworkSpec(**{**fields, **changes})

    def message(self, *networks: NetworkSpec, groups: tuple[GroupSpec, ...] = ()) -> ApplyNetworks:
        return ApplyNetworks(host="h", generation=1, networks=networks, groups=groups)

    def guest(self, network: NetworkSpec, port: PortSpec, address: bool = True) -> Guest:
        guest = Guest(port, network.bridge, self.folder, network.mtu)
        self.guests.append(guest)
        if address:
            guest.set_address(port.addresses[0], "10.77.1.1")
        return guest

    def host_address(self) -> str:
        return f"172.29.{self.octet}.1"

    def leftovers(self) -> list[str]:
        """Everything on this machine that carries a name of this test."""
        links = [line for line in run("ip", "-o", "link").splitlines() if self.settings.cloud_id in line]
        links += [line for line in run("ip", "-o", "link").splitlines() if f"nfb{self.tag}" in line]
        spaces = [name for name in namespaces.names() if name.startswith(f"nf-{self.tag}")]
        tables = [line for line in run("nft", "list", "tables").splitlines() if self.settings.cloud_id in line]
        return links + spaces + tables + [f"process {pid}" for pid in self.servers()]

    def servers(self) -> list[int]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    command = (entry / "cmdline").read_bytes()
                    if command.startswith(b"dnsmasq") and str(self.settings.dhcp_dir).encode() in command:
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        for guest in self.guests:
            guest.remove()
        try:
            self.wait(self.backend.teardown())
        finally:
            if "nfsg_" not in run("nft", "list", "tables"):  # a test may have taken the record that knew the old value
                IP_FORWARD.write_text(self.forwarding)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    made = Cloud(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


def default_group(*members: str, rules: tuple[RuleSpec, ...] = ()) -> GroupSpec:
    same = RuleSpec(direction="ingress", ethertype="IPv4", remote_group_id="default")
    return GroupSpec(id="default", rules=(*ALL_OUT, same, *rules), members=members)


# ------------------------------------------------------------------------------------------------ DHCP and metadata


def test_a_guest_gets_its_address_mtu_and_routes_by_dhcp(cloud: Cloud) -> None:
    port = cloud.port(1, 11, hostname="web.example; rm -rf /")
    network = cloud.network(1, port)
    assert cloud.apply(cloud.message(network, groups=(default_group("10.77.1.11"),))).failed == {}
    lease = cloud.guest(network, port, address=False).dhcp()
    assert lease["ip"] == "10.77.1.11"
    assert lease["mtu"] == "1450"
    assert lease["router"] == "10.77.1.1"
    assert lease["staticroutes"] == "169.254.169.254/32 10.77.1.1 0.0.0.0/0 10.77.1.1"
    assert lease["dns"] == ""
    assert lease["hostname"] == "web"


def test_dns_servers_and_host_routes_of_a_subnet_are_announced(cloud: Cloud) -> None:
    port = cloud.port(1, 12)
    subnet = SubnetSpec(
        id="s", ip_version=4, cidr="10.77.1.0/24", gateway_ip="10.77.1.1", enable_dhcp=True,
        dns_nameservers=("9.9.9.9", "1.1.1.1"), host_routes=(("10.9.0.0/16", "10.77.1.5"),),
    )  # fmt: skip
    network = cloud.network(1, port, subnets=(subnet,))
    assert cloud.apply(cloud.message(network, groups=(default_group(),))).failed == {}
    lease = cloud.guest(network, port, address=False).dhcp()
    assert lease["dns"] == "9.9.9.9 1.1.1.1"
    assert "10.9.0.0/16 10.77.1.5" in lease["staticroutes"]


def test_a_subnet_without_gateway_still_gives_leases_and_metadata(cloud: Cloud) -> None:
    port = cloud.port(1, 13)
    subnet = SubnetSpec(id="s", ip_version=4, cidr="10.77.1.0/24", gateway_ip=None, enable_dhcp=True)
    network = cloud.network(1, port, subnets=(subnet,))
    assert cloud.apply(cloud.message(network, groups=(default_group(),))).failed == {}
    guest = cloud.guest(network, port, address=False)
    lease = guest.dhcp()
    assert lease["ip"] == "10.77.1.13"
    assert lease["router"] == ""
    assert "10.77.1.13" in guest.run("busybox", "wget", "-qO-", "http://169.254.169.254/x")


def test_an_address_that_moves_to_another_mac_is_leased_at_once(cloud: Cloud) -> None:
    old, new = cloud.port(1, 14), cloud.port(1, 15, addresses=("10.77.1.14",))
    network = cloud.network(1, old)
    cloud.apply(cloud.message(network, groups=(default_group(),)))
    guest = cloud.guest(network, old, address=False)
    assert guest.dhcp()["ip"] == "10.77.1.14"
    guest.remove()
    cloud.apply(cloud.message(cloud.network(1, new), groups=(default_group(),)))
    assert cloud.guest(network, new, address=False).dhcp()["ip"] == "10.77.1.14"


def test_a_port_added_later_gets_a_lease_from_the_same_server(cloud: Cloud) -> None:
    first, second = cloud.port(1, 16), cloud.port(1, 17)
    cloud.apply(cloud.message(cloud.network(1, first), groups=(default_group(),)))
    before = cloud.servers()
    network = cloud.network(1, first, second)
    cloud.apply(cloud.message(network, groups=(default_group(),)))
    assert cloud.servers() == before
    assert cloud.guest(network, second, address=False).dhcp()["ip"] == "10.77.1.17"


def test_a_dhcp_server_that_dies_is_started_again(cloud: Cloud) -> None:
    port = cloud.port(1, 18)
    network = cloud.network(1, port)
    cloud.apply(cloud.message(network, groups=(default_group(),)))
    (pid,) = cloud.servers()
    assert os.stat(f"/proc/{pid}").st_uid != 0, "it has given up root"
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: bool(cloud.servers()) and cloud.servers() != [pid])
    assert cloud.guest(network, port, address=False).dhcp()["ip"] == "10.77.1.18"


def test_metadata_names_the_network_and_the_address_and_ignores_headers(cloud: Cloud) -> None:
    ports = [cloud.port(1, 21), cloud.port(2, 21)]
    networks = [cloud.network(number, port) for number, port in enumerate(ports, 1)]
    cloud.apply(cloud.message(*networks, groups=(default_group(),)))
    for network, port in zip(networks, ports, strict=True):
        guest = cloud.guest(network, port, address=False)
        assert guest.dhcp()["ip"] == "10.77.1.21"
        said = guest.run(
            "busybox", "wget", "-qO-", "--header", "X-Forwarded-For: 10.77.1.99", "http://169.254.169.254/latest/x?y=1"
        )
        assert said == f"{network.id} 10.77.1.21 /latest/x?y=1 0"


def test_metadata_refuses_what_a_hostile_guest_sends_and_goes_on(cloud: Cloud) -> None:
    port = cloud.port(1, 22)
    network = cloud.network(1, port)
    cloud.apply(cloud.message(network, groups=(default_group(),)))
    guest = cloud.guest(network, port)

    def talk(data: bytes) -> bytes:
        with socket.create_connection(("169.254.169.254", 80), timeout=60) as connection:
            connection.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65536):
                    answer += part
            return answer

    post = b"POST /password HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    assert b" 400 " in guest.inside(lambda: talk(b"\x16\x03\x01 nonsense\r\n\r\n")).split(b"\r\n")[0]
    assert b" 413 " in guest.inside(lambda: talk(post % (1 << 30))).split(b"\r\n")[0]
    assert b" 431 " in guest.inside(lambda: talk(b"GET / HTTP/1.1\r\nX: " + b"a" * 30000)).split(b"\r\n")[0]
    assert b" 404 " in guest.inside(lambda: talk(b"GET /missing HTTP/1.0\r\n\r\n")).split(b"\r\n")[0]
    assert guest.inside(lambda: talk(post % 5 + b"hello")).endswith(b"/password 5")
    assert cloud.asked[-1].method == "POST"
    assert cloud.asked[-1].body == b"hello"

    def is_over(connection: socket.socket) -> bool:
        try:
            return connection.recv(1) == b""
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    def many() -> int:
        held = [socket.create_connection(("169.254.169.254", 80), timeout=60) for _ in range(30)]
        try:
            for each in held:
                each.setblocking(False)

            def refused() -> int:
                return sum(map(is_over, held))

            eventually(lambda: refused() >= 22)
            time.sleep(0.3)
            return refused()
        finally:
            for each in held:
                each.close()

    assert guest.inside(many) == 22
    assert eventually(lambda: b"200 OK" in guest.inside(lambda: talk(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")))


def test_guests_reach_each_other_the_gateway_and_the_outside(cloud: Cloud) -> None:
    ports = [cloud.port(1, 31), cloud.port(1, 32)]
    network = cloud.network(1, *ports)
    cloud.apply(cloud.message(network, groups=(default_group("10.77.1.31", "10.77.1.32"),)))
    first, second = (cloud.guest(network, port) for port in ports)
    assert first.pings("10.77.1.32", wait_s=10)
    assert second.pings("10.77.1.31", wait_s=10)
    assert first.pings("10.77.1.1", wait_s=10)
    with socket.create_server((cloud.host_address(), 0)) as listener:
        port_number = listener.getsockname()[1]
        listener.settimeout(60)
        connection = first.inside(lambda: socket.create_connection((cloud.host_address(), port_number), timeout=60))
        accepted, peer = listener.accept()
        with connection, accepted:
            assert peer[0] == f"172.29.{cloud.octet}.2"  # the router's address, not the guest's


def test_large_packets_pass_through_the_filter(cloud: Cloud) -> None:
    ports = [cloud.port(1, 33), cloud.port(1, 34)]
    network = cloud.network(1, *ports)
    cloud.apply(cloud.message(network, groups=(default_group("10.77.1.33", "10.77.1.34"),)))
    first, _ = (cloud.guest(network, port) for port in ports)
    said = first.run("ping", "-n", "-c", "2", "-i", "0.1", "-W", "10", "-s", "4000", "10.77.1.34", check=False)
    assert " 0% packet loss" in said


# ------------------------------------------------------------------------------------------------ spoofing


def ethernet(target: str, source: str, kind: int, body: bytes) -> bytes:
    def octets(mac: str) -> bytes:
        return bytes.fromhex(mac.replace(":", ""))

    return octets(target) + octets(source) + struct.pack("!H", kind) + body


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp_packet(source: str, target: str, ports: tuple[int, int], payload: bytes) -> bytes:
    udp = struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    return head[:10] + struct.pack("!H", checksum(head + ends)) + ends + udp


def arp_packet(mac: str, address: str, target: str) -> bytes:
    sender = bytes.fromhex(mac.replace(":", "")) + socket.inet_aton(address)
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, 2) + sender + b"\xff" * 6 + socket.inet_aton(target)


def arrives(sender: Guest, receiver: Guest, frame: bytes, marker: bytes, within_s: float = 0.5) -> bool:
    """Whether a frame that one guest sends is seen by the other."""
    with receiver.raw() as listening, sender.raw() as sending:
        sending.send(frame)
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                if marker in listening.recv(2000):
                    return True
    return False


def test_a_guest_cannot_pretend_to_be_another(cloud: Cloud) -> None:
    open_rule = RuleSpec(direction="ingress", ethertype="IPv4")
    ports = [cloud.port(1, 41), cloud.port(1, 42)]
    network = cloud.network(1, *ports)
    cloud.apply(cloud.message(network, groups=(default_group(rules=(open_rule,)),)))
    bad, victim = (cloud.guest(network, port) for port in ports)
    mac, other = ports[0].mac_address, ports[1].mac_address
    own, its = "10.77.1.41", "10.77.1.42"
    fake = "fa:16:3e:99:99:99"

    def ip(source: str, udp: tuple[int, int] = (1000, 2000), mark: bytes = b"MARK") -> bytes:
        return udp_packet(source, its, udp, mark * 4)

    assert arrives(bad, victim, ethernet(other, mac, 0x0800, ip(own)), b"MARKMARK", within_s=10), "honest packets pass"
    assert not arrives(bad, victim, ethernet(other, mac, 0x0800, ip("10.77.1.43")), b"MARKMARK"), "source address"
    assert not arrives(bad, victim, ethernet(other, fake, 0x0800, ip(own)), b"MARKMARK"), "source MAC"
    assert arrives(
        bad, victim, ethernet(other, mac, 0x0806, arp_packet(mac, own, its)), arp_packet(mac, own, its), within_s=10
    )
    for sender_mac, address in ((mac, "10.77.1.1"), (fake, own)):
        packet = arp_packet(sender_mac, address, its)
        assert not arrives(bad, victim, ethernet(other, mac, 0x0806, packet), packet), "ARP sender"
    assert not arrives(bad, victim, ethernet(other, mac, 0x0800, ip(own, (67, 68))), b"MARKMARK"), "DHCP server"
    tagged = struct.pack("!HH", 0, 0x0800) + ip(own)
    assert not arrives(bad, victim, ethernet(other, mac, 0x8100, tagged), b"MARKMARK"), "VLAN tag"
    wrong_target = udp_packet(own, "10.77.1.200", (1000, 2000), b"MARK" * 4)
    assert not arrives(bad, victim, ethernet(other, mac, 0x0800, wrong_target), b"MARKMARK"), "right MAC, other address"


def test_a_guest_cannot_reach_this_machine_through_the_bridge(cloud: Cloud) -> None:
    port = cloud.port(1, 44)
    network = cloud.network(1, port)
    cloud.apply(cloud.message(network, groups=(default_group(),)))
    guest = cloud.guest(network, port)
    bridge_mac = Path(f"/sys/class/net/{network.bridge}/address").read_text().strip()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener, guest.raw() as sending:
        listener.bind((cloud.host_address(), 0))
        listener.settimeout(0.5)
        target = listener.getsockname()[1]
        packet = udp_packet("10.77.1.44", cloud.host_address(), (1000, target), b"MARK")
        sending.send(ethernet(bridge_mac, port.mac_address, 0x0800, packet))
        with pytest.raises(TimeoutError):
            listener.recv(100)
        # The same by the router is let through.
        listener.settimeout(60)
        sending.send(ethernet(_lan_mac(network), port.mac_address, 0x0800, packet))
        assert listener.recv(100) == b"MARK"


def _lan_mac(network: NetworkSpec) -> str:
    words = json.loads(run("ip", "-n", network.namespace, "-j", "link", "show", "lan"))
    return str(words[0]["address"])


def test_a_tap_that_no_port_names_reaches_nobody(cloud: Cloud) -> None:
    ports = [cloud.port(1, 45, port_security_enabled=False), cloud.port(1, 46)]
    network = cloud.network(1, ports[0])
    cloud.apply(cloud.message(network, groups=(default_group(),)))
    known, stranger = cloud.guest(network, ports[0]), cloud.guest(network, ports[1])
    assert known.pings("10.77.1.1", wait_s=10)
    assert not stranger.pings("10.77.1.45")
    assert not stranger.pings("10.77.1.1")


def test_a_port_without_port_security_may_use_any_address_but_not_metadata_of_another(cloud: Cloud) -> None:
    ports = [cloud.port(1, 47, port_security_enabled=False), cloud.port(1, 48)]
    network = cloud.network(1, *ports)
    open_rule = RuleSpec(direction="ingress", ethertype="IPv4")
    cloud.apply(cloud.message(network, groups=(default_group(rules=(open_rule,)),)))
    free, other = (cloud.guest(network, port) for port in ports)
    packet = udp_packet("10.77.1.99", "10.77.1.48", (1, 2), b"MARK" * 4)
    frame = ethernet(ports[1].mac_address, ports[0].mac_address, 0x0800, packet)
    assert arrives(free, other, frame, b"MARKMARK", within_s=10)
    run("ip", "-n", free.name, "addr", "add", "10.77.1.99/24", "dev", "eth0")
    said = free.run("ping", "-c", "1", "-W", "1", "-I", "10.77.1.99", "169.254.169.254", check=False)
    assert " 100% packet loss" in said
    assert " 0% packet loss" in free.run("ping", "-c", "1", "-W", "1", "169.254.169.254", check=False)


def test_allowed_address_pairs_may_be_used_by_both_ports_that_share_them(cloud: Cloud) -> None:
    pair = (("10.77.1.100", ""),)
    ports = [
        cloud.port(1, 51, allowed_address_pairs=pair),
        cloud.port(1, 52, allowed_address_pairs=pair),
        cloud.port(1, 53),
    ]
    network = cloud.network(1, *ports)
    cloud.apply(cloud.message(network, groups=(default_group(rules=(PING_IN,)),)))
    *holders, client = (cloud.guest(network, port) for port in ports)
    for guest in holders:
        run("ip", "-n", guest.name, "addr", "add", "10.77.1.100/32", "dev", "eth0")
        run("ip", "-n", client.name, "neigh", "flush", "dev", "eth0")
        assert client.pings("10.77.1.100", wait_s=10)
        run("ip", "-n", guest.name, "addr", "del", "10.77.1.100/32", "dev", "eth0")
        run("ip", "-n", guest.name, "link", "set", "eth0", "down")


def test_prefixes_as_allowed_address_pairs_are_let_through_and_no_others(cloud: Cloud) -> None:
    mac = "fa:16:3e:77:77:77"
    ports = [
        cloud.port(1, 54, allowed_address_pairs=(("10.88.0.0/16", ""), ("10.88.1.0/24", ""), ("0.0.0.0/0", mac))),
        cloud.port(1, 55, addresses=("10.77.1.55", "fd77::55"), allowed_address_pairs=(("fd88::/64", ""),)),
    ]
    network = cloud.network(1, *ports)
    open_rule = RuleSpec(direction="ingress", ethertype="IPv4")
    answer = cloud.apply(cloud.message(network, groups=(default_group(rules=(open_rule,)),)))
    assert answer.failed == {}
    sender, receiver = (cloud.guest(network, port) for port in ports)

    def passes(source_mac: str, source: str) -> bool:
        packet = udp_packet(source, "10.77.1.55", (1000, 2000), b"MARK" * 4)
        return arrives(sender, receiver, ethernet(ports[1].mac_address, source_mac, 0x0800, packet), b"MARKMARK")

    assert passes(ports[0].mac_address, "10.88.1.9")
    assert passes(mac, "10.99.9.9")
    assert not passes(ports[0].mac_address, "10.99.9.9")
    assert not passes("fa:16:3e:77:77:78", "10.88.1.9")


# ------------------------------------------------------------------------------------------------ security groups


def test_the_default_group_lets_its_members_in_and_nobody_else(cloud: Cloud) -> None:
    ports = [cloud.port(1, 61), cloud.port(1, 62), cloud.port(1, 63, security_groups=("foreign",))]
    network = cloud.network(1, *ports)
    foreign = GroupSpec(id="foreign", rules=ALL_OUT, members=("10.77.1.63",))
    cloud.apply(cloud.message(network, groups=(default_group("10.77.1.61", "10.77.1.62"), foreign)))
    first, second, stranger = (cloud.guest(network, port) for port in ports)
    assert first.pings("10.77.1.62", wait_s=10)
    assert not stranger.pings("10.77.1.61")
    assert not second.pings("10.77.1.63"), "the stranger's group lets nobody in"
    assert stranger.pings("10.77.1.1", wait_s=10), "answers to what it began come back"


@pytest.mark.parametrize("with_program", [True, False])
def test_a_rule_that_comes_and_goes_works_at_once_and_cuts_what_it_allowed(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, with_program: bool
) -> None:
    if with_program and shutil.which("conntrack") is None:
        pytest.skip("needs conntrack")
    if not with_program:
        monkeypatch.setattr("nova_fast.network.linux.conntrack.shutil.which", lambda _: None)
    ports = [cloud.port(1, 64, security_groups=("out",)), cloud.port(1, 65, security_groups=("web",))]
    network = cloud.network(1, *ports)
    out = GroupSpec(id="out", rules=ALL_OUT, members=())
    tcp = RuleSpec(direction="ingress", ethertype="IPv4", protocol="tcp", port_range_min=8000, port_range_max=8010)
    closed = cloud.message(network, groups=(out, GroupSpec(id="web", rules=ALL_OUT, members=())))
    opened = cloud.message(network, groups=(out, GroupSpec(id="web", rules=(*ALL_OUT, tcp), members=())))
    cloud.apply(closed)
    client, server = (cloud.guest(network, port) for port in ports)
    listener = server.inside(lambda: socket.create_server(("10.77.1.65", 8005)))

    def connect(timeout_s: float) -> socket.socket:
        return client.inside(lambda: socket.create_connection(("10.77.1.65", 8005), timeout=timeout_s))

    with listener:
        with pytest.raises(TimeoutError):
            connect(1)
        cloud.apply(opened)
        connection = connect(60)
        accepted, _ = listener.accept()
        accepted.settimeout(60)
        with connection, accepted:
            connection.sendall(b"before")
            assert accepted.recv(100) == b"before"
            assert cloud.apply(closed).failed == {}
            connection.sendall(b"after")
            accepted.settimeout(1)
            with pytest.raises(TimeoutError):
                accepted.recv(100)


def test_egress_rules_bind_a_guest(cloud: Cloud) -> None:
    ports = [cloud.port(1, 66, security_groups=("narrow",)), cloud.port(1, 67)]
    network = cloud.network(1, *ports)
    to_gateway = RuleSpec(direction="egress", ethertype="IPv4", protocol="icmp", remote_ip_prefix="10.77.1.1/32")
    narrow = GroupSpec(id="narrow", rules=(to_gateway,), members=())
    cloud.apply(cloud.message(network, groups=(narrow, default_group(rules=(PING_IN,)))))
    guest, _ = (cloud.guest(network, port) for port in ports)
    assert guest.pings("10.77.1.1", wait_s=10)
    assert not guest.pings("10.77.1.67")


def test_ipv6_is_filtered_like_ipv4(cloud: Cloud) -> None:
    ports = [
        cloud.port(1, number, addresses=(f"10.77.1.{number}", f"fd77::{number}"), security_groups=("v6",))
        for number in (68, 69)
    ]
    network = cloud.network(1, *ports)
    ping = RuleSpec(direction="ingress", ethertype="IPv6", protocol="icmp", port_range_min=128, port_range_max=0)
    closed = GroupSpec(id="v6", rules=ALL_OUT, members=())
    cloud.apply(cloud.message(network, groups=(closed,)))
    first, second = (cloud.guest(network, port) for port in ports)
    for guest in (first, second):
        run("ip", "-n", guest.name, "addr", "add", f"{guest.port.addresses[1]}/64", "dev", "eth0", "nodad")
    assert not first.pings("fd77::69")
    cloud.apply(cloud.message(network, groups=(msgspec.structs.replace(closed, rules=(*ALL_OUT, ping)),)))
    assert first.pings("fd77::69", wait_s=10)
    run("ip", "-n", first.name, "addr", "add", "fd77::99/64", "dev", "eth0", "nodad")
    said = first.run("ping", "-c", "1", "-W", "1", "-I", "fd77::99", "fd77::69", check=False)
    assert " 100% packet loss" in said


def test_equal_addresses_on_two_networks_do_not_mix(cloud: Cloud) -> None:
    ports = {1: [cloud.port(1, 71), cloud.port(1, 72)], 2: [cloud.port(2, 71), cloud.port(2, 72)]}
    networks = {number: cloud.network(number, *each) for number, each in ports.items()}
    groups = (default_group("10.77.1.71", "10.77.1.72"),)
    cloud.apply(cloud.message(*networks.values(), groups=groups))
    guests = {number: [cloud.guest(networks[number], port) for port in each] for number, each in ports.items()}
    for number in (1, 2):
        assert guests[number][0].pings("10.77.1.72", wait_s=10)
    guests[2][1].remove()
    assert guests[1][0].pings("10.77.1.72", wait_s=10)
    assert not guests[2][0].pings("10.77.1.72")
    for number in (1, 2):
        assert guests[number][0].pings(cloud.host_address(), wait_s=10)


# ------------------------------------------------------------------------------------------------ life of the backend


CHILD = """
import asyncio, sys, msgspec
from pathlib import Path
from nova_fast.model.tasks import ApplyNetworks
from nova_fast.network.backend import BackendSettings
from nova_fast.network.linux.backend import LinuxBackend
from nova_fast.network.linux.nftables import Nftables, tables
async def main():
    settings = msgspec.json.decode(sys.argv[1], type=BackendSettings, dec_hook=lambda kind, value: kind(value))
    async def ask(request): raise AssertionError
    backend = LinuxBackend(settings, ask)
    await backend.start()
    answer = await backend.apply(msgspec.msgpack.decode(bytes.fromhex(sys.argv[2]), type=ApplyNetworks))
    print("applied", answer.failed, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def test_guests_notice_nothing_when_the_daemon_is_killed_and_started_again(cloud: Cloud) -> None:
    port = cloud.port(1, 81)
    network = cloud.network(1, port)
    message = cloud.message(network, groups=(default_group(),))
    settings = msgspec.json.encode(cloud.settings, enc_hook=str).decode()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, settings, msgspec.msgpack.encode(message).hex()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "applied {}\n"
        servers, inode = cloud.servers(), namespaces.inode(network.namespace)
        guest = cloud.guest(network, port)
        command = [
            "ip",
            "netns",
            "exec",
            guest.name,
            "ping",
            "-n",
            "-i",
            "0.02",
            "-c",
            "150",
            "-W",
            "10",
            cloud.host_address(),
        ]
        ping = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(0.3)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    cloud.start()
    assert cloud.apply(message).failed == {}
    said, _ = ping.communicate(timeout=60)
    assert " 0% packet loss" in said
    assert cloud.servers() == servers
    assert namespaces.inode(network.namespace) == inode
    assert guest.run("busybox", "wget", "-qO-", "http://169.254.169.254/x").startswith(network.id)


def test_what_a_killed_daemon_left_and_nobody_wants_goes(cloud: Cloud) -> None:
    networks = [cloud.network(1, cloud.port(1, 82)), cloud.network(2, cloud.port(2, 82))]
    cloud.apply(cloud.message(*networks, groups=(default_group(),)))
    cloud.wait(cloud.backend.close())
    (cloud.settings.run_dir / "made.json").unlink()
    cloud.backend = cloud.new_backend()
    cloud.start()
    assert cloud.apply(cloud.message(networks[0], groups=(default_group(),))).failed == {}
    assert not namespaces.exists(networks[1].namespace)
    assert networks[1].bridge not in run("ip", "-o", "link")
    assert len(cloud.servers()) == 1
    assert namespaces.exists(networks[0].namespace)


class Killed(BaseException):
    """The daemon's end."""


class Mortal:
    """A route socket whose process dies right after it has made so many links."""

    def __init__(self, route: Any, lives: Iterator[int]) -> None:
        self._route = route
        self._lives = lives

    def __getattr__(self, name: str) -> Any:
        return getattr(self._route, name)

    def link(self, command: str, **options: Any) -> Any:
        answer = self._route.link(command, **options)
        if command == "add" and next(self._lives, None) is None:
            raise Killed
        return answer


def dies_after(cloud: Cloud, message: ApplyNetworks, links_made: int) -> bool:
    """Start the backend and apply; whether it died on the way."""
    lives, netlink = iter(range(links_made)), links.netlink

    @contextlib.contextmanager
    def mortal() -> Iterator[Any]:
        with netlink() as route:
            yield Mortal(route, lives)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "netlink", mortal)
        try:
            cloud.start()
            cloud.apply(message)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("wanted", [True, False])
def test_a_daemon_that_dies_as_soon_as_it_has_made_a_link_knows_it_again(tmp_path: Path, wanted: bool) -> None:
    """The kernel makes a link and takes its mark in two steps: between them a link says little of whose it is."""
    for links_made in range(5):
        folder = tmp_path / str(links_made)
        folder.mkdir()
        cloud = Cloud(folder)
        network = cloud.network(1, cloud.port(1, 85))
        try:
            died = dies_after(cloud, cloud.message(network, groups=(default_group(),)), links_made)
            assert died == (links_made < 4), "two bridges and two pairs"
            if not died:
                cloud.wait(cloud.backend.close())
            cloud.backend = cloud.new_backend()
            cloud.start()
            assert cloud.apply(cloud.message(*([network] if wanted else []), groups=(default_group(),))).failed == {}
            there = run("ip", "-o", "link").splitlines()
            assert len([line for line in there if cloud.settings.cloud_id in line]) == (4 if wanted else 1)
            assert any(network.bridge in line for line in there) is wanted
        finally:
            cloud.close()
        assert cloud.leftovers() == []


@pytest.mark.parametrize("wanted", [True, False])
def test_a_dhcp_server_that_a_killed_daemon_never_wrote_down_is_not_doubled(cloud: Cloud, wanted: bool) -> None:
    network = cloud.network(1, cloud.port(1, 83))
    cloud.apply(cloud.message(network, groups=(default_group(),)))
    cloud.wait(cloud.backend.close())
    before = cloud.servers()
    (cloud.settings.dhcp_dir / f"{network.id}.pid").unlink()
    cloud.backend = cloud.new_backend()
    cloud.start()
    networks = (network,) if wanted else ()
    assert cloud.apply(cloud.message(*networks, groups=(default_group(),))).failed == {}
    assert len(before) == 1 and len(cloud.servers()) == len(networks)
    assert not set(before) & set(cloud.servers())


def test_what_was_damaged_from_outside_is_repaired(cloud: Cloud) -> None:
    port = cloud.port(1, 83)
    network = cloud.network(1, port)
    message = cloud.message(network, groups=(default_group(),))
    cloud.apply(message)
    run("ip", "netns", "del", network.namespace)
    run("nft", "delete", "table", "inet", f"nfsg_{cloud.settings.cloud_id}")
    assert cloud.apply(message).failed == {}
    guest = cloud.guest(network, port, address=False)
    assert guest.dhcp()["ip"] == "10.77.1.83"
    assert guest.pings(cloud.host_address(), wait_s=10)
    run("ip", "link", "del", network.bridge)
    assert cloud.apply(message).failed == {}
    run("ip", "link", "set", port.tap, "master", network.bridge)
    assert guest.pings(cloud.host_address(), wait_s=10)


def test_a_network_that_fails_does_not_stop_the_others(cloud: Cloud) -> None:
    bad, good = cloud.network(1, cloud.port(1, 84)), cloud.network(2, cloud.port(2, 84))
    run("ip", "link", "add", bad.bridge, "type", "bridge")
    try:
        answer = cloud.apply(cloud.message(bad, good, groups=(default_group(),)))
        assert list(answer.failed) == [bad.id]
        assert bad.bridge in answer.failed[bad.id]
        assert cloud.guest(good, good.ports[0], address=False).dhcp()["ip"] == "10.77.1.84"
    finally:
        run("ip", "link", "del", bad.bridge)
    assert cloud.apply(cloud.message(bad, good, groups=(default_group(),))).failed == {}


def test_a_wrong_spec_keeps_the_rules_that_were_and_a_new_one_is_closed(cloud: Cloud) -> None:
    ports = [cloud.port(1, 86, security_groups=("out",)), cloud.port(1, 87, security_groups=("out",))]
    network = cloud.network(1, *ports)
    out = GroupSpec(id="out", rules=ALL_OUT, members=())
    cloud.apply(cloud.message(network, groups=(out,)))
    first, _ = (cloud.guest(network, port) for port in ports)
    wrong = msgspec.structs.replace(network, mtu=1)
    assert list(cloud.apply(cloud.message(wrong, groups=(out,))).failed) == [network.id]
    assert first.pings("10.77.1.1", wait_s=10)
    assert not first.pings("10.77.1.87"), "still filtered"
    cloud.wait(cloud.backend.close())
    cloud.backend = cloud.new_backend()
    cloud.start()
    assert list(cloud.apply(cloud.message(wrong, groups=(out,))).failed) == [network.id]
    assert not first.pings("10.77.1.87"), "unknown, so closed"
    assert cloud.apply(cloud.message(network, groups=(out,))).failed == {}
    assert first.pings("10.77.1.1", wait_s=10)


def test_an_unchanged_state_and_one_more_port_are_cheap(cloud: Cloud) -> None:
    ports = [cloud.port(1, number) for number in range(100, 120)]
    group = default_group(*(port.addresses[0] for port in ports))
    message = cloud.message(cloud.network(1, *ports), groups=(group,))
    cloud.apply(message)

    def timed_ms(wanted: ApplyNetworks) -> float:
        begin = time.perf_counter()
        assert cloud.apply(wanted).failed == {}
        return (time.perf_counter() - begin) * 1000

    def one_more_ms() -> float:
        ports.append(cloud.port(1, 110 + len(ports)))
        return timed_ms(cloud.message(cloud.network(1, *ports), groups=(group,)))

    assert least_of(lambda: min(timed_ms(message) for _ in range(5)), 20) < 20, "20 ports"
    assert least_of(one_more_ms, 100) < 100


@pytest.mark.parametrize("library", ["libnftables.so.1", None])
def test_scripts_run_in_process_or_by_the_program_and_are_all_or_nothing(cloud: Cloud, library: str | None) -> None:
    table = f"x{cloud.settings.cloud_id}"
    nft = Nftables(library)
    if library and not nft.in_process:
        pytest.skip("needs libnftables")
    try:
        with pytest.raises(InternalError, match=r"nftables refused the rules: .*Error"):
            nft.run(f"table inet {table} {{\n}}\nadd rule inet {table} absent accept\n")
        assert ("inet", table) not in tables()
        nft.run(f"table inet {table} {{\n}}\n")
        assert ("inet", table) in tables()
    finally:
        run("nft", "delete", "table", "inet", table, check=False)


def test_teardown_leaves_nothing_even_without_a_record(cloud: Cloud) -> None:
    networks = [cloud.network(1, cloud.port(1, 85)), cloud.network(2, cloud.port(2, 85))]
    cloud.apply(cloud.message(*networks, groups=(default_group(),)))
    assert cloud.leftovers()
    assert IP_FORWARD.read_text().strip() == "1"
    cloud.wait(cloud.backend.close())
    (cloud.settings.run_dir / "made.json").unlink()
    cloud.backend = cloud.new_backend()
    cloud.wait(cloud.backend.teardown())
    assert eventually(lambda: cloud.leftovers() == []), cloud.leftovers()
    assert not cloud.settings.dhcp_dir.exists()
    cloud.backend = cloud.new_backend()


def test_teardown_gives_back_the_kernel_settings_it_changed(cloud: Cloud) -> None:
    name = IP_FORWARD
    cloud.wait(cloud.backend.teardown())
    before = name.read_text()
    try:
        name.write_text("0")
        cloud.backend = cloud.new_backend()
        cloud.start()
        assert name.read_text().strip() == "1"
        cloud.wait(cloud.backend.close())
        cloud.backend = cloud.new_backend()
        cloud.start()
        cloud.wait(cloud.backend.teardown())
        others = "nfsg_" in run("nft", "list", "tables")
        assert name.read_text().strip() == ("1" if others else "0")
    finally:
        name.write_text(before)
    cloud.backend = cloud.new_backend()
