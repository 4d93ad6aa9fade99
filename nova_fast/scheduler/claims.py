"""Claims: which server holds what on which host, from the choice to the commit and until it is given back.

A choice takes its resources at once and is *pending* until the conductor's Claimed event shows that it was committed;
the event then confirms it and counts nothing twice. A pending claim ends in one of four ways:

* Claimed for the same host: confirmed (with the event's amounts, should they differ);
* Claimed for another host (the conductor fell back on an alternate): given back, the other host is charged;
* ReleaseClaims, or Released for no host: given back;
* no word for ``pending_timeout_s``: given back, because the conductor that asked is gone.

Time comes from outside: ``tick`` tells it, and a claim's age counts from the first tick after it was made.

The same book knows who is where: the members of each server group on each host (pending ones count, so a batch keeps
its own affinity), and which servers are busy. A server is busy from the choice until a ServerChanged event says that it
is built; so its host's I/O operations are Nova's ``io_workload`` of what this cloud does to servers.

Claims that were committed before the scheduler loaded its snapshot are part of the hosts' usage; unless ``load`` was
told of them their servers are unknown here, and a Released event simply lowers the usage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import Claimed, Released, ServerChanged
from nova_fast.model.hosts import Claim, Host, HostUsage
from nova_fast.model.tasks import PlacementRequest
from nova_fast.scheduler.hosts import Hosts

_BUSY_STATUS = "BUILD"


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
        self._busy: dict[str, str] = {}  # host by server
        self._group_of: dict[str, str] = {}  # by server
        self._members: dict[str, dict[str, set[str]]] = {}  # by group, then by host: its servers

    @property
    def pending(self) -> dict[str, str]:
        """The host chosen for each server whose claim is not committed yet."""
        return {server_id: held.host for server_id, held in self._pending.items()}

    def load(
        self,
        hosts: Iterable[tuple[Host, HostUsage]],
        committed: Iterable[Claimed],
        aggregates: Iterable[Aggregate] = (),
        busy: Iterable[str] = (),
    ) -> None:
        """Start from a snapshot: hosts with their usage, the claims that are part of that usage, who is being built.

        Pending claims survive, unless their host is gone or ``committed`` shows them to be in the usage already.
        """
        self._hosts.load(hosts, aggregates)
        groups, self._group_of = self._group_of, {}
        self._confirmed, self._busy, self._members = {}, {}, {}
        for event in committed:
            self._confirmed.setdefault(event.server_id, {})[event.host] = event.claim
            self._join(event.server_id, event.group_id, event.host)
        for server_id in busy:
            for host in self._confirmed.get(server_id, ()):
                self._set_busy(server_id, host)
        waiting, self._pending = self._pending, {}
        for server_id, held in waiting.items():
            in_usage = self._confirmed.get(server_id, {}).get(held.host) == held.claim
            if held.host in self._hosts and not in_usage:
                self._hosts.charge(held.host, held.claim)
                self._pending[server_id] = held
                self._join(server_id, groups.get(server_id, ""), held.host)
                self._set_busy(server_id, held.host)

    # ------------------------------------------------------------------ who is where
    def hosts_of(self, server_id: str) -> set[str]:
        """Where a server is, and where it will be."""
        found = set(self._confirmed.get(server_id, ()))
        waiting = self._pending.get(server_id)
        if waiting is not None:
            found.add(waiting.host)
        return found

    def members(self, group_id: str) -> Mapping[str, int]:
        """How many servers of a group each host has."""
        return {host: len(servers) for host, servers in self._members.get(group_id, {}).items()}

    # ------------------------------------------------------------------ choices
    def held(self, server_id: str, request: PlacementRequest) -> str:
        """The host that already holds what a server asks for, or ""; a claim the request overrules is given back.

        A request repeats itself when its sender heard no answer. It overrules its own pending claim when it now asks
        for another amount or excludes the host that was chosen, because the server could not be built there. A pending
        claim on a host that has since gone out of service or lost its room is given back too. What is committed stays.
        """
        waiting = self._pending.get(server_id)
        if waiting is not None:
            wanted = waiting.claim == request.claim and _may_stay(request, waiting.host)
            if wanted and self._hosts.keeps(waiting.host):
                return waiting.host
            self.release(server_id)
        for host, claim in self._confirmed.get(server_id, {}).items():
            if claim == request.claim and _may_stay(request, host):
                return host
        return ""

    def take(self, server_id: str, request: PlacementRequest, host: str) -> None:
        """Claim a host for a server, pending its commit."""
        self._hosts.charge(host, request.claim)
        self._set_busy(server_id, host)
        self._note_taken(server_id, request, host)

    def take_row(self, server_id: str, request: PlacementRequest, row: int) -> str:
        """Write down what the table itself has taken for a server, pending its commit; the name of the host."""
        host = self._hosts.note_charged(row, request.claim)
        self._busy[server_id] = host
        self._note_taken(server_id, request, host)
        return host

    def _note_taken(self, server_id: str, request: PlacementRequest, host: str) -> None:
        assert server_id not in self._pending, f"{server_id} has a pending claim"
        self._pending[server_id] = Pending(host, request.claim)
        if request.group is not None:
            self._join(server_id, request.group.id, host)

    def release(self, server_id: str) -> bool:
        """Give back a server's pending claim; False when it has none."""
        held = self._pending.pop(server_id, None)
        if held is None:
            return False
        self._hosts.refund(held.host, held.claim)
        self._leave(server_id, held.host)
        return True

    # ------------------------------------------------------------------ what was committed
    def confirm(self, event: Claimed) -> None:
        """A claim was committed. Raises InternalError when its host is unknown."""
        waiting = self._pending.get(event.server_id)
        if waiting is not None and waiting.host == event.host and waiting.claim == event.claim:
            del self._pending[event.server_id]
        elif self._confirmed.get(event.server_id, {}).get(event.host) == event.claim:
            return  # a repeated event: one server has one claim of one size on one host
        else:
            self._hosts.charge(event.host, event.claim)
            self.release(event.server_id)
            self._join(event.server_id, event.group_id, event.host)
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
            self._hosts.refund(event.host, event.claim)
        by_host = self._confirmed.get(event.server_id, {})
        if by_host.get(event.host) == event.claim:
            del by_host[event.host]
            self._leave(event.server_id, event.host)
            if not by_host:
                del self._confirmed[event.server_id]

    def follow(self, event: ServerChanged) -> None:
        """A server is busy, or no more."""
        if event.status == _BUSY_STATUS:
            if event.host and event.server_id not in self._busy:
                self._set_busy(event.server_id, event.host)
        elif event.server_id in self._busy and event.server_id not in self._pending:
            self._hosts.busy(self._busy.pop(event.server_id), -1)

    def forget_host(self, name: str) -> None:
        """A host is gone, and every claim on it."""
        self._hosts.remove(name)
        for server_id in [server_id for server_id, held in self._pending.items() if held.host == name]:
            del self._pending[server_id]
            self._leave(server_id, name)
        for server_id in [server_id for server_id, by_host in self._confirmed.items() if name in by_host]:
            by_host = self._confirmed[server_id]
            del by_host[name]
            self._leave(server_id, name)
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

    # ------------------------------------------------------------------ inside
    def _set_busy(self, server_id: str, host: str) -> None:
        before = self._busy.get(server_id)
        if before != host:
            if before is not None:
                self._hosts.busy(before, -1)
            self._busy[server_id] = host
            self._hosts.busy(host, 1)

    def _join(self, server_id: str, group_id: str, host: str) -> None:
        if group_id:
            self._group_of[server_id] = group_id
            self._members.setdefault(group_id, {}).setdefault(host, set()).add(server_id)

    def _leave(self, server_id: str, host: str) -> None:
        """A server gave back a claim on a host; it may have another there."""
        if host in self.hosts_of(server_id):
            return
        if self._busy.get(server_id) == host:
            del self._busy[server_id]
            self._hosts.busy(host, -1)
        group_id = self._group_of.get(server_id, "")
        by_host = self._members.get(group_id)
        if by_host is not None and host in by_host:
            by_host[host].discard(server_id)
            if not by_host[host]:
                del by_host[host]
            if not by_host:
                del self._members[group_id]
        if not self.hosts_of(server_id):
            self._group_of.pop(server_id, None)


def _may_stay(request: PlacementRequest, host: str) -> bool:
    return host not in request.excluded_hosts and request.requested_host in ("", host)
