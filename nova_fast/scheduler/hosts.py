"""Hosts: the scheduler's own picture of them, kept in step with the compiled table.

This file holds the truth as whole numbers without limits: what each host can give (``capacity``), what is taken of it,
how many servers it has and how many of those are still pending. After each change the host's row is written anew, so
the table can never drift from it. Zones and architectures get small numbers in the order in which they are first seen.

What is free is capacity minus what is taken, so allocation ratios and reserved amounts are folded in. It can be
negative: an operator may lower a ratio under running servers. Such a host is not chosen until it has room again, not
even by a request that asks for nothing of what is short.

I/O operations (for Nova's IoOpsWeigher): a host's pending claims, that is the servers chosen for it whose commit has
not been seen yet. The event stream does not say when a guest has finished building, so this is the part of Nova's
number (building, resizing, snapshotting, … guests) that the scheduler knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nova_fast._ext import HostRow
from nova_fast._ext.host_table import HOST_ENABLED, HOST_UP, HostTable
from nova_fast.model.errors import InternalError
from nova_fast.model.hosts import Claim, Host, HostUsage, capacity

COLUMN_MAX = 2**31 - 2  # largest amount the table keeps; a request for more fits nowhere
REQUEST_MAX = 2**31 - 1

# What images and machines call the same instruction set (nova.objects.fields.Architecture.canonicalize).
_CANONICAL_ARCHITECTURES = {"amd64": "x86_64", "i386": "i686", "i486": "i686", "i586": "i686"}


def canonical_architecture(name: str) -> str:
    """The one name of an instruction set."""
    lower = name.lower()
    return _CANONICAL_ARCHITECTURES.get(lower, lower)


class Numbers:
    """Small whole numbers for names, in the order of arrival."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def give(self, name: str) -> int:
        """The number of a name, a new one if it has none."""
        return self._numbers.setdefault(name, len(self._numbers))

    def find(self, name: str) -> int:
        """The number of a name; for one never seen, a number that no host has."""
        return self._numbers.get(name, len(self._numbers))


class HostState:
    """One host: its row in the table, what it has, and what is taken of it."""

    __slots__ = ("capacity", "disk_gib", "host", "pending", "ram_mib", "row", "servers", "vcpus")

    def __init__(self, row: int, host: Host, usage: HostUsage) -> None:
        self.row = row
        self.host = host
        self.capacity = capacity(host)
        self.vcpus = usage.vcpus  # taken, as are the next two
        self.ram_mib = usage.ram_mib
        self.disk_gib = usage.disk_gib
        self.servers = usage.servers
        self.pending = 0


class Hosts:
    """All hosts by name, over the table that is searched."""

    def __init__(self) -> None:
        self.table = HostTable()
        self.zones = Numbers()
        self.architectures = Numbers()
        self._by_name: dict[str, HostState] = {}
        self._names: list[str] = []  # by row; "" = a free row

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[HostState]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> HostState:
        return self._by_name[name]

    def row(self, name: str) -> int | None:
        """The row of a host; None when there is none of this name."""
        state = self._by_name.get(name)
        return None if state is None else state.row

    def name(self, row: int) -> str:
        """The name of the host in a row."""
        assert self._names[row], f"row {row} has no host"
        return self._names[row]

    def keeps(self, name: str) -> bool:
        """Whether a host is in service and has room for all that is taken of it."""
        state = self._by_name[name]
        host, total = state.host, state.capacity
        return (
            host.up
            and host.enabled
            and not host.forced_down
            and state.vcpus <= total.vcpus
            and state.ram_mib <= total.ram_mib
            and state.disk_gib <= total.disk_gib
        )

    def put(self, host: Host) -> None:
        """Add a host, or take over what changed of it; what is taken of a known host stays taken."""
        state = self._by_name.get(host.name)
        if state is None:
            self._add(host, HostUsage(host=host.name))
            return
        state.host = host
        state.capacity = capacity(host)
        self._write(state)

    def load(self, hosts: Iterable[tuple[Host, HostUsage]]) -> None:
        """Forget every host and start from these; rows are given in the order of the names."""
        for name in list(self._by_name):
            self.remove(name)
        assert not self._by_name and len(self.table) == 0
        for host, usage in sorted(hosts, key=lambda pair: pair[0].name):
            assert host.name == usage.host, f"the usage of {usage.host} came with the host {host.name}"
            self._add(host, usage)

    def remove(self, name: str) -> None:
        """Forget a host, if it is known."""
        state = self._by_name.pop(name, None)
        if state is None:
            return
        self._names[state.row] = ""
        self.table.remove(state.row)

    def charge(self, name: str, claim: Claim, *, pending: bool) -> None:
        """Take what a server claims from a host. Raises InternalError for an unknown host."""
        self._change(name, claim, 1, 1 if pending else 0)

    def refund(self, name: str, claim: Claim, *, pending: bool) -> None:
        """Give back what a server claimed of a host. Raises InternalError when that was never taken."""
        self._change(name, claim, -1, -1 if pending else 0)

    def settle(self, name: str) -> None:
        """One of the host's pending claims has been committed."""
        state = self._by_name[name]
        assert state.pending > 0, f"{name} has no pending claim"
        state.pending -= 1
        self._write(state)

    def _add(self, host: Host, usage: HostUsage) -> None:
        assert host.name not in self._by_name, f"host {host.name} is there twice"
        row = self.table.add()
        state = HostState(row, host, usage)
        self._by_name[host.name] = state
        if row == len(self._names):
            self._names.append(host.name)
        else:
            self._names[row] = host.name
        self._write(state)

    def _change(self, name: str, claim: Claim, sign: int, pending: int) -> None:
        state = self._by_name.get(name)
        if state is None:
            raise InternalError(f"The scheduler does not know the host {name}.", code="scheduler_out_of_step")
        vcpus = state.vcpus + sign * claim.vcpus
        ram_mib = state.ram_mib + sign * claim.ram_mib
        disk_gib = state.disk_gib + sign * claim.disk_gib
        servers = state.servers + sign
        if vcpus < 0 or ram_mib < 0 or disk_gib < 0 or servers < 0 or state.pending + pending < 0:
            raise InternalError(f"{name} was given back more than was taken.", code="scheduler_out_of_step")
        state.vcpus, state.ram_mib, state.disk_gib, state.servers = vcpus, ram_mib, disk_gib, servers
        state.pending += pending
        self._write(state)

    def _write(self, state: HostState) -> None:
        host, total = state.host, state.capacity
        flags = 0
        if host.up and not host.forced_down:
            flags |= HOST_UP
        if host.enabled:
            flags |= HOST_ENABLED
        self.table.put(
            state.row,
            HostRow(
                _column(total.ram_mib - state.ram_mib),
                _column(total.vcpus - state.vcpus),
                _column(total.disk_gib - state.disk_gib),
                state.pending,
                state.servers,
                _column(state.vcpus),
                self.zones.give(host.zone),
                self.architectures.give(canonical_architecture(host.resources.architecture)),
                flags,
            ),
        )


def _column(amount: int) -> int:
    return amount if -COLUMN_MAX <= amount <= COLUMN_MAX else (COLUMN_MAX if amount > 0 else -COLUMN_MAX)
