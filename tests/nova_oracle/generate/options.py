"""The options of the scheduler: which filters are enabled, multipliers, limits, lists."""

from __future__ import annotations

import json
from typing import Any

from . import words
from .dice import Dice
from .fleet import Themes

Case = dict[str, Any]

DEFAULT_FILTERS = (
    "ComputeFilter",
    "ComputeCapabilitiesFilter",
    "ImagePropertiesFilter",
    "ServerGroupAntiAffinityFilter",
    "ServerGroupAffinityFilter",
)
FILTERS = (
    *DEFAULT_FILTERS,
    "AggregateImagePropertiesIsolation",
    "AggregateInstanceExtraSpecsFilter",
    "AggregateIoOpsFilter",
    "AggregateMultiTenancyIsolation",
    "AggregateNumInstancesFilter",
    "AggregateTypeAffinityFilter",
    "AllHostsFilter",
    "DifferentHostFilter",
    "IoOpsFilter",
    "IsolatedHostsFilter",
    "JsonFilter",
    "MetricsFilter",
    "NUMATopologyFilter",
    "NumInstancesFilter",
    "PciPassthroughFilter",
    "SameHostFilter",
    "SimpleCIDRAffinityFilter",
)
MULTIPLIERS = (0.0, 0.5, 1.0, 2.0, 1000.0, 0.1, 1e6, 1e-9)
SETTINGS = ("=1.0", "=-0.5", "=0", "=2", "=1e3", "", "=abc", "=1=2", "= 3 ")


def enabled_filters(dice: Dice) -> list[str]:
    if dice.chance(0.4):
        return list(DEFAULT_FILTERS)
    return dice.sample(FILTERS, dice.randint(0, 8))


def options(dice: Dice, themes: Themes, names: list[str], asked: Case) -> Case:
    chosen: Case = {}
    for name in dice.some(words.MULTIPLIER_NAMES, 0.15):
        sign = -1.0 if dice.chance(0.3) and not name.startswith(("pci", "soft")) else 1.0
        chosen[f"filter_scheduler.{name}"] = sign * dice.choice(MULTIPLIERS)
    if dice.chance(0.2):
        chosen["filter_scheduler.max_io_ops_per_host"] = dice.choice((0, 1, 8, 2**40))
    if dice.chance(0.2):
        chosen["filter_scheduler.max_instances_per_host"] = dice.choice((1, 5, 50, 2**40))
    if "images" in themes:
        chosen |= _images(dice)
    if dice.chance(0.3):
        chosen["scheduler.enable_isolated_aggregate_filtering"] = True
    if "features" in themes and dice.chance(0.4):
        chosen["scheduler.image_metadata_prefilter"] = True
    if dice.chance(0.2):
        chosen |= _isolation(dice, names, asked)
    if "metrics" in themes:
        chosen |= _metrics(dice)
    if "pci" in themes:
        chosen["pci.alias"] = [json.dumps(alias) for alias in words.PCI_ALIASES]
    return chosen


def _images(dice: Dice) -> Case:
    chosen: Case = {}
    if dice.chance(0.6):
        chosen["filter_scheduler.image_props_weight_multiplier"] = dice.choice((1.0, -1.0, 0.5, 0.0))
    if dice.chance(0.4):
        settings = [name + dice.choice(SETTINGS) for name in dice.some([*words.IMAGE_PROPERTIES, "licence"], 0.4)]
        chosen["filter_scheduler.image_props_weight_setting"] = settings
    if dice.chance(0.2):
        chosen["filter_scheduler.image_properties_default_architecture"] = dice.choice(words.ARCHITECTURES)
    if dice.chance(0.15):
        chosen["filter_scheduler.aggregate_image_properties_isolation_namespace"] = dice.choice(("os", "hw", "none"))
        if dice.chance(0.7):
            chosen["filter_scheduler.aggregate_image_properties_isolation_separator"] = dice.choice(("_", "", "."))
    return chosen


def _isolation(dice: Dice, names: list[str], asked: Case) -> Case:
    images = dice.some(words.IMAGES[:2], 0.5)
    if asked["image"] and asked["image"]["id"] and dice.chance(0.3):
        images.append(asked["image"]["id"])
    return {
        "filter_scheduler.isolated_hosts": dice.some([*names, "no-such-host"], 0.4),
        "filter_scheduler.isolated_images": images,
        "filter_scheduler.restrict_isolated_hosts_to_isolated_images": dice.chance(0.5),
    }


def _metrics(dice: Dice) -> Case:
    names = dice.some([*words.TIME_METRICS[:3], *words.PERCENT_METRICS[:3], "no.such.metric"], 0.4)
    chosen: Case = {
        "metrics.weight_setting": [name + dice.mostly("=1.0", SETTINGS, 0.4) for name in names],
        "metrics.required": dice.chance(0.2),
    }
    if dice.chance(0.3):
        chosen["metrics.weight_multiplier"] = dice.choice((0.0, 1.0, -1.0, 0.1))
    if dice.chance(0.3):
        chosen["metrics.weight_of_unavailable"] = dice.choice((-10000.0, 0.0, 5.5, 1e12))
    return chosen
