"""Any sequence of hosts, choices, commits, releases and time-outs leaves exactly what the book says.

The model beside the scheduler is a list of claims, hosts and aggregates and nothing else: what is free, how many
servers and how many busy ones a host has are recomputed from it after every step, and the winner of each choice by the
reference scheduler.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nova_fast._ext.rows import HostRow
from nova_fast.config import SchedulerConfig
from nova_fast.model.aggregates import Aggregate
from nova_fast.model.events import (
    AggregateChanged,
    AggregateRemoved,
    Claimed,
    HostChanged,
    HostRemoved,
    Released,
    ServerChanged,
)
from nova_fast.model.hosts import Claim, Host, HostUsage, capacity
from nova_fast.model.tasks import GroupRule, Placement, PlacementRequest, ReleaseClaims, SelectHosts
from nova_fast.model.topology import free_pools, with_usage
from nova_fast.queries.claims import Membership
from nova_fast.scheduler.facts import HostState, facts_of
from nova_fast.scheduler.select import Scheduler

from .fleet import ask, make_host
from .given import TOPOLOGIES, asking_for, kept_cpus, nothing_is_given_twice, usage_of
from .reference import ReferenceFleet, decide

NAMES = [f"host{number}" for number in range(6)]
ZONES = ["nova", "east"]
CLAIMS = st.builds(Claim, vcpus=st.integers(0, 3), ram_mib=st.integers(0, 4096), disk_gib=st.integers(0, 30))
GROUPS = [
    GroupRule(id=policy, policy=policy)
    for policy in ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")
]
METADATA = st.dictionaries(
    st.sampled_from(["availability_zone", "ram_weight_multiplier", "io_ops_weight_multiplier", "kind"]),
    st.sampled_from(["east", "-1.5", "0", "2"]),
    max_size=3,
)
OPTIONS = SchedulerConfig(
    enabled_filters=(
        *SchedulerConfig().enabled_filters,
        "NumInstancesFilter",
        "AggregateInstanceExtraSpecsFilter",
        "SameHostFilter",
        "DifferentHostFilter",
    ),
    max_instances_per_host=4,
    pci_alias=('{"name": "card", "vendor_id": "8086"}',),
)
TIMEOUT_S = 60.0


@dataclass
class Taken:
    server_id: str
    host: str
    claim: Claim
    pending: bool
    busy: bool = True
    group: str = ""
    wish: PlacementRequest | None = None
    since_s: float | None = None
    remembered: bool = True  # by the scheduler: until it is built, or as long as it is of a group


class ClaimsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(OPTIONS, random.Random(1), residence=self.residence, pending_timeout_s=TIMEOUT_S)
        self.hosts: dict[str, Host] = {}
        self.aggregates: dict[str, Aggregate] = {}
        self.taken: list[Taken] = []
        self.asked = 0
        self.now_s = 1000.0

    @initialize(vcpus=st.lists(st.integers(0, 6), min_size=3, max_size=3))
    def some_hosts(self, vcpus: list[int]) -> None:
        for name, count in zip(NAMES, vcpus, strict=False):
            self.hosts[name] = make_host(name, vcpus=count)
        self.scheduler.load([(host, HostUsage(host=host.name)) for host in self.hosts.values()])

    @rule(
        name=st.sampled_from(NAMES),
        vcpus=st.integers(0, 6),
        ratio=st.sampled_from([0.5, 1.0, 1.5]),
        topology=st.sampled_from(TOPOLOGIES),
        zone=st.sampled_from(ZONES),
        state=st.sampled_from(["good", "good", "down", "disabled", "forced_down"]),
    )
    def host_changes(self, name: str, vcpus: int, ratio: float, topology: Any, zone: str, state: str) -> None:
        host = make_host(
            name,
            **topology,
            vcpus=vcpus,
            cpu_ratio=ratio,
            zone=zone,
            up=state != "down",
            enabled=state != "disabled",
            forced_down=state == "forced_down",
        )
        self.hosts[name] = host
        self.scheduler.apply(HostChanged(host=host))

    @precondition(lambda self: self.hosts)
    @rule(data=st.data())
    def host_goes(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.hosts)))
        del self.hosts[name]
        self.taken = [taken for taken in self.taken if taken.host != name]
        self.scheduler.apply(HostRemoved(host=name))

    @rule(name=st.sampled_from("AB"), hosts=st.sets(st.sampled_from(NAMES)), metadata=METADATA)
    def aggregate_changes(self, name: str, hosts: set[str], metadata: dict[str, str]) -> None:
        aggregate = Aggregate(
            id=name, number=1, name=name, created_at_us=0, hosts=tuple(sorted(hosts)), metadata=metadata
        )
        self.aggregates[name] = aggregate
        self.scheduler.apply(AggregateChanged(aggregate=aggregate))

    @precondition(lambda self: self.aggregates)
    @rule(data=st.data())
    def aggregate_goes(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.aggregates)))
        del self.aggregates[name]
        self.scheduler.apply(AggregateRemoved(aggregate_id=name))

    @rule(
        claim=CLAIMS,
        zone=st.sampled_from(["", "", *ZONES]),
        excluded=st.sets(st.sampled_from(NAMES), max_size=2),
        group=st.sampled_from([None, None, *GROUPS]),
        kind=st.sampled_from([None, None, None, "2"]),
        count=st.integers(1, 4),
        near=st.sampled_from(["", "", "same_host", "different_host"]),
        data=st.data(),
    )
    def choose(
        self,
        claim: Claim,
        zone: str,
        excluded: set[str],
        group: GroupRule | None,
        kind: str | None,
        count: int,
        near: str,
        data: st.DataObject,
    ) -> None:
        """One server or several alike: each is where the reference puts it, given those before it."""
        server_ids = [f"server{self.asked + number}" for number in range(1, count + 1)]
        self.asked += count
        wishes = {"zone": zone, "excluded_hosts": tuple(excluded), "group": group}
        if near and self.taken:
            others = data.draw(st.lists(st.sampled_from(self.taken), min_size=1, max_size=2))
            wishes["hints"] = {near: [other.server_id for other in others]}
        extra_specs = {} if kind is None else {"kind": kind}
        request = ask(server_ids[0], claim, alike=tuple(server_ids[1:]), extra_specs=extra_specs, **wishes)
        placements = self.scheduler.select(SelectHosts(requests=(request,))).placements
        assert [placement.server_id for placement in placements] == server_ids
        for placement in placements:
            expected = self.expected_ranking(request)
            assert placement.host == (expected[0][0] if expected else "")
            if expected:
                assert placement.weight.hex() == float(expected[0][1]).hex()
                assert placement.alternates in ((), tuple([name for name, _ in expected[1:3]]))
                self.taken.append(
                    Taken(placement.server_id, placement.host, claim, True, group=group.id if group else "")
                )
            else:
                assert placement.filters[-1].after == 0
                assert placement.hint

    @rule(
        own=st.integers(0, 3),
        cells=st.sampled_from(["", "", "2"]),
        cards=st.integers(0, 2),
        excluded=st.sets(st.sampled_from(NAMES), max_size=2),
        count=st.integers(1, 3),
    )
    def choose_cells(self, own: int, cells: str, cards: int, excluded: set[str], count: int) -> None:
        """CPUs and cards are given once, and where the reference would put the server."""
        server_ids = [f"server{self.asked + number}" for number in range(1, count + 1)]
        self.asked += count
        request = asking_for(own, cells, cards, server_ids, tuple(excluded))
        for placement in self.scheduler.select(SelectHosts(requests=(request,))).placements:
            expected = self.expected_ranking(request)
            assert placement.host == (expected[0][0] if expected else "")
            if placement.host:
                claim = placement.claim or request.claim
                assert (claim.topology is not None) == bool(own or cells or cards)
                self.taken.append(Taken(placement.server_id, placement.host, claim, True, wish=request))

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from(self.taken))
        request = ask(taken.server_id, taken.claim)
        if not taken.remembered:
            return  # nobody asks for a server that is built
        if taken.wish is not None:
            request = msgspec.structs.replace(taken.wish, server_id=taken.server_id, alike=(), excluded_hosts=())
        if not taken.pending or self.keeps(taken.host):
            again = self.select(request)
            assert again.host == taken.host
            assert again.claim == (taken.claim if taken.claim.topology is not None else None)
            return
        self.taken.remove(taken)
        expected = self.expected_ranking(request)
        placed = self.select(request)
        assert placed.host == (expected[0][0] if expected else "")
        if expected:
            claim = placed.claim or request.claim
            self.taken.append(Taken(taken.server_id, placed.host, claim, pending=True, wish=taken.wish))

    @precondition(lambda self: any(taken.pending for taken in self.taken))
    @rule(data=st.data(), times=st.integers(1, 2))
    def commit(self, data: st.DataObject, times: int) -> None:
        taken = data.draw(st.sampled_from([taken for taken in self.taken if taken.pending]))
        taken.pending = False
        for _ in range(times):  # told twice is told once
            self.scheduler.apply(claimed(taken))

    @precondition(lambda self: self.hosts and any(taken.pending for taken in self.taken))
    @rule(data=st.data())
    def commit_on_an_alternate(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from([taken for taken in self.taken if taken.pending]))
        host = data.draw(st.sampled_from(sorted(self.hosts)))
        if taken.claim.topology is not None and taken.host != host:
            return  # what it has of one host says nothing of another
        taken.busy = taken.host == host  # the event that it is built there comes behind
        taken.host, taken.pending = host, False
        self.scheduler.apply(claimed(taken))

    @precondition(lambda self: self.hosts)
    @rule(data=st.data(), claim=CLAIMS)
    def foreign_claim(self, data: st.DataObject, claim: Claim) -> None:
        self.asked += 1
        name = data.draw(st.sampled_from(sorted(self.hosts)))
        self.taken.append(Taken(f"server{self.asked}", name, claim, pending=False, busy=False, remembered=False))
        self.scheduler.apply(claimed(self.taken[-1]))

    @precondition(lambda self: any(not taken.pending for taken in self.taken))
    @rule(data=st.data(), status=st.sampled_from(["BUILD", "ACTIVE", "ERROR"]))
    def server_changes(self, data: st.DataObject, status: str) -> None:
        taken = data.draw(st.sampled_from([taken for taken in self.taken if not taken.pending]))
        taken.busy = status == "BUILD"
        taken.remembered &= taken.busy or bool(taken.group)
        self.scheduler.apply(
            ServerChanged(server_id=taken.server_id, project_id="p", status=status, task_state=None, host=taken.host)
        )

    @precondition(lambda self: any(not taken.pending for taken in self.taken))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from([taken for taken in self.taken if not taken.pending]))
        self.taken.remove(taken)
        self.scheduler.apply(Released(server_id=taken.server_id, host=taken.host, claim=taken.claim))

    @precondition(lambda self: any(taken.pending for taken in self.taken))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from([taken for taken in self.taken if taken.pending]))
        self.taken.remove(taken)
        self.scheduler.release(ReleaseClaims(server_ids=(taken.server_id, "nobody", taken.server_id)))

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        late = []
        for taken in self.taken:
            if taken.pending and taken.since_s is None:
                taken.since_s = self.now_s
            elif taken.pending and taken.since_s is not None and self.now_s - taken.since_s >= TIMEOUT_S:
                late.append(taken.server_id)
        self.taken = [taken for taken in self.taken if taken.server_id not in late]
        assert sorted(self.scheduler.tick(self.now_s)) == sorted(late)

    @rule(told=st.booleans())
    def load_again(self, told: bool) -> None:
        """A new snapshot: what is committed is in its usage, what is pending stays.

        It tells of those that are being built and of the members of groups. An empty ``told`` is a scheduler that knows
        of nobody: the releases of all that was committed can follow all the same.
        """
        committed = [taken for taken in self.taken if not taken.pending]
        self.scheduler.load(
            [(host, self.usage(host.name, committed)) for host in self.hosts.values()],
            [claimed(one) for one in committed if one.busy] if told else (),
            self.aggregates.values(),
            [one.server_id for one in committed if one.busy] if told else (),
            [Membership(one.group, one.host, one.server_id) for one in committed if one.group] if told else (),
        )
        for one in committed:
            one.remembered = one.busy or bool(one.group)
        if not told:
            for one in committed:
                self.taken.remove(one)
                self.scheduler.apply(Released(server_id=one.server_id, host=one.host, claim=one.claim))

    @invariant()
    def the_table_is_the_book(self) -> None:
        assert len(self.scheduler.hosts) == len(self.hosts) == len(self.scheduler.hosts.table)
        for name, host in self.hosts.items():
            total, usage = capacity(host), self.usage(name, self.taken)
            row = HostRow(*self.scheduler.hosts.table.get(self.scheduler.hosts[name].row))
            assert (row.ram_free, row.vcpus_free, row.disk_free, row.io_ops, row.servers, row.vcpus_used) == (
                total.ram_mib - usage.ram_mib,
                total.vcpus - usage.vcpus,
                total.disk_gib - usage.disk_gib,
                sum(taken.busy for taken in self.taken if taken.host == name),
                usage.servers,
                usage.vcpus,
            )
            given = [taken.claim.topology for taken in self.taken if taken.host == name and taken.claim.topology]
            nothing_is_given_twice(self.scheduler.hosts[name], given)
        for group in GROUPS:
            own = [taken.host for taken in self.taken if taken.group == group.id]
            assert self.scheduler.claims.members(group.id) == {host: own.count(host) for host in own}
        assert self.scheduler.claims.pending == {one.server_id: one.host for one in self.taken if one.pending}

    def residence(self, server_ids: Iterable[str]) -> set[str]:
        """What the store knows: the servers whose claim is committed."""
        return {taken.host for taken in self.taken if taken.server_id in set(server_ids) and not taken.pending}

    def select(self, request: object) -> Placement:
        (placement,) = self.scheduler.select(SelectHosts(requests=(request,))).placements  # type: ignore[arg-type]
        return placement

    def keeps(self, name: str) -> bool:
        host, total, usage = self.hosts[name], capacity(self.hosts[name]), self.usage(name, self.taken)
        in_service = host.up and host.enabled and not host.forced_down
        enough = all(getattr(usage, what) <= getattr(total, what) for what in ("vcpus", "ram_mib", "disk_gib"))
        pcpus = not host.resources.pcpus or usage.resources.get("PCPU", 0) <= host.resources.pcpus
        return in_service and enough and pcpus

    def usage(self, name: str, among: list[Taken]) -> HostUsage:
        return usage_of(name, [taken.claim for taken in among if taken.host == name])

    def expected_ranking(self, request: PlacementRequest) -> list[tuple[str, float]]:
        names = sorted(self.hosts, key=lambda name: self.scheduler.hosts[name].row)
        fleet = ReferenceFleet(
            [self.state(self.hosts[name]) for name in names],
            servers={taken.server_id: taken.host for taken in self.taken},
            inventories={"PCPU": kept_cpus((host, self.usage(host.name, self.taken)) for host in self.hosts.values())},
            groups={group.id: {taken.server_id for taken in self.taken if taken.group == group.id} for group in GROUPS},
        )
        return [(names[row], weight) for row, weight in decide(self.scheduler.searches.pipeline, fleet, request)]

    def state(self, host: Host) -> HostState:
        total, usage, resources = capacity(host), self.usage(host.name, self.taken), host.resources
        pools = free_pools(resources.pci, usage.devices)
        return HostState(
            numa=with_usage(resources.numa, usage.cells),
            pci=pools,
            pci_free=sum(pool.count for pool in pools),
            name=host.name,
            facts=facts_of(host, [one for _, one in sorted(self.aggregates.items()) if host.name in one.hosts]),
            up=host.up and not host.forced_down,
            enabled=host.enabled,
            vcpus_total=resources.vcpus,
            vcpus_used=usage.vcpus,
            ram_total_mib=resources.ram_mib,
            ram_free_mib=resources.ram_mib - usage.ram_mib,
            disk_total_gib=resources.disk_gib,
            disk_free_gib=resources.disk_gib - usage.disk_gib,
            room=Claim(
                vcpus=total.vcpus - usage.vcpus,
                ram_mib=total.ram_mib - usage.ram_mib,
                disk_gib=total.disk_gib - usage.disk_gib,
            ),
            io_ops=sum(taken.busy for taken in self.taken if taken.host == host.name),
            servers=usage.servers,
        )


def claimed(taken: Taken) -> Claimed:
    return Claimed(server_id=taken.server_id, host=taken.host, claim=taken.claim, group_id=taken.group)


TestClaimsMachine = ClaimsMachine.TestCase
TestClaimsMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
