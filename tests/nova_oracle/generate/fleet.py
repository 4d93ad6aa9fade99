"""Fleets: hosts, the aggregates they are in, and the servers that live on them."""

from __future__ import annotations

from typing import Any

from . import words
from .dice import Dice
from .numa import cells, pools

Case = dict[str, Any]
Themes = frozenset[str]

RATIOS = (0.1, 0.5, 1.0, 1.5, 1 / 3, 2.0, 4.0, 16.0, 1.1)
MODELS = ((1, 1024, 10), (4, 8192, 100), (16, 65536, 500), (64, 262144, 2000), (128, 1048576, 8000))
ADDRESSES = ("10.0.0.7", "10.0.0.200", "10.0.1.9", "192.168.5.5", "2001:db8::7", "2001:db8:1::7")


def hosts(dice: Dice, themes: Themes) -> list[Case]:
    """One to a dozen hosts, of few models when ties are wanted."""
    alike = dice.chance(0.3)
    models = dice.sample(MODELS, dice.randint(1, 2 if alike else len(MODELS)))
    return [_host(dice, themes, number, dice.choice(models), alike) for number in range(dice.randint(1, 12))]


def _host(dice: Dice, themes: Themes, number: int, model: tuple[int, int, int], alike: bool) -> Case:
    vcpus, ram, disk = model
    if dice.chance(0.02):
        ram, disk = 2**26 + ram, 2**26 + disk  # times the ratio, near the largest that our table takes
    cpu_ratio = 4.0 if alike else dice.mostly(4.0, RATIOS, 0.4)
    ram_ratio = dice.mostly(1.0, RATIOS)
    full = (
        dice.choice((0.0, 0.5))
        if alike
        else dice.choice((0.0, 0.0, 1.2 if dice.chance(0.2) else 0.3, *(dice.random() for _ in range(4))))
    )
    return {
        "name": f"host-{number:02d}",
        "uuid": dice.uuid(),
        "up": not dice.chance(0.06),
        "enabled": not dice.chance(0.06),
        "forced_down": dice.chance(0.03),
        "vcpus": vcpus,
        "vcpus_used": int(vcpus * cpu_ratio * full),
        "ram_mib": ram,
        "ram_used_mib": int(ram * ram_ratio * full),
        "disk_gib": dice.mostly(disk, (0,), 0.03),
        "disk_used_gib": int(disk * full * dice.choice((0.0, 0.5, 0.5, 1.0))),
        "reserved_vcpus": dice.mostly(0, (1, 4)),
        "reserved_ram_mib": dice.mostly(512, (0, 2048, 1)),
        "reserved_disk_gib": dice.mostly(0, (5, 20)),
        "cpu_ratio": cpu_ratio,
        "ram_ratio": ram_ratio,
        "disk_ratio": dice.mostly(1.0, RATIOS),
        "servers": dice.choice((0, 0, 1, 2, 5, 49, 50, 51)),
        "io_ops": dice.choice((0, 0, 0, 1, 2, 7, 8, 9)),
        "failed_builds": dice.mostly(0, (1, 2, 100), 0.1),
        "host_ip": dice.mostly(dice.choice(ADDRESSES), ("",), 0.05),
        "hypervisor_type": dice.choice(("QEMU", "QEMU", "fake", "KVM")),
        "hypervisor_version": 8002002 if alike else dice.choice(words.HYPERVISOR_VERSIONS),
        "cpu_info": _cpu_info(dice, vcpus),
        "supported_instances": _supported(dice, themes),
        "traits": sorted(_traits(dice, themes)),
        **_custom(dice, themes),
        "metrics": _metrics(dice, themes),
        "numa": cells(dice, vcpus, ram) if "numa" in themes and dice.chance(0.85) else None,
        "pci": pools(dice) if "pci" in themes and dice.chance(0.75) else [],
    }


def _traits(dice: Dice, themes: Themes) -> list[str]:
    own = dice.some(words.TRAITS, 0.7 if "traits" in themes else 0.3)
    return own + dice.some(words.FEATURE_TRAITS, 0.8 if "features" in themes else 0.1)


def _cpu_info(dice: Dice, vcpus: int) -> Case:
    info: Case = {
        "arch": dice.choice(words.ARCHITECTURES),
        "model": dice.choice(("EPYC-Rome", "Cascadelake-Server", "qemu64")),
        "vendor": dice.choice(("AMD", "Intel")),
        "topology": {"sockets": dice.choice((1, 2)), "cores": max(1, vcpus // 2), "threads": 2},
        "features": sorted(dice.some(words.CPU_FEATURES, 0.5)),
    }
    if dice.chance(0.4):
        info["maxphysaddr"] = {"bits": dice.choice((40, 46, 52))}
    return info


def _supported(dice: Dice, themes: Themes) -> list[list[str]]:
    if "images" not in themes:
        return [["x86_64", "qemu", "hvm"], ["x86_64", "kvm", "hvm"]]
    architectures, types = dice.sample(words.ARCHITECTURES, 2), dice.sample(words.HYPERVISOR_TYPES, 2)
    return [
        [dice.choice(architectures), dice.choice(types), dice.mostly("hvm", words.VM_MODES)]
        for _ in range(dice.randint(1, 4))
    ]


def _custom(dice: Dice, themes: Themes) -> Case:
    """Inventories of resource classes that operators added, and what is used of them."""
    classes = dice.some(words.CUSTOM_CLASSES, 0.6) if "custom" in themes else []
    if themes & {"numa", "features"}:
        classes += dice.some((*words.FEATURE_CLASSES, *({"PCPU"} - set(classes))), 0.4)
    stock, used = [], {}
    for rclass in classes:
        total = dice.choice((1, 4, 10, 100, 2**31))
        stock.append(
            {
                "resource_class": rclass,
                "total": total,
                "reserved": dice.mostly(0, (1, total), 0.2),
                "min_unit": dice.mostly(1, (2, 4), 0.2),
                "max_unit": dice.mostly(total, (1, 2, 8), 0.3),
                "step_size": dice.mostly(1, (2, 3), 0.2),
                "allocation_ratio": dice.mostly(1.0, RATIOS, 0.3),
            }
        )
        used[rclass] = dice.choice((0, 0, 1, total // 2, total))
    return {"inventories": stock, "used": {rclass: amount for rclass, amount in used.items() if amount}}


def _metrics(dice: Dice, themes: Themes) -> dict[str, float]:
    if "metrics" not in themes:
        return {}
    times = {name: dice.choice((0, 1, 1500, 2**40)) for name in dice.some(words.TIME_METRICS, 0.7)}
    percents = {
        name: dice.choice((0.0, 0.29, 0.57, 1.0, dice.random())) for name in dice.some(words.PERCENT_METRICS, 0.7)
    }
    return {**times, **percents}


def aggregates(dice: Dice, themes: Themes, names: list[str]) -> list[Case]:
    """Aggregates that share keys; each host is in one zone at most."""
    made = []
    if "zones" in themes:
        for name in names:
            zone = dice.mostly(dice.choice(words.ZONES), ("",), 0.2)
            found = [aggregate for aggregate in made if aggregate["metadata"]["availability_zone"] == zone]
            if zone and found:
                found[0]["hosts"].append(name)
            elif zone:
                made.append({"hosts": [name], "metadata": {"availability_zone": zone}})
    for _ in range(dice.randint(1, 5) if "aggregates" in themes else dice.randint(0, 1)):
        made.append({"hosts": dice.some(names, 0.5), "metadata": _metadata(dice)})
    for number, aggregate in enumerate(made):
        aggregate |= {"uuid": dice.uuid(), "name": f"aggregate-{number}"}
        if dice.chance(0.2):
            aggregate["metadata"] |= _metadata(dice)
    return made


def _metadata(dice: Dice) -> dict[str, str]:
    metadata = {key: dice.choice(words.SPEC_VALUES) for key in dice.some(words.SPEC_KEYS, 0.3)}
    metadata |= {name: dice.choice(words.MULTIPLIERS) for name in dice.some(words.MULTIPLIER_NAMES, 0.08)}
    if dice.chance(0.2):
        metadata["metrics_weight_multiplier"] = dice.choice(words.MULTIPLIERS)
    for key in ("max_io_ops_per_host", "max_instances_per_host"):
        if dice.chance(0.3):
            metadata[key] = dice.choice(words.LIMITS)
    for key in dice.some(("filter_tenant_id", "filter_tenant_id1", "filter_tenant_idX"), 0.15):
        metadata[key] = dice.choice(words.TENANTS)
    if dice.chance(0.3):
        metadata["instance_type"] = dice.choice(words.TYPES)
    for key, values in {**words.IMAGE_PROPERTIES, **words.ODD_PROPERTIES}.items():
        if dice.chance(0.12):
            metadata[key] = ",".join(dice.few(values, 2)) if dice.chance(0.5) else dice.choice(values)
    if dice.chance(0.15):
        metadata[f"trait:{dice.choice(words.TRAITS)}"] = dice.mostly("required", ("Required", "", "forbidden"), 0.2)
    if dice.chance(0.1):
        metadata["hw_architecture"] = dice.choice(words.ARCHITECTURE_NAMES)
    return metadata


def servers(dice: Dice, themes: Themes, names: list[str]) -> list[Case]:
    """Servers on the hosts, some in groups, with the properties of the images they were made from."""
    count = dice.randint(0, 20) if themes & {"groups", "hints", "images"} else dice.randint(0, 3)
    homes = dice.sample(names, min(len(names), dice.choice((1, 2, 100))))  # of groups
    made = []
    for _ in range(count):
        group = dice.mostly("", words.GROUPS, 0.6 if "groups" in themes else 0.1)
        properties = image_properties(dice) if "images" in themes else {}
        host = dice.choice(homes if group else names)
        made.append({"id": dice.uuid(), "host": host, "group": group, "properties": properties})
    return made


def image_properties(dice: Dice) -> dict[str, str]:
    """Properties as an image has them in Glance: strings."""
    chosen = {key: dice.choice(values) for key, values in words.IMAGE_PROPERTIES.items() if dice.chance(0.3)}
    chosen |= {key: dice.choice(values) for key, values in words.ODD_PROPERTIES.items() if dice.chance(0.1)}
    return chosen
