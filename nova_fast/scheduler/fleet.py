"""Fleet: who is where, for the filters and weighers that name hosts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from nova_fast.scheduler.claims import Claims
from nova_fast.scheduler.facts import Network, Offer
from nova_fast.scheduler.hosts import Hosts


class KnownFleet:
    """The hosts and the book of claims, as ``facts.Fleet`` asks them."""

    def __init__(self, hosts: Hosts, claims: Claims) -> None:
        self._hosts = hosts
        self._claims = claims

    def hosts_of(self, server_ids: Iterable[str]) -> set[str]:
        """The hosts on which any of these servers is, or will be."""
        return {host for server_id in server_ids for host in self._claims.hosts_of(server_id)}

    def members(self, group_id: str) -> Mapping[str, int]:
        """How many servers of a group each host has."""
        return self._claims.members(group_id)

    def hosts_within(self, network: Network) -> set[str]:
        """The hosts whose address is in a network; a pass over all hosts."""
        return {known.host.name for known in self._hosts if _is_within(known.host.resources.host_ip, network)}

    def offers(self, resource_class: str) -> Mapping[str, Offer]:
        """What each host gives of a class that operators added; a pass over all hosts."""
        offers = ((known.host.name, known.offer(resource_class)) for known in self._hosts if known.host.inventories)
        return {name: offer for name, offer in offers if offer is not None}


def _is_within(address: str, network: Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False
