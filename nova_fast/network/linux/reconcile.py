"""The steps that make the host look as wanted, in order; everything here blocks and runs on one worker thread.

Order: the packet filter first, so that it is there before any tap; then what is no longer wanted goes; then each
network by itself (bridge, namespace, router rules, DHCP), so that one that fails does not stop the others. What was
verified less than a minute ago and is not asked to change is looked at only briefly: its links and its namespace must
be there.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from nova_fast.model.errors import NovaFastError, Unavailable
from nova_fast.model.tasks import ApplyNetworks
from nova_fast.network.backend import BackendSettings
from nova_fast.network.linux import conntrack, dhcp, links, metadata, namespaces, record, sysctl
from nova_fast.network.linux.firewall import FirewallInput, Profile, number_profiles, render, table_names
from nova_fast.network.linux.nftables import Nftables, tables
from nova_fast.network.linux.plan import NetworkPlan, bridges_to_close, check_disjoint, plan_network, router_address
from nova_fast.network.linux.policy import check_groups, flows_to_cut, policy_of
from nova_fast.network.linux.router import host_table, render_host, render_router

if TYPE_CHECKING:
    from pyroute2.iproute.linux import IPRoute

VERIFY_AGE_S_MAX = 60.0


class Outcome(msgspec.Struct, kw_only=True):
    """What an application gave: what failed, and what the event loop has to take over."""

    failed: dict[str, str]
    servers: dict[str, int | None]  # network id → pid of its dnsmasq
    listeners: dict[str, socket.socket]  # network id → a new listening socket for metadata
    wanted: frozenset[str]


class _Verified(msgspec.Struct, frozen=True):
    plan: NetworkPlan  # without ports
    namespace_inode: int
    router_address: str
    at_s: float


def _words(error: Exception) -> str:
    return error.message if isinstance(error, NovaFastError) else f"{type(error).__name__}: {error}"


def _failures() -> tuple[type[Exception], ...]:
    from pyroute2.netlink.exceptions import NetlinkError

    return (NovaFastError, OSError, NetlinkError, subprocess.SubprocessError)


@contextlib.contextmanager
def _named(what: str) -> Iterator[None]:
    """Let the system's errors leave as one of ours that says what could not be done."""
    try:
        yield
    except NovaFastError:
        raise
    except _failures() as error:
        raise Unavailable(f"{what}: {_words(error)}") from error


class Reconciler:
    """Holds what was made and verified; not thread-safe, as it is used by one worker thread only."""

    def __init__(self, settings: BackendSettings, nft: Nftables | None = None) -> None:
        self.settings = settings
        self._nft = nft or Nftables()
        self._made = record.Made()
        self._saved = b""
        self._numbers: dict[Profile, int] = {}
        self._filter: FirewallInput | None = None
        self._filter_s = -VERIFY_AGE_S_MAX
        self._good: dict[str, NetworkPlan] = {}
        self._verified: dict[str, _Verified] = {}
        self._host_verified_s = -VERIFY_AGE_S_MAX
        self._listening: dict[str, int] = {}  # network id → inode of the namespace in which a socket listens
        self._reread: set[str] = set()  # networks whose dnsmasq was seen by this run

    # -------------------------------------------------------------------------------------------- start

    def start(self) -> None:
        """Load what an earlier run made and prepare the host itself. Raises NovaFastError."""
        self._made = record.load(self.settings.run_dir)
        self._saved = msgspec.json.encode(self._made)
        with _named("this host cannot be prepared for networks"), links.netlink() as route:
            self._ensure_host(route)

    def _ensure_host(self, route: IPRoute) -> None:
        settings = self.settings
        changed = sysctl.ensure_bridge_filter()
        old = sysctl.ensure(sysctl.IP_FORWARD, "1")
        if old is not None:
            changed[sysctl.IP_FORWARD] = old
        for name, value in changed.items():
            self._made.sysctls.setdefault(name, value)
        self._save()
        links.ensure_external_bridge(route, settings.cloud_id, settings.external_bridge, settings.external_cidr)
        self._nft.run(render_host(settings.cloud_id, settings.external_cidr, settings.external_bridge))
        self._host_verified_s = time.monotonic()

    def _save(self) -> None:
        encoded = msgspec.json.encode(self._made)
        if encoded != self._saved:
            record.save(self.settings.run_dir, self._made)
            self._saved = encoded

    # -------------------------------------------------------------------------------------------- apply

    def apply(self, message: ApplyNetworks) -> Outcome:
        """Make the host look as the message says."""
        plans, failed = self._plan(message)
        wanted = frozenset(each.id for each in message.networks)
        outcome = Outcome(failed=failed, servers={}, listeners={}, wanted=wanted)
        failures = _failures()
        try:
            self._apply_filter(plans, message, failed)
        except failures as error:
            failed.update((each.id, _words(error)) for each in message.networks)
            return outcome
        with links.netlink() as route:
            found = links.all_links(route)
            try:
                if self._is_late(self._host_verified_s) or self.settings.external_bridge not in found:
                    self._ensure_host(route)
                    found = links.all_links(route)
            except failures as error:
                failed.update((each.id, _words(error)) for each in message.networks)
                return outcome
            self._remove_unwanted(route, outcome, found)
            for plan in plans.values():
                try:
                    self._apply_network(route, plan, outcome, found)
                except failures as error:
                    self._verified.pop(plan.id, None)
                    failed[plan.id] = _words(error)
        self._save()
        return outcome

    def _plan(self, message: ApplyNetworks) -> tuple[dict[str, NetworkPlan], dict[str, str]]:
        """Checked plans; a network whose new spec is wrong keeps its last good one, so that its filter stays."""
        plans: dict[str, NetworkPlan] = {}
        failed: dict[str, str] = {}
        for spec in message.networks:
            try:
                plans[spec.id] = plan_network(self.settings.cloud_id, spec)
            except NovaFastError as error:
                failed[spec.id] = error.message
                if spec.id in self._good:
                    plans[spec.id] = self._good[spec.id]
        for network_id, sentence in check_disjoint(list(plans.values())).items():
            failed[network_id] = sentence
            del plans[network_id]
        self._good = dict(plans)
        return plans, failed

    def _apply_filter(self, plans: dict[str, NetworkPlan], message: ApplyNetworks, failed: dict[str, str]) -> None:
        bad = check_groups(message.groups)
        for plan in plans.values():
            for group_id in sorted({each for port in plan.ports for each in port.security_groups} & set(bad)):
                failed[plan.id] = f"security group {group_id}: {bad[group_id]}"
        networks = tuple(plans[network_id] for network_id in sorted(plans))
        self._numbers = number_profiles(networks, self._numbers)
        wanted = FirewallInput(
            cloud_id=self.settings.cloud_id,
            networks=networks,
            groups=tuple(group for group in message.groups if group.id not in bad),
            numbers=self._numbers,
            closed=bridges_to_close(message.networks, plans),
        )
        there = set(table_names(self.settings.cloud_id)) <= tables()
        if wanted == self._filter and there and not self._is_late(self._filter_s):
            return
        self._filter = None  # so that the next time does all of it again if this one fails half-way
        self._nft.run(render(wanted))
        policy = policy_of(wanted.networks, wanted.groups)
        flows = flows_to_cut(self._made.policy, policy)
        if flows:
            conntrack.cut(flows)
        self._made.policy = policy
        self._filter, self._filter_s = wanted, time.monotonic()
        self._save()

    def _is_late(self, at_s: float) -> bool:
        return time.monotonic() - at_s >= VERIFY_AGE_S_MAX

    # -------------------------------------------------------------------------------------------- one network

    def _apply_network(self, route: IPRoute, plan: NetworkPlan, outcome: Outcome, found: dict[str, links.Link]) -> None:
        address = self._remember(plan)
        if not self._is_verified(plan, address, found):
            self._verified.pop(plan.id, None)
            self._make_network(route, plan, address)
            inode = namespaces.inode(plan.namespace)
            self._verified[plan.id] = _Verified(_without_ports(plan), inode, address, time.monotonic())
        server = self._dhcp_plan(plan)
        adopted = plan.id not in self._reread and dhcp.running(server)
        pid = dhcp.ensure_server(server, plan.namespace)
        if pid is not None and pid == adopted:
            dhcp.reread(pid)
        self._reread.add(plan.id)
        outcome.servers[plan.id] = pid
        inode = namespaces.inode(plan.namespace)
        if self._listening.get(plan.id) != inode:
            outcome.listeners[plan.id] = metadata.listen_in(plan.namespace)
            self._listening[plan.id] = inode

    def _is_verified(self, plan: NetworkPlan, address: str, found: dict[str, links.Link]) -> bool:
        last = self._verified.get(plan.id)
        if last is None or self._is_late(last.at_s) or last.router_address != address:
            return False
        if last.plan != _without_ports(plan) or not namespaces.exists(plan.namespace):
            return False
        bridge, external = found.get(plan.bridge), found.get(self.settings.external_bridge)
        lan, ext = found.get(plan.lan_link), found.get(plan.ext_link)
        if bridge is None or external is None or lan is None or ext is None:
            return False
        ready = bridge.up and lan.up and ext.up and bridge.mtu == plan.mtu
        ready = ready and lan.master == bridge.index and ext.master == external.index
        return ready and namespaces.inode(plan.namespace) == last.namespace_inode

    def _remember(self, plan: NetworkPlan) -> str:
        """Record a network before it is made; gives its router's address, the one it had if it had one."""
        old = self._made.networks.get(plan.id)
        taken = {each.router_address for key, each in self._made.networks.items() if key != plan.id}
        cidr = self.settings.external_cidr
        address = old.router_address if old and old.router_cidr == cidr else router_address(cidr, plan.number, taken)
        self._made.networks[plan.id] = record.MadeNetwork(
            bridge=plan.bridge,
            namespace=plan.namespace,
            links=[plan.lan_link, plan.ext_link],
            router_address=address,
            router_cidr=cidr,
        )
        self._save()
        return address

    def _make_network(self, route: IPRoute, plan: NetworkPlan, address: str) -> None:
        settings = self.settings
        mark = links.alias(settings.cloud_id, plan.id)
        bridge = links.ensure_bridge(route, settings.cloud_id, plan)
        external = links.link_named(route, settings.external_bridge)
        namespaces.ensure(plan.namespace)
        with namespaces.visit(plan.namespace), links.netlink() as inside:
            missing = links.missing_ends(inside)
        for side in sorted(missing):
            links.remove_link(route, plan.lan_link if side == "lan" else plan.ext_link)
        links.ensure_pair(route, plan, "lan", bridge, mark)
        links.ensure_pair(route, plan, "ext", external, mark)
        with namespaces.visit(plan.namespace):
            # The walls stand before the namespace forwards anything.
            self._nft.run(render_router(plan))
            with links.netlink() as inside:
                links.configure_namespace(inside, plan, address, settings.external_cidr, mark)

    def _dhcp_plan(self, plan: NetworkPlan) -> dhcp.DhcpPlan:
        return dhcp.plan_dhcp(plan, self.settings.dhcp_dir, dhcp.server_user(), self.settings.dns_nameservers)

    def revive(self, network_id: str) -> int | None:
        """Start the dnsmasq of a network again after it ended by itself; None where it is not wanted any more."""
        plan = self._good.get(network_id)
        if plan is None or not namespaces.exists(plan.namespace):
            return None
        return dhcp.ensure_server(self._dhcp_plan(plan), plan.namespace)

    def forget_listeners(self) -> None:
        """The event loop has closed all listening sockets."""
        self._listening.clear()

    # -------------------------------------------------------------------------------------------- what goes

    def _remove_unwanted(self, route: IPRoute, outcome: Outcome, found: dict[str, links.Link]) -> None:
        owned = links.owned_links(found, self.settings.cloud_id)
        present = {network_id for _, network_id in owned.values() if network_id != links.EXTERNAL}
        for network_id in sorted((present | set(self._made.networks)) - outcome.wanted):
            try:
                self._remove_network(route, network_id)
            except _failures() as error:
                outcome.failed[network_id] = f"it cannot be taken down: {_words(error)}"

    def _remove_network(self, route: IPRoute, network_id: str) -> None:
        self._verified.pop(network_id, None)
        self._listening.pop(network_id, None)
        self._reread.discard(network_id)
        mark = links.alias(self.settings.cloud_id, network_id)
        dhcp.remove_files(self.settings.dhcp_dir, network_id)
        made = self._made.networks.get(network_id)
        for name in {made.namespace} if made else self._owned_namespaces(mark):
            namespaces.remove(name)
        for link, owner in links.owned_links(links.all_links(route), self.settings.cloud_id).values():
            if owner == network_id:
                links.remove_link(route, link.name)
        if made:
            links.remove_bridge(route, self.settings.cloud_id, made.bridge, network_id)
        self._made.networks.pop(network_id, None)
        self._save()

    def _owned_namespaces(self, mark_start: str) -> set[str]:
        """The namespaces whose mark begins so; looks into every named namespace."""
        owned = set()
        for name in namespaces.names():
            if namespaces.exists(name):
                with contextlib.suppress(OSError), namespaces.visit(name), links.netlink() as inside:
                    if links.namespace_owner(inside).startswith(mark_start):
                        owned.add(name)
        return owned

    def teardown(self) -> None:
        """Remove everything this cloud made on this host.

        Raises Unavailable that names what could not be removed, after all the rest was; the record is kept then.
        """
        self._made = record.load(self.settings.run_dir)
        with _named("the network cannot be taken down"):
            left = self._remove_links_and_servers()
            if left:
                raise Unavailable("; ".join(left))
            self._remove_tables()
            self._restore_sysctls()
        record.remove(self.settings.run_dir)
        for folder in (self.settings.dhcp_dir, *self.settings.dhcp_dir.parents):
            if not folder.is_relative_to("/run") or folder == Path("/run"):
                break
            _remove_if_empty(folder)
        self._made, self._saved, self._filter = record.Made(), b"", None
        self._verified.clear()
        self._listening.clear()
        self._good.clear()

    def _remove_links_and_servers(self) -> list[str]:
        """Take down what carries our mark or is in the record; a sentence for each thing that stays."""
        cloud_id, left = self.settings.cloud_id, []
        with links.netlink() as route:
            owned = links.owned_links(links.all_links(route), cloud_id)
            networks = set(self._made.networks) | {network_id for _, network_id in owned.values()}
            for network_id in sorted((networks | dhcp.networks_with_files(self.settings.dhcp_dir)) - {links.EXTERNAL}):
                try:
                    self._remove_network(route, network_id)
                except _failures() as error:
                    left.append(f"network {network_id}: {_words(error)}")
            for name in self._owned_namespaces(links.alias(cloud_id, "")):
                namespaces.remove(name)
            for link, _ in links.owned_links(links.all_links(route), cloud_id).values():
                links.remove_link(route, link.name)
            external = self.settings.external_bridge
            links.remove_bridge(route, cloud_id, external, external)
        return left

    def _remove_tables(self) -> None:
        present = tables()
        ours = [*table_names(self.settings.cloud_id), ("ip", host_table(self.settings.cloud_id))]
        self._nft.run("".join(f"delete table {family} {name}\n" for family, name in ours if (family, name) in present))

    def _restore_sysctls(self) -> None:
        """Give back what we changed, unless another cloud on this machine needs it still."""
        if not any(name.startswith("nfsg_") for _, name in tables()):
            for name, value in self._made.sysctls.items():
                sysctl.ensure(name, value)


def _without_ports(plan: NetworkPlan) -> NetworkPlan:
    return msgspec.structs.replace(plan, ports=())


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # absent, or someone else's files are in it
        folder.rmdir()
