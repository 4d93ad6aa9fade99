"""Policies: how one of the hosts that pass is chosen.

All four see the same filters and the same claims; only the choice differs:

=======  ==========================================================================================================
filter   the highest weight: Nova's weighers, normalised and multiplied as Nova does (the default)
simple   the least loaded: fewest vCPUs taken
chance   any, each host equally likely
zone     any within the zone asked for; when none is asked for, first any zone that has room, each equally likely
=======  ==========================================================================================================

``filter`` and ``simple`` prefer the lower row among equals. ``filter`` knows Nova's two ways to spread a burst:
``shuffle_best_same_weighed_hosts`` (any order among those that share the best weight) and then ``host_subset_size``
(any of the so many best). What a policy returns is a ranking: the winner first, then the hosts behind it, which are
what to fall back on and what an operator is shown (``filter`` and ``simple``: as many as are shown).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import msgspec

from nova_fast._ext.fleet import Sieve
from nova_fast._ext.rows import Ranking
from nova_fast.scheduler.profiles import Profiles
from nova_fast.scheduler.search import Search


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy may use besides the table."""

    random: random.Random
    alternates: int  # hosts to name behind the winner where nobody has a weight
    shown: int  # hosts to name in all where they have weights
    subset_size: int  # host_subset_size
    shuffle: bool  # shuffle_best_same_weighed_hosts
    profiles: Profiles


Policy = Callable[[Search, Draw], Ranking]


def choose_by_weight(search: Search, draw: Draw) -> Ranking:
    """The ``filter`` policy."""
    wanted = draw.subset_size - 1 + draw.shown
    if draw.shuffle:
        ranking, equals = search.ties(wanted)
        if equals.count > 1:
            # The first of a shuffle of all equals, without shuffling them all.
            drawn = draw.random.sample(range(equals.count), min(equals.count, wanted))
            ranking = [(equals.nth(position), ranking[0][1]) for position in drawn] + ranking[equals.count :]
    else:
        ranking = search.best(wanted)
    if draw.subset_size > 1 and len(ranking) > 1:
        ranking.insert(0, ranking.pop(draw.random.randrange(min(draw.subset_size, len(ranking)))))
    return ranking[: draw.shown]


def choose_least_used(search: Search, draw: Draw) -> Ranking:
    """The ``simple`` policy; the weight is minus the vCPUs taken."""
    return search.least_used(draw.shown)


def choose_by_chance(search: Search, draw: Draw) -> Ranking:
    """The ``chance`` policy; nobody has a weight."""
    return _draw(search.sieve(), draw)


def choose_within_zone(search: Search, draw: Draw) -> Ranking:
    """The ``zone`` policy; the alternates are in the winner's zone."""
    sieve = search.sieve()
    request = search.lowered.request
    if not request.zone and not request.requested_host:
        zone_of = [facts.zone for facts in draw.profiles]
        zones: Counter[str] = Counter()
        for zone, hosts in zip(zone_of, sieve.by_profile(), strict=False):
            zones[zone] += hosts
        with_room = sorted(zone for zone, hosts in zones.items() if hosts)
        if not with_room:
            return []
        chosen = draw.random.choice(with_room)
        sieve.profiles([zone == chosen for zone in zone_of])
    return _draw(sieve, draw)


def _draw(sieve: Sieve, draw: Draw) -> Ranking:
    count = sieve.count
    return [(sieve.nth(n), 0.0) for n in draw.random.sample(range(count), min(count, 1 + draw.alternates))]


POLICIES: dict[str, Policy] = {
    "filter": choose_by_weight,
    "simple": choose_least_used,
    "chance": choose_by_chance,
    "zone": choose_within_zone,
}
