"""Weighers: raw values, multipliers, and the sum."""

from __future__ import annotations

from typing import Any

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.model.errors import Conflict
from nova_fast.model.tasks import GroupRule
from nova_fast.scheduler.lowering import Pipeline
from nova_fast.scheduler.weighers import CLASSES, chosen
from nova_fast.scheduler.weighers.kinds import Weigher
from tests.unit.scheduler.filters.asking import facts, host, request
from tests.unit.scheduler.reference import ReferenceFleet, decide, raw_values

NAMES = [cls.name for cls in CLASSES]


def only(name: str, **options: Any) -> SchedulerConfig:
    return SchedulerConfig(enabled_filters=(), weight_classes=(name,), **options)


def weigher(name: str, **options: Any) -> Weigher:
    (found,) = chosen(only(name, **options))
    return found


def raw(name: str, state: Any, asked: Any = None, fleet: ReferenceFleet | None = None, **options: Any) -> float:
    (value,) = raw_values(weigher(name, **options), [state], fleet or ReferenceFleet([state]), asked or request())
    return value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RAMWeigher", 4000),
        ("CPUWeigher", 8 * 1.5 - 3),
        ("DiskWeigher", 70),
        ("IoOpsWeigher", 2),
        ("PCIWeigher", 93),
        ("BuildFailureWeigher", 4),
        ("CrossCellWeigher", 0),
        ("HypervisorVersionWeigher", 8002001),
        ("NumInstancesWeigher", 6),
        ("MetricsWeigher", 0),
        ("ImagePropertiesWeigher", 0),
        ("ServerGroupSoftAffinityWeigher", 0),
        ("ServerGroupSoftAntiAffinityWeigher", 0),
    ],
)
def test_what_a_weigher_weighs(name: str, value: float) -> None:
    state = host(
        facts(cpu_ratio=1.5, hypervisor_version=8002001),
        ram_free_mib=4000,
        vcpus_total=8,
        vcpus_used=3,
        disk_free_gib=70,
        io_ops=2,
        pci_free=7,
        failed_builds=4,
        servers=6,
    )
    assert raw(name, state) == value


def test_many_pci_devices_are_as_many_as_a_hundred() -> None:
    assert [raw("PCIWeigher", host(pci_free=count)) for count in (0, 98, 99, 5000)] == [100, 2, 1, 1]


def test_members_of_soft_groups_attract_and_repel() -> None:
    state = host()
    fleet = ReferenceFleet([state], servers={"1": "host", "2": "host"}, groups={"g": {"1", "2"}})
    near, apart = (
        request(group=GroupRule(id="g", policy=policy)) for policy in ("soft-affinity", "soft-anti-affinity")
    )
    assert raw("ServerGroupSoftAffinityWeigher", state, near, fleet) == 2
    assert raw("ServerGroupSoftAffinityWeigher", state, apart, fleet) == 0
    assert raw("ServerGroupSoftAntiAffinityWeigher", state, apart, fleet) == -2
    assert raw("ServerGroupSoftAntiAffinityWeigher", state, near, fleet) == 0


def test_metrics_are_counted_as_nova_reads_them() -> None:
    state = host(metrics={"cpu.percent": 0.29, "cpu.frequency": 1500.7, "fans": 2.5})
    settings = ("cpu.percent=2", "cpu.frequency=1", "fans=-1")
    assert raw("MetricsWeigher", state, metrics_weight_setting=settings) == 28 * 2 + 1500 - 2.5


def test_a_metric_that_is_missing_is_an_error_or_a_weight() -> None:
    setting = {"metrics_weight_setting": ("fans=1", "more=2")}
    with pytest.raises(Conflict, match="host tells no metric more"):
        raw("MetricsWeigher", host(metrics={"fans": 1}), **setting)
    setting["metrics_required"] = False  # type: ignore[assignment]
    assert raw("MetricsWeigher", host(metrics={"fans": 1}), **setting) == -10000
    assert raw("MetricsWeigher", host(metrics={"fans": 1}), metrics_weight_of_unavailable=-7.0, **setting) == -7
    without = host(facts({"metrics_weight_multiplier": "0"}), metrics={"fans": 1})
    assert raw("MetricsWeigher", without, **setting) == 1, "what counts nothing needs no metric"


def test_images_with_the_same_properties_attract() -> None:
    here = {("os_distro", "debian"): 2, ("hw_pmu", "True"): 3, ("os_type", "linux"): 5}
    state = host(image_properties=here)
    asked = request(image_properties={"os_distro": "debian", "hw_pmu": "yes", "os_type": "windows", "mine": "x"})
    assert raw("ImagePropertiesWeigher", state, asked) == 0, "it is off by default"
    assert raw("ImagePropertiesWeigher", state, asked, image_props_weight_multiplier=1.0) == 5
    ratios = {"image_props_weight_setting": ("os_distro=0.5", "os_type=9")}
    assert raw("ImagePropertiesWeigher", state, asked, image_props_weight_multiplier=1.0, **ratios) == 1


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls.option], ids=lambda cls: cls.name)
def test_a_multiplier_is_the_options_or_the_smallest_of_the_aggregates(cls: type[Weigher]) -> None:
    sign = -1 if cls.name == "BuildFailureWeigher" else 1
    found = weigher(cls.name, **{cls.option: 2.5})

    def multiplier(*values: str) -> float:
        return sign * found.multiplier(facts(*({cls.option: value} for value in values)))

    assert multiplier() == 2.5
    assert multiplier("4") == 4
    assert multiplier("4", "-1e1") == -10
    assert multiplier("4", "much") == 2.5
    assert multiplier("nan") == multiplier("inf") == 2.5


def test_nova_has_these_defaults() -> None:
    found = {each.option: each.configured for each in chosen(SchedulerConfig())}
    assert found == {
        "ram_weight_multiplier": 1.0,
        "cpu_weight_multiplier": 1.0,
        "disk_weight_multiplier": 1.0,
        "io_ops_weight_multiplier": -1.0,
        "pci_weight_multiplier": 1.0,
        "metrics_weight_multiplier": 1.0,
        "soft_affinity_weight_multiplier": 1.0,
        "soft_anti_affinity_weight_multiplier": 1.0,
        "build_failure_weight_multiplier": 1000000.0,
        "cross_cell_move_weight_multiplier": 1000000.0,
        "hypervisor_version_weight_multiplier": 1.0,
        "num_instances_weight_multiplier": 0.0,
        "image_props_weight_multiplier": 0.0,
    }


def test_the_order_of_the_sum_does_not_hang_on_the_configuration() -> None:
    assert [each.name for each in chosen(SchedulerConfig())] == NAMES
    some = SchedulerConfig(weight_classes=("nova.scheduler.weights.pci.PCIWeigher", "RAMWeigher"))
    assert [each.name for each in chosen(some)] == ["RAMWeigher", "PCIWeigher"]
    assert chosen(SchedulerConfig(weight_classes=())) == ()


def test_the_sum_is_of_normalised_values() -> None:
    states = [
        host(name="a", ram_free_mib=1000, servers=4),
        host(name="b", ram_free_mib=-5, servers=2),
        host(facts({"ram_weight_multiplier": "3"}), name="c", ram_free_mib=500, servers=3),
    ]
    options = SchedulerConfig(
        enabled_filters=(), weight_classes=("RAMWeigher", "NumInstancesWeigher"), num_instances_weight_multiplier=-0.5
    )
    ranking = decide(Pipeline(options), ReferenceFleet(states), request())
    # RAM has a fixed minimum of 0; servers are weighed between the fewest and the most.
    assert ranking == [(2, 3 * 0.5 - 0.25), (0, 1 - 0.5), (1, 0.0)]
