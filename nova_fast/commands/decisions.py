"""Keeping why a server is where it is, as long as the server is there."""

from __future__ import annotations

from nova_fast.model.decisions import PlacementDecision
from nova_fast.model.servers import Server
from nova_fast.model.tasks import Placement
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction


def record_decision(tx: Transaction, server: Server, placement: Placement, excluded_hosts: tuple[str, ...]) -> None:
    """A server was given a host: keep how it came to that, instead of what was kept before.

    A choice that the scheduler only repeats, because its answer was lost, says nothing of weights.
    """
    assert server.host == placement.host, f"{server.id} is on {server.host}, and {placement.host} was chosen"
    decision = PlacementDecision(
        server_id=server.id,
        decided_at_us=tx.now_us,
        host=placement.host,
        weight=placement.weight,
        candidates=placement.candidates,
        policy=placement.policy,
        claim=server.claim,
        top=placement.top,
        excluded_hosts=excluded_hosts,
    )
    tx.put(tables.PLACEMENT_DECISIONS, decision)


def forget_decision(tx: Transaction, server_id: str) -> None:
    """The server is gone."""
    if tx.get(tables.PLACEMENT_DECISIONS, server_id) is not None:
        tx.delete(tables.PLACEMENT_DECISIONS, server_id)
