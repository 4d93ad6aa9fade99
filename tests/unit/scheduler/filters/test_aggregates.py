"""Filters on the metadata of aggregates."""

from __future__ import annotations

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.scheduler.facts import HostFacts
from tests.unit.scheduler.filters.asking import facts, host, lets_pass, request


@pytest.mark.parametrize(
    ("specs", "fits"),
    [
        ({}, True),
        ({"ssd": "true"}, True),
        ({"ssd": "false"}, True),  # one value of the list
        ({"ssd": "maybe"}, False),
        ({"aggregate_instance_extra_specs:cores": ">= 8"}, True),
        ({"aggregate_instance_extra_specs:cores": ">= 17"}, False),
        ({"gpu": "1"}, False),  # nobody says
        ({"gpu": "!= 1"}, False),
        ({"hw:gpu": "1"}, True),  # another scope
        ({"ssd": "true", "cores": "<or> 4 <or> 16"}, True),
        ({"aggregate_instance_extra_specs:a:b": "c"}, True),  # the key may have colons
    ],
)
def test_extra_specs_match_the_aggregates(specs: dict[str, str], fits: bool) -> None:
    of = facts({"ssd": "true, false", "cores": "16"}, {"ssd": "no", "cores": "2", "a:b": "c"})
    assert lets_pass("AggregateInstanceExtraSpecsFilter", host(of), request(extra_specs=specs)) is fits


@pytest.mark.parametrize(
    ("properties", "fits"),
    [
        ({}, True),
        ({"os_distro": "debian"}, True),
        ({"os_distro": "windows"}, True),
        ({"os_distro": "plan9"}, False),
        ({"vmware_ostype": "plan9"}, False),  # its older name
        ({"hw_boot_menu": "yes"}, True),
        ({"hw_boot_menu": "no"}, True),  # Nova: what is false asks for nothing
        ({"hw_pmu": "true"}, False),
        ({"custom": "y"}, True),  # no property that Nova knows
        ({"hw_cpu_cores": "04"}, True),  # a number
        ({"os_type": "linux"}, True),  # nobody says anything of it
    ],
)
def test_images_match_what_aggregates_say(properties: dict[str, str], fits: bool) -> None:
    of = facts(
        {"os_distro": "debian,windows", "hw_boot_menu": "True", "hw_pmu": "yes", "custom": "x", "hw_cpu_cores": "4"}
    )
    assert lets_pass("AggregateImagePropertiesIsolation", host(of), request(image_properties=properties)) is fits


def test_only_keys_of_the_namespace_are_looked_at() -> None:
    of = facts({"os_distro": "debian", "hw_machine_type": "q35"})
    asked = request(image_properties={"os_distro": "debian", "hw_machine_type": "pc"})
    name = "AggregateImagePropertiesIsolation"
    assert not lets_pass(name, host(of), asked)
    for namespace, separator, fits in (("os", "_", True), ("hw", "_", False), ("os", ".", True), ("hw", ".", True)):
        options = SchedulerConfig(
            enabled_filters=(name,),
            aggregate_image_properties_isolation_namespace=namespace,
            aggregate_image_properties_isolation_separator=separator,
        )
        assert lets_pass(name, host(of), asked, options=options) is fits


@pytest.mark.parametrize(
    ("of", "fits"),
    [
        (facts(), True),
        (facts({"other": "1"}), True),
        (facts({"filter_tenant_id": "p"}), True),
        (facts({"filter_tenant_id": "q"}), False),
        (facts({"filter_tenant_id": "q, p"}), True),
        (facts({"filter_tenant_id": "q", "filter_tenant_id_2": "p"}), True),
        (facts({"filter_tenant_id": "q"}, {"filter_tenant_id": "p"}), True),
        (facts({"filter_tenant_id": "q"}, {"other": "p"}), False),
    ],
)
def test_aggregates_of_other_projects_are_closed(of: HostFacts, fits: bool) -> None:
    assert lets_pass("AggregateMultiTenancyIsolation", host(of), request(project_id="p")) is fits


@pytest.mark.parametrize(
    ("of", "fits"),
    [
        (facts(), True),
        (facts({"instance_type": "m1"}), True),
        (facts({"instance_type": "m2"}), False),
        (facts({"instance_type": "m2 , m1"}), True),
        (facts({"instance_type": "m2"}, {"instance_type": "m1"}), True),
    ],
)
def test_aggregates_of_other_flavors_are_closed(of: HostFacts, fits: bool) -> None:
    assert lets_pass("AggregateTypeAffinityFilter", host(of), request(flavor_name="m1")) is fits
