"""Claims: which server holds what on which host, from the choice to the commit and until it is given back.

A choice takes its resources at once and is *pending* until the conductor's Claimed event shows that it was committed;
the event then confirms it and counts nothing twice. A pending claim ends in one of four ways:

* Claimed for the same host: confirmed (with the event's amounts, should they differ);
* Claimed for another host (the conductor fell back on an alternate): given back, the other host is charged;
* ReleaseClaims, or Released for no host: given back;
* no word for ``pending_timeout_s``: given back, because the conductor that asked is gone.

Time comes from outside: ``tick`` tells it, and a claim's age counts from the first tick after it was made.

Claims that were committed before the scheduler loaded its snapshot are part of the hosts' usage; unless ``load`` was
told of them their servers are unknown here, and a Released event simply lowers the usage.
"""

from __future__ import annotations

from collections.abc import Iterable

from nova_fast.model.events import Claimed, Released
from nova_fast.model.hosts import Claim, Host, HostUsage
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.hosts import Hosts


class Pending:
    """A choice that has not been seen committed."""

    __slots__ = ("claim", "host", "since_s")

    def __init__(self, host: str, claim: Claim) -> None:
        self.host = host
        self.claim = claim
        self.since_s: float | None = None  # the first tick that saw it


class Claims:
    """The book of claims over the hosts they are taken from."""

    def __init__(self, hosts: Hosts, pending_timeout_s: float) -> None:
        assert pending_timeout_s > 0
        self._hosts = hosts
        self._pending_timeout_s = pending_timeout_s
        self._pending: dict[str, Pending] = {}  # by server
        self._confirmed: dict[str, dict[str, Claim]] = {}  # by server, then by host (two while a server moves)

    @property
    def pending(self) -> dict[str, str]:
        """The host chosen for each server whose claim is not committed yet."""
        return {server_id: held.host for server_id, held in self._pending.items()}

    def load(self, hosts: Iterable[tuple[Host, HostUsage]], committed: Iterable[Claimed]) -> None:
        """Start from a snapshot: hosts with their usage, and the claims that are part of that usage.

        Pending claims survive, unless their host is gone or ``committed`` shows them to be in the usage already.
        """
        self._hosts.load(hosts)
        self._confirmed = {}
        for event in committed:
            self._confirmed.setdefault(event.server_id, {})[event.host] = event.claim
        waiting, self._pending = self._pending, {}
        for server_id, held in waiting.items():
            in_usage = self._confirmed.get(server_id, {}).get(held.host) == held.claim
            if held.host in self._hosts and not in_usage:
                self._hosts.charge(held.host, held.claim, pending=True)
                self._pending[server_id] = held

    def held(self, request: PlacementRequest) -> str:
        """The host that already holds what a request asks for, or ""; a claim the request overrules is given back.

        A request repeats itself when its sender heard no answer. It overrules its own pending claim when it now asks
        for another amount or excludes the host that was chosen, because the server could not be built there. A pending
        claim on a host that has since gone out of service or lost its room is given back too. What is committed stays.
        """
        waiting = self._pending.get(request.server_id)
        if waiting is not None:
            wanted = waiting.claim == request.claim and _may_stay(request, waiting.host)
            if wanted and self._hosts.keeps(waiting.host):
                return waiting.host
            self.release(request.server_id)
        for host, claim in self._confirmed.get(request.server_id, {}).items():
            if claim == request.claim and _may_stay(request, host):
                return host
        return ""

    def take(self, request: PlacementRequest, host: str) -> None:
        """Claim a host for a request, pending its commit."""
        assert request.server_id not in self._pending, f"{request.server_id} has a pending claim"
        self._hosts.charge(host, request.claim, pending=True)
        self._pending[request.server_id] = Pending(host, request.claim)

    def release(self, server_id: str) -> bool:
        """Give back a server's pending claim; False when it has none."""
        held = self._pending.pop(server_id, None)
        if held is None:
            return False
        self._hosts.refund(held.host, held.claim, pending=True)
        return True

    def confirm(self, event: Claimed) -> None:
        """A claim was committed. Raises InternalError when its host is unknown."""
        waiting = self._pending.get(event.server_id)
        if waiting is not None and waiting.host == event.host and waiting.claim == event.claim:
            del self._pending[event.server_id]
            self._hosts.settle(event.host)
        elif self._confirmed.get(event.server_id, {}).get(event.host) == event.claim:
            return  # a repeated event: one server has one claim of one size on one host
        else:
            self._hosts.charge(event.host, event.claim, pending=False)
            self.release(event.server_id)
        # After a resize in place the old amount goes with a Released event of its own, which names it.
        self._confirmed.setdefault(event.server_id, {})[event.host] = event.claim

    def give_back(self, event: Released) -> None:
        """A committed claim ended, or (without a host) a choice was given up before it was committed.

        Raises InternalError when the host's usage has no such claim.
        """
        if not event.host:
            self.release(event.server_id)
            return
        if event.host in self._hosts:
            self._hosts.refund(event.host, event.claim, pending=False)
        by_host = self._confirmed.get(event.server_id, {})
        if by_host.get(event.host) == event.claim:
            del by_host[event.host]
            if not by_host:
                del self._confirmed[event.server_id]

    def forget_host(self, name: str) -> None:
        """A host is gone, and every claim on it."""
        self._hosts.remove(name)
        self._pending = {server_id: held for server_id, held in self._pending.items() if held.host != name}
        for server_id in [server_id for server_id, by_host in self._confirmed.items() if name in by_host]:
            by_host = self._confirmed[server_id]
            del by_host[name]
            if not by_host:
                del self._confirmed[server_id]

    def tick(self, now_s: float) -> tuple[str, ...]:
        """Tell the time (any monotonic clock, seconds); returns the servers whose pending claim was given back."""
        late = []
        for server_id, held in self._pending.items():
            if held.since_s is None:
                held.since_s = now_s
            elif now_s - held.since_s >= self._pending_timeout_s:
                late.append(server_id)
        for server_id in late:
            self.release(server_id)
        return tuple(late)


def _may_stay(request: PlacementRequest, host: str) -> bool:
    return host not in request.excluded_hosts and request.requested_host in ("", host)
