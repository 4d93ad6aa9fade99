"""Capabilities and the little language of extra specs."""

from __future__ import annotations

import pytest

from nova_fast.config import SchedulerConfig
from nova_fast.scheduler.filters.extra_specs import matches
from nova_fast.scheduler.lowering import Pipeline
from tests.unit.scheduler.filters.asking import facts, host, lets_pass, request

NAME = "ComputeCapabilitiesFilter"
STATE = host(
    facts(
        hypervisor_type="QEMU",
        hypervisor_version=8002001,
        cpu_info='{"arch": "x86_64", "features": ["avx2", "vmx"], '
        '"topology": {"cores": 4}, "maxphysaddr": {"bits": 46}}',
        supported_instances=(("x86_64", "kvm", "hvm"),),
        cpu_ratio=4.0,
    ),
    ram_free_mib=4096,
    vcpus_total=8,
    servers=3,
    io_ops=2,
    host_ip="10.0.0.1",
    disk_total_gib=100,
    disk_free_gib=60,
)


@pytest.mark.parametrize(
    ("value", "wanted", "fits"),
    [
        ("a", "a", True),
        ("a", "b", False),
        ("", "", True),
        ("a b", "a b", True),
        ("5", "= 4", True),
        ("3", "= 4", False),
        ("4", "== 4.0", True),
        ("4", "!= 4", False),
        ("5", ">= 5", True),
        ("5", "<= 4", False),
        ("many", ">= 4", False),
        ("4", ">= many", False),
        ("a", "s== a", True),
        ("a", "s!= a", False),
        ("a", "s< b", True),
        ("b", "s<= a", False),
        ("b", "s> a", True),
        ("a", "s>= b", False),
        ("['avx2', 'vmx']", "<in> vmx", True),
        ("['avx2', 'vmx']", "<in> svm", False),
        ("['avx2', 'vmx']", "<all-in> vmx avx", True),
        ("['avx2', 'vmx']", "<all-in> vmx svm", False),
        ("b", "<or> a <or> b", True),
        ("c", "<or> a <or> b", False),
        ("<or>", "<or> a <or> b", False),
        ("a", "<or>", False),
        ("4", ">=", False),
        ("s==", "s==", False),
        ("a", "<all-in>", False),
    ],
)
def test_the_language_of_extra_specs(value: str, wanted: str, fits: bool) -> None:
    assert matches(value, wanted) is fits


@pytest.mark.parametrize(
    ("specs", "fits"),
    [
        ({}, True),
        ({"capabilities:hypervisor_type": "QEMU"}, True),
        ({"hypervisor_type": "xen"}, False),  # no scope, but an attribute
        ({"anything": "xen"}, True),
        ({"other:hypervisor_type": "xen"}, True),
        ({"capabilities:anything": "xen"}, False),
        ({"capabilities:cpu_info:features": "<in> avx2"}, True),
        ({"capabilities:cpu_info:features": "<in> avx512"}, False),
        ({"capabilities:cpu_info:topology:cores": ">= 4"}, True),
        ({"capabilities:cpu_info:topology:threads": ">= 1"}, False),
        ({"capabilities:cpu_info:arch:more": "x"}, False),
        ({"capabilities:cpu_allocation_ratio": "4.0"}, True),
        ({"capabilities:supported_instances": "<in> 'kvm'"}, True),
        ({"hw:maxphysaddr_bits": "46"}, True),
        ({"hw:maxphysaddr_bits": "47"}, False),
        ({"capabilities:free_ram_mb": ">= 4096"}, True),
        ({"capabilities:free_ram_mb": ">= 4097"}, False),
        ({"free_ram_mb": ">= 4097"}, False),
        ({"capabilities:free_disk_mb": "== 61440", "capabilities:disk_mb_used": "== 40960"}, True),
        ({"num_instances": "<= 3"}, True),
        ({"capabilities:io_workload": "<= 1"}, False),
        ({"capabilities:stats:io_workload": "<= 2"}, True),
        ({"capabilities:service:disabled": "False"}, True),
        ({"capabilities:host_ip": "10.0.0.1"}, True),
        ({"pci_stats": "x"}, False),
        ({"hypervisor_type": "QEMU", "vcpus_total": "<= 4"}, False),
    ],
)
def test_capabilities_match_the_host(specs: dict[str, str], fits: bool) -> None:
    assert lets_pass(NAME, STATE, request(extra_specs=specs)) is fits


def test_what_a_profile_shares_is_not_asked_of_each_host() -> None:
    pipeline = Pipeline(SchedulerConfig())
    assert pipeline.lower(request(extra_specs={"capabilities:cpu_info:arch": "x86_64"})).is_plain
    both = pipeline.lower(request(extra_specs={"hypervisor_type": "QEMU", "free_ram_mb": "> 1"}))
    assert [check.name for check in both.states] == [NAME]
    assert NAME in [check.name for check in both.kind.facts]
