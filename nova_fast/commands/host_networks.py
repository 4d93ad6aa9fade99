"""Which hosts must be told: every change of what a host's network daemon should do is numbered here.

Numbers only grow. A host whose wanted number is above its applied number is behind; the whole wanted state is then made
by :func:`nova_fast.queries.host_networks.wanted_networks` and sent.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nova_fast.model.hosts import HostNetwork
from nova_fast.model.networks import Port
from nova_fast.queries.host_networks import MEMBERSHIPS, hosts_admitting, hosts_of_group, hosts_of_network
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

_MARKED = "hosts whose networks have changed"


def mark_host_dirty(tx: Transaction, host: str) -> None:
    """Note that the wanted network state of a host has changed."""
    assert host, "a host without a name"
    mark_hosts_dirty(tx, (host,))


class _Marked:
    """What this transaction has marked. All its changes are seen at once, so one number is enough for them."""

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.hosts: set[str] = set()
        self.groups: set[str] = set()  # every host that admits them


def _marked(tx: Transaction) -> _Marked:
    found: _Marked | None = tx.notes.get(_MARKED)
    if found is None:
        found = tx.notes[_MARKED] = _Marked(tx.next_number("network_generation"))
    return found


def mark_hosts_dirty(tx: Transaction, hosts: Iterable[str]) -> None:
    """Note that the wanted network state of these hosts has changed; "" is skipped."""
    changed = {host for host in hosts if host}
    if not changed:
        return
    marked = _marked(tx)
    for host in sorted(changed - marked.hosts):
        row = tx.get(tables.HOST_NETWORKS, host)
        applied = row.applied_generation if row else 0
        wanted = marked.generation
        tx.put(tables.HOST_NETWORKS, HostNetwork(host=host, wanted_generation=wanted, applied_generation=applied))
    marked.hosts |= changed


def mark_network_dirty(tx: Transaction, network_id: str) -> None:
    """A network or one of its subnets has changed."""
    mark_hosts_dirty(tx, hosts_of_network(tx, network_id))


def mark_group_dirty(tx: Transaction, group_id: str) -> None:
    """The rules of a group have changed."""
    mark_hosts_dirty(tx, hosts_of_group(tx, group_id))


def mark_port_dirty(tx: Transaction, *ports: Port) -> None:
    """A port has appeared, changed or gone: give it as it was and as it is.

    Its own host must know, and so must every host with a port that admits one of its groups.
    """
    mark_hosts_dirty(tx, {port.host for port in ports})
    groups = sorted({group for port in ports for group in port.security_groups})
    if groups and MEMBERSHIPS not in tx.notes:
        tx.notes[MEMBERSHIPS] = tx.next_number(MEMBERSHIPS)
    for group in groups:
        _mark_admitting(tx, group)


def _mark_admitting(tx: Transaction, group_id: str) -> None:
    """Mark the hosts that admit a group.

    PERF: once in a transaction. A host that comes to admit it later in the same one is marked for that: it has got a
    port, or a rule of one of its groups has changed.
    """
    found: _Marked | None = tx.notes.get(_MARKED)
    if found is None or group_id not in found.groups:
        hosts = hosts_admitting(tx, group_id)
        if hosts:
            mark_hosts_dirty(tx, hosts)
            _marked(tx).groups.add(group_id)


def record_applied(tx: Transaction, host: str, generation: int) -> None:
    """Note how far a host has got; an answer that was overtaken changes nothing."""
    row = tx.get(tables.HOST_NETWORKS, host)
    if row is not None and row.applied_generation < generation:
        tx.put(tables.HOST_NETWORKS, msgspec.structs.replace(row, applied_generation=generation))
