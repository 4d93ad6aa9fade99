"""Requests: a flavor with its extra specs, an image, hints, a group and the rest."""

from __future__ import annotations

import json
from typing import Any

from . import words
from .dice import Dice
from .fleet import ADDRESSES, Themes, image_properties
from .numa import numa_specs, pci_specs

Case = dict[str, Any]

OPERATORS = ("=", "==", "!=", ">=", "<=", "s==", "s!=", "s<", "s<=", "s>", "s>=", "<in>", "<all-in>", "<or>")
ODD_REQUIREMENTS = (
    "",
    " ",
    "<or>",
    "<in>",
    "s==",
    ">= abc",
    "= ",
    "<or> a <or>",
    "== 1 2",
    "!= x",
    "=8",
    "s== a b",
    "<= nan",
)
POLICIES = ("affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity")
COMMANDS = ("=", "<", ">", "in", "<=", ">=", "not", "or", "and")


def request(dice: Dice, themes: Themes, fleet: list[Case], servers: list[Case]) -> Case:
    known = [server["id"] for server in servers]
    group = _group(dice) if dice.chance(0.85 if "groups" in themes else 0.03) else None
    server_id = dice.uuid()
    if servers and dice.chance(0.05):  # a move
        moved = dice.choice([server for server in servers if group and server["group"] == group["id"]] or servers)
        server_id = moved["id"]
        group = group if group and moved["group"] == group["id"] else None
    return {
        "server_id": server_id,
        "project_id": dice.choice(words.PROJECTS),
        "flavor": _flavor(dice, themes),
        "image": _image(dice, themes),
        "hints": _hints(dice, themes, known),
        "group": group,
        "requested_host": dice.choice(fleet)["name"] if dice.chance(0.04) else "",
        "excluded_hosts": dice.few([host["name"] for host in fleet], 3) if dice.chance(0.1) else [],
    }


def _flavor(dice: Dice, themes: Themes) -> Case:
    vcpus, ram = dice.choice(((1, 512), (1, 2048), (2, 4096), (4, 8192), (16, 65536), (1, 1)))
    if dice.chance(0.02):
        ram = 2**31 - 2 - ram
    specs: dict[str, str] = {}
    if "aggregates" in themes:
        for key in dice.few(words.SPEC_KEYS, 2):
            scope = dice.mostly("aggregate_instance_extra_specs:", ("", "other:"), 0.3)
            specs[f"{scope}{key}"] = requirement(dice, words.SPEC_VALUES)
    if "capabilities" in themes:
        specs |= _capabilities(dice)
    if "custom" in themes:
        specs |= {
            f"resources:{rclass}": dice.choice(("0", "1", "2", "4", "7", "x", "-1", "")) for rclass in _classes(dice)
        }
    if "traits" in themes:
        for name in dice.few(words.TRAITS, 3):
            specs[f"trait:{name}"] = dice.mostly("required", ("forbidden", "maybe"), 0.3)
    if "features" in themes:
        specs |= {name: dice.choice(words.FEATURE_SPECS[name]) for name in dice.few(tuple(words.FEATURE_SPECS), 3)}
        if dice.chance(0.15):
            specs["hw:mem_encryption"] = dice.choice(("true", "yes", "false"))
        if dice.chance(0.1):
            specs["hw:mem_encryption_model"] = dice.choice(("amd-sev", "amd-sev-es"))
    if "numa" in themes:
        specs |= numa_specs(dice, vcpus, ram)
    if "pci" in themes and dice.chance(0.8):
        specs |= pci_specs(dice)
    if dice.chance(0.05):
        specs |= {"quota:cpu_shares": "2", "hw_rng:allowed": "true"}
    return {
        "name": dice.choice(words.FLAVORS),
        "vcpus": vcpus,
        "ram_mib": ram,
        "disk_gib": dice.choice((0, 1, 10, 20, 200)),
        "ephemeral_gib": dice.mostly(0, (5, 50)),
        "swap_mib": dice.mostly(0, (1, 1024, 1500)),
        "extra_specs": specs,
    }


def _classes(dice: Dice) -> list[str]:
    own = dice.some(("VCPU", "MEMORY_MB", "DISK_GB"), 0.1)
    return dice.few(words.CUSTOM_CLASSES[:3], 2) + own + dice.some(("CUSTOM_UNKNOWN", "CUSTOM_OTHER"), 0.05)


def requirement(dice: Dice, values: tuple[str, ...]) -> str:
    """A value, an operator with operands, or something malformed."""
    if dice.chance(0.06):
        return dice.choice(ODD_REQUIREMENTS)
    if dice.chance(0.3):
        return dice.choice(values)
    operator = dice.choice(OPERATORS)
    operands = [dice.choice(values) for _ in range(dice.randint(1, 3))]
    if operator == "<or>":
        return " ".join(f"<or> {operand}" for operand in operands)
    if operator == "<all-in>":
        return f"<all-in> {' '.join(operands)}"
    numeric = ("8", "4.5", "16", "0", "-1", "1e3", "0x10")
    return f"{operator} {operands[0] if operator[0] in 's<' and operator != '<=' else dice.choice(numeric)}"


def _capabilities(dice: Dice) -> dict[str, str]:
    """Requirements on what a host says of itself: its attributes, its CPU, its statistics."""
    specs: dict[str, str] = {}
    for _ in range(dice.randint(1, 3)):
        kind = dice.choice(("attribute", "attribute", "cpu", "features", "topology", "statistic", "nothing"))
        scope = dice.mostly("capabilities:", ("",), 0.2)
        if kind == "attribute":
            specs[scope + dice.choice(words.ATTRIBUTES)] = requirement(
                dice, ("1024", "8", "QEMU", "host-01", "10.0.0.7", "8002002", "4.0", "50", "2048.0")
            )
        elif kind == "cpu":
            name = dice.choice(("arch", "model", "vendor", "missing"))
            specs[f"capabilities:cpu_info:{name}"] = requirement(
                dice, ("x86_64", "AMD", "EPYC-Rome", "Intel", "qemu64")
            )
        elif kind == "features":
            specs["capabilities:cpu_info:features"] = requirement(dice, words.CPU_FEATURES)
        elif kind == "topology":
            path = dice.choice(("cores", "sockets", "threads", "cells", "cores:deeper", "missing"))
            specs[f"capabilities:cpu_info:topology:{path}"] = requirement(dice, ("1", "2", "4", "64"))
        elif kind == "statistic":
            name = dice.choice(("stats:num_instances", "io_workload", "failed_builds", "stats:io_workload", "stats"))
            specs[f"capabilities:{name}"] = requirement(dice, ("0", "1", "8", "50"))
        else:
            path = dice.choice(("no_such_thing", "host:deeper", "hypervisor_type:x", "free_ram_mb:x", "limits:x", ""))
            specs[f"capabilities:{path}"] = requirement(dice, ("1", "x"))
    if dice.chance(0.15):
        specs["hw:maxphysaddr_bits"] = dice.choice(("40", "46", "52"))
        specs["hw:maxphysaddr_mode"] = "emulate"
    return specs


def _image(dice: Dice, themes: Themes) -> Case | None:
    if dice.chance(0.04):
        return None
    identity = dice.choice(words.IMAGES)
    if "images" not in themes:
        properties = {} if dice.chance(0.7) else image_properties(dice)
        return {"id": identity, "properties": properties | _features(dice, themes)}
    properties = image_properties(dice)
    old = dice.chance(0.2)
    odd = {
        ("architecture" if old else "hw_architecture"): (dice.choice(words.ARCHITECTURE_NAMES), 0.5),
        ("hypervisor_type" if old else "img_hv_type"): (dice.choice(words.HYPERVISOR_TYPE_NAMES), 0.4),
        ("vm_mode" if old else "hw_vm_mode"): (dice.choice(words.VM_MODE_NAMES), 0.4),
        ("hypervisor_version_requires" if old else "img_hv_requested_version"): (
            dice.choice(words.VERSION_REQUIREMENTS),
            0.4,
        ),
        "hw_maxphysaddr_bits": (dice.choice(("40", "46", "52")), 0.06),
    }
    properties |= {name: value for name, (value, probability) in odd.items() if dice.chance(probability)}
    if "traits" in themes and dice.chance(0.4):
        properties[f"trait:{dice.choice(words.TRAITS)}"] = "required"
    return {"id": identity, "properties": properties | _features(dice, themes)}


def _features(dice: Dice, themes: Themes) -> dict[str, str]:
    if "features" not in themes:
        return {}
    return {name: dice.choice(words.FEATURE_PROPERTIES[name]) for name in dice.few(tuple(words.FEATURE_PROPERTIES), 3)}


def _hints(dice: Dice, themes: Themes, known: list[str]) -> Case:
    hints: Case = {}
    if "hints" in themes:
        for name in dice.some(("different_host", "same_host"), 0.6):
            wanted = dice.few([*known, "no-such-server", ""], 3)
            hints[name] = wanted[0] if len(wanted) == 1 and dice.chance(0.5) else wanted
        if dice.chance(0.4):
            hints["build_near_host_ip"] = dice.mostly(dice.choice(ADDRESSES), ("", "10.0.0", "nonsense"), 0.1)
        if dice.chance(0.4):
            hints["cidr"] = dice.choice(
                ("/24", "/16", "/32", "/0", "/64", "/255.255.0.0", "24", "/99", "", "/0.0.0.255")
            )
    if "queries" in themes:
        hints["query"] = _query(dice)
    if dice.chance(0.05):
        hints["unknown_hint"] = "x"
    return hints


def _query(dice: Dice) -> str | list[str]:
    odd = ("", "[]", "{}", "not json", '["nonsense", 1]', '"x"', "[[]]", '["and"]', '["not"]', "3", '["=", "$x.y", 1]')
    if dice.chance(0.08):
        return dice.choice(odd)
    return json.dumps(_expression(dice, 0), ensure_ascii=dice.chance(0.5))


def _expression(dice: Dice, depth: int) -> list[Any]:
    command = dice.choice(COMMANDS[:6] if depth > 2 or dice.chance(0.3) else COMMANDS)
    if command in ("and", "or", "not"):
        return [command, *(_expression(dice, depth + 1) for _ in range(dice.randint(0 if dice.chance(0.1) else 1, 3)))]
    if dice.chance(0.05):
        return [command, _operand(dice)]
    if command == "in" or dice.chance(0.15):
        names = ["host-00", "host-01", "QEMU", "10.0.0.7"]
        return [command, f"${dice.choice(('host', 'hypervisor_type', 'host_ip'))}", *dice.few(names, 3)]
    return [
        command,
        f"${dice.choice(words.ATTRIBUTES[:10])}",
        *(_operand(dice) for _ in range(dice.choice((1, 1, 1, 2)))),
    ]


def _operand(dice: Dice) -> Any:
    odd = ("$missing", "", None, True, [], "text", ["not", []], "$stats.num_instances", "$cpu_info", "$host.deeper")
    if dice.chance(0.05):
        return dice.choice(odd)
    return dice.choice((0, 1, 8, 1024, 4096, 4.5, 65536, -1, 2**40, "$free_ram_mb", "$vcpus_total", "$num_instances"))


def _group(dice: Dice) -> Case:
    policy = dice.choice((*POLICIES, "anti-affinity"))
    most = dice.choice((0, 0, 1, 2, 3)) if policy == "anti-affinity" else 0  # 0 = the group has no such rule
    return {"id": dice.choice(words.GROUPS), "policy": policy, "max_servers_per_host": most}
