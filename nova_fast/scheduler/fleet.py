"""Fleet: who is where, for the filters and weighers that name hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Set

from nova_fast.model.hosts import PCPU
from nova_fast.scheduler.claims import Claims
from nova_fast.scheduler.facts import Network, Offer
from nova_fast.scheduler.hosts import Hosts

#: Where servers are that have been built, as the store says; the scheduler itself remembers only what is under way.
Residence = Callable[[Iterable[str]], Set[str]]


def nowhere(_server_ids: Iterable[str]) -> Set[str]:
    """The residence of servers where there is no store to ask."""
    return frozenset()


class KnownFleet:
    """The hosts, the book of claims and where all others are, as ``facts.Fleet`` asks them."""

    def __init__(self, hosts: Hosts, claims: Claims, residence: Residence = nowhere) -> None:
        self._hosts = hosts
        self._claims = claims
        self._residence = residence

    def hosts_of(self, server_ids: Iterable[str]) -> set[str]:
        """The hosts on which any of these servers is, or will be."""
        asked = tuple(server_ids)
        found = {host for server_id in asked for host in self._claims.hosts_of(server_id)}
        others = [server_id for server_id in asked if not self._claims.remembers(server_id)]
        return found.union(self._residence(others)) if others else found

    def members(self, group_id: str) -> Mapping[str, int]:
        """How many servers of a group each host has."""
        return self._claims.members(group_id)

    def hosts_within(self, network: Network) -> set[str]:
        """The hosts whose address is in a network; a pass over all hosts."""
        return {known.host.name for known in self._hosts if _is_within(known.host.resources.host_ip, network)}

    def offers(self, resource_class: str) -> Mapping[str, Offer]:
        """What each host gives of a class that operators added; a pass over all hosts."""
        have = (known for known in self._hosts if known.host.inventories or known.host.resources.pcpus)
        offers = ((known.host.name, known.offer(resource_class)) for known in have)
        return {name: offer for name, offer in offers if offer is not None}

    def sharing(self, vcpus: int) -> set[str]:
        """The hosts that keep no CPUs for one server each, with room for so many vCPUs; a pass over all hosts."""
        return {
            known.host.name
            for known in self._hosts
            if known.capacity.vcpus - known.vcpus >= vcpus <= known.host.resources.vcpus and known.offer(PCPU) is None
        }


def _is_within(address: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False
