"""What a spec may contain, and what becomes of it before it reaches the kernel."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_fast.model.errors import BadRequest, Conflict
from nova_fast.model.tasks import NetworkSpec, PortSpec, SubnetSpec
from nova_fast.network.linux.dhcp import leaves_an_address, plan_dhcp
from nova_fast.network.linux.plan import check_disjoint, host_name_for, plan_network, router_address, zone_of
from nova_fast.network.linux.router import render_host, render_router

CLOUD = "0a1b2c3d"
FOLDER = Path("/run/x")


def port(**changes: Any) -> PortSpec:
    fields: dict[str, Any] = {
        "id": "p1",
        "tap": "tapp1",
        "mac_address": "FA:16:3E:00:00:01",
        "addresses": ("10.0.0.5",),
        "hostname": "web",
        "server_id": "s",
        "project_id": "p",
        "security_groups": ("g",),
    }
    return PortSpec(**{**fields, **changes})


def network(*ports: PortSpec, **changes: Any) -> NetworkSpec:
    subnet = SubnetSpec(id="s", ip_version=4, cidr="10.0.0.0/24", gateway_ip="10.0.0.1", enable_dhcp=True)
    fields: dict[str, Any] = {
        "id": "n1",
        "number": 1,
        "bridge": "nfb1",
        "namespace": "nf-1",
        "mtu": 1450,
        "subnets": (subnet,),
        "ports": ports,
    }
    return NetworkSpec(**{**fields, **changes})


BAD_PORTS: list[dict[str, Any]] = [
    {"tap": 'tap" accept; #'},
    {"tap": "a" * 16},
    {"tap": ""},
    {"tap": "-x"},
    {"mac_address": "fa:16:3e:00:00:01,10.0.0.9"},
    {"mac_address": "ff:ff:ff:ff:ff:ff"},
    {"mac_address": "fa:16:3e:00:00:01\n"},
    {"addresses": ("10.0.0.5/24",)},
    {"addresses": ("10.0.0.5 } drop",)},
    {"addresses": ("fe80::1%eth0",)},
    {"allowed_address_pairs": (("10.0.0.0/33", ""),)},
    {"allowed_address_pairs": (("10.0.0.1", "x"),)},
]


@pytest.mark.parametrize("change", BAD_PORTS)
def test_a_port_with_unusable_text_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        plan_network(CLOUD, network(port(**change)))


@pytest.mark.parametrize(
    "change",
    [{"bridge": "a b"}, {"namespace": "../x"}, {"namespace": ""}, {"id": "a/b"}, {"mtu": 0}, {"mtu": 70000}],
)
def test_a_network_with_unusable_text_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        plan_network(CLOUD, network(**change))


def test_a_gateway_outside_its_subnet_is_refused() -> None:
    subnet = SubnetSpec(id="s", ip_version=4, cidr="10.0.0.0/24", gateway_ip="10.1.0.1", enable_dhcp=True)
    with pytest.raises(BadRequest, match=r"10\.1\.0\.1"):
        plan_network(CLOUD, network(subnets=(subnet,)))


@given(st.text(max_size=80))
def test_no_host_name_can_break_out_of_the_hosts_file(name: str) -> None:
    plan = plan_network(CLOUD, network(port(hostname=name)))
    dhcp = plan_dhcp(plan, FOLDER, "nobody", ())
    assert len(dhcp.hosts) == 1
    mac, address, host = dhcp.hosts[0].split(",")
    assert (mac, address) == ("fa:16:3e:00:00:01", "10.0.0.5")
    assert host
    assert host.isascii()
    assert host.replace("-", "").isalnum()
    assert not host.startswith("-")


def test_a_name_that_is_no_host_name_gives_one_of_the_address() -> None:
    assert host_name_for("Web-1.example.org", ()) == "web-1"
    assert host_name_for("söme näme", (ipaddress.ip_address("10.0.0.5"),)) == "host-10-0-0-5"


def test_dhcp_announces_what_the_subnet_says_and_no_dns_of_its_own_accord() -> None:
    plain = plan_dhcp(plan_network(CLOUD, network(port())), FOLDER, "nobody", ()).arguments
    assert "--port=0" in plain
    assert not any("dns-server" in each for each in plain)
    assert "--dhcp-option=tag:s0,option:classless-static-route,169.254.169.254/32,10.0.0.1,0.0.0.0/0,10.0.0.1" in plain
    default = plan_dhcp(plan_network(CLOUD, network(port())), FOLDER, "nobody", ("9.9.9.9",)).arguments
    assert "--dhcp-option=tag:s0,option:dns-server,9.9.9.9" in default


def test_a_network_without_dhcp_has_no_server() -> None:
    subnet = SubnetSpec(id="s", ip_version=4, cidr="10.0.0.0/24", gateway_ip="10.0.0.1", enable_dhcp=False)
    assert plan_dhcp(plan_network(CLOUD, network(port(), subnets=(subnet,))), FOLDER, "nobody", ()).arguments == ()


def test_only_a_lost_address_makes_the_server_start_anew() -> None:
    one, two, renamed = "m1,10.0.0.1,a", "m2,10.0.0.2,b", "m1,10.0.0.1,c"
    assert not leaves_an_address((one,), (one, two))
    assert not leaves_an_address((one,), (renamed,))
    assert leaves_an_address((one, two), (one,))
    assert leaves_an_address((one,), ("m2,10.0.0.1,a",))


def test_names_used_twice_fail_the_second_network_only() -> None:
    first = plan_network(CLOUD, network(port()))
    second = plan_network(CLOUD, network(port(id="p2"), id="n2", bridge="nfb2", namespace="nf-2"))
    assert check_disjoint([second, first]) == {"n2": "tapp1 is used twice"}


def test_router_addresses_do_not_collide_and_run_out_with_a_sentence() -> None:
    taken: set[str] = set()
    for number in (1, 1, 6, 2, 3):
        taken.add(router_address("172.30.0.0/29", number, taken))
    assert taken == {f"172.30.0.{last}" for last in range(2, 7)}
    with pytest.raises(Conflict, match="no address is left"):
        router_address("172.30.0.0/29", 9, taken)


@given(st.integers(min_value=0, max_value=1 << 40), st.integers(min_value=0, max_value=(1 << 32) - 1))
def test_conntrack_zones_fit_their_16_bits(number: int, cloud: int) -> None:
    assert 1 <= zone_of(f"{cloud:08x}", number) <= 65535


def test_the_router_hides_its_own_subnets_only_and_lets_nothing_in() -> None:
    text = render_router(plan_network(CLOUD, network()))
    assert 'oifname "ext" ip saddr { 10.0.0.0/24 } masquerade' in text
    assert "type filter hook input priority filter; policy drop;" in text
    assert "type filter hook forward priority filter; policy drop;" in text
    host = render_host(CLOUD, "172.30.0.0/24", "nfext")
    assert 'ip saddr 172.30.0.0/24 ip daddr != 172.30.0.0/24 oifname != "nfext" masquerade' in host
