"""Aggregates: which hosts are in them, and whose facts a change of one of them changes."""

from __future__ import annotations

from collections.abc import Iterable

from nova_fast.model.aggregates import Aggregate


class Aggregates:
    """All aggregates, by their ids and by their hosts (which may not be known yet)."""

    def __init__(self) -> None:
        self._by_id: dict[str, Aggregate] = {}
        self._of_host: dict[str, set[str]] = {}  # ids

    def load(self, aggregates: Iterable[Aggregate]) -> None:
        """Forget everything and start from these."""
        self._by_id, self._of_host = {}, {}
        for aggregate in aggregates:
            self.put(aggregate)

    def of(self, host: str) -> list[Aggregate]:
        """Those that a host is in, in the order of their ids."""
        ids = self._of_host.get(host)
        return [self._by_id[one] for one in sorted(ids)] if ids else []

    def put(self, aggregate: Aggregate) -> set[str]:
        """One is new, or its hosts or metadata are; returns the hosts to which that makes a difference.

        PERF: an aggregate that grows host by host concerns one host each time, and not all that it has.
        """
        old = self._by_id.get(aggregate.id)
        before, after = set(old.hosts if old is not None else ()), set(aggregate.hosts)
        self._by_id[aggregate.id] = aggregate
        for host in after - before:
            self._of_host.setdefault(host, set()).add(aggregate.id)
        for host in before - after:
            self._leave(host, aggregate.id)
        return before ^ after if old is not None and old.metadata == aggregate.metadata else before | after

    def remove(self, aggregate_id: str) -> set[str]:
        """One is gone; returns the hosts that it had."""
        old = self._by_id.pop(aggregate_id, None)
        hosts = set(old.hosts if old is not None else ())
        for host in hosts:
            self._leave(host, aggregate_id)
        return hosts

    def _leave(self, host: str, aggregate_id: str) -> None:
        of_host = self._of_host[host]
        of_host.discard(aggregate_id)
        if not of_host:
            del self._of_host[host]
