"""Which hosts must be told: every change of what a host's network daemon should do is numbered here.

Numbers only grow. A host whose wanted number is above its applied number is behind; the whole wanted state is then made
by :func:`nova_fast.queries.host_networks.wanted_networks` and sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from nova_fast.model.hosts import HostNetwork
from nova_fast.model.networks import MembersChange, MembershipChange, Port
from nova_fast.queries.group_members import CHANGES_MAX, MEMBERSHIPS, change_row
from nova_fast.queries.host_networks import hosts_admitting, hosts_of_group, hosts_of_network
from nova_fast.state import schema as tables
from nova_fast.state.transaction import Transaction

_MARKED = "hosts whose networks have changed"
_NO_CHANGE = MembersChange()


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


def mark_ports_dirty(tx: Transaction, *, gone: Sequence[Port] = (), come: Sequence[Port] = ()) -> None:
    """Ports have gone, come, or changed: then as they were and as they are.

    Their own hosts must know, and so must every host with a port that admits one of their groups.
    """
    ports = (*gone, *come)
    mark_hosts_dirty(tx, {port.host for port in ports})
    groups = sorted({group for port in ports for group in port.security_groups})
    if groups:
        _note_members(tx, gone, come)
    for group in groups:
        _mark_admitting(tx, group)


def _note_members(tx: Transaction, gone: Sequence[Port], come: Sequence[Port]) -> None:
    """Write down what comes into groups and leaves them in this transaction, one row for all of it."""
    noted: MembershipChange | None = tx.notes.get(MEMBERSHIPS)
    if noted is None:
        number = tx.next_number(MEMBERSHIPS)
        noted = MembershipChange(row=change_row(number), number=number, groups={})
    elif not noted.groups:
        return  # it is too much already
    noted = msgspec.structs.replace(noted, groups=_with(noted.groups, gone, come))
    tx.notes[MEMBERSHIPS] = noted
    tx.put(tables.MEMBERSHIP_CHANGES, noted)


def _with(groups: dict[str, MembersChange], gone: Sequence[Port], come: Sequence[Port]) -> dict[str, MembersChange]:
    """Changes with further ones; none when it is too much."""
    if len(gone) + len(come) > CHANGES_MAX:
        return {}
    came, went = _addresses_by_group(come), _addresses_by_group(gone)
    found = dict(groups)
    for group in sorted(came.keys() | went.keys()):
        before = found.get(group, _NO_CHANGE)
        found[group] = MembersChange(
            come=(*before.come, *came.get(group, ())), gone=(*before.gone, *went.get(group, ()))
        )
    many = sum([len(change.come) + len(change.gone) for change in found.values()]) > CHANGES_MAX
    return {} if many else found


def _addresses_by_group(ports: Sequence[Port]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for port in ports:
        addresses = [ip.ip_address for ip in port.fixed_ips]
        for group in dict.fromkeys(port.security_groups):
            found.setdefault(group, []).extend(addresses)
    return found


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
