"""Policies: how one of the hosts that pass all filters is chosen.

All four see the same filters and the same claims; only the choice differs:

=======  ==========================================================================================================
filter   the highest weight: RAM, CPU, disk and I/O, normalised and multiplied as Nova does (the default)
simple   the least loaded: fewest vCPUs taken
chance   any, each host equally likely
zone     any within the zone asked for; when none is asked for, first any zone that has room, each equally likely
=======  ==========================================================================================================

``filter`` and ``simple`` prefer the lower row among equals. ``filter`` knows Nova's two ways to spread a burst:
``shuffle_best_same_weighed_hosts`` (any order among those that share the best weight) and then ``host_subset_size``
(any of the so many best). What a policy returns is a ranking: the winner first, then the hosts to fall back on.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from nova_fast._ext import ANY, HostQuery
from nova_fast._ext.host_table import HostTable

Ranking = list[tuple[int, float]]  # (row, weight), the winner first


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy may use besides the table."""

    random: random.Random
    alternates: int  # hosts to name behind the winner
    subset_size: int  # host_subset_size
    shuffle: bool  # shuffle_best_same_weighed_hosts
    zone_count: int  # zones that exist; their numbers are 0, 1, …


Policy = Callable[[HostTable, HostQuery, Draw], Ranking]


def choose_by_weight(table: HostTable, query: HostQuery, draw: Draw) -> Ranking:
    """The ``filter`` policy."""
    wanted = draw.subset_size + draw.alternates
    if draw.shuffle:
        ranking, equals = table.best_and_ties(query, wanted)
        if equals > 1:
            # The first of a shuffle of all equals, without shuffling them all.
            drawn = draw.random.sample(range(equals), min(equals, wanted))
            ranking = [(table.nth(position), ranking[0][1]) for position in drawn] + ranking[equals:]
    else:
        ranking = table.best(query, wanted)
    if draw.subset_size > 1 and len(ranking) > 1:
        ranking.insert(0, ranking.pop(draw.random.randrange(min(draw.subset_size, len(ranking)))))
    return ranking[: 1 + draw.alternates]


def choose_least_used(table: HostTable, query: HostQuery, draw: Draw) -> Ranking:
    """The ``simple`` policy; the weight is minus the vCPUs taken."""
    return table.least_used(query, 1 + draw.alternates)


def choose_by_chance(table: HostTable, query: HostQuery, draw: Draw) -> Ranking:
    """The ``chance`` policy; nobody has a weight."""
    count = table.feasible(query)
    return [(table.nth(n), 0.0) for n in draw.random.sample(range(count), min(count, 1 + draw.alternates))]


def choose_within_zone(table: HostTable, query: HostQuery, draw: Draw) -> Ranking:
    """The ``zone`` policy; the alternates are in the winner's zone."""
    if query.zone == ANY and query.host == ANY:
        zones = [zone for zone in range(draw.zone_count) if table.feasible(query._replace(zone=zone))]
        if not zones:
            return []
        query = query._replace(zone=draw.random.choice(zones))
    return choose_by_chance(table, query, draw)


POLICIES: dict[str, Policy] = {
    "filter": choose_by_weight,
    "simple": choose_least_used,
    "chance": choose_by_chance,
    "zone": choose_within_zone,
}
