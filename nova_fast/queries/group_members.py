"""Who is in which security group: the addresses of its ports, kept up by what transactions say they have changed.

Every transaction that changes who is in a group writes down what has come and gone (:func:`change_row` names the row;
``commands/host_networks.py`` writes it), so whoever knows the members of one commit knows those of the next without
reading all ports of the group again. The rows are a ring: who comes back after too many begins anew, and so does he
who finds that a release without these rows, or one transaction of very many ports, came between.
"""

from __future__ import annotations

import logging
from bisect import bisect_left, insort

from nova_fast.model.networks import MembersChange, MembershipChange
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.table import encode_key

log = logging.getLogger(__name__)

#: Grows whenever an address comes into a security group or leaves one.
MEMBERSHIPS = "group_memberships"
ROWS = 256  # of the ring: some seconds of a cloud that boots as fast as it can
CHANGES_MAX = 1_024  # of a row; more count as everything
_GROUPS_MAX = 4_096  # that are known; a member of one takes about 120 bytes


def change_row(number: int) -> str:
    """Where the change with a number lies."""
    return f"{number % ROWS:03}"


class GroupMembers:
    """The members of the groups that were asked for.

    PERF: a change reads none of the group's ports; what is left hardly grows with it.
    """

    def __init__(self) -> None:
        self._number = -1
        self._groups: dict[str, _Members] = {}

    def look(self, reader: Reader) -> None:
        """Be what a reader sees."""
        number = reader.number(MEMBERSHIPS)
        if number == self._number:
            return
        changes = _changes(reader, self._number, number)
        if changes is None or len(self._groups) > _GROUPS_MAX:
            self._groups.clear()
        else:
            self._follow(changes)
        self._number = number

    def of(self, reader: Reader, group: str) -> tuple[str, ...]:
        """The addresses of a group in order, each once; the reader must be the one that was looked at."""
        known = self._groups.get(group)
        if known is None:
            known = self._groups[group] = _Members(_addresses(reader, group))
        return known.addresses()

    def _follow(self, changes: list[MembershipChange]) -> None:
        try:
            for change in changes:
                for group, members in change.groups.items():
                    if group in self._groups:
                        self._groups[group].change(members)
        except KeyError:  # a defect, which must not keep the hosts from being told
            log.exception("the members of security groups could not be followed and are read anew")
            self._groups.clear()


class _Members:
    """The addresses of one group. Networks may use the same ones, so each is counted."""

    def __init__(self, addresses: list[str]) -> None:
        self._ports: dict[str, int] = {}
        for address in addresses:
            self._ports[address] = self._ports.get(address, 0) + 1
        self._ordered = sorted(self._ports)
        self._whole: tuple[str, ...] | None = None

    def change(self, members: MembersChange) -> None:
        self._whole = None
        for address in members.come:
            ports = self._ports[address] = self._ports.get(address, 0) + 1
            if ports == 1:
                insort(self._ordered, address)
        for address in members.gone:
            ports = self._ports[address] = self._ports[address] - 1
            if ports == 0:
                del self._ports[address], self._ordered[bisect_left(self._ordered, address)]

    def addresses(self) -> tuple[str, ...]:
        if self._whole is None:
            self._whole = tuple(self._ordered)
        return self._whole


def _changes(reader: Reader, since: int, number: int) -> list[MembershipChange] | None:
    """What has changed behind a number, in order; None = anything may have."""
    if not 0 <= number - since < ROWS:
        return None
    found = []
    for each in range(since + 1, number + 1):
        change = reader.get(tables.MEMBERSHIP_CHANGES, change_row(each))
        if change is None or change.number != each or not change.groups:
            return None
        found.append(change)
    return found


def _addresses(reader: Reader, group: str) -> list[str]:
    found: list[str] = []
    for _, entry in reader.raw(tables.PORTS_BY_GROUP.name, encode_key((group,))):
        lies = reader.raw_get(tables.PORTS.name, bytes(entry))
        assert lies is not None, "an index entry of ports leads nowhere"
        found += [ip.ip_address for ip in tables.PORTS.decode(lies).fixed_ips]
    return found
