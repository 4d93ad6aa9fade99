"""NUMATopologyFilter and PciPassthroughFilter over whole hosts."""

from __future__ import annotations

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.model.topology import NumaCell, PciPool
from nova_fast.scheduler.lowering import Pipeline
from tests.unit.scheduler.filters.asking import facts, host, lets_pass, request

CELL = NumaCell(number=0, shared_cpus=(0, 1), dedicated_cpus=(2, 3), siblings=((0,), (1,), (2,), (3,)), ram_mib=2048)
NAME = "NUMATopologyFilter"


@pytest.mark.parametrize(
    ("specs", "without_cells", "with_cells"),
    [
        ({}, True, True),
        ({"hw:numa_nodes": "1"}, False, True),
        ({"hw:cpu_policy": "dedicated"}, False, True),
        ({"hw:cpu_policy": "dedicated", "hw:cpu_thread_policy": "require"}, False, False),
        ({"hw:cpu_policy": "shared"}, True, True),
    ],
)
def test_cells_fit_a_host_that_has_them(specs: dict[str, str], without_cells: bool, with_cells: bool) -> None:
    asked = request(extra_specs=specs)
    assert lets_pass(NAME, host(), asked) is without_cells
    assert lets_pass(NAME, host(numa=(CELL,)), asked) is with_cells


def test_ratios_of_the_host_count() -> None:
    busy = NumaCell(number=0, shared_cpus=(0, 1), ram_mib=2048, vcpus_used=2)
    asked = request(extra_specs={"hw:numa_nodes": "1"})
    assert not lets_pass(NAME, host(facts(cpu_ratio=1.0), numa=(busy,)), asked)
    assert lets_pass(NAME, host(facts(cpu_ratio=2.0), numa=(busy,)), asked)


def test_devices_are_looked_for_only_where_a_flavor_asks() -> None:
    options = SchedulerConfig(
        enabled_filters=("PciPassthroughFilter", NAME), pci_alias=('{"name": "gpu", "vendor_id": "10de"}',)
    )
    asked = request(extra_specs={"pci_passthrough:alias": "gpu:1"})
    has = host(pci=(PciPool(vendor_id="10de", product_id="1", count=1),))
    assert lets_pass("PciPassthroughFilter", has, asked, options=options)
    assert not lets_pass("PciPassthroughFilter", host(), asked, options=options)
    assert lets_pass("PciPassthroughFilter", host(), request(), options=options)
    assert Pipeline(options).lower(request()).is_plain
