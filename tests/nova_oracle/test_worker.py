"""The worker says what Nova's documentation says: so it is Nova that we compare with, and it is given what it needs.

The expectations are written by hand from Nova's administrator guide ("Compute schedulers").
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .peer import Nova, missing
from .plain import aggregate, case, host, server

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

Case = dict[str, Any]
GROUP = "a0000000-0000-4000-8000-000000000001"
ONE, TWO = "host-1", "host-2"


@pytest.fixture(scope="module")
def nova() -> Iterator[Nova]:
    with Nova() as worker:
        yield worker


def passed(nova: Nova, name: str, asked: Case) -> list[str]:
    answer = nova.judge({**asked, "asked": [name]})
    assert answer["filters"][name]["raised"] == {}
    found: list[str] = answer["filters"][name]["passed"]
    return found


def weights(nova: Nova, asked: Case) -> list[float]:
    answer = nova.judge({**asked, "asked": []})["weights_of_all"]
    return [float.fromhex(answer[name]) for name in sorted(answer)]


def test_it_is_the_nova_that_is_meant(nova: Nova) -> None:
    assert nova.version == "34.0.0"


def test_compute_filter_passes_hosts_that_are_enabled_and_were_heard_of(nova: Nova) -> None:
    hosts = [host(ONE), host(TWO, up=False), host("host-3", enabled=False), host("host-4", forced_down=True)]
    assert passed(nova, "ComputeFilter", case(hosts)) == [ONE]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({"capabilities:cpu_info:features": "<in> avx"}, [ONE]),
        ({"capabilities:hypervisor_version": ">= 8000000"}, [ONE]),
        ({"capabilities:cpu_info:topology:cores": "= 8"}, []),
        ({"capabilities:hypervisor_type": "s== QEMU"}, [ONE, TWO]),
        ({"capabilities:vcpus_total": "<or> 4 <or> 64"}, [ONE, TWO]),
        ({"other:thing": "x"}, [ONE, TWO]),
    ],
)
def test_capabilities(nova: Nova, spec: Case, wanted: list[str]) -> None:
    second = host(TWO, hypervisor_version=7000000)
    second["cpu_info"]["features"] = ["aes"]
    asked = case([host(ONE, hypervisor_version=8002002), second], extra_specs=spec)
    assert passed(nova, "ComputeCapabilitiesFilter", asked) == wanted


def test_image_properties_need_a_host_that_supports_them_all(nova: Nova) -> None:
    second = host(TWO, supported_instances=[["aarch64", "kvm", "hvm"], ["x86_64", "qemu", "xen"]])
    asked = case([host(ONE), second], properties={"hw_architecture": "x86_64", "hw_vm_mode": "hvm"})
    assert passed(nova, "ImagePropertiesFilter", asked) == [ONE]


def test_an_aggregates_extra_specs_are_alternatives(nova: Nova) -> None:
    groups = [aggregate([ONE], gpu="a100, v100"), aggregate([TWO], gpu="t4")]
    asked = case(
        [host(ONE), host(TWO)],
        aggregates=groups,
        extra_specs={"aggregate_instance_extra_specs:gpu": "<or> v100 <or> x"},
    )
    assert passed(nova, "AggregateInstanceExtraSpecsFilter", asked) == [ONE]


def test_tenants_keep_to_their_aggregates(nova: Nova) -> None:
    groups = [aggregate([ONE], filter_tenant_id="p2, p3")]
    asked = case([host(ONE), host(TWO)], aggregates=groups)
    assert passed(nova, "AggregateMultiTenancyIsolation", asked) == [TWO]
    assert passed(
        nova, "AggregateMultiTenancyIsolation", {**asked, "request": {**asked["request"], "project_id": "p3"}}
    )[0] == (ONE)


def test_limits_of_aggregates_take_the_smallest(nova: Nova) -> None:
    groups = [aggregate([ONE], max_io_ops_per_host="3"), aggregate([ONE, TWO], max_io_ops_per_host="9")]
    asked = case([host(ONE, io_ops=3), host(TWO, io_ops=8)], aggregates=groups)
    assert passed(nova, "IoOpsFilter", asked) == [ONE]
    assert passed(nova, "AggregateIoOpsFilter", asked) == [TWO]


def test_groups_keep_together_or_apart(nova: Nova) -> None:
    living = [server(1, ONE, GROUP), server(2, ONE, GROUP)]
    for policy, most, wanted in (("affinity", 0, [ONE]), ("anti-affinity", 0, [TWO]), ("anti-affinity", 3, [ONE, TWO])):
        group = {"id": GROUP, "policy": policy, "max_servers_per_host": most}
        asked = case([host(ONE), host(TWO)], servers=living, request={"group": group})
        name = "ServerGroupAffinityFilter" if policy == "affinity" else "ServerGroupAntiAffinityFilter"
        assert passed(nova, name, asked) == wanted


def test_hints_name_hosts_by_their_servers_and_networks(nova: Nova) -> None:
    living = [server(1, ONE)]
    hosts = [host(ONE), host(TWO, host_ip="10.0.9.1")]
    hints = {"same_host": living[0]["id"], "different_host": [living[0]["id"]], "build_near_host_ip": "10.0.9.77"}
    asked = case(hosts, servers=living, request={"hints": hints})
    assert passed(nova, "SameHostFilter", asked) == [ONE]
    assert passed(nova, "DifferentHostFilter", asked) == [TWO]
    assert passed(nova, "SimpleCIDRAffinityFilter", asked) == [TWO]


def test_a_query_is_an_expression_over_host_states(nova: Nova) -> None:
    query = ["and", [">=", "$free_ram_mb", 4096], ["not", ["=", "$host", TWO]]]
    asked = case([host(ONE), host(TWO), host("host-3", ram_mib=1024)], request={"hints": {"query": json.dumps(query)}})
    assert passed(nova, "JsonFilter", asked) == [ONE, TWO]  # not gives a list, and a list with something in it is true


def test_placement_counts_ratios_reserved_amounts_traits_and_zones(nova: Nova) -> None:
    hosts = [
        host(ONE, vcpus=1, cpu_ratio=2.0, vcpus_used=1),
        host(TWO, vcpus=1, cpu_ratio=2.0, vcpus_used=2),
        host("host-3", ram_mib=512, reserved_ram_mib=512),
        host("host-4", enabled=False),
    ]
    assert nova.judge(case(hosts))["placement"] == [ONE]
    marked = case([host(ONE, traits=["CUSTOM_GOLD"]), host(TWO)], extra_specs={"trait:CUSTOM_GOLD": "forbidden"})
    assert nova.judge(marked)["placement"] == [TWO]
    zoned = case([host(ONE), host(TWO)], aggregates=[aggregate([TWO], availability_zone="z")], request={"zone": "z"})
    assert nova.judge(zoned)["placement"] == [TWO]


def test_weights_are_normalised_against_a_fixed_minimum_of_zero(nova: Nova) -> None:
    """RAM: 1 and 0.5; CPU, disk: alike, so divided by the largest: 1 each."""
    assert weights(nova, case([host(ONE, ram_mib=8192), host(TWO, ram_mib=4096)])) == [3.0, 2.5]


def test_one_candidate_is_not_weighed(nova: Nova) -> None:
    assert weights(nova, case([host(ONE)])) == [0.0]


def test_an_aggregate_overrides_a_multiplier_and_the_smallest_counts(nova: Nova) -> None:
    groups = [aggregate([TWO], ram_weight_multiplier="3"), aggregate([TWO, ONE], ram_weight_multiplier="2")]
    asked = case([host(ONE, ram_mib=8192), host(TWO, ram_mib=4096)], aggregates=groups)
    assert weights(nova, asked) == [4.0, 3.0]


def test_images_alike_attract_when_the_multiplier_says_so(nova: Nova) -> None:
    options = {"filter_scheduler.image_props_weight_multiplier": 1.0}
    living = [server(1, TWO, os_distro="debian"), server(2, TWO, os_distro="debian")]
    asked = case([host(ONE), host(TWO)], servers=living, options=options, properties={"os_distro": "debian"})
    assert weights(nova, asked) == [3.0, 4.0]


def test_numa_and_pci_are_judged_too(nova: Nova) -> None:
    cell = {
        "id": 0,
        "socket": 0,
        "shared_cpus": [0, 1],
        "dedicated_cpus": [],
        "pinned_cpus": [],
        "siblings": [[0], [1]],
    }
    cell |= {"ram_mib": 4096, "ram_used_mib": 0, "vcpus_used": 0}
    cell["pages"] = [{"size_kb": 4, "total": 1048576, "used": 0, "reserved": 0}]
    asked = case([host(ONE, numa=[cell]), host(TWO)], extra_specs={"hw:numa_nodes": "1"})
    assert passed(nova, "NUMATopologyFilter", asked) == [ONE]
    alias = {"name": "qat", "vendor_id": "8086", "product_id": "37c8", "device_type": "type-PCI"}
    pool = {"vendor_id": "8086", "product_id": "37c8", "numa_node": None, "count": 1, "dev_type": "type-PCI"}
    asked = case([host(ONE, pci=[pool]), host(TWO)], extra_specs={"pci_passthrough:alias": "qat:1"})
    asked["options"] = {"pci.alias": [json.dumps(alias)]}
    assert passed(nova, "PciPassthroughFilter", asked) == [ONE]
