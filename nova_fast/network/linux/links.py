"""Bridges, veth pairs, addresses and routes, through netlink.

Every link carries an alias ``nova-fast:<cloud>:<network>``, so that what is ours is known without any file. All
functions here run on the backend's worker thread; those that say so run inside a namespace visit.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from nova_fast.model.errors import Conflict, InternalError
from nova_fast.network.linux import sysctl
from nova_fast.network.linux.plan import METADATA_ADDRESS, NetworkPlan, external_gateway, mac_of

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

ALIAS_PREFIX = "nova-fast"
EXTERNAL = "external"  # stands where the alias of a network's link has the network's id
_IFF_UP = 1
_SCOPE_UNIVERSE = 0
_SCOPE_LINK = 253
_ARP_NEVER_FOR_LOCAL = "8"  # arp_ignore: do not reply for any local address


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What matters of a link."""

    index: int
    name: str
    alias: str
    mtu: int
    master: int
    up: bool
    mac_address: str
    kind: str


@contextlib.contextmanager
def netlink() -> Iterator[IPRoute]:
    """A route socket in this thread's namespace. The import is late because it takes 13 MiB and 0.3 s."""
    from pyroute2.iproute.linux import IPRoute

    # The loop is named because pyroute2 would take the policy's, and uvloop knows no netlink sockets.
    loop = asyncio.SelectorEventLoop()
    try:
        route = IPRoute(use_event_loop=loop)
        try:
            yield route
        finally:
            route.close()
    finally:
        loop.close()


def alias(cloud_id: str, network_id: str) -> str:
    """The mark on a link."""
    return f"{ALIAS_PREFIX}:{cloud_id}:{network_id}"


def all_links(route: IPRoute) -> dict[str, Link]:
    """The links of the namespace, by name."""
    found = {}
    for each in route.get_links():
        info = each.get("linkinfo")
        link = Link(
            index=each["index"],
            name=each.get("ifname"),
            alias=each.get("ifalias") or "",
            mtu=each.get("mtu") or 0,
            master=each.get("master") or 0,
            up=bool(each["flags"] & _IFF_UP),
            mac_address=each.get("address") or "",
            kind=(info.get("kind") if info else "") or "",
        )
        found[link.name] = link
    return found


def link_named(route: IPRoute, name: str) -> Link:
    """A link that must be there. Raises InternalError."""
    link = all_links(route).get(name)
    if link is None:
        raise InternalError(f"the link {name} vanished")
    return link


def ensure_bridge(route: IPRoute, cloud_id: str, network: NetworkPlan) -> Link:
    """The bridge of a network, up and without a foot of this machine in it. Raises Conflict when the name is taken."""
    mark = alias(cloud_id, network.id)
    link = _ensure_bridge(route, network.bridge, mark, network.mtu, mac_of("br" + cloud_id + network.id))
    sysctl.ensure(f"net/ipv4/conf/{network.bridge}/arp_ignore", _ARP_NEVER_FOR_LOCAL)
    return link


def _ensure_bridge(route: IPRoute, name: str, mark: str, mtu: int, mac_address: str) -> Link:
    link = all_links(route).get(name)
    if link is None:
        route.link(
            "add", ifname=name, kind="bridge", address=mac_address,
            br_stp_state=0, br_forward_delay=0, br_mcast_snooping=0,
        )  # fmt: skip
        link = link_named(route, name)
    if _is_unmarked(link, mac_address):
        route.link("set", index=link.index, ifalias=mark)
    elif link.alias != mark:
        owner = "another cloud of this machine" if (link.alias or "").startswith(ALIAS_PREFIX) else "somebody else"
        raise Conflict(f"the bridge {name} belongs to {owner}")
    sysctl.ensure(f"net/ipv6/conf/{name}/disable_ipv6", "1")
    if link.mtu != mtu:
        route.link("set", index=link.index, mtu=mtu)
    if not link.up:
        route.link("set", index=link.index, state="up")
    return link_named(route, name)


def _is_unmarked(link: Link, mac_address: str) -> bool:
    """Whether this is a bridge of ours that has no mark: the kernel gives none at birth, and its maker may have died.

    The address is what it was born with, made from the names of its cloud and network.
    """
    return not link.alias and link.kind == "bridge" and link.mac_address == mac_address


def remove_bridge(route: IPRoute, cloud_id: str, name: str, of: str) -> None:
    """Remove a bridge of ours that has no mark. ``of`` is its network's id, or its name for the external one."""
    link = all_links(route).get(name)
    if link is not None and _is_unmarked(link, mac_of("br" + cloud_id + of)):
        remove_link(route, name)


def ensure_external_bridge(route: IPRoute, cloud_id: str, name: str, cidr: str) -> Link:
    """The bridge between the routers and this machine, with this machine's address. Raises Conflict."""
    try:
        link = _ensure_bridge(route, name, alias(cloud_id, EXTERNAL), 1500, mac_of("br" + cloud_id + name))
    except Conflict as conflict:
        conflict.hint = "give network.external_bridge and network.external_cidr values of their own, or remove it there"
        raise
    ensure_addresses(route, link, {f"{external_gateway(cidr)}/{ipaddress.ip_network(cidr).prefixlen}"})
    return link


def ensure_pair(route: IPRoute, network: NetworkPlan, side: str, bridge: Link, mark: str) -> None:
    """A veth between a bridge and the namespace; ``side`` is ``lan`` or ``ext``, and the name of the far end."""
    name = network.lan_link if side == "lan" else network.ext_link
    mac_address = network.lan_mac if side == "lan" else network.ext_mac
    link = all_links(route).get(name)
    if link is None:
        peer = {"ifname": side, "net_ns_fd": network.namespace, "address": mac_address, "mtu": bridge.mtu}
        route.link("add", ifname=name, kind="veth", mtu=bridge.mtu, peer=peer)
        link = link_named(route, name)
    if not link.alias:
        route.link("set", index=link.index, ifalias=mark)
    if link.master != bridge.index or link.mtu != bridge.mtu:
        route.link("set", index=link.index, mtu=bridge.mtu, master=bridge.index)
    if not link.up:
        sysctl.ensure(f"net/ipv6/conf/{name}/disable_ipv6", "1")
        route.link("set", index=link.index, state="up")


def remove_link(route: IPRoute, name: str) -> None:
    """Remove a link; nothing happens when it is not there, or goes meanwhile with its namespace."""
    from pyroute2.netlink.exceptions import NetlinkError

    link = all_links(route).get(name)
    if link is None:
        return
    try:
        route.link("del", index=link.index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def ensure_addresses(route: IPRoute, link: Link, wanted: set[str]) -> None:
    """The link has exactly these addresses (with prefix lengths), besides link-local ones of IPv6."""
    present = set()
    for each in route.get_addr(index=link.index):
        text = f"{each.get('address')}/{each['prefixlen']}"
        if each["family"] == socket.AF_INET6 and ipaddress.ip_interface(text).is_link_local:
            continue
        present.add(text)
    for text in sorted(wanted - present):
        address, _, length = text.partition("/")
        route.addr("add", index=link.index, address=address, prefixlen=int(length))
    for text in sorted(present - wanted):
        address, _, length = text.partition("/")
        route.addr("del", index=link.index, address=address, prefixlen=int(length))


def lan_addresses(network: NetworkPlan) -> set[str]:
    """What the router is called on the guests' side."""
    wanted = {f"{METADATA_ADDRESS}/32"}
    wanted |= {f"{subnet.gateway}/{subnet.prefix.prefixlen}" for subnet in network.subnets if subnet.gateway}
    return wanted


def missing_ends(route: IPRoute) -> set[str]:
    """Inside the namespace: which far ends are not there."""
    return {"lan", "ext"} - set(all_links(route))


def configure_namespace(
    route: IPRoute, network: NetworkPlan, router_address: str, external_cidr: str, mark: str
) -> None:
    """Inside the namespace: addresses, routes and settings of the router."""
    found = all_links(route)
    for name, value in (("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")):
        sysctl.ensure(name, value)
    sysctl.ensure("net/ipv6/conf/lan/accept_dad", "0")
    sysctl.ensure("net/ipv6/conf/ext/disable_ipv6", "1")
    if found["lo"].alias != mark:
        route.link("set", index=found["lo"].index, ifalias=mark)
    if found["lan"].mtu != network.mtu:
        route.link("set", index=found["lan"].index, mtu=network.mtu)
    for name in ("lo", "lan", "ext"):
        if not found[name].up:
            route.link("set", index=found[name].index, state="up")
    length = ipaddress.ip_network(external_cidr).prefixlen
    ensure_addresses(route, found["lan"], lan_addresses(network))
    ensure_addresses(route, found["ext"], {f"{router_address}/{length}"})
    route.route("replace", dst="0.0.0.0/0", gateway=external_gateway(external_cidr), oif=found["ext"].index)
    _ensure_connected_routes(route, network, found["lan"].index)


def _ensure_connected_routes(route: IPRoute, network: NetworkPlan, lan_index: int) -> None:
    """Routes to subnets in which the router has no address; those of vanished subnets go."""
    wanted = {str(subnet.prefix) for subnet in network.subnets if subnet.gateway is None}
    for prefix in sorted(wanted):
        scope = _SCOPE_LINK if ":" not in prefix else _SCOPE_UNIVERSE
        route.route("replace", dst=prefix, oif=lan_index, scope=scope, proto="static")
    for each in route.get_routes(family=socket.AF_INET, oif=lan_index, table=254):
        if each["proto"] == 4 and f"{each.get('dst')}/{each['dst_len']}" not in wanted:
            route.route("del", dst=f"{each.get('dst')}/{each['dst_len']}", oif=lan_index)


def namespace_owner(route: IPRoute) -> str:
    """Inside a namespace: the mark it carries, which is the alias of its loopback link."""
    return all_links(route)["lo"].alias


def owned_links(found: dict[str, Link], cloud_id: str) -> dict[str, tuple[Link, str]]:
    """The links that carry this cloud's mark: name → link and network id."""
    start = f"{ALIAS_PREFIX}:{cloud_id}:"
    return {name: (link, link.alias[len(start) :]) for name, link in found.items() if link.alias.startswith(start)}
