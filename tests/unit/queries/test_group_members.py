"""Members of groups that are kept up are those of the store; and are read anew only where they must be."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from nova_fast.model.commands.ports import CreatePorts, DeletePort, NewPort
from nova_fast.model.networks import FixedIp, MembersChange, MembershipChange, Port
from nova_fast.queries import group_members
from nova_fast.queries.group_members import MEMBERSHIPS, GroupMembers, change_row
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.testing import memory_store
from nova_fast.state.transaction import Transaction
from tests.unit.commands.network_world import ALICE, World


class Group:
    """The default group of a project, as one follows it who has looked before."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.network = world.network()
        self.subnet = world.subnet(self.network)
        self.ports = [self.come() for _ in range(3)]
        (self.id,) = self.ports[0].security_groups
        self._members = GroupMembers()
        self._readings = 0
        read = group_members._addresses

        def counted(reader: Reader, group: str) -> list[str]:
            self._readings += 1
            return read(reader, group)

        self.members()
        monkeypatch.setattr(group_members, "_addresses", counted)

    def come(self) -> Port:
        return self.world.port(self.network)

    def go(self, port: Port) -> None:
        self.world.do(DeletePort(caller=ALICE, port_id=port.id))

    def members(self) -> tuple[tuple[str, ...], int]:
        """Who is in it for the one who followed, and how many times all ports were read."""

        def look(reader: Reader) -> tuple[str, ...]:
            self._members.look(reader)
            return self._members.of(reader, self.id)

        return self.world.read(look), self._readings

    def there(self) -> tuple[str, ...]:
        """Who is in it by the store."""
        ports = self.world.read(lambda reader: list(reader.scan_index(tables.PORTS_BY_GROUP, self.id)))
        return tuple(sorted({ip.ip_address for port in ports for ip in port.fixed_ips}))


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    with memory_store() as store:
        yield Group(World(store), monkeypatch)


def test_what_comes_and_goes_is_followed_without_reading_all_ports(group: Group) -> None:
    last = group.come()
    group.go(group.ports[0])
    group.go(last)
    group.come()
    assert group.members() == (group.there(), 0)
    assert len(group.there()) == 3


def test_an_address_that_two_networks_use_stays_until_both_are_gone(group: Group) -> None:
    other = group.world.network()
    group.world.subnet(other)
    ports = [group.world.port(other) for _ in range(3)]
    assert {ip.ip_address for port in ports for ip in port.fixed_ips} == set(group.there())
    group.go(ports[0])
    assert group.members() == (group.there(), 0) and len(group.there()) == 3
    for port in (*group.ports, *ports[1:]):
        group.go(port)
    assert group.members() == ((), 0)


def test_who_comes_back_after_too_many_changes_reads_anew(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_members, "ROWS", 4)
    for _ in range(3):
        group.come()
    assert group.members() == (group.there(), 0)
    for _ in range(4):
        group.come()
    assert group.members() == (group.there(), 1)


def test_a_transaction_of_very_many_ports_is_read_anew(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the last of them is one more in the same transaction, and not where they come one by one."""
    monkeypatch.setattr("nova_fast.commands.host_networks.CHANGES_MAX", 3)
    for _ in range(4):
        group.come()
    assert group.members() == (group.there(), 0)
    new = NewPort(network_id=group.network.id)
    for readings in (1, 2):
        group.world.do(CreatePorts(caller=ALICE, ports=(new,) * (3 + readings)))
        group.come()
        assert group.members() == (group.there(), readings)


def test_a_release_without_these_rows_may_have_written_meanwhile(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves an old row where its own would be."""
    monkeypatch.setattr(group_members, "ROWS", 2)
    for _ in range(2):
        group.come()
        group.members()
    _, before = group.members()

    def as_it_would(tx: Transaction) -> None:
        port = msgspec.structs.replace(
            group.ports[0], fixed_ips=(FixedIp(subnet_id=group.subnet.id, ip_address="10.0.0.77"),)
        )
        tx.put(tables.PORTS, port)
        tx.next_number(MEMBERSHIPS)

    group.world.tx(as_it_would)
    assert "10.0.0.77" in group.there()
    assert group.members() == (group.there(), before + 1)
    group.come()
    assert group.members() == (group.there(), before + 1)


def test_a_change_that_cannot_be_is_told_and_holds_nobody_up(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    def impossible(tx: Transaction) -> None:
        number = tx.next_number(MEMBERSHIPS)
        groups = {group.id: MembersChange(gone=("192.0.2.1",))}
        tx.put(tables.MEMBERSHIP_CHANGES, MembershipChange(row=change_row(number), number=number, groups=groups))

    group.world.tx(impossible)
    assert group.members() == (group.there(), 1)
    assert "read anew" in caplog.text
