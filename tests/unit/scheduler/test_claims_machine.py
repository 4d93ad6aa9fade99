"""Any sequence of hosts, choices, commits, releases and time-outs leaves exactly what the book says.

The model beside the scheduler is a list of claims and nothing else: what is free, how many servers and how many I/O
operations a host has are recomputed from it after every step, and the winner of each choice by the oracle.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nova_fast.config import SchedulerConfig
from nova_fast.model.events import Claimed, HostChanged, HostRemoved, Released
from nova_fast.model.hosts import Claim, Host, HostUsage, capacity
from nova_fast.model.tasks import Placement, ReleaseClaims, SelectHosts
from nova_fast.scheduler.select import Scheduler

from .fleet import ask, make_host
from .oracle import OracleHost, OracleRequest, filter_hosts, weigh

NAMES = [f"host{number}" for number in range(6)]
ZONES = ["nova", "east"]
CLAIMS = st.builds(Claim, vcpus=st.integers(0, 3), ram_mib=st.integers(0, 4096), disk_gib=st.integers(0, 30))
TIMEOUT_S = 60.0


@dataclass
class Taken:
    server_id: str
    host: str
    claim: Claim
    pending: bool
    since_s: float | None = None


class ClaimsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scheduler = Scheduler(SchedulerConfig(), random.Random(1), pending_timeout_s=TIMEOUT_S)
        self.hosts: dict[str, Host] = {}
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
        zone=st.sampled_from(ZONES),
        state=st.sampled_from(["good", "good", "down", "disabled", "forced_down"]),
    )
    def host_changes(self, name: str, vcpus: int, ratio: float, zone: str, state: str) -> None:
        host = make_host(
            name,
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

    @rule(claim=CLAIMS, zone=st.sampled_from(["", *ZONES]), excluded=st.sets(st.sampled_from(NAMES), max_size=2))
    def choose(self, claim: Claim, zone: str, excluded: set[str]) -> None:
        self.asked += 1
        server_id = f"server{self.asked}"
        request = ask(server_id, claim, zone=zone, excluded_hosts=tuple(excluded))
        expected = self.expected_ranking(claim, zone, excluded)
        placement = self.select(request)
        assert [placement.host, *placement.alternates] == ([name for name, _ in expected[:3]] or [""])
        if expected:
            assert placement.weight == expected[0][1]
            self.taken.append(Taken(server_id, placement.host, claim, pending=True))
        else:
            assert placement.filters[-1].after == 0
            assert placement.hint

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def ask_again(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from(self.taken))
        request = ask(taken.server_id, taken.claim)
        if not taken.pending or self.keeps(taken.host):
            assert self.select(request).host == taken.host
            return
        self.taken.remove(taken)
        expected = self.expected_ranking(taken.claim, "", set())
        assert self.select(request).host == (expected[0][0] if expected else "")
        if expected:
            self.taken.append(Taken(taken.server_id, expected[0][0], taken.claim, pending=True))

    @precondition(lambda self: any(taken.pending for taken in self.taken))
    @rule(data=st.data(), times=st.integers(1, 2))
    def commit(self, data: st.DataObject, times: int) -> None:
        taken = data.draw(st.sampled_from([taken for taken in self.taken if taken.pending]))
        taken.pending = False
        for _ in range(times):  # told twice is told once
            self.scheduler.apply(Claimed(server_id=taken.server_id, host=taken.host, claim=taken.claim))

    @precondition(lambda self: self.hosts and any(taken.pending for taken in self.taken))
    @rule(data=st.data())
    def commit_on_an_alternate(self, data: st.DataObject) -> None:
        taken = data.draw(st.sampled_from([taken for taken in self.taken if taken.pending]))
        taken.host = data.draw(st.sampled_from(sorted(self.hosts)))
        taken.pending = False
        self.scheduler.apply(Claimed(server_id=taken.server_id, host=taken.host, claim=taken.claim))

    @precondition(lambda self: self.hosts)
    @rule(data=st.data(), claim=CLAIMS)
    def foreign_claim(self, data: st.DataObject, claim: Claim) -> None:
        self.asked += 1
        name = data.draw(st.sampled_from(sorted(self.hosts)))
        self.taken.append(Taken(f"server{self.asked}", name, claim, pending=False))
        self.scheduler.apply(Claimed(server_id=f"server{self.asked}", host=name, claim=claim))

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
        """A new snapshot: what is committed is in its usage, what is pending stays."""
        committed = [taken for taken in self.taken if not taken.pending]
        self.scheduler.load(
            [(host, self.usage(host.name, committed)) for host in self.hosts.values()],
            [Claimed(server_id=one.server_id, host=one.host, claim=one.claim) for one in committed] if told else (),
        )
        if not told:  # their servers are unknown from now on: only their release can follow
            for one in committed:
                self.taken.remove(one)
                self.scheduler.apply(Released(server_id=one.server_id, host=one.host, claim=one.claim))

    @invariant()
    def the_table_is_the_book(self) -> None:
        assert len(self.scheduler.hosts) == len(self.hosts) == len(self.scheduler.hosts.table)
        for name, host in self.hosts.items():
            total, usage = capacity(host), self.usage(name, self.taken)
            row = self.scheduler.hosts.row(name)
            assert row is not None
            assert self.scheduler.hosts.table.get(row)[:6] == (
                total.ram_mib - usage.ram_mib,
                total.vcpus - usage.vcpus,
                total.disk_gib - usage.disk_gib,
                sum(taken.pending for taken in self.taken if taken.host == name),
                usage.servers,
                usage.vcpus,
            )
        assert self.scheduler.claims.pending == {one.server_id: one.host for one in self.taken if one.pending}

    def select(self, request: object) -> Placement:
        (placement,) = self.scheduler.select(SelectHosts(requests=(request,))).placements  # type: ignore[arg-type]
        return placement

    def keeps(self, name: str) -> bool:
        host, total, usage = self.hosts[name], capacity(self.hosts[name]), self.usage(name, self.taken)
        in_service = host.up and host.enabled and not host.forced_down
        return in_service and all(
            getattr(usage, what) <= getattr(total, what) for what in ("vcpus", "ram_mib", "disk_gib")
        )

    def usage(self, name: str, among: list[Taken]) -> HostUsage:
        claims = [taken.claim for taken in among if taken.host == name]
        return HostUsage(
            host=name,
            vcpus=sum(claim.vcpus for claim in claims),
            ram_mib=sum(claim.ram_mib for claim in claims),
            disk_gib=sum(claim.disk_gib for claim in claims),
            servers=len(claims),
        )

    def expected_ranking(self, claim: Claim, zone: str, excluded: set[str]) -> list[tuple[str, float]]:
        by_row = {}
        for name, host in self.hosts.items():
            total, usage = capacity(host), self.usage(name, self.taken)
            row = self.scheduler.hosts.row(name)
            assert row is not None
            by_row[row] = OracleHost(
                row=row,
                ram_mib=total.ram_mib - usage.ram_mib,
                vcpus=total.vcpus - usage.vcpus,
                disk_gib=total.disk_gib - usage.disk_gib,
                io_ops=sum(taken.pending for taken in self.taken if taken.host == name),
                vcpus_used=usage.vcpus,
                zone=ZONES.index(host.zone),
                architecture=0,
                up=host.up and not host.forced_down,
                enabled=host.enabled,
                excluded=name in excluded,
            )
        wanted = OracleRequest(claim.ram_mib, claim.vcpus, claim.disk_gib, zone=ZONES.index(zone) if zone else -1)
        passing, _ = filter_hosts(list(by_row.values()), wanted)
        names = {self.scheduler.hosts.row(name): name for name in self.hosts}
        return [(names[row], weight) for row, weight in weigh(passing, (1.0, 1.0, 1.0, -1.0))]


TestClaimsMachine = ClaimsMachine.TestCase
TestClaimsMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
