"""Which providers meet conditions, and in which ways trees of providers could give what is asked for together.

Source: Placement API, "Allocation candidates", and its developer documents on nested, sharing and granular requests.
A candidate belongs to one tree, its anchor: what it takes comes from providers of the tree, or from lenders, which
share an aggregate with one of them and have the trait MISC_SHARES_VIA_AGGREGATE. The group without a suffix may be
spread over several providers, every other group comes from one.

Trees are looked at one after the other, in the order of hosts' names, until enough candidates are found.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator

from nova_fast.model.base import Value
from nova_fast.model.placement import SHARING_TRAIT, Provider, capacity_of
from nova_fast.queries import placement
from nova_fast.state.reader import Reader

#: Combinations looked at for one request. Groups that nothing satisfies together must not hold up a worker.
COMBINATIONS_MAX = 20_000

Amounts = dict[str, dict[str, int]]  # provider → resource class → amount


class Conditions(Value, frozen=True):
    """What is asked of a provider, or of several that give together."""

    resources: dict[str, int] = {}
    required: tuple[frozenset[str], ...] = ()  # of each set one trait must be there
    forbidden: frozenset[str] = frozenset()
    member_of: tuple[frozenset[str], ...] = ()  # of each set it must be in one aggregate
    not_in: frozenset[str] = frozenset()
    in_tree: str | None = None

    def has_traits(self, traits: Iterable[str]) -> bool:
        """Whether these traits are what is asked for."""
        found = frozenset(traits)
        return not found & self.forbidden and all(found & any_of for any_of in self.required)

    def is_inside(self, one: Provider) -> bool:
        """Whether a provider is itself in the aggregates it must be in."""
        return all(any_of.intersection(one.aggregates) for any_of in self.member_of)

    def is_outside(self, one: Provider) -> bool:
        """Whether a provider is in none of the aggregates it must not be in."""
        return not self.not_in.intersection(one.aggregates)

    def fits(self, one: Provider) -> bool:
        """Whether a provider can give everything alone."""
        return all(one.fits(name, amount) for name, amount in self.resources.items())


class Search(Value, frozen=True):
    """A request for candidates: its groups by suffix, and what holds for all of them."""

    groups: dict[str, Conditions]
    isolate: bool = False  # groups with a suffix come from different providers
    root: Conditions = Conditions()  # of its traits only: what the root of the tree must be
    same_subtrees: tuple[frozenset[str], ...] = ()  # suffixes whose providers lie below one of them
    nested: bool = True  # the client knows trees: several providers of one may give together
    limit: int = 1000


class Candidate(Value, frozen=True):
    """One way."""

    amounts: Amounts
    mappings: dict[str, tuple[str, ...]]  # suffix → who gives for it


class Candidates(Value, frozen=True):
    """The ways there are, and what is to be known of the providers in their trees."""

    candidates: tuple[Candidate, ...]
    providers: tuple[Provider, ...]


def matching(reader: Reader, wanted: Conditions, name: str | None, uuid: str | None) -> Iterator[Provider]:
    """Single providers that meet every condition."""
    for one in _nominated(reader, wanted.in_tree, name, uuid):
        if name not in (None, one.name) or uuid not in (None, one.uuid):
            continue
        if wanted.is_inside(one) and wanted.is_outside(one) and wanted.has_traits(one.traits) and wanted.fits(one):
            yield one


def _nominated(reader: Reader, in_tree: str | None, name: str | None, uuid: str | None) -> Iterable[Provider]:
    if in_tree is not None:
        root = placement.provider(reader, placement.root_of(reader, in_tree))
        return [] if root is None else placement.tree(reader, root)
    if uuid is not None:
        one = placement.provider(reader, uuid)
        return [] if one is None else [one]
    return placement.every(reader) if name is None else placement.by_name(reader, name)


def candidates(reader: Reader, search: Search) -> Candidates:
    """Every way in which the groups can be satisfied together, up to the limit."""
    trees = Trees(reader, search)
    found: dict[str, Candidate] = {}
    for root in trees.anchors():
        for candidate in trees.candidates(root):
            found.setdefault(repr(candidate), candidate)
            if len(found) >= search.limit:
                return trees.summed_up(found.values())
        if trees.combinations >= COMBINATIONS_MAX:
            break
    return trees.summed_up(found.values())


class Trees:
    """The search of one request in one snapshot."""

    def __init__(self, reader: Reader, search: Search) -> None:
        self._reader = reader
        self._search = search
        self._lenders = placement.sharing(reader, SHARING_TRAIT)
        self._known: dict[str, Provider] = {}  # of the tree that is looked at
        self._giving: dict[str, Provider] = {}  # in any candidate
        self._roots = {
            group.in_tree: placement.root_of(reader, group.in_tree)
            for group in search.groups.values()
            if group.in_tree is not None
        }
        self.combinations = 0

    def anchors(self) -> Iterator[Provider]:
        """The roots of the trees that can be asked."""
        tree = self._search.groups.get("", Conditions()).in_tree
        if tree is not None:  # a spread group that is told its tree takes nothing from lenders
            root = placement.provider(self._reader, self._roots[tree])
            found: Iterable[Provider] = [] if root is None else [root]
        else:
            found = placement.roots(self._reader)
        return (root for root in found if self._search.root.has_traits(root.traits))

    def candidates(self, root: Provider) -> Iterator[Candidate]:
        """The ways of one tree."""
        members = placement.tree(self._reader, root)
        lenders = self._lenders_to(members) if self._lenders else []
        self._known = {one.uuid: one for one in (*members, *lenders)}
        options: list[tuple[str, list[Amounts]]] = []
        for suffix, group in self._search.groups.items():
            if suffix:
                ways = self._alone(group, [*members, *lenders])
            else:
                ways = self._spread(group, members, lenders)
            if not ways:
                return
            options.append((suffix, ways))
        if not self._enough([ways for _suffix, ways in options]):
            return
        for chosen in self._combined(options, {}, {}):
            mappings = {suffix: tuple(sorted(amounts)) for suffix, amounts in chosen.items()}
            if all(self._one_subtree(mappings, suffixes) for suffixes in self._search.same_subtrees):
                amounts = _sum(chosen.values())
                self._giving |= {uuid: self._known[uuid] for uuid in amounts}
                yield Candidate(amounts=amounts, mappings=mappings)

    def _lenders_to(self, members: list[Provider]) -> list[Provider]:
        aggregates = frozenset(itertools.chain.from_iterable(one.aggregates for one in members))
        root = members[0].uuid
        return [one for one in self._lenders if one.root != root and aggregates.intersection(one.aggregates)]

    def _alone(self, group: Conditions, givers: list[Provider]) -> list[Amounts]:
        """The ways of a group that comes from one provider. A group without resources chooses one all the same."""
        root = None if group.in_tree is None else self._roots[group.in_tree]
        return [
            {one.uuid: group.resources}
            for one in givers
            if root in (None, one.root)
            and group.fits(one)
            and group.has_traits(one.traits)
            and group.is_inside(one)
            and group.is_outside(one)
        ]

    def _spread(self, group: Conditions, members: list[Provider], lenders: list[Provider]) -> list[Amounts]:
        """The ways of the group that may come from several providers.

        An aggregate of the root counts for the whole tree. All who give must together have the required traits, and
        none of them a forbidden one.
        """
        root = members[0]
        givers = [*members]
        if group.in_tree is None:
            givers += [one for one in lenders if group.is_inside(one)]
        inside = group.is_inside(root)
        givers = [one for one in givers if (inside or group.is_inside(one)) and group.is_outside(one)]
        if not group.is_outside(root):
            return []
        names = list(group.resources)
        by_class = [[one for one in givers if one.fits(name, group.resources[name])] for name in names]
        ways: list[Amounts] = []
        for chosen in itertools.product(*by_class):
            self.combinations += 1
            if self.combinations >= COMBINATIONS_MAX:
                break
            if group.has_traits(itertools.chain.from_iterable(one.traits for one in chosen)):
                way: Amounts = {}
                for name, one in zip(names, chosen, strict=True):
                    way.setdefault(one.uuid, {})[name] = group.resources[name]
                ways.append(way)
        return ways

    def _combined(
        self, options: list[tuple[str, list[Amounts]]], chosen: dict[str, Amounts], taken: Amounts
    ) -> Iterator[dict[str, Amounts]]:
        """One way for each group, such that they fit together; what does not fit is not gone into further."""
        if not options:
            yield chosen
            return
        suffix, ways = options[0]
        for way in ways:
            self.combinations += 1
            if self.combinations >= COMBINATIONS_MAX:
                return
            if self._search.isolate and suffix and any(way.keys() == chosen[other].keys() for other in chosen if other):
                continue
            added = {uuid: _sum_of(taken.get(uuid, {}), resources) for uuid, resources in way.items() if resources}
            together = {**taken, **added}
            if self._fits(added) and (self._search.nested or self._one_of_each_tree(together)):
                yield from self._combined(options[1:], {**chosen, suffix: way}, together)

    def _enough(self, ways: list[list[Amounts]]) -> bool:
        """Whether all who could give have, of each class, as much as all groups want together.

        PERF: without this a request that is too large by little is found out by trying every combination.
        """
        wanted: Counter[str] = Counter()
        for group in self._search.groups.values():
            wanted.update(group.resources)
        givers = {uuid for one in ways for way in one for uuid in way}
        there: Counter[str] = Counter()
        for one in (self._known[uuid] for uuid in givers):
            for name, own in one.inventories.items():
                there[name] += max(0, capacity_of(own) - one.used.get(name, 0))
        return all(amount <= there[name] for name, amount in wanted.items())

    def _fits(self, amounts: Amounts) -> bool:
        for uuid, resources in amounts.items():
            one = self._known[uuid]
            for name, amount in resources.items():
                own = one.inventories[name]
                if one.used.get(name, 0) + amount > capacity_of(own) or amount > own.max_unit:
                    return False
        return True

    def _one_of_each_tree(self, amounts: Amounts) -> bool:
        return len({self._known[uuid].root for uuid in amounts}) == len(amounts)

    def _one_subtree(self, mappings: dict[str, tuple[str, ...]], suffixes: frozenset[str]) -> bool:
        """Whether one of the providers of these groups is the others' ancestor, or the only one."""
        givers = {uuid for suffix in suffixes for uuid in mappings.get(suffix, ())}
        common = frozenset.intersection(*(self._ancestors(uuid) for uuid in givers))
        return bool(common & givers)

    def _ancestors(self, uuid: str) -> frozenset[str]:
        found = {uuid}
        while uuid:
            one = self._known.get(uuid) or placement.provider(self._reader, uuid)
            if one is None:
                break
            self._known[uuid] = one
            found.add(uuid)
            uuid = one.parent
        return frozenset(found)

    def summed_up(self, found: Iterable[Candidate]) -> Candidates:
        """The candidates with every provider of the trees that give; for clients that know no trees, those alone."""
        ways = tuple(found)
        shown: dict[str, Provider] = {}
        for uuid, one in self._giving.items():
            if not self._search.nested:
                shown[uuid] = one
            elif uuid not in shown:
                root = placement.provider(self._reader, one.root)
                assert root is not None, f"the tree of {uuid} has no root"
                shown |= {other.uuid: other for other in placement.tree(self._reader, root)}
        return Candidates(candidates=ways, providers=tuple(shown.values()))


def _sum(parts: Iterable[Amounts]) -> Amounts:
    total: Amounts = {}
    for part in parts:
        for uuid, resources in part.items():
            if resources:
                total[uuid] = _sum_of(total.get(uuid, {}), resources)
    return total


def _sum_of(some: dict[str, int], more: dict[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + more.get(name, 0) for name in some | more}
