"""Random fleets and requests in which every filter and weigher has something to say."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from nova_fast.config import SchedulerConfig
from nova_fast.model.hosts import Claim
from nova_fast.model.tasks import GroupRule, PlacementRequest
from nova_fast.model.topology import NumaCell, PciPool
from nova_fast.scheduler.facts import HostFacts, HostState, Offer
from nova_fast.scheduler.filters import CLASSES
from tests.unit.scheduler.reference import ReferenceFleet

EVERY_FILTER = tuple(dict.fromkeys(cls.name for cls in CLASSES))
TRAITS = ("HW_CPU_X86_AVX2", "COMPUTE_NODE", "CUSTOM_GOLD")
GROUPS = ("g-near", "g-apart", "g-soft-near", "g-soft-apart")
POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")
METADATA: dict[str, tuple[str, ...]] = {
    "availability_zone": ("z1", "z2"),
    "ssd": ("true", "false", "true,false"),
    "cores": ("4", "8", "many"),
    "filter_tenant_id": ("p1", "p2, p1"),
    "filter_tenant_id2": ("p2",),
    "instance_type": ("m1.small", "m1.large, m1.small"),
    "max_io_ops_per_host": ("1", "3", "none"),
    "max_instances_per_host": ("2", "4"),
    "os_distro": ("debian", "debian, windows"),
    "hw_boot_menu": ("True", "False"),
    "trait:CUSTOM_GOLD": ("required",),
    "ram_weight_multiplier": ("-1.0", "2", "much"),
    "io_ops_weight_multiplier": ("0.5", "-3"),
    "build_failure_weight_multiplier": ("2",),
    "soft_affinity_weight_multiplier": ("3.5",),
    "metrics_weight_multiplier": ("0", "1.5"),
}
EXTRA_SPECS: dict[str, tuple[str, ...]] = {
    "capabilities:hypervisor_type": ("QEMU", "s== QEMU", "<or> QEMU <or> fake"),
    "capabilities:hypervisor_version": (">= 8000000", "<= 7000000", "= 7000000"),
    "capabilities:cpu_info:features": ("<in> avx2", "<all-in> avx2 sse"),
    "capabilities:cpu_info:topology:cores": ("<or> 2 <or> 4", ">= 4"),
    "capabilities:nothing": ("1",),
    "capabilities:free_ram_mb": (">= 2048",),
    "capabilities:stats:num_instances": ("<= 2",),
    "vcpus_total": (">= 4",),
    "ssd": ("true",),
    "aggregate_instance_extra_specs:cores": ("= 6", "<or> 4 <or> many", "s>= 4"),
    "trait:HW_CPU_X86_AVX2": ("required", "forbidden"),
    "trait1:CUSTOM_GOLD": ("required",),
    "hw:cpu_policy": ("dedicated",),
    "hw:numa_nodes": ("1",),
    "pci_passthrough:alias": ("gpu:1", "gpu:2"),
}
IMAGE_PROPERTIES: dict[str, tuple[str, ...]] = {
    "hw_architecture": ("x86_64", "amd64", "aarch64"),
    "hypervisor_type": ("kvm", "QEMU"),
    "hw_vm_mode": ("hvm", "hv"),
    "img_hv_requested_version": (">=7.0,<8.2", "!=7.0.0", "no version"),
    "os_distro": ("debian", "windows"),
    "hw_boot_menu": ("yes", "no"),
    "trait:COMPUTE_NODE": ("required",),
    "anything": ("goes",),
}
QUERIES = (
    '[">=", "$free_ram_mb", 2048]',
    '["and", ["<", "$vcpus_used", 4], ["in", "$hypervisor_type", "QEMU", "fake"]]',
    '["or", ["not", ["=", "$stats.num_instances", "0"]], ["=", "$service.disabled", false]]',
    '["not", [">", "$num_io_ops", 0], [">", "$nothing", 1]]',
)


def _some(rng: random.Random, of: dict[str, tuple[str, ...]], chance: float) -> dict[str, str]:
    return {key: rng.choice(values) for key, values in of.items() if rng.random() < chance}


def random_options(rng: random.Random) -> SchedulerConfig:
    """Every filter, or a few of them in some order."""
    names = list(EVERY_FILTER) if rng.random() < 0.3 else rng.sample(EVERY_FILTER, rng.randrange(1, 8))
    changes: dict[str, Any] = {
        "isolated_images": ("image-1",) if rng.random() < 0.5 else (),
        "restrict_isolated_hosts_to_isolated_images": rng.random() < 0.5,
        "isolated_hosts": ("host-1", "host-3"),
        "max_io_ops_per_host": rng.randrange(1, 5),
        "max_instances_per_host": rng.randrange(1, 6),
        "metrics_weight_setting": ("cpu.percent=0.1", "fan=-2") if rng.random() < 0.4 else (),
        "metrics_required": False,
        "image_props_weight_multiplier": rng.choice((0.0, 1.0, -0.7)),
        "image_props_weight_setting": ("os_distro=0.3", "hw_boot_menu=1.1") if rng.random() < 0.5 else (),
        "num_instances_weight_multiplier": rng.choice((0.0, -0.3)),
        "enable_isolated_aggregate_filtering": rng.random() < 0.3,
        "image_properties_default_architecture": rng.choice(("", "x86_64")),
        "aggregate_image_properties_isolation_namespace": rng.choice(("", "", "os")),
        "aggregate_image_properties_isolation_separator": "_",
        "cpu_weight_multiplier": rng.choice((1.0, -0.1)),
        "pci_alias": ('{"name": "gpu", "vendor_id": "10de"}',),
    }
    return SchedulerConfig(enabled_filters=tuple(names), **changes)


def random_facts(rng: random.Random, isolated: bool) -> HostFacts:
    aggregates = {tuple(sorted(_some(rng, METADATA, 0.06).items())) for _ in range(rng.randrange(3))} - {()}
    kinds = [("x86_64", "kvm", "hvm"), ("x86_64", "qemu", "hvm"), ("aarch64", "qemu", "hvm"), ("i686", "kvm", "xen")]
    return HostFacts(
        zone=rng.choice(("z1", "nova")),
        aggregates=tuple(sorted(aggregates)),
        traits=frozenset(trait for trait in TRAITS if rng.random() < 0.6),
        supported_instances=tuple(rng.sample(kinds, rng.randrange(len(kinds)))),
        hypervisor_type=rng.choice(("QEMU", "fake")),
        hypervisor_version=rng.choice((7000000, 8001002, 0)),
        cpu_info=rng.choice(
            (
                '{"features": ["avx2", "sse"], "topology": {"cores": 4}, "maxphysaddr": {"bits": 46}}',
                '{"features": ["sse"], "topology": {"cores": 2}}',
                "",
            )
        ),
        cpu_ratio=rng.choice((1.0, 4.0, 1.7)),
        isolated=isolated,
        vcpus_max=rng.choice((2**31 - 1, 4)),
    )


def random_state(rng: random.Random, name: str, options: SchedulerConfig) -> HostState:
    properties = {("os_distro", "debian"): rng.randrange(3), ("hw_boot_menu", "True"): rng.randrange(3)}
    metrics = {name: rng.randrange(100) / 1 for name in ("cpu.percent", "fan") if rng.random() < 0.8}
    return HostState(
        name=name,
        facts=random_facts(rng, name in options.isolated_hosts),
        host_ip=f"10.0.{rng.randrange(2)}.{rng.randrange(1, 255)}" if rng.random() < 0.9 else "",
        up=rng.random() < 0.95,
        enabled=rng.random() < 0.95,
        vcpus_total=rng.choice((2, 4, 8)),
        vcpus_used=rng.randrange(6),
        ram_total_mib=8192,
        ram_free_mib=rng.randrange(-512, 8192, 64),
        disk_total_gib=100,
        disk_free_gib=rng.randrange(-5, 100),
        room=Claim(vcpus=rng.randrange(-1, 32), ram_mib=rng.randrange(-100, 8192), disk_gib=rng.randrange(-5, 100)),
        io_ops=rng.randrange(4),
        servers=rng.randrange(6),
        failed_builds=rng.choice((0, 0, 0, 1, 3)),
        pci_free=rng.choice((0, 0, 2, 150)),
        numa=_cells(rng),
        pci=(PciPool(vendor_id="10de", product_id="1", count=rng.randrange(3)),),
        metrics=metrics,
        image_properties=properties,
    )


def _cells(rng: random.Random) -> tuple[NumaCell, ...]:
    siblings = tuple((cpu,) for cpu in range(8))
    return tuple(
        NumaCell(
            number=number,
            shared_cpus=(0, 1, 2, 3),
            dedicated_cpus=(4, 5, 6, 7),
            pinned_cpus=tuple(rng.sample((4, 5, 6, 7), rng.randrange(5))),
            siblings=siblings,
            ram_mib=rng.choice((256, 4096)),
            vcpus_used=rng.randrange(5),
        )
        for number in range(rng.randrange(3))
    )


def random_fleet(rng: random.Random, options: SchedulerConfig, size: int) -> ReferenceFleet:
    states = [random_state(rng, f"host-{number}", options) for number in range(size)]
    if rng.random() < 0.5:  # many hosts with the same facts, as fleets have them
        few = rng.sample(states, min(2, size))
        states = [_with_facts(state, rng.choice(few).facts, options) for state in states]
    servers = {f"server-{number}": f"host-{rng.randrange(size)}" for number in range(size)}
    groups = {group: set(rng.sample(sorted(servers), rng.randrange(min(5, size + 1)))) for group in GROUPS}
    gold = {
        state.name: Offer(rng.randrange(5), rng.choice((1, 2)), rng.choice((2, 8)), rng.choice((1, 2)))
        for state in states
        if rng.random() < 0.7
    }
    return ReferenceFleet(states, servers, groups, {"CUSTOM_GOLD": gold})


def _with_facts(state: HostState, facts: HostFacts, options: SchedulerConfig) -> HostState:
    facts = msgspec.structs.replace(facts, isolated=state.name in options.isolated_hosts)
    return msgspec.structs.replace(state, facts=facts)


def random_request(rng: random.Random, size: int) -> PlacementRequest:
    hints: dict[str, str | list[str]] = {}
    if rng.random() < 0.1:
        hints["query"] = rng.choice(QUERIES)
    if rng.random() < 0.1:
        hints["same_host"] = [f"server-{rng.randrange(size)}" for _ in range(rng.randrange(1, 4))]
    if rng.random() < 0.1:
        hints["different_host"] = rng.choice((f"server-{rng.randrange(size)}", ["server-0", "server-1", "unknown"]))
    if rng.random() < 0.1:
        hints["build_near_host_ip"] = "10.0.1.7"
        if rng.random() < 0.5:
            hints["cidr"] = "/16"
    group = None
    if rng.random() < 0.4:
        number = rng.randrange(4)
        group = GroupRule(id=GROUPS[number], policy=POLICIES[number], max_servers_per_host=rng.randrange(1, 3))
    resources = {"CUSTOM_GOLD": rng.randrange(1, 4)} if rng.random() < 0.1 else {}
    return PlacementRequest(
        server_id=f"server-{rng.randrange(2 * size)}",
        claim=Claim(vcpus=rng.choice((1, 2, 6)), ram_mib=rng.choice((0, 512, 2048)), disk_gib=1, resources=resources),
        zone=rng.choice(("", "", "z1", "nova", "nowhere")),
        excluded_hosts=tuple(f"host-{rng.randrange(size)}" for _ in range(rng.choice((0, 0, 1, 2)))),
        requested_host=f"host-{rng.randrange(size)}" if rng.random() < 0.05 else "",
        hints=hints,
        extra_specs=_some(rng, EXTRA_SPECS, 0.05),
        image_properties=_some(rng, IMAGE_PROPERTIES, 0.1),
        project_id=rng.choice(("p1", "p2", "p3")),
        flavor_name=rng.choice(("m1.small", "m1.large")),
        image_id=rng.choice(("image-1", "image-2", "")),
        group=group,
    )
