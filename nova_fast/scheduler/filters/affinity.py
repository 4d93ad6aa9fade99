"""Filters that name hosts by who is there: hints, networks and server groups."""

from __future__ import annotations

import ipaddress

from nova_fast.model.errors import BadRequest
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.facts import Fleet, hint
from nova_fast.scheduler.filters.kinds import Only, Rows, RowsFilter, Without


def _server_ids(request: PlacementRequest, name: str) -> list[str]:
    value = hint(request, name)
    return [value] if isinstance(value, str) and value else list(value or ())


class DifferentHost(RowsFilter):
    """Not where any of the servers of the hint ``different_host`` is."""

    name = "DifferentHostFilter"

    def applies(self, request: PlacementRequest) -> bool:
        return bool(hint(request, "different_host"))

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows:
        return Without(fleet.hosts_of(_server_ids(request, "different_host")))


class SameHost(RowsFilter):
    """Where any of the servers of the hint ``same_host`` is."""

    name = "SameHostFilter"

    def applies(self, request: PlacementRequest) -> bool:
        return bool(hint(request, "same_host"))

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows:
        return Only(fleet.hosts_of(_server_ids(request, "same_host")))


class SimpleCidrAffinity(RowsFilter):
    """Hosts whose address is in the network that the hints ``build_near_host_ip`` and ``cidr`` make."""

    name = "SimpleCIDRAffinityFilter"

    def applies(self, request: PlacementRequest) -> bool:
        return bool(hint(request, "build_near_host_ip"))

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows:
        prefix = hint(request, "cidr") if "cidr" in request.hints else "/24"
        text = f"{hint(request, 'build_near_host_ip')}{prefix}"
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError as e:
            raise BadRequest(
                f"The hints build_near_host_ip and cidr make no network: {text}.",
                field="os:scheduler_hints",
                hint="an address, and a prefix like /24",
            ) from e
        return Only(fleet.hosts_within(network))


class ServerGroupAffinity(RowsFilter):
    """The members of an affinity group share a host: once one has a host, the others go there."""

    name = "ServerGroupAffinityFilter"
    of_the_server = True

    def applies(self, request: PlacementRequest) -> bool:
        return request.group is not None and request.group.policy == "affinity"

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows | None:
        assert request.group is not None
        members = fleet.members(request.group.id)
        return Only(members.keys()) if members else None


class ServerGroupAntiAffinity(RowsFilter):
    """No host has more than ``max_server_per_host`` members of an anti-affinity group.

    A host that has the server itself passes: a move may end where it began.
    """

    name = "ServerGroupAntiAffinityFilter"
    of_the_server = True

    def applies(self, request: PlacementRequest) -> bool:
        return request.group is not None and request.group.policy == "anti-affinity"

    def rows(self, fleet: Fleet, request: PlacementRequest) -> Rows | None:
        assert request.group is not None
        most = request.group.max_servers_per_host
        full = {name for name, count in fleet.members(request.group.id).items() if count >= most}
        return Without(full - fleet.hosts_of((request.server_id,))) if full else None
