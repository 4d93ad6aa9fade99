"""Cases from a seed: a fleet, a request, and the options of the scheduler that looks at both.

A case is plain data (JSON), in words of neither side::

    {"seed", "options": {"section.name": value}, "filters": [names],
     "aggregates": [{uuid, name, hosts, metadata}], "servers": [{id, host, group, properties}],
     "hosts": [{name, …}], "request": {server_id, flavor, image, hints, group, zone, …}}

One seed gives one case for ever, as long as this folder is what it was. Each case turns to some themes (aggregates,
groups, images, metrics, …) more than to others, so that a filter sees requests that mean it and hosts on either side.
"""

from __future__ import annotations

from typing import Any

from .dice import Dice
from .fleet import aggregates, hosts, servers
from .options import enabled_filters, options
from .request import request

Case = dict[str, Any]

THEMES = (
    "aggregates",
    "capabilities",
    "custom",
    "features",
    "groups",
    "hints",
    "images",
    "metrics",
    "numa",
    "pci",
    "queries",
    "traits",
    "zones",
)


def case(seed: int) -> Case:
    """The case of a seed."""
    dice = Dice(seed)
    drawn = set(dice.sample((*THEMES, "groups", "groups", "hints"), dice.randint(1, 4)))
    themes = frozenset(drawn | {"numa"} if "pci" in drawn and dice.chance(0.5) else drawn)
    fleet = hosts(dice, themes)
    names = [host["name"] for host in fleet]
    grouped = aggregates(dice, themes, names)
    living = servers(dice, themes, names)
    zones = [zone for aggregate in grouped if (zone := aggregate["metadata"].get("availability_zone"))]
    asked = request(dice, themes, fleet, living)
    asked["zone"] = dice.mostly(dice.choice(zones), ("",), 0.2) if zones else ""  # the API refuses others
    return {
        "seed": seed,
        "options": options(dice, themes, names, asked),
        "filters": enabled_filters(dice),
        "aggregates": grouped,
        "servers": living,
        "hosts": fleet,
        "request": asked,
    }
