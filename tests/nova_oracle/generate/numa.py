"""NUMA cells and PCI devices of a host, and what a flavor may ask of them."""

from __future__ import annotations

from typing import Any

from . import words
from .dice import Dice

Case = dict[str, Any]

POLICIES = ("legacy", "required", "preferred", "socket")


def cells(dice: Dice, vcpus: int, ram_mib: int) -> list[Case]:
    """The CPUs and memory of a host in one to four cells, with threads or without, partly taken."""
    count = dice.choice((1, 1, 2, 2, 4))
    each = max(2, min(vcpus, 16) // count)
    threads, sockets, has_pages = dice.choice((1, 2, 2, 4)), dice.chance(0.9), dice.chance(0.93)
    made = []
    for number in range(count):
        cpus = list(range(number * each, (number + 1) * each))
        dedicated = cpus[dice.choice((0, 0, each // 2, each)) :]
        shared = cpus if dice.chance(0.15) else [cpu for cpu in cpus if cpu not in dedicated]
        pinned = dice.some(dedicated, dice.choice((0.0, 0.0, 0.3, 0.8)))
        memory = max(64, min(ram_mib, 65536) // count)
        made.append(
            {
                "id": number,
                "socket": number // 2 if sockets else None,
                "shared_cpus": shared,
                "dedicated_cpus": dedicated,
                "pinned_cpus": pinned,
                "siblings": [cpus[start : start + threads] for start in range(0, each, threads)],
                "ram_mib": memory,
                "ram_used_mib": int(memory * dice.choice((0.0, 0.0, 0.5, 0.95))),
                "vcpus_used": dice.choice((0, 0, 1, each)),
                "pages": _pages(dice, memory) if has_pages else [],
            }
        )
    return made


def _pages(dice: Dice, memory_mib: int) -> list[Case]:
    sizes = dice.choice(([4], [4, 2048], [4, 2048, 1048576], [4, 2048, 1048576]))
    share_kib = memory_mib * 1024 // len(sizes)
    pages = []
    for size in sizes:
        total = share_kib // size
        used = int(total * dice.choice((0.0, 0.0, 0.5, 1.0)))
        pages.append(
            {"size_kb": size, "total": total, "used": used, "reserved": min(total - used, dice.choice((0, 0, 8)))}
        )
    return pages


def pools(dice: Dice) -> list[Case]:
    """Pools of free devices as a compute node reports them."""
    made = []
    for alias in dice.some(words.PCI_ALIASES, 0.6):
        made.append(
            {
                "vendor_id": alias["vendor_id"],
                "product_id": alias["product_id"],
                "numa_node": dice.choice((None, 0, 0, 1)),
                "count": dice.choice((0, 1, 1, 2, 8, 150)),
                "dev_type": alias["device_type"],
                **({"live_migratable": dice.choice(("true", "false"))} if dice.chance(0.2) else {}),
                **({"physical_network": "physnet1"} if dice.chance(0.2) else {}),
                **({"remote_managed": dice.choice(("true", "false"))} if dice.chance(0.1) else {}),
            }
        )
    return made


def numa_specs(dice: Dice, vcpus: int, ram_mib: int) -> dict[str, str]:
    """Extra specs of the hw: namespace, most of them meaningful together."""
    specs: dict[str, str] = {}
    nodes = dice.mostly(dice.choice((0, 1, 1, 2, 2)), (3,), 0.05)
    if nodes:
        specs["hw:numa_nodes"] = str(nodes)
    if nodes == 2 and vcpus >= 2 and dice.chance(0.3):
        cut, ram_cut = dice.randint(1, vcpus - 1), dice.randint(1, ram_mib - 1)
        specs |= {"hw:numa_cpus.0": f"0-{cut - 1}", "hw:numa_mem.0": str(ram_cut)}
        specs |= {"hw:numa_cpus.1": f"{cut}-{vcpus - 1}", "hw:numa_mem.1": str(ram_mib - ram_cut)}
    if dice.chance(0.5):
        specs["hw:cpu_policy"] = dice.mostly("dedicated", ("shared", "mixed"), 0.4)
        if dice.chance(0.5):
            specs["hw:cpu_thread_policy"] = dice.choice(("prefer", "isolate", "require"))
        if specs["hw:cpu_policy"] == "mixed":
            specs["hw:cpu_dedicated_mask"] = dice.choice(("0", "^0", "0-1", "1-3,^2"))
        if dice.chance(0.2):
            specs["hw:emulator_threads_policy"] = dice.choice(("isolate", "share"))
    if dice.chance(0.5):
        specs["hw:mem_page_size"] = dice.choice(("small", "large", "any", "2048", "2MB", "1GB", "1048576", "4"))
    if dice.chance(0.1):
        specs["trait:HW_CPU_HYPERTHREADING"] = dice.choice(("required", "forbidden"))
    if dice.chance(0.08):
        specs["hw:emulator_threads_policy"] = dice.choice(("isolate", "share"))
    if dice.chance(0.05):
        specs |= {"hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": dice.choice(("^0", "1", "^0-1"))}
    if dice.chance(0.04):
        specs["hw:pmem"] = dice.choice(("SMALL", "6GB,SMALL", "SMALL,SMALL"))
    if dice.chance(0.05):
        specs["hw:locked_memory"] = "true"
    if dice.chance(0.05):
        specs |= {"resources:PCPU": str(vcpus), "resources:VCPU": "0"}
        specs.pop("hw:cpu_policy", None)
    return specs


def numa_properties(dice: Dice) -> dict[str, str]:
    """The same wishes from an image."""
    properties = {
        "hw_numa_nodes": ("1", "2"),
        "hw_cpu_policy": ("dedicated", "shared"),
        "hw_cpu_thread_policy": ("require", "isolate", "prefer"),
        "hw_mem_page_size": ("large", "2048", "any"),
        "hw_pci_numa_affinity_policy": POLICIES,
    }
    return {name: dice.choice(values) for name, values in properties.items() if dice.chance(0.15)}


def pci_specs(dice: Dice) -> dict[str, str]:
    """Devices by their aliases."""
    wanted = dice.sample([str(alias["name"]) for alias in words.PCI_ALIASES], dice.choice((1, 1, 2)))
    specs = {"pci_passthrough:alias": ",".join(f"{name}:{dice.choice((1, 1, 2, 3))}" for name in wanted)}
    if dice.chance(0.3):
        specs["hw:pci_numa_affinity_policy"] = dice.choice(POLICIES)
    return specs
