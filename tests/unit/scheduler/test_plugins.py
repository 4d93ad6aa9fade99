"""A site's own filter and weigher, found by the entry points of an installed package."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import BadRequest
from nova_fast.scheduler.lowering import Pipeline
from tests.unit.scheduler.filters.asking import facts, host, request
from tests.unit.scheduler.reference import ReferenceFleet, decide

MODULE = """
from nova_fast.scheduler.filters.kinds import FactsFilter, StateFilter
from nova_fast.scheduler.weighers.kinds import StateWeigher

class Rack(FactsFilter):
    name = "RackFilter"

    def key(self, request):
        return request.extra_specs.get("site:rack")

    def passes(self, facts, request):
        return request.extra_specs["site:rack"] in facts.values("rack")

class Quiet(StateFilter):
    name = "QuietFilter"

    def passes(self, state, request):
        return state.io_ops == 0

class Name(StateWeigher):
    name = "NameWeigher"

    def raw(self, state, request):
        return len(state.name)

class Nothing:
    pass
"""
ENTRY_POINTS = """
[nova_fast.scheduler.filters]
RackFilter = site_of_the_test:Rack
QuietFilter = site_of_the_test:Quiet
Nothing = site_of_the_test:Nothing

[nova_fast.scheduler.weighers]
NameWeigher = site_of_the_test:Name
"""


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package, as pip leaves it."""
    (tmp_path / "site_of_the_test.py").write_text(MODULE)
    information = tmp_path / "site_of_the_test-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: site-of-the-test\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("site_of_the_test", None)


def test_a_sites_own_filters_and_weighers_are_asked_like_novas() -> None:
    options = SchedulerConfig(enabled_filters=("QuietFilter", "RackFilter"), weight_classes=("NameWeigher",))
    pipeline = Pipeline(options)
    states = [
        host(facts({"rack": "r1"}), name="a"),
        host(facts({"rack": "r1"}), name="long"),
        host(facts({"rack": "r1"}), name="busy-but-longer", io_ops=1),
        host(facts({"rack": "r2"}), name="elsewhere"),
    ]
    asked = request(extra_specs={"site:rack": "r1"})
    assert decide(pipeline, ReferenceFleet(states), asked) == [(1, 1.0), (0, 0.0)]
    lowered = pipeline.lower(asked)
    assert [check.name for check in lowered.states] == ["QuietFilter"]
    assert "RackFilter" in [check.name for check in lowered.kind.facts]
    assert [each.name for each in lowered.weighers] == ["NameWeigher"]


@pytest.mark.parametrize("name", ["Nothing", "NameWeigher", "AbsentFilter"])
def test_what_is_no_filter_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadRequest, match=name) as refused:
        Pipeline(SchedulerConfig(enabled_filters=(name,)))
    assert refused.value.field == "scheduler.enabled_filters"
