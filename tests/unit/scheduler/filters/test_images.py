"""What images ask of hosts."""

from __future__ import annotations

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.scheduler.filters.images import satisfies
from nova_fast.scheduler.image_properties import known_properties, property_texts
from tests.unit.scheduler.filters.asking import facts, host, lets_pass, request

X86 = facts(
    supported_instances=(("x86_64", "kvm", "hvm"), ("i686", "qemu", "hvm")),
    hypervisor_version=8002001,
    cpu_info='{"maxphysaddr": {"bits": 46}}',
)


@pytest.mark.parametrize(
    ("properties", "fits"),
    [
        ({}, True),
        ({"hw_architecture": "x86_64"}, True),
        ({"architecture": "AMD64"}, True),
        ({"hw_architecture": "aarch64"}, False),
        ({"hw_architecture": "i586", "img_hv_type": "qemu"}, True),
        ({"hw_architecture": "i586", "img_hv_type": "kvm"}, False),  # not together
        ({"hw_vm_mode": "hv"}, True),
        ({"hw_vm_mode": "xen"}, False),
        ({"hw_vm_mode": "hvm", "img_hv_requested_version": ">=8.0"}, True),
        ({"hw_vm_mode": "hvm", "img_hv_requested_version": ">=8.3"}, False),
        ({"img_hv_requested_version": ">=8.3"}, True),  # Nova: looked at only with one of the others
        ({"hw_vm_mode": "hvm", "hw_maxphysaddr_bits": "46"}, True),
        ({"hw_vm_mode": "hvm", "hw_maxphysaddr_bits": "48"}, False),
    ],
)
def test_a_host_supports_what_the_image_is_made_for(properties: dict[str, str], fits: bool) -> None:
    assert lets_pass("ImagePropertiesFilter", host(X86), request(image_properties=properties)) is fits


def test_a_host_that_supports_nothing_takes_images_that_ask_for_nothing() -> None:
    assert lets_pass("ImagePropertiesFilter", host(), request())
    assert not lets_pass("ImagePropertiesFilter", host(), request(image_properties={"hw_vm_mode": "hvm"}))


def test_images_that_name_no_architecture_may_have_a_default() -> None:
    options = SchedulerConfig(image_properties_default_architecture="aarch64")
    assert not lets_pass("ImagePropertiesFilter", host(X86), request(), options=options)
    named = request(image_properties={"hw_architecture": "x86_64"})
    assert lets_pass("ImagePropertiesFilter", host(X86), named, options=options)


@pytest.mark.parametrize(
    ("version", "predicate", "fits"),
    [
        (8002001, "", True),
        (0, ">= 99", True),
        (8002001, "==8.2.1", True),
        (8002000, "==8.2", True),
        (8002001, ">=8.2,<8.2.1", False),
        (8002001, ">= 8.2 , <9", True),
        (8002001, "!=8.2.1", False),
        (10000000, "<10.0rc1", False),
        (9009000, "<10.0rc1", True),
        (10000000, ">10.0rc1", True),
        (10000000, ">10.0.post1", False),
        (10000000, ">10.dev3", True),
        (8002001, "8.2.1", False),  # no operator
        (8002001, ">=eight", False),
    ],
)
def test_versions_compare_as_pep_440_says(version: int, predicate: str, fits: bool) -> None:
    assert satisfies(version, predicate) is fits


@pytest.mark.parametrize(
    ("image", "isolated_host", "restrict", "fits"),
    [
        ("special", True, True, True),
        ("special", False, True, False),
        ("usual", True, True, False),
        ("usual", False, True, True),
        ("special", True, False, True),
        ("special", False, False, False),
        ("usual", True, False, True),
        ("usual", False, False, True),
    ],
)
def test_isolated_images_and_hosts_keep_to_each_other(
    image: str, isolated_host: bool, restrict: bool, fits: bool
) -> None:
    options = SchedulerConfig(
        enabled_filters=("IsolatedHostsFilter",),
        isolated_images=("special",),
        restrict_isolated_hosts_to_isolated_images=restrict,
    )
    state = host(facts(isolated=isolated_host))
    assert lets_pass("IsolatedHostsFilter", state, request(image_id=image), options=options) is fits


def test_properties_are_read_by_their_type_and_under_their_present_name() -> None:
    given = {
        "hypervisor_type": "XAPI",
        "vm_mode": "pv",
        "hw_pmu": " On ",
        "hw_cpu_cores": "4",
        "hw_cpu_threads": "some",
        "os_type": "linux",
        "mine": "x",
        "trait:A": "required",
        "trait:B": "forbidden",
        "architecture": "i386",
        "hw_architecture": "amd64",
        "vmware_adaptertype": "lsiLogic",
    }
    assert known_properties(given) == {
        "img_hv_type": "xen",
        "hw_vm_mode": "xen",
        "hw_pmu": True,
        "hw_cpu_cores": 4,
        "hw_cpu_threads": "some",
        "os_type": "linux",
        "traits_required": ["A"],
        "hw_architecture": "x86_64",
        "hw_disk_bus": "scsi",
        "hw_scsi_model": "lsiLogic",
    }
    assert property_texts({"hw_pmu": "1", "mine": "x"}) == {("hw_pmu", "True")}
