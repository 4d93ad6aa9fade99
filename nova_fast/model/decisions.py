"""Decisions: why a server is where it is."""

from __future__ import annotations

from nova_fast.model.base import Record
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import HostWeight


class PlacementDecision(Record, frozen=True):
    """The last choice of a host for a server, as it was taken; written in the transaction that claims the host.

    It stays when the server could not be built there, so that one sees what was tried, and until the next choice.
    """

    server_id: str
    decided_at_us: int
    host: str
    weight: float  # what the host weighed among the candidates; 0.0 when it was the only one
    candidates: int  # hosts that passed all filters; 0 = not known: a choice that was made before and told again
    policy: str
    claim: Claim
    #: The best candidates with the chosen host, best first, at most ten.
    top: tuple[HostWeight, ...] = ()
    excluded_hosts: tuple[str, ...] = ()  # tried before for this server
