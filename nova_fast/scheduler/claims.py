"""Claims: which server holds what on which host, from the choice to the commit and until it is given back.

A choice takes its resources at once and is *pending* until the conductor's Claimed event shows that it was committed;
the event then confirms it and counts nothing twice. A pending claim ends in one of four ways:

* Claimed for the same host: confirmed (with the event's amounts, should they differ);
* Claimed for another host (the conductor fell back on an alternate): given back, the other host is charged;
* ReleaseClaims, or Released for no host: given back;
* no word for ``pending_timeout_s``: given back, because the conductor that asked is gone.

Time comes from outside: ``tick`` tells it, and a claim's age counts from the first tick after it was made.

The book is as small as what is under way. A confirmed claim is remembered until its server is built, so that whoever
asks again hears the same host; and for as long as its server is of a group, because the members of each group on each
host are known here (pending ones count, so a batch keeps its own affinity). What all others hold is part of the hosts'
usage and nothing else: a Released event names what it gives back, and the store knows who is where. So a scheduler
starts in a cloud of a million servers without reading one of them.

The same book knows which servers are busy: from the choice until a ServerChanged event says that it is built; so a
host's I/O operations are Nova's ``io_workload`` of what this cloud does to servers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import Claimed, Released, ServerChanged
from nova_fast.model.hosts import Claim, Host, HostUsage
from nova_fast.model.tasks import PlacementRequest
from nova_fast.queries.claims import Membership
from nova_fast.scheduler.hosts import Hosts

_BUSY_STATUS = "BUILD"


class Pending:
    """A choice that has not been seen committed."""

    __slots__ = ("claim", "host", "since_s", "wish")

    def __init__(self, host: str, wish: Claim, claim: Claim) -> None:
        self.host = host
        self.wish = wish  # what was asked for
        self.claim = claim  # what is taken for it: on one host this, on another that
        self.since_s: float | None = None  # the first tick that saw it


class Claims:
    """The book of claims over the hosts they are taken from."""

    def __init__(self, hosts: Hosts, pending_timeout_s: float) -> None:
        assert pending_timeout_s > 0
        self._hosts = hosts
        self._pending_timeout_s = pending_timeout_s
        self._pending: dict[str, Pending] = {}  # by server
        # By server, then by host (two while a server moves). None: it was there before; the store knows of what size.
        self._confirmed: dict[str, dict[str, Claim | None]] = {}
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
        committed: Iterable[Claimed] = (),
        aggregates: Iterable[Aggregate] = (),
        busy: Iterable[str] = (),
        members: Iterable[Membership] = (),
    ) -> None:
        """Start from a snapshot: hosts with their usage, and what is to be remembered of what is part of that usage.

        ``committed`` are the claims of those that are pending here or being built, ``busy`` are the latter. Pending
        claims survive, unless their host is gone or ``committed`` shows them to be in the usage already.
        """
        told = {server_id: self._hosts.images.chosen(server_id) for server_id in self._pending}
        self._hosts.load(hosts, aggregates)
        self._hosts.images.clear()
        groups, self._group_of = self._group_of, {}
        self._confirmed, self._busy, self._members = {}, {}, {}
        for group_id, host, server_id in members:
            self._confirmed.setdefault(server_id, {})[host] = None
            self._join(server_id, group_id, host)
        for event in committed:
            self._confirmed.setdefault(event.server_id, {})[event.host] = event.claim
            self._join(event.server_id, event.group_id, event.host)
        for server_id in busy:
            for host in self._confirmed.get(server_id, ()):
                self._set_busy(server_id, host)
        waiting, self._pending = self._pending, {}
        for server_id, held in waiting.items():
            in_usage = self._confirmed.get(server_id, {}).get(held.host) == held.claim
            if held.host in self._hosts and not in_usage and self._hosts.may_take(held.host, held.claim):
                self._hosts.charge(held.host, held.claim)
                self._pending[server_id] = held
                self._join(server_id, groups.get(server_id, ""), held.host)
                self._set_busy(server_id, held.host)
                self._hosts.images.choose(server_id, held.host, told[server_id])

    # ------------------------------------------------------------------ who is where
    def remembers(self, server_id: str) -> bool:
        """Whether it is known here which claims of a server are committed."""
        return server_id in self._confirmed

    def hosts_of(self, server_id: str) -> set[str]:
        """Where a server is, as far as that is remembered here, and where it will be."""
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
            wanted = waiting.wish == request.claim and _may_stay(request, waiting.host)
            if wanted and self._hosts.keeps(waiting.host):
                return waiting.host
            self.release(server_id)
        for host, claim in self._confirmed[server_id].items() if server_id in self._confirmed else ():
            if (claim is None or _meets(claim, request.claim)) and _may_stay(request, host):
                return host
        return ""

    def of(self, server_id: str, host: str) -> Claim | None:
        """What a server takes of a host that it holds; None where only its conductor knows that any more."""
        waiting = self._pending.get(server_id)
        return waiting.claim if waiting is not None else self._confirmed[server_id][host]

    def take(self, server_id: str, request: PlacementRequest, host: str, chosen: Claim | None = None) -> None:
        """Claim a host for a server, pending its commit; ``chosen`` is what it takes there, if not just its wish."""
        claim = chosen or request.claim
        if server_id in self._busy:
            self._hosts.charge(host, claim)
            self._set_busy(server_id, host)
        else:
            self._hosts.occupy(host, claim)
            self._busy[server_id] = host
        self._note_taken(server_id, request, host, claim)

    def take_row(self, server_id: str, request: PlacementRequest, row: int) -> str:
        """Write down what the table itself has taken for a server, pending its commit; the name of the host."""
        host = self._hosts.note_charged(row, request.claim)
        self._busy[server_id] = host
        self._note_taken(server_id, request, host, request.claim)
        return host

    def _note_taken(self, server_id: str, request: PlacementRequest, host: str, claim: Claim) -> None:
        assert server_id not in self._pending, f"{server_id} has a pending claim"
        self._pending[server_id] = Pending(host, request.claim, claim)
        if self._hosts.images.on:
            self._hosts.images.choose(server_id, host, request.image_properties)
        if request.group is not None:
            self._join(server_id, request.group.id, host)

    def release(self, server_id: str) -> bool:
        """Give back a server's pending claim; False when it has none."""
        held = self._pending.pop(server_id, None)
        if held is None:
            return False
        self._hosts.refund(held.host, held.claim)
        self._hosts.images.give_up(server_id)
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
            if event.claim.topology is not None:
                self._make_room(event)
            self._hosts.charge(event.host, event.claim)
            self.release(event.server_id)
            self._join(event.server_id, event.group_id, event.host)
        if self._hosts.images.on:
            self._hosts.images.commit(event.server_id, event.host, event.image_properties)
        if waiting is not None or event.group_id or event.server_id in self._confirmed:
            # After a resize in place the old amount goes with a Released event of its own, which names it.
            # PERF: servers that were asked for together share a claim; an event has one of its own.
            claim = waiting.claim if waiting is not None and waiting.claim == event.claim else event.claim
            self._confirmed.setdefault(event.server_id, {})[event.host] = claim

    def give_back(self, event: Released) -> None:
        """A committed claim ended, or (without a host) a choice was given up before it was committed.

        Raises InternalError when the host's usage has no such claim.
        """
        if not event.host:
            self.release(event.server_id)
            return
        if event.host in self._hosts:
            self._hosts.refund(event.host, event.claim)
            if self._hosts.images.on:
                self._hosts.images.give_back(event.host, event.image_properties)
        by_host = self._confirmed.get(event.server_id)
        if by_host is None:
            self._leave(event.server_id, event.host)
        elif event.host in by_host and by_host[event.host] in (None, event.claim):
            self._forget(event.server_id, event.host)

    def follow(self, event: ServerChanged) -> None:
        """A server is busy, or no more."""
        if event.status == _BUSY_STATUS:
            if event.host and event.server_id not in self._busy:
                self._set_busy(event.server_id, event.host)
        elif event.server_id not in self._pending:
            if event.server_id in self._busy:
                self._hosts.busy(self._busy.pop(event.server_id), -1)
            if event.server_id not in self._group_of:
                self._confirmed.pop(event.server_id, None)

    def forget_host(self, name: str) -> None:
        """A host is gone, and every claim on it."""
        self._hosts.remove(name)
        for server_id in [server_id for server_id, held in self._pending.items() if held.host == name]:
            del self._pending[server_id]
            self._hosts.images.give_up(server_id)
            self._leave(server_id, name)
        self._hosts.images.forget_host(name)
        for server_id in [server_id for server_id, by_host in self._confirmed.items() if name in by_host]:
            self._forget(server_id, name)
        for server_id in [server_id for server_id, host in self._busy.items() if host == name]:
            del self._busy[server_id]

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
    def _make_room(self, event: Claimed) -> None:
        """What is committed is so: who was to have the same CPU or device will be refused, and loses it here."""
        own = self._pending.get(event.server_id)
        if own is not None and own.host == event.host:
            self.release(event.server_id)
        others = [server_id for server_id, held in self._pending.items() if held.host == event.host]
        while others and event.host in self._hosts and not self._hosts.may_take(event.host, event.claim):
            self.release(others.pop())

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

    def _forget(self, server_id: str, host: str) -> None:
        """A server's claim on a host is over."""
        by_host = self._confirmed[server_id]
        del by_host[host]
        if not by_host:
            del self._confirmed[server_id]
        self._leave(server_id, host)

    def _leave(self, server_id: str, host: str) -> None:
        """A server gave back a claim on a host; it may have another there."""
        elsewhere = server_id in self._confirmed or server_id in self._pending
        if elsewhere and host in self.hosts_of(server_id):
            return
        if self._busy.get(server_id) == host:
            del self._busy[server_id]
            self._hosts.busy(host, -1)
        group_id = self._group_of.get(server_id)
        if group_id is None:
            return
        by_host = self._members.get(group_id, {})
        if host in by_host:  # else it came there after its group had been deleted
            by_host[host].discard(server_id)
            if not by_host[host]:
                del by_host[host]
            if not by_host:
                del self._members[group_id]
        if not elsewhere:
            del self._group_of[server_id]


def _meets(claim: Claim, wish: Claim) -> bool:
    """Whether a committed claim is what is asked for; with cells or devices it is more than was asked for."""
    amounts = (claim.ram_mib, claim.disk_gib) == (wish.ram_mib, wish.disk_gib)
    return claim == wish or (claim.topology is not None and amounts)


def _may_stay(request: PlacementRequest, host: str) -> bool:
    return host not in request.excluded_hosts and request.requested_host in ("", host)
