"""Hosts with cells and cards for the state machine, and what must hold of what they have given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nova_fast.model.topology import GuestTopology, NumaCell, PciPool
from nova_fast.scheduler.hosts import KnownHost

#: Some hosts have two cells, the CPUs 2 and 3 of the first and 4 to 7 of the second for one server each, and cards.
CELLS = (
    NumaCell(number=0, shared_cpus=(0, 1), dedicated_cpus=(2, 3), siblings=((0, 1), (2, 3)), ram_mib=4096),
    NumaCell(number=1, dedicated_cpus=(4, 5, 6, 7), siblings=((4, 5), (6, 7)), ram_mib=4096),
)
CARDS = (
    PciPool("8086", "pf", 1, "type-PF", 0, {}, ("pf",)),
    PciPool("8086", "vf", 2, "type-VF", 0, {}, ("vf0", "vf1"), ("pf", "pf")),
    PciPool("8086", "own", 1, "type-PCI", 1, {}, ("own",)),
)
TOPOLOGIES = [{}, {"numa": CELLS, "pcpus": 6}, {"numa": CELLS, "pcpus": 6, "pci": CARDS}, {"pci": CARDS}]


def nothing_is_given_twice(known: KnownHost, given: Sequence[GuestTopology]) -> None:
    """What servers have of a host is each one's alone, and all that the scheduler counts as taken."""
    cpus = Counter((cell.host_cell, cpu) for topology in given for cell in topology.cells for cpu in cell.cpus)
    devices = Counter(device for topology in given for device in topology.devices)
    assert all(count == 1 for count in (*cpus.values(), *devices.values()))
    assert {(cell.number, cpu) for cell in known.taken.cells for cpu in cell.cpus} == set(cpus)
    assert set(known.taken.devices) == set(devices)
    free = {device for pool in known.free()[1] for device in pool.addresses}
    assert not free & set(devices)
    parts = not {"vf0", "vf1"}.isdisjoint(devices)
    assert not ("pf" in devices and parts), "a card, or parts of it"
    assert "pf" not in free or not parts
