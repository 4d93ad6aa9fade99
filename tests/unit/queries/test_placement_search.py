"""Candidates: trees, lenders and groups, each case small enough to be counted by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.model.hosts import Inventory
from nova_fast.model.placement import SHARING_TRAIT, Consumer, ProviderShare, ResourceProvider
from nova_fast.queries.placement_search import (
    COMBINATIONS_MAX,
    Candidates,
    Conditions,
    Search,
    Trees,
    candidates,
    matching,
)
from nova_fast.state import schema as tables
from nova_fast.state.reader import Reader
from nova_fast.state.testing import MemoryStore, memory_store

AGGREGATE, ELSEWHERE = "aggregate-1", "aggregate-2"


class World:
    """Providers by name; a name is the UUID as well."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    def add(
        self, name: str, parent: str = "", *, traits: tuple[str, ...] = (), aggregates: tuple[str, ...] = (),
        **amounts: int | Inventory,
    ) -> None:  # fmt: skip
        inventories = tuple(
            one if isinstance(one, Inventory) else Inventory(resource_class=kind, total=one)
            for kind, one in amounts.items()
        )
        record = ResourceProvider(
            uuid=name, name=name, created_at_us=1, updated_at_us=1, parent=parent, inventories=inventories,
            traits=tuple(sorted(traits)), aggregates=aggregates,
        )  # fmt: skip
        self.store.run(lambda tx: tx.put(tables.PROVIDERS, record))

    def take(self, provider: str, **amounts: int) -> None:
        share = ProviderShare(provider=provider, resources=amounts)
        consumer = Consumer(
            uuid=f"taker of {provider}", generation=1, project_id="p", user_id="u", shares=(share,), created_at_us=1,
            updated_at_us=1,
        )  # fmt: skip
        self.store.run(lambda tx: tx.put(tables.CONSUMERS, consumer))

    def search(self, search: Search) -> Candidates:
        return self.store.read(lambda reader: candidates(reader, search))

    def looked_at(self, search: Search) -> int:
        """How many combinations are looked at to find out that there is no way."""

        def work(reader: Reader) -> int:
            trees = Trees(reader, search)
            assert [way for root in trees.anchors() for way in trees.candidates(root)] == []
            return trees.combinations

        return self.store.read(work)

    def ways(self, search: Search) -> list[str]:
        """Each way as ``provider:CLASS=amount …``, sorted."""
        return sorted(
            " ".join(
                sorted(
                    f"{uuid}:" + ",".join(f"{name}={amount}" for name, amount in sorted(resources.items()))
                    for uuid, resources in one.amounts.items()
                )
            )
            for one in self.search(search).candidates
        )

    def names(self, wanted: Conditions, name: str | None = None) -> list[str]:
        return sorted(one.name for one in self.store.read(lambda r: list(matching(r, wanted, name, None))))


@pytest.fixture
def world() -> Iterator[World]:
    with memory_store() as store:
        yield World(store)


def one(**resources: int) -> Search:
    return Search(groups={"": Conditions(resources=resources)})


def test_the_group_without_a_suffix_is_spread_over_a_tree(world: World) -> None:
    world.add("root", MEMORY_MB=1000)
    world.add("left", "root", VCPU=4)
    world.add("right", "root", VCPU=8)
    world.add("alone", VCPU=4, MEMORY_MB=500)
    assert world.ways(one(VCPU=4, MEMORY_MB=500)) == [
        "alone:MEMORY_MB=500,VCPU=4", "left:VCPU=4 root:MEMORY_MB=500", "right:VCPU=4 root:MEMORY_MB=500",
    ]  # fmt: skip
    assert world.ways(one(VCPU=5, MEMORY_MB=500)) == ["right:VCPU=5 root:MEMORY_MB=500"]
    world.take("right", VCPU=4)
    assert world.ways(one(VCPU=5, MEMORY_MB=500)) == []
    found = world.search(one(VCPU=4, MEMORY_MB=600))
    assert {provider.name for provider in found.providers} == {"root", "left", "right"}
    assert world.ways(Search(groups=one(VCPU=4, MEMORY_MB=500).groups, nested=False)) == ["alone:MEMORY_MB=500,VCPU=4"]


@pytest.mark.parametrize(
    ("amount", "fits"), [(3, False), (4, True), (5, False), (6, True), (8, True), (10, False)], ids=str
)
def test_min_max_and_step_are_kept(world: World, amount: int, fits: bool) -> None:
    own = Inventory(resource_class="VCPU", total=100, reserved=1, min_unit=4, max_unit=8, step_size=2)
    world.add("one", VCPU=own)
    assert bool(world.ways(one(VCPU=amount))) == fits
    assert bool(world.names(Conditions(resources={"VCPU": amount}))) == fits


def test_what_is_reserved_or_taken_is_not_there_and_a_ratio_makes_more(world: World) -> None:
    world.add("one", VCPU=Inventory(resource_class="VCPU", total=10, reserved=2, allocation_ratio=1.5))
    assert world.ways(one(VCPU=12))
    assert not world.ways(one(VCPU=13))
    world.take("one", VCPU=10)
    assert world.ways(one(VCPU=2))
    assert not world.ways(one(VCPU=3))


def test_a_lender_gives_to_trees_with_which_it_shares_an_aggregate(world: World) -> None:
    world.add("root", aggregates=(AGGREGATE,), VCPU=4)
    world.add("below", "root", VCPU=4)
    world.add("far", aggregates=(ELSEWHERE,), VCPU=4)
    world.add("disks", traits=(SHARING_TRAIT,), aggregates=(AGGREGATE,), DISK_GB=100)
    world.add("own", aggregates=(AGGREGATE,), DISK_GB=100)  # it shares nothing
    assert world.ways(one(VCPU=1, DISK_GB=10)) == ["below:VCPU=1 disks:DISK_GB=10", "disks:DISK_GB=10 root:VCPU=1"]
    found = world.search(one(VCPU=1, DISK_GB=10))
    assert {provider.name for provider in found.providers} == {"root", "below", "disks"}
    stay = Search(groups={"": Conditions(resources={"VCPU": 1, "DISK_GB": 10}, in_tree="root")})
    assert world.ways(stay) == []


def test_traits_are_those_of_all_who_give_and_none_may_have_a_forbidden_one(world: World) -> None:
    world.add("root", traits=("A",), VCPU=4)
    world.add("left", "root", traits=("B",), MEMORY_MB=10)
    world.add("right", "root", traits=("C",), MEMORY_MB=10)
    resources = {"VCPU": 1, "MEMORY_MB": 1}

    def ways(**conditions: object) -> list[str]:
        return world.ways(Search(groups={"": Conditions(resources=resources, **conditions)}))  # type: ignore[arg-type]

    left, right = "left:MEMORY_MB=1 root:VCPU=1", "right:MEMORY_MB=1 root:VCPU=1"
    assert ways(required=(frozenset("A"), frozenset("B"))) == [left]
    assert ways(required=(frozenset("BC"),)) == [left, right]
    assert ways(forbidden=frozenset("B")) == [right]
    assert ways(forbidden=frozenset("A")) == []
    group = Conditions(resources={"MEMORY_MB": 1}, required=(frozenset("A"),))
    assert world.ways(Search(groups={"1": group})) == []  # a group with a suffix has one giver, with all of it


def test_an_aggregate_of_the_root_counts_for_the_tree_of_a_spread_group_only(world: World) -> None:
    world.add("root", aggregates=(AGGREGATE,), MEMORY_MB=10)
    world.add("left", "root", aggregates=(ELSEWHERE,), VCPU=4)
    world.add("right", "root", VCPU=4)
    resources = {"VCPU": 1}

    def ways(suffix: str, **conditions: object) -> list[str]:
        return world.ways(Search(groups={suffix: Conditions(resources=resources, **conditions)}))  # type: ignore[arg-type]

    inside, elsewhere = (frozenset({AGGREGATE}),), (frozenset({ELSEWHERE}),)
    assert ways("", member_of=inside) == ["left:VCPU=1", "right:VCPU=1"]
    assert ways("1", member_of=inside) == []
    assert ways("1", member_of=elsewhere) == ways("", member_of=elsewhere) == ["left:VCPU=1"]
    assert ways("", member_of=(*inside, *elsewhere)) == []  # no provider is in both
    assert ways("", not_in=frozenset({AGGREGATE})) == []
    assert ways("", not_in=frozenset({ELSEWHERE})) == ways("1", not_in=frozenset({ELSEWHERE})) == ["right:VCPU=1"]


def test_isolated_groups_come_from_different_providers_and_others_may_share_one(world: World) -> None:
    world.add("root", VCPU=8)
    world.add("left", "root", SRIOV_NET_VF=4)
    world.add("right", "root", SRIOV_NET_VF=2)
    groups = {suffix: Conditions(resources={"SRIOV_NET_VF": 2}) for suffix in ("1", "2")}
    assert world.ways(Search(groups=groups, isolate=True)) == ["left:SRIOV_NET_VF=2 right:SRIOV_NET_VF=2"] * 2
    assert world.ways(Search(groups=groups)) == [
        "left:SRIOV_NET_VF=2 right:SRIOV_NET_VF=2", "left:SRIOV_NET_VF=2 right:SRIOV_NET_VF=2", "left:SRIOV_NET_VF=4",
    ]  # fmt: skip
    [way] = world.search(Search(groups={"": Conditions(resources={"VCPU": 1}), "_x": groups["1"]}, limit=1)).candidates
    assert way.mappings == {"": ("root",), "_x": ("left",)}


def test_groups_of_one_subtree_have_one_above_the_others(world: World) -> None:
    world.add("root", VCPU=8)
    for numa in ("numa0", "numa1"):
        world.add(numa, "root", traits=("NUMA",), VCPU=4)
        world.add(f"{numa}-nic", numa, SRIOV_NET_VF=4)
    cpu = Conditions(resources={"VCPU": 1}, required=(frozenset({"NUMA"}),))
    nic = Conditions(resources={"SRIOV_NET_VF": 1})
    groups = {"_cpu": cpu, "_nic": nic}
    together = (frozenset({"_cpu", "_nic"}),)
    assert len(world.ways(Search(groups=groups))) == 4
    assert world.ways(Search(groups=groups, same_subtrees=together)) == [
        "numa0-nic:SRIOV_NET_VF=1 numa0:VCPU=1", "numa1-nic:SRIOV_NET_VF=1 numa1:VCPU=1",
    ]  # fmt: skip
    empty = {"_cpu": Conditions(required=(frozenset({"NUMA"}),)), "_nic": nic}
    found = world.search(Search(groups=empty, same_subtrees=together)).candidates
    assert [way.amounts for way in found] == [{"numa0-nic": {"SRIOV_NET_VF": 1}}, {"numa1-nic": {"SRIOV_NET_VF": 1}}]
    assert found[0].mappings == {"_cpu": ("numa0",), "_nic": ("numa0-nic",)}


def test_the_root_must_be_what_is_asked_of_it(world: World) -> None:
    world.add("plain", VCPU=4)
    world.add("multi", traits=("COMPUTE_VOLUME_MULTI_ATTACH",), MEMORY_MB=1)
    world.add("below", "multi", VCPU=4)
    wanted = Conditions(required=(frozenset({"COMPUTE_VOLUME_MULTI_ATTACH"}),))
    assert world.ways(Search(groups=one(VCPU=1).groups, root=wanted)) == ["below:VCPU=1"]
    unwanted = Conditions(forbidden=frozenset({"COMPUTE_VOLUME_MULTI_ATTACH"}))
    assert world.ways(Search(groups=one(VCPU=1).groups, root=unwanted)) == ["plain:VCPU=1"]


def test_what_many_groups_cannot_have_together_is_found_out_in_time(world: World) -> None:
    """Twelve groups over devices that have room for ten, or for twelve that are not allowed together."""
    world.add("root")
    for number in range(20):
        world.add(f"device-{number:02}", "root", VGPU=1 if number < 10 else 0)
    groups = {str(number): Conditions(resources={"VGPU": 1}) for number in range(12)}
    assert world.looked_at(Search(groups=groups)) < 100  # all together have too little
    ten = {str(number): Conditions(resources={"VGPU": 1}) for number in range(10)}
    assert len(world.ways(Search(groups=ten, limit=7))) == 7
    world.add("device-20", "root", VGPU=Inventory(resource_class="VGPU", total=2, max_unit=1))
    assert COMBINATIONS_MAX <= world.looked_at(Search(groups=groups, isolate=True)) < COMBINATIONS_MAX + 100


def test_single_providers_are_listed_by_their_own_conditions(world: World) -> None:
    world.add("root", traits=("A",), aggregates=(AGGREGATE,), VCPU=4)
    world.add("below", "root", traits=("B",), VCPU=2)
    world.add("other", traits=("A", "B"), VCPU=4)
    assert world.names(Conditions(in_tree="below")) == ["below", "root"]
    assert world.names(Conditions(in_tree="nowhere")) == []
    assert world.names(Conditions(resources={"VCPU": 3})) == ["other", "root"]
    assert world.names(Conditions(required=(frozenset("A"), frozenset("B")))) == ["other"]
    assert world.names(Conditions(forbidden=frozenset("A"))) == ["below"]
    assert world.names(Conditions(member_of=(frozenset({AGGREGATE}),))) == ["root"]
    assert world.names(Conditions(not_in=frozenset({AGGREGATE}))) == ["below", "other"]
    assert world.names(Conditions(), name="below") == ["below"]
