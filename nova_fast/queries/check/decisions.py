"""Decisions are of servers that are there, and of the host that the server has."""

from __future__ import annotations

from collections.abc import Iterator

from nova_fast.queries.check.finding import Finding
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.verify import find, is_there, readable


def decisions(reader: Reader) -> Iterator[Finding]:
    """Every decision. A server that was placed by an older release has none; one that lost its host keeps the last."""
    for decision in readable(reader, tables.PLACEMENT_DECISIONS):
        server = find(reader, tables.SERVERS, decision.server_id)
        if not is_there(reader, tables.SERVERS, decision.server_id):
            sentence = f"a decision placed server {decision.server_id}, which is gone"
        elif server is not None and server.host not in ("", decision.host):
            sentence = f"server {server.id} was placed on {decision.host}, and is on {server.host}"
        else:
            continue
        yield Finding("decisions", decision.server_id, sentence)
