"""The same case through our filters and weighers, in the shape of Nova's answer.

Each filter is asked alone, and all together as the scheduler asks them: lowered by a ``Pipeline``. The weights are
summed here in plain Python as ``scheduler.weighers.kinds`` says it.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import NovaFastError
from nova_fast.scheduler import filters
from nova_fast.scheduler.facts import HostState
from nova_fast.scheduler.filters import placement
from nova_fast.scheduler.filters.kinds import (
    ColumnFilter,
    FactsFilter,
    Filter,
    LimitFilter,
    Only,
    RowsFilter,
    StateFilter,
)
from nova_fast.scheduler.lowering import Lowered, Pipeline
from nova_fast.scheduler.topology.choose import choose
from nova_fast.scheduler.topology.devices import read_aliases, wanted_devices
from nova_fast.scheduler.topology.fit import Devices, Ratios
from nova_fast.scheduler.topology.wanted import wanted_cells
from nova_fast.scheduler.weighers.kinds import ColumnWeigher, SparseWeigher, StateWeigher, Weigher

from .our_world import World, options_of

Case = dict[str, Any]
Answer = dict[str, Any]

HAS_TABLE = find_spec("nova_fast._ext.fleet") is not None  # it is being built beside this
NAMING = ("RequestedHostFilter", "RetryFilter")  # Nova's HostManager asks these, not placement


def judge(case: Case) -> Answer:
    """Everything we say of a case."""
    options = options_of(case)
    world = World(case, options)
    answer: Answer = {"filters": {name: _verdict(world, options, name) for name in sorted(filters.by_name())}}
    answer["cells"] = _cells(world, options)
    always = [cls(options) for cls in placement.ALWAYS if cls.name not in NAMING]
    answer["placement"] = [state.name for state in world.states if state.enabled and _passes_all(world, always, state)]
    pipeline = Pipeline(options)
    try:
        lowered = pipeline.lower(world.request)
        chosen = _chosen(world, pipeline, lowered)
    except NovaFastError as error:
        return {"refused": str(error), **answer}
    answer["chosen"] = [state.name for state in chosen]
    answer["weights"] = weights(world, pipeline.weighers, chosen)
    overfull = any(min(state.room.ram_mib, state.room.vcpus, state.room.disk_gib) < 0 for state in chosen)
    if "raised" not in answer["weights"] and not overfull and HAS_TABLE:
        from .our_table import table_weights

        answer["weights_by_table"] = table_weights(world, pipeline, lowered)
    answer["weights_of_all"] = weights(world, pipeline.weighers, world.states)
    return answer


def _cells(world: World, options: SchedulerConfig) -> Answer:
    """What each host with cells would give the guest."""
    try:
        wanted = wanted_cells(world.request)
        requests = wanted_devices(world.request, read_aliases(options.pci_alias))
    except NovaFastError:
        return {}
    found: Answer = {}
    for state in world.states if wanted is not None else ():
        ratios = Ratios(state.facts.cpu_ratio, state.facts.ram_ratio)
        topology = choose(state.numa, wanted, ratios, Devices(state.pci, requests)) if state.numa else None
        found[state.name] = topology and [
            {
                "host_cell": cell.host_cell,
                "vcpus": list(cell.vcpus),
                "pins": [list(pin) for pin in cell.pins],
                "emulator": list(cell.emulator_cpus),
                "page_kib": cell.page_kib if cell.own_pages else 0,
                "ram_mib": cell.ram_mib,
            }
            for cell in topology.cells
        ]
    return found


def _verdict(world: World, options: SchedulerConfig, name: str) -> Answer:
    """Who passes one filter, which may be several classes."""
    checks = [cls(options) for cls in filters.by_name()[name]]
    passed, raised = [], {}
    for state in world.states:
        try:
            if _passes_all(world, checks, state):
                passed.append(state.name)
        except NovaFastError as error:
            raised[state.name] = str(error)
    return {"passed": passed, "raised": raised}


def _passes_all(world: World, checks: Iterable[Filter], state: HostState) -> bool:
    return all(_passes(world, check, state) for check in checks)


def _passes(world: World, check: Filter, state: HostState) -> bool:
    request = world.request
    if isinstance(check, FactsFilter):
        return check.key(request) is None or check.passes(state.facts, request)
    if isinstance(check, LimitFilter):
        return getattr(state, check.column) < check.limit(state.facts)
    if isinstance(check, RowsFilter):
        rows = check.rows(world, request) if check.applies(request) else None
        return rows is None or (state.name in rows.names) == isinstance(rows, Only)
    if isinstance(check, StateFilter):
        return not check.applies(request) or check.judge(request)(state)
    assert isinstance(check, ColumnFilter)
    return check.passes(state, request)


def _chosen(world: World, pipeline: Pipeline, lowered: Lowered) -> list[HostState]:
    """Who passes all filters, as the scheduler asks: amounts, flags, the class's verdict, rows, states."""
    only, without = lowered.selected(world)
    judges = lowered.judges()
    amounts, chosen = lowered.kind.amounts, []
    for state in world.states:
        verdict = lowered.kind.verdict(state.facts)
        if (
            verdict is not None
            and state.enabled
            and (state.up or not pipeline.checks_up)
            and state.room.ram_mib >= amounts.ram_mib
            and state.room.vcpus >= amounts.vcpus
            and state.room.disk_gib >= amounts.disk_gib
            and state.io_ops < verdict.io_ops
            and state.servers < verdict.servers
            and (only is None or state.name in only)
            and state.name not in without
            and all(passes(state) for passes in judges)
        ):
            chosen.append(state)
    return chosen


def weights(world: World, weighers: Iterable[Weigher], states: list[HostState]) -> Answer:
    """The score of each host, as hex; the sum that the table must give."""
    if len(states) == 1:
        return {states[0].name: (0.0).hex()}
    scores = {state.name: 0.0 for state in states}
    try:
        for weigher in weighers:
            _add(world, weigher, states, scores)
    except NovaFastError as error:
        return {"raised": str(error)}
    return {name: score.hex() for name, score in scores.items()}


def _add(world: World, weigher: Weigher, states: list[HostState], scores: dict[str, float]) -> None:
    raw = _raw(world, weigher, states)
    if weigher.minimum is not None:
        raw = [max(value, weigher.minimum) for value in raw]
    low = float(min(raw, default=0) if weigher.minimum is None else weigher.minimum)
    high = float(max(raw, default=0))
    for state, value in zip(states, raw, strict=True):
        normalised = 0.0 if high == low else (value - low) / (high - low)
        scores[state.name] += weigher.multiplier(state.facts) * normalised


def _raw(world: World, weigher: Weigher, states: list[HostState]) -> list[float]:
    if isinstance(weigher, ColumnWeigher):
        return [weigher.raw(state) for state in states]
    if isinstance(weigher, SparseWeigher):
        values = weigher.values(world, world.request) if weigher.applies(world.request) else {}
        return [values.get(state.name, 0) for state in states]
    assert isinstance(weigher, StateWeigher)
    if not weigher.applies(world.request):
        return [0.0] * len(states)
    prepared = weigher.prepare(world.request)
    return [prepared(state) for state in states]
