"""Hosts: the scheduler's own picture of them, kept in step with the compiled table.

This file holds the truth as whole numbers without limits: what each host can give (``capacity``), what is taken of it,
how many servers it has and how many of those are busy. Facts that seldom change are a profile (``profiles``); a host
whose aggregates or record change gets another one, and nothing is built anew.

What is free is capacity minus what is taken, so allocation ratios and reserved amounts are folded in. It can be
negative: an operator may lower a ratio under running servers. Such a host is not chosen until it has room again, not
even by a request that asks for nothing of what is short. What RAM, CPU and disk weigh is without ratios but for the
CPU's, as in Nova (``nova/scheduler/host_manager.py``: free_ram_mb, free_disk_mb, vcpus_total x cpu_allocation_ratio).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Set

from nova_fast._ext.fleet import HOST_ENABLED, HOST_UP, HostTable
from nova_fast._ext.rows import HostRow
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.errors import InternalError
from nova_fast.model.hosts import Claim, Host, HostUsage, capacity, most_of, stock_of
from nova_fast.model.tasks import HostWeight
from nova_fast.model.topology import GuestTopology, NumaCell, PciPool, Taken, changed, free_pools, with_usage
from nova_fast.scheduler.aggregates import Aggregates
from nova_fast.scheduler.facts import HostFacts, HostState, Offer, facts_key, facts_of
from nova_fast.scheduler.images import Images
from nova_fast.scheduler.profiles import Profiles

COLUMN_MAX = 2**31 - 2  # largest amount the table keeps; a request for more fits nowhere
SHAPES_MAX = 20_000
_NOTHING = Taken()
_SHAPES: dict[tuple[NumaCell, ...], tuple[NumaCell, ...]] = {}
PCI_WEIGHT = 100  # of a host without free PCI devices (nova/scheduler/weights/pci.py)


class KnownHost:
    """One host: its row in the table, what it has, and what is taken of it."""

    __slots__ = (
        "_free", "busy", "capacity", "clipped", "disk_gib", "host", "profile", "ram_mib", "resources", "row", "servers",
        "taken", "vcpus",
    )  # fmt: skip

    def __init__(self, row: int, host: Host, usage: HostUsage, profile: int) -> None:
        self.row = row
        self.host = host
        self.profile = profile
        self.capacity = capacity(host)
        self.vcpus = usage.vcpus  # taken, as are the next three
        self.ram_mib = usage.ram_mib
        self.disk_gib = usage.disk_gib
        self.resources = dict(usage.resources)
        self.servers = usage.servers
        self.taken = Taken(usage.cells, usage.devices) if usage.cells or usage.devices else _NOTHING
        self._free: tuple[tuple[NumaCell, ...], tuple[PciPool, ...]] | None = None
        self.busy = 0  # servers that are built, moved, snapshotted, …: Nova's io_ops
        self.clipped = False  # it has more than a column can say

    def offer(self, resource_class: str) -> Offer | None:
        """What one server may claim of a class that operators added; None when the host has none."""
        for own in stock_of(self.host):
            if own.resource_class == resource_class:
                free = most_of(own) - self.resources.get(resource_class, 0)
                return Offer(free=free, smallest=own.min_unit, largest=own.max_unit, step=own.step_size)
        return None

    def free(self) -> tuple[tuple[NumaCell, ...], tuple[PciPool, ...]]:
        """Its cells with what is taken of them, and its devices that are free."""
        resources = self.host.resources
        if not resources.numa and not resources.pci:
            return (), ()
        if self._free is None:
            cells = _shared(with_usage(resources.numa, self.taken.cells))
            self._free = cells, free_pools(resources.pci, self.taken.devices)
        return self._free

    def take(self, topology: GuestTopology, sign: int) -> None:
        """Take cells and devices, or give them back. Raises ValueError for what is somebody's, or was never taken."""
        self.taken = changed(self.taken, topology, sign)
        self._free = None

    def change(self, host: Host) -> None:
        """Take over what is said of it."""
        self.host = host
        self.capacity = capacity(host)
        self._free = None


def _shared(cells: tuple[NumaCell, ...]) -> tuple[NumaCell, ...]:
    """One object for all hosts whose cells are alike: who has looked at one of them has looked at all."""
    if len(_SHAPES) >= SHAPES_MAX:
        _SHAPES.clear()
    return _SHAPES.setdefault(cells, cells)


class Hosts:
    """All hosts by name, over the table that is searched."""

    def __init__(self, isolated_hosts: Set[str] = frozenset(), *, count_images: bool = False) -> None:
        self.table = HostTable()
        self.images = Images(count_images)
        self.profiles = Profiles()
        self._by_name: dict[str, KnownHost] = {}
        self._names: list[str] = []  # by row; "" = a free row
        self._aggregates = Aggregates()
        self._isolated_hosts = isolated_hosts
        self._plain_profiles: dict[Hashable, int] = {}  # of hosts in no aggregate, by ``facts_key``

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __iter__(self) -> Iterator[KnownHost]:
        return iter(self._by_name.values())

    def __getitem__(self, name: str) -> KnownHost:
        return self._by_name[name]

    def get(self, name: str) -> KnownHost | None:
        """A host; None when there is none of this name."""
        return self._by_name.get(name)

    def rows(self, names: Iterable[str]) -> list[int]:
        """The rows of hosts; names that are not known are passed over."""
        found = (self._by_name.get(name) for name in names)
        return [known.row for known in found if known is not None]

    def name(self, row: int) -> str:
        """The name of the host in a row."""
        assert self._names[row], f"row {row} has no host"
        return self._names[row]

    def weighed(self, ranking: Iterable[tuple[int, float]]) -> list[HostWeight]:
        """The hosts in rows, by name. PERF: a call of ``name`` for each of ten would cost 2 us more."""
        by_row = self._names
        found = [HostWeight(by_row[row], weight) for row, weight in ranking]
        assert not found or found[0].host, "a row without a host was chosen"
        return found

    def facts(self, known: KnownHost) -> HostFacts:
        """What seldom changes of a host."""
        return self.profiles[known.profile]

    def keeps(self, name: str) -> bool:
        """Whether a host is in service and has room for all that is taken of it."""
        known = self._by_name[name]
        host, total = known.host, known.capacity
        return (
            host.up
            and host.enabled
            and not host.forced_down
            and known.vcpus <= total.vcpus
            and known.ram_mib <= total.ram_mib
            and known.disk_gib <= total.disk_gib
            and all(known.resources.get(own.resource_class, 0) <= most_of(own) for own in stock_of(host))
        )

    # ------------------------------------------------------------------ what operators and machines say
    def load(self, hosts: Iterable[tuple[Host, HostUsage]], aggregates: Iterable[Aggregate] = ()) -> None:
        """Forget everything and start from these; rows are given in the order of the names."""
        for name in list(self._by_name):
            self.remove(name)
        assert not self._by_name and len(self.table) == 0
        self._aggregates.load(aggregates)
        for host, usage in sorted(hosts, key=lambda pair: pair[0].name):
            assert host.name == usage.host, f"the usage of {usage.host} came with the host {host.name}"
            self._add(host, usage)

    def put(self, host: Host) -> None:
        """Add a host, or take over what changed of it; what is taken of a known host stays taken."""
        known = self._by_name.get(host.name)
        if known is None:
            self._add(host, HostUsage(host=host.name))
            return
        known.change(host)
        self._renew(known)

    def remove(self, name: str) -> None:
        """Forget a host, if it is known."""
        known = self._by_name.pop(name, None)
        if known is None:
            return
        self._names[known.row] = ""
        self.images.forget_host(name)
        self.table.remove(known.row)
        self.profiles.give_back(known.profile)

    def put_aggregate(self, aggregate: Aggregate) -> None:
        """An aggregate is new, or its hosts or metadata are."""
        self._renew_all(self._aggregates.put(aggregate))

    def remove_aggregate(self, aggregate_id: str) -> None:
        """An aggregate is gone."""
        self._renew_all(self._aggregates.remove(aggregate_id))

    # ------------------------------------------------------------------ what servers take
    def charge(self, name: str, claim: Claim) -> None:
        """Take what a server claims from a host. Raises InternalError for an unknown host."""
        self._change(name, claim, 1)

    def refund(self, name: str, claim: Claim) -> None:
        """Give back what a server claimed of a host. Raises InternalError when that was never taken."""
        self._change(name, claim, -1)

    def may_take(self, name: str, claim: Claim) -> bool:
        """Whether the CPUs and devices of a claim are nobody's."""
        if claim.topology is None:
            return True
        try:
            changed(self._by_name[name].taken, claim.topology, 1)
        except ValueError:
            return False
        return True

    def occupy(self, name: str, claim: Claim) -> None:
        """Take what a server claims that is to be built on a host, which makes it busy. Raises InternalError."""
        known = self._need(name)
        self._count(known, claim, 1)
        known.busy += 1
        if known.clipped or (claim.topology is not None and claim.topology.devices):
            self._write(known)
        else:
            self.table.change(known.row, claim.ram_mib, claim.vcpus, claim.disk_gib, 1, 1)

    def note_charged(self, row: int, claim: Claim) -> str:
        """The table itself has taken a claim, and made one server more busy, in a row; the name of its host."""
        known = self._by_name[self._names[row]]
        self._count(known, claim, 1)
        known.busy += 1
        return known.host.name

    def busy(self, name: str, more: int) -> None:
        """So many more (or fewer) of a host's servers are busy."""
        known = self._by_name.get(name)
        if known is not None:
            known.busy += more
            assert known.busy >= 0, f"{name} has fewer than no busy servers"
            if known.clipped:
                self._write(known)
            else:
                self.table.change(known.row, 0, 0, 0, more, 0)

    # ------------------------------------------------------------------ views
    def state_in(self, row: int) -> HostState:
        """The host in a row, as filters and weighers that look at each one see it."""
        known = self._by_name[self._names[row]]
        host, resources, total = known.host, known.host.resources, known.capacity
        cells, pools = known.free()
        return HostState(
            name=host.name,
            facts=self.profiles[known.profile],
            uuid=host.uuid,
            host_ip=resources.host_ip,
            up=host.up and not host.forced_down,
            enabled=host.enabled,
            disabled_reason=host.disabled_reason,
            vcpus_total=resources.vcpus,
            vcpus_used=host.reserved_vcpus + known.vcpus,
            ram_total_mib=resources.ram_mib,
            ram_free_mib=resources.ram_mib - host.reserved_ram_mib - known.ram_mib,
            disk_total_gib=resources.disk_gib,
            disk_free_gib=resources.disk_gib - host.reserved_disk_gib - known.disk_gib,
            room=Claim(
                vcpus=total.vcpus - known.vcpus,
                ram_mib=total.ram_mib - known.ram_mib,
                disk_gib=total.disk_gib - known.disk_gib,
            ),
            io_ops=known.busy,
            servers=known.servers,
            failed_builds=host.failed_builds,
            pci_free=sum([pool.count for pool in pools]),
            metrics=resources.metrics,
            numa=cells,
            pci=pools,
            image_properties=self.images.of(host.name),
        )

    # ------------------------------------------------------------------ inside
    def _add(self, host: Host, usage: HostUsage) -> None:
        assert host.name not in self._by_name, f"host {host.name} is there twice"
        row = self.table.add()
        known = KnownHost(row, host, usage, self._profile(host))
        self._by_name[host.name] = known
        if row == len(self._names):
            self._names.append(host.name)
        else:
            self._names[row] = host.name
        self._write(known)

    def _profile(self, host: Host) -> int:
        """Take the profile of a host. PERF: most are in no aggregate, and few of them differ."""
        aggregates = self._aggregates.of(host.name)
        key = facts_key(host) if not aggregates and host.name not in self._isolated_hosts else None
        number = self._plain_profiles.get(key) if key is not None else None
        if number is not None:
            self.profiles.take_again(number)
            return number
        facts = facts_of(host, aggregates, self._isolated_hosts)
        number = self.profiles.take(facts)
        self.table.set_version(number, facts.hypervisor_version)
        if key is not None:
            self._plain_profiles[key] = number
        return number

    def _renew_all(self, names: Iterable[str]) -> None:
        for name in names:
            known = self._by_name.get(name)
            if known is not None:
                self._renew(known)

    def _renew(self, known: KnownHost) -> None:
        old = known.profile
        known.profile = self._profile(known.host)
        self.profiles.give_back(old)
        self._write(known)

    def _need(self, name: str) -> KnownHost:
        known = self._by_name.get(name)
        if known is None:
            raise InternalError(f"The scheduler does not know the host {name}.", code="scheduler_out_of_step")
        return known

    def _change(self, name: str, claim: Claim, sign: int) -> None:
        known = self._need(name)
        self._count(known, claim, sign)
        if known.clipped or (claim.topology is not None and claim.topology.devices):
            self._write(known)
        else:
            self.table.change(known.row, sign * claim.ram_mib, sign * claim.vcpus, sign * claim.disk_gib, 0, sign)

    def _count(self, known: KnownHost, claim: Claim, sign: int) -> None:
        vcpus = known.vcpus + sign * claim.vcpus
        ram_mib = known.ram_mib + sign * claim.ram_mib
        disk_gib = known.disk_gib + sign * claim.disk_gib
        servers = known.servers + sign
        if vcpus < 0 or ram_mib < 0 or disk_gib < 0 or servers < 0:
            raise InternalError(f"{known.host.name} was given back more than was taken.", code="scheduler_out_of_step")
        if claim.topology is not None:
            try:
                known.take(claim.topology, sign)
            except ValueError as error:
                raise InternalError(f"{known.host.name}: {error}.", code="scheduler_out_of_step") from error
        known.vcpus, known.ram_mib, known.disk_gib, known.servers = vcpus, ram_mib, disk_gib, servers
        if not claim.resources:
            return
        for name, amount in claim.resources.items():
            known.resources[name] = known.resources.get(name, 0) + sign * amount

    def _write(self, known: KnownHost) -> None:
        host, resources, total = known.host, known.host.resources, known.capacity
        flags = 0
        if host.up and not host.forced_down:
            flags |= HOST_UP
        if host.enabled:
            flags |= HOST_ENABLED
        amounts = [
            total.ram_mib - known.ram_mib,
            total.vcpus - known.vcpus,
            total.disk_gib - known.disk_gib,
            resources.ram_mib - host.reserved_ram_mib - known.ram_mib,
            resources.disk_gib - host.reserved_disk_gib - known.disk_gib,
            host.reserved_vcpus + known.vcpus,
        ]
        known.clipped = max(amounts) > COLUMN_MAX or min(amounts) < -COLUMN_MAX
        if known.clipped:
            amounts = [_column(amount) for amount in amounts]
        ram, vcpus, disk, ram_weight, disk_weight, vcpus_used = amounts
        pci = PCI_WEIGHT
        if resources.pci:
            pci -= min(sum([pool.count for pool in known.free()[1]]), PCI_WEIGHT - 1)
        # PERF: in the order of HostRow; by name it takes longer, and there may be 100,000 hosts at once.
        self.table.put(
            known.row,
            HostRow(
                ram, vcpus, disk, ram_weight, resources.vcpus * host.cpu_ratio, disk_weight, known.busy, known.servers,
                vcpus_used, host.failed_builds, pci, known.profile, flags,
            ),
        )  # fmt: skip


def _column(amount: int) -> int:
    return amount if -COLUMN_MAX <= amount <= COLUMN_MAX else (COLUMN_MAX if amount > 0 else -COLUMN_MAX)
