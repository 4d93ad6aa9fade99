"""What is always asked: zone, amounts, machine size, resource classes, traits, the hosts named by the request."""

from __future__ import annotations

from typing import Any

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.model.hosts import Claim
from nova_fast.scheduler.facts import HostFacts, Offer
from tests.unit.scheduler.filters.asking import facts, host, lets_pass, request
from tests.unit.scheduler.reference import ReferenceFleet


@pytest.mark.parametrize(
    ("of", "zone", "fits"),
    [
        (facts(zone="z"), "", True),
        (facts(zone="z"), "z", True),
        (facts(zone="z"), "y", False),
        (facts({"availability_zone": "a"}, {"availability_zone": "b"}, zone="a"), "b", True),
    ],
)
def test_a_host_is_in_the_zone_that_was_asked_for(of: HostFacts, zone: str, fits: bool) -> None:
    assert lets_pass("AvailabilityZoneFilter", host(of), request(zone=zone)) is fits


@pytest.mark.parametrize(
    ("name", "field"), [("RamFilter", "ram_mib"), ("CoreFilter", "vcpus"), ("DiskFilter", "disk_gib")]
)
@pytest.mark.parametrize(("free", "asked", "fits"), [(5, 5, True), (4, 5, False), (-3, 0, True), (-3, 1, False)])
def test_what_is_asked_must_be_free(name: str, field: str, free: int, asked: int, fits: bool) -> None:
    nothing = {"vcpus": 0, "ram_mib": 0, "disk_gib": 0}
    state = host(room=Claim(**nothing | {field: free}))
    assert lets_pass(name, state, request(claim=Claim(**nothing | {field: asked}))) is fits


@pytest.mark.parametrize(
    ("of", "fits"),
    [
        (facts(), True),
        (facts(vcpus_max=4), True),
        (facts(vcpus_max=3), False),
        (facts(ram_mib_max=1023), False),
        (facts(disk_gib_max=9), False),
    ],
)
def test_no_server_is_larger_than_the_machine(of: HostFacts, fits: bool) -> None:
    assert lets_pass("MachineSizeFilter", host(of), request(claim=Claim(vcpus=4, ram_mib=1024, disk_gib=10))) is fits


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({}, True),
        ({"CUSTOM_GPU": 2}, True),
        ({"CUSTOM_GPU": 1}, False),  # below min_unit
        ({"CUSTOM_GPU": 3}, False),  # no multiple of the step
        ({"CUSTOM_GPU": 6}, False),  # more than is free
        ({"CUSTOM_GPU": 4, "CUSTOM_KEY": 1}, True),
        ({"CUSTOM_GPU": 4, "CUSTOM_KEY": 2}, False),  # above max_unit
        ({"CUSTOM_OTHER": 1}, False),
    ],
)
def test_resource_classes_of_the_site_must_be_offered(asked: dict[str, int], fits: bool) -> None:
    state = host()
    gpu, key = Offer(free=5, smallest=2, largest=8, step=2), Offer(free=9, largest=1)
    fleet = ReferenceFleet([state], inventories={"CUSTOM_GPU": {"host": gpu}, "CUSTOM_KEY": {"host": key}})
    claim = Claim(vcpus=1, ram_mib=1, disk_gib=1, resources=asked)
    assert lets_pass("ResourcesFilter", state, request(claim=claim), fleet) is fits


GOLD = facts(traits=frozenset(("CUSTOM_GOLD", "HW_CPU_HYPERTHREADING", "COMPUTE_SECURITY_TPM_2_0")))


@pytest.mark.parametrize(
    ("wishes", "fits"),
    [
        ({"extra_specs": {"trait:CUSTOM_GOLD": "required"}}, True),
        ({"extra_specs": {"trait:CUSTOM_GOLD": "forbidden"}}, False),
        ({"extra_specs": {"trait:CUSTOM_TIN": "required"}}, False),
        ({"extra_specs": {"trait:CUSTOM_TIN": "forbidden"}}, True),
        ({"extra_specs": {"trait_a-1:CUSTOM_TIN": "required"}}, False),
        ({"extra_specs": {"portrait:CUSTOM_TIN": "required"}}, True),
        ({"extra_specs": {"trait:CUSTOM_TIN": "wanted"}}, True),
        ({"image_properties": {"trait:CUSTOM_TIN": "required"}}, False),
        ({"image_properties": {"trait:CUSTOM_GOLD": "required"}}, True),
        ({"extra_specs": {"hw:cpu_thread_policy": "isolate"}}, False),
        ({"image_properties": {"hw_cpu_thread_policy": "require"}}, True),
        ({"extra_specs": {"hw:tpm_version": "2.0"}}, False),  # the model and who keeps the secret are wanted, too
        ({"extra_specs": {"os:secure_boot": "required"}}, False),
        ({"image_properties": {"hw_virtio_packed_ring": "yes"}}, False),
        ({"image_properties": {"hw_firmware_stateless": "true", "hw_firmware_type": "uefi"}}, False),
        ({"image_properties": {"hw_firmware_stateless": "true"}}, True),
        ({"extra_specs": {"hw:mem_encryption": "true"}}, False),
        ({"extra_specs": {"hw:ephemeral_encryption": "false"}}, True),
        ({"extra_specs": {"hw:maxphysaddr_mode": "emulate"}}, False),
        ({"extra_specs": {"hw:sound_model": "virtio"}}, False),
        ({"extra_specs": {"hw:pci_numa_affinity_policy": "socket"}}, False),
        ({"extra_specs": {"accel:device_profile": "p"}}, False),
        ({"image_properties": {"hw_disk_bus": "virtio"}}, True),
    ],
)
def test_traits_are_required_and_forbidden(wishes: dict[str, Any], fits: bool) -> None:
    assert lets_pass("TraitsFilter", host(GOLD), request(**wishes)) is fits


def test_image_metadata_becomes_traits_if_the_option_says_so() -> None:
    options = SchedulerConfig(enabled_filters=(), image_metadata_prefilter=True)
    asked = request(image_properties={"hw_disk_bus": "virtio", "hw_vif_model": "e1000e", "architecture": "amd64"})
    known = frozenset(("COMPUTE_STORAGE_BUS_VIRTIO", "COMPUTE_NET_VIF_MODEL_E1000E", "HW_ARCH_X86_64"))
    assert lets_pass("TraitsFilter", host(facts(traits=known)), asked, options=options)
    for missing in known:
        assert not lets_pass("TraitsFilter", host(facts(traits=known - {missing})), asked, options=options)


@pytest.mark.parametrize(
    ("is_on", "specs", "fits"),
    [
        (False, {}, True),
        (True, {}, False),
        (True, {"trait:CUSTOM_GOLD": "required"}, True),
        (True, {"trait:CUSTOM_TIN": "required"}, False),
    ],
)
def test_isolated_aggregates_take_only_who_asks_for_their_traits(
    is_on: bool, specs: dict[str, str], fits: bool
) -> None:
    options = SchedulerConfig(enabled_filters=(), enable_isolated_aggregate_filtering=is_on)
    of = facts({"trait:CUSTOM_GOLD": "required", "trait:CUSTOM_TIN": "no"}, {"other": "1"})
    assert lets_pass("IsolatedAggregatesFilter", host(of), request(extra_specs=specs), options=options) is fits


def test_the_requested_host_alone_passes() -> None:
    assert lets_pass("RequestedHostFilter", host(), request())
    assert lets_pass("RequestedHostFilter", host(), request(requested_host="host"))
    assert not lets_pass("RequestedHostFilter", host(), request(requested_host="other"))


def test_excluded_hosts_do_not_pass() -> None:
    assert lets_pass("RetryFilter", host(), request(excluded_hosts=("other",)))
    assert not lets_pass("RetryFilter", host(), request(excluded_hosts=("other", "host")))
