"""What was allowed, kept small enough to be stored, so that a new policy can tell which flows it must cut.

A filter lets established flows go on; so where a rule, a group's member, a group of a port or an address goes, the
flows that may rest on it must be forgotten by conntrack.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping

import msgspec

from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import GroupSpec
from nova_fast.network.linux.plan import NetworkPlan, PortPlan
from nova_fast.network.linux.rules import match_of


class PortPolicy(msgspec.Struct, frozen=True):
    """What a port was allowed, in a form that can be kept and compared."""

    zone: int
    addresses: tuple[str, ...]
    groups: tuple[str, ...]
    filtered: bool


class Policy(msgspec.Struct, frozen=True):
    """What was allowed on this host: enough to tell which flows a new policy must cut."""

    ports: dict[str, PortPolicy] = {}
    groups: dict[str, frozenset[str]] = {}  # group id → for each thing its rules let through a hash, and the member


def policy_of(networks: Iterable[NetworkPlan], groups: Iterable[GroupSpec]) -> Policy:
    """What the wanted state allows, to be compared with the next one."""
    groups = tuple(groups)
    members = {group.id: group.members for group in groups}
    return Policy(
        ports={
            port.id: PortPolicy(network.zone, _all_addresses(port), port.security_groups, port.filtered)
            for network in networks
            for port in network.ports
        },
        groups={group.id: frozenset(_permissions(group, members)) for group in groups},
    )


def _all_addresses(port: PortPlan) -> tuple[str, ...]:
    single = [pair.prefix.network_address for pair in port.pairs if pair.prefix.num_addresses == 1]
    return tuple(sorted({str(address) for address in (*port.addresses, *single)}))


def _permissions(group: GroupSpec, members: Mapping[str, tuple[str, ...]]) -> Iterable[str]:
    for rule in group.rules:
        if rule.remote_group_id is None:
            yield _digest(repr(rule))
        else:
            for member in members.get(rule.remote_group_id, ()):
                yield f"{_digest(repr(rule))} {member}"


def _digest(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()


def flows_to_cut(before: Policy, after: Policy) -> dict[int, set[str]]:
    """Conntrack zone → addresses whose flows may rest on something that is no longer allowed.

    Flows that are still allowed are found again by the rules with their next packet.
    """
    cut: dict[int, set[str]] = {}
    for port_id, old in before.ports.items():
        new = after.ports.get(port_id)
        lost = set(old.addresses) - set(new.addresses if new else ())
        if new is not None and new.filtered:
            lost |= _lost_permissions(before, old, _allowed(after, new)) if old.filtered else set(old.addresses)
        if lost:
            cut.setdefault(old.zone, set()).update(lost)
    return cut


def _lost_permissions(before: Policy, old: PortPolicy, allowed: frozenset[str]) -> set[str]:
    """Whose flows to cut: the member's where a member went from a group, else all of the port's."""
    lost: set[str] = set()
    for permission in _allowed(before, old) - allowed:
        _, _, member = permission.partition(" ")
        lost.update({member} if member else old.addresses)
    return lost


def _allowed(policy: Policy, port: PortPolicy) -> frozenset[str]:
    nothing: frozenset[str] = frozenset()
    return nothing.union(*(policy.groups.get(group_id, nothing) for group_id in port.groups))


def check_groups(groups: Iterable[GroupSpec]) -> dict[str, str]:
    """Groups that cannot be rendered: group id → sentence."""
    failed: dict[str, str] = {}
    for group in groups:
        try:
            for member in group.members:
                ipaddress.ip_address(member)
            for rule in group.rules:
                match_of(rule, "set" if rule.remote_group_id is not None else None)
        except BadRequest as error:
            failed[group.id] = error.message
        except ValueError as error:
            failed[group.id] = str(error)
    return failed
