"""Hosts with cells and cards for the state machine, and what must hold of what they have given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from nova_fast.model.flavors import Flavor
from nova_fast.model.hosts import Claim, Host, HostUsage, claim_of
from nova_fast.model.tasks import PlacementRequest
from nova_fast.model.topology import GuestTopology, NumaCell, PciPool, Taken, changed
from nova_fast.scheduler.facts import Offer
from nova_fast.scheduler.hosts import KnownHost

from .fleet import ask

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


def asking_for(
    own: int, cells: str, cards: int, server_ids: Sequence[str], excluded: tuple[str, ...]
) -> PlacementRequest:
    """Servers with so many CPUs of their own in each of so many cells, and cards."""
    specs = {"hw:cpu_policy": "dedicated"} if own else {}
    specs |= {"hw:numa_nodes": cells} if cells else {}
    specs |= {"pci_passthrough:alias": f"card:{cards}"} if cards else {}
    vcpus = own * int(cells or 1) or 2
    flavor = Flavor(id="f", name="f", vcpus=vcpus, ram_mib=512, disk_gib=1, extra_specs=specs)
    first, *others = server_ids
    return ask(
        first, claim_of(flavor), alike=tuple(others), extra_specs=specs, vcpus=vcpus, ram_mib=512,
        excluded_hosts=excluded,
    )  # fmt: skip


def kept_cpus(hosts: Iterable[tuple[Host, HostUsage]]) -> dict[str, Offer]:
    """The CPUs that hosts keep for one server each, and how many are left."""
    return {
        host.name: Offer(host.resources.pcpus - usage.resources.get("PCPU", 0), 1, host.resources.pcpus)
        for host, usage in hosts
        if host.resources.pcpus
    }


def usage_of(name: str, claims: Sequence[Claim]) -> HostUsage:
    """What these claims take of a host, added up."""
    taken, resources = Taken(), Counter[str]()
    for claim in claims:
        taken = changed(taken, claim.topology, 1) if claim.topology is not None else taken
        resources.update(claim.resources)
    return HostUsage(
        host=name,
        vcpus=sum(claim.vcpus for claim in claims),
        ram_mib=sum(claim.ram_mib for claim in claims),
        disk_gib=sum(claim.disk_gib for claim in claims),
        servers=len(claims),
        resources=dict(resources),
        cells=taken.cells,
        devices=taken.devices,
    )
