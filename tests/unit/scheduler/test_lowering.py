"""Lowering: what facts decide once for each profile is what each filter says of each host."""

from __future__ import annotations

import random

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import BadRequest
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import GroupRule, PlacementRequest
from nova_fast.scheduler.facts import HostFacts, HostState
from nova_fast.scheduler.lowering import Lowered, Pipeline, Verdict, wish_of
from nova_fast.scheduler.profiles import Profiles
from nova_fast.scheduler.weighers.kinds import StateWeigher
from tests.lengths import repeats
from tests.unit.scheduler.random_fleets import EVERY_FILTER, random_fleet, random_options, random_request
from tests.unit.scheduler.reference import ReferenceFleet, decide, filtered, normalised, raw_values

CLAIM = Claim(vcpus=1, ram_mib=512, disk_gib=1)


def request(**wishes: object) -> PlacementRequest:
    return PlacementRequest(**({"server_id": "server", "claim": CLAIM} | wishes))  # type: ignore[arg-type]


class Table:
    """What the compiled table does with what is lowered: columns, a verdict by profile, hidden rows, functions."""

    def __init__(self, pipeline: Pipeline, fleet: ReferenceFleet) -> None:
        self.pipeline, self.fleet = pipeline, fleet
        self.profiles = Profiles()
        self.numbers = [self.profiles.take(state.facts) for state in fleet.states]
        self.verdicts: dict[object, list[Verdict | None]] = {}
        self.multipliers = [pipeline.multipliers(self.profiles[number]) for number in range(len(self.profiles))]

    def passing(self, lowered: Lowered) -> list[int]:
        kind = lowered.kind
        verdicts = self.verdicts.setdefault(
            kind.key, [kind.verdict(self.profiles[n]) for n in range(len(self.profiles))]
        )
        only, without = lowered.selected(self.fleet)
        judges = lowered.judges()
        found = []
        for row, state in enumerate(self.fleet.states):
            verdict, room = verdicts[self.numbers[row]], state.room
            if (
                verdict is not None
                and state.enabled
                and (state.up or not self.pipeline.checks_up)
                and room.ram_mib >= kind.amounts.ram_mib
                and room.vcpus >= kind.amounts.vcpus
                and room.disk_gib >= kind.amounts.disk_gib
                and state.io_ops < verdict.io_ops
                and state.servers < verdict.servers
                and (only is None or state.name in only)
                and state.name not in without
                and all(judge(state) for judge in judges)
            ):
                found.append(row)
        return found

    def ranking(self, lowered: Lowered) -> list[tuple[int, float]]:
        rows = self.passing(lowered)
        totals = [0.0] * len(rows)
        states = [self.fleet.states[row] for row in rows]
        if len(rows) > 1:
            for weigher in self.pipeline.weighers:
                if weigher in self.pipeline.columns:
                    column = self.pipeline.columns.index(weigher)
                    counts = [self.multipliers[self.numbers[row]][column] for row in rows]
                    values = raw_values(weigher, states, self.fleet, lowered.request)
                elif weigher in lowered.weighers:
                    counts = [weigher.multiplier(state.facts) for state in states]
                    if isinstance(weigher, StateWeigher):
                        values = list(map(weigher.prepare(lowered.request), states))
                    else:
                        values = raw_values(weigher, states, self.fleet, lowered.request)
                else:
                    continue
                for position, value in enumerate(normalised(values, weigher.minimum)):
                    totals[position] += counts[position] * value
        return sorted(zip(rows, totals, strict=True), key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.torture
def test_a_lowered_request_passes_and_weighs_what_a_full_pass_does() -> None:
    passed = refused = 0
    for seed in range(repeats(150, 5_000)):
        rng = random.Random(seed)
        options = random_options(rng)
        pipeline = Pipeline(options)
        size = rng.randrange(1, 25)
        fleet = random_fleet(rng, options, size)
        table = Table(pipeline, fleet)
        for _ in range(20):
            asked = random_request(rng, size)
            lowered = pipeline.lower(asked)
            assert table.passing(lowered) == filtered(pipeline, fleet, asked), (seed, asked)
            ranking = decide(pipeline, fleet, asked)
            assert table.ranking(lowered) == ranking, (seed, asked)
            passed, refused = passed + bool(ranking), refused + (not ranking)
    assert passed > 300 and refused > 300


def test_every_filter_refuses_some_of_those_fleets() -> None:
    """The random fleets would prove nothing about a filter that always passes."""
    rng = random.Random(7)
    silent = set(EVERY_FILTER) - {"AllHostsFilter"}
    for _ in range(400):
        options = random_options(rng)
        pipeline = Pipeline(options)
        fleet = random_fleet(rng, options, 8)
        asked = random_request(rng, 8)
        for check in pipeline.filters:
            alone = Pipeline.__new__(Pipeline)
            alone.filters = (check,)
            if len(filtered(alone, fleet, asked)) < 8:
                silent.discard(check.name)
    assert silent == set()


def test_requests_of_one_class_share_it_whoever_asks() -> None:
    pipeline = Pipeline(SchedulerConfig())
    one = pipeline.lower(request(server_id="a", project_id="p", image_id="i", image_properties={"os_type": "linux"}))
    two = pipeline.lower(request(server_id="b", project_id="q", excluded_hosts=("x",), hints={"group": "g"}))
    assert one.kind is two.kind
    assert one.is_plain and not two.is_plain


@pytest.mark.parametrize(
    "wish",
    [
        {"claim": Claim(vcpus=2, ram_mib=512, disk_gib=1)},
        {"zone": "z"},
        {"architecture": "x86_64"},
        {"image_properties": {"hw_vm_mode": "hvm"}},
        {"extra_specs": {"trait:A": "required"}},
        {"extra_specs": {"capabilities:hypervisor_type": "QEMU"}},
    ],
)
def test_what_facts_decide_makes_another_class(wish: dict[str, object]) -> None:
    pipeline = Pipeline(SchedulerConfig())
    assert pipeline.lower(request()).kind.key != pipeline.lower(request(**wish)).kind.key


OTHERS = {  # one other value of every field; a list of two where the value has parts
    "claim": [
        Claim(vcpus=1, ram_mib=512, disk_gib=2),
        Claim(vcpus=1, ram_mib=512, disk_gib=1, resources={"CUSTOM_A": 1}),
    ],
    "zone": ["z"],
    "architecture": ["x86_64"],
    "hints": [{"a": "1"}, {"a": "2"}, {"a": ["1", "2"]}, {"b": "1"}],
    "extra_specs": [{"a": "1"}, {"a": "2"}, {"b": "1"}],
    "image_properties": [{"a": "1"}, {"a": "2"}, {"b": "1"}],
    "project_id": ["p"],
    "flavor_name": ["f"],
    "image_id": ["i"],
    "vcpus": [1],
    "ram_mib": [1],
}
OF_THE_SERVER_ALONE = {"server_id", "excluded_hosts", "requested_host", "group", "alike", "all_or_none"}


def test_what_is_remembered_of_a_request_is_all_that_filters_on_facts_may_look_at() -> None:
    assert set(PlacementRequest.__struct_fields__) == OTHERS.keys() | OF_THE_SERVER_ALONE
    asked = [request(), *(request(**{field: value}) for field, values in OTHERS.items() for value in values)]
    assert len({wish_of(each) for each in asked}) == len(asked)


def test_a_state_filter_of_hints_is_not_remembered_for_requests_without_them() -> None:
    pipeline = Pipeline(SchedulerConfig(enabled_filters=("JsonFilter",)))
    assert [check.name for check in pipeline.lower(request(hints={"query": '["not"]'})).states] == ["JsonFilter"]
    assert pipeline.lower(request()).states == ()


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ({"excluded_hosts": ("x",)}, "RetryFilter"),
        ({"requested_host": "x"}, "RequestedHostFilter"),
        ({"group": GroupRule(id="g", policy="affinity")}, "ServerGroupAffinityFilter"),
        ({"group": GroupRule(id="g", policy="anti-affinity")}, "ServerGroupAntiAffinityFilter"),
    ],
)
def test_what_is_the_servers_alone_is_looked_at_each_time(wish: dict[str, object], name: str) -> None:
    pipeline = Pipeline(SchedulerConfig())
    for _ in range(2):
        assert pipeline.lower(request()).rows == ()
        assert [check.name for check in pipeline.lower(request(**wish)).rows] == [name]


def test_a_soft_group_weighs_only_its_own_requests() -> None:
    pipeline = Pipeline(SchedulerConfig())
    near = request(group=GroupRule(id="g", policy="soft-affinity"))
    assert [weigher.name for weigher in pipeline.lower(near).weighers] == ["ServerGroupSoftAffinityWeigher"]
    assert pipeline.lower(request()).is_plain


def test_stages_are_named_in_the_order_of_the_configuration() -> None:
    options = SchedulerConfig(
        enabled_filters=("ServerGroupAffinityFilter", "IoOpsFilter", "JsonFilter", "ComputeFilter")
    )
    pipeline = Pipeline(options)
    asked = request(zone="z", hints={"query": "[]"}, group=GroupRule(id="g", policy="affinity"))
    names = [check.name for check in pipeline.stages(pipeline.lower(asked))]
    assert names == [
        *("AvailabilityZoneFilter", "RamFilter", "CoreFilter", "DiskFilter", "MachineSizeFilter"),
        *("ServerGroupAffinityFilter", "IoOpsFilter", "JsonFilter", "ComputeFilter"),
    ]


def test_without_the_compute_filter_a_host_may_be_down_but_not_disabled() -> None:
    pipeline = Pipeline(SchedulerConfig(enabled_filters=()))
    assert not pipeline.checks_up
    assert pipeline.stages(pipeline.lower(request()))[0].name == "ComputeStatusFilter"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (SchedulerConfig(enabled_filters=("NoFilter",)), "scheduler.enabled_filters"),
        (SchedulerConfig(weight_classes=("nova.scheduler.weights.no.NoWeigher",)), "scheduler.weight_classes"),
        (SchedulerConfig(metrics_weight_setting=("cpu",)), "scheduler"),
        (SchedulerConfig(image_props_weight_setting=("cpu=much",)), "scheduler"),
    ],
)
def test_options_that_mean_nothing_are_refused_at_start(options: SchedulerConfig, field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Pipeline(options)
    assert refused.value.field == field


def test_profiles_are_numbers_that_stay() -> None:
    profiles = Profiles()
    here, there = HostFacts(zone="here"), HostFacts(zone="there")
    assert [profiles.take(facts) for facts in (here, there, HostFacts(zone="here"))] == [0, 1, 0]
    assert (profiles.hosts(0), profiles.hosts(1)) == (2, 1)
    profiles.give_back(1)
    assert (len(profiles), profiles.hosts(1)) == (2, 0)
    assert profiles.take(there) == 1
    assert profiles[1] == there


def test_the_reference_does_not_weigh_a_single_host() -> None:
    fleet = ReferenceFleet([HostState(name="a", facts=HostFacts(), room=CLAIM, ram_free_mib=5)])
    assert decide(Pipeline(SchedulerConfig()), fleet, request()) == [(0, 0.0)]
