"""The same case through the compiled table: who passes and with what score, by the kernel's full pass."""

from __future__ import annotations

from typing import Any

from nova_fast._ext.fleet import HOST_ENABLED, HOST_UP, HostClass, HostTable
from nova_fast._ext.rows import (
    AFTER_ALL,
    AFTER_BUILD_FAILURE,
    AFTER_PCI,
    NEVER,
    ExtraTerm,
    HostRow,
    Multipliers,
    RequestClass,
)
from nova_fast.scheduler.facts import HostFacts, HostState
from nova_fast.scheduler.lowering import Lowered, Pipeline
from nova_fast.scheduler.profiles import Profiles
from nova_fast.scheduler.weighers.kinds import SparseWeigher, StateWeigher

from .our_world import World

_AFTER = {
    "MetricsWeigher": AFTER_PCI,
    "ServerGroupSoftAffinityWeigher": AFTER_PCI,
    "ServerGroupSoftAntiAffinityWeigher": AFTER_PCI,
    "CrossCellWeigher": AFTER_BUILD_FAILURE,
    "ImagePropertiesWeigher": AFTER_ALL,
}


def table_weights(world: World, pipeline: Pipeline, lowered: Lowered) -> dict[str, Any]:
    """The score of each host that passes, as hex. A row is a host's place in ``world.states``."""
    profiles, table = Profiles(), HostTable()
    for state in world.states:
        row = table.add()
        profile = profiles.take(state.facts)
        table.put(row, row_of(pipeline, state, profile))
        table.set_version(profile, state.facts.hypervisor_version)
    wanted = _defined(table, pipeline, lowered, profiles)
    only, without = _rows(world, lowered)
    count = len(world.states)
    passing = [row for row, _score in wanted.masked(only, without, wanted=count)]
    weighers = lowered.weighers if len(passing) > 1 else ()  # one candidate is not weighed: its metrics may be missing
    terms = [_term(world, weigher, passing, profiles) for weigher in weighers]
    ranking = wanted.masked(only, without, terms, count)
    assert sorted(row for row, _score in ranking) == sorted(passing)
    if not terms and only is None and not without:
        assert wanted.best(count) == wanted.scan(count) == ranking, "the index and the full pass differ"
    return {world.states[row].name: score.hex() for row, score in ranking}


def row_of(pipeline: Pipeline, state: HostState, profile: int) -> HostRow:
    raw = {weigher.column: weigher.raw(state) for weigher in pipeline.columns}
    return HostRow(
        ram_free=state.room.ram_mib,
        vcpus_free=state.room.vcpus,
        disk_free=state.room.disk_gib,
        ram_weight=int(raw["ram_weight"]),
        cpu_total=state.vcpus_total * state.facts.cpu_ratio,
        disk_weight=int(raw["disk_weight"]),
        io_ops=state.io_ops,
        servers=state.servers,
        vcpus_used=state.vcpus_used,
        failed_builds=state.failed_builds,
        pci_weight=100 - min(state.pci_free, 99),
        profile=profile,
        flags=HOST_UP * state.up | HOST_ENABLED * state.enabled,
    )


def _defined(table: HostTable, pipeline: Pipeline, lowered: Lowered, profiles: Profiles) -> HostClass:
    amounts = lowered.kind.amounts
    flags = HOST_ENABLED | (HOST_UP if pipeline.checks_up else 0)
    usual = _multipliers(pipeline, HostFacts())
    asked = (max(0, amounts.ram_mib), max(0, amounts.vcpus), max(0, amounts.disk_gib))
    wanted = table.define(RequestClass(lowered.kind.key, *asked, usual, flags))
    facts = [profiles[number] for number in range(len(profiles))]
    verdicts = [lowered.kind.verdict(each) for each in facts]
    wanted.extend(
        [NEVER if verdict is None else verdict.io_ops for verdict in verdicts],
        [NEVER if verdict is None else verdict.servers for verdict in verdicts],
        [_multipliers(pipeline, each) for each in facts],
    )
    return wanted


def _multipliers(pipeline: Pipeline, facts: HostFacts) -> Multipliers:
    return pipeline.multipliers(facts)  # type: ignore[return-value]


def _rows(world: World, lowered: Lowered) -> tuple[list[int] | None, list[int]]:
    only, without = lowered.selected(world)
    judges = lowered.judges()
    if judges:
        kept = {state.name for state in world.states if all(passes(state) for passes in judges)}
        only = frozenset(kept) if only is None else only & kept
    names = {state.name: row for row, state in enumerate(world.states)}
    rows = None if only is None else sorted(names[name] for name in only if name in names)
    return rows, sorted(names[name] for name in without if name in names)


def _term(world: World, weigher: SparseWeigher | StateWeigher, passing: list[int], profiles: Profiles) -> ExtraTerm:
    if isinstance(weigher, SparseWeigher):
        named = weigher.values(world, world.request)
        values = {row: named[state.name] for row, state in enumerate(world.states) if state.name in named}
    else:
        prepared = weigher.prepare(world.request)
        values = {row: prepared(world.states[row]) for row in passing}
    multipliers = [weigher.multiplier(profiles[number]) for number in range(len(profiles))]
    return ExtraTerm(_AFTER[weigher.name], values, multipliers)
