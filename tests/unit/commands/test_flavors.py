"""Flavors as records: who sees a private one, what must be unique, and what has a bound."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands import flavors as commands
from nova_fast.model.commands.flavors import (
    ChangeFlavorAccess,
    CreateFlavor,
    DeleteExtraSpec,
    DeleteFlavor,
    SetExtraSpecs,
    UpdateFlavor,
)
from nova_fast.model.errors import BadRequest, Conflict, NotFound
from nova_fast.model.flavors import Flavor
from nova_fast.model.identity import Caller, Project
from nova_fast.queries import flavors
from nova_fast.queries.flavors import FlavorFilter
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store

ADMIN = Caller(user_id="a", project_id="admins", roles=("admin",))
ALICE = Caller(user_id="alice", project_id="p1", roles=("member",))


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        project = Project(id="p1", domain_id="default", name="p1", parent_id="default")
        made.run(lambda tx: tx.put(tables.PROJECTS, project))
        yield made


def make(store: MemoryStore, name: str = "f", **fields: object) -> Flavor:
    request = CreateFlavor(caller=ADMIN, name=name, vcpus=1, ram_mib=64, disk_gib=1, **fields)  # type: ignore[arg-type]
    result = store.run(lambda tx: commands.create_flavor(tx, request))
    found: Flavor = result.flavor  # type: ignore[attr-defined]
    return found


def test_a_name_is_free_again_when_its_flavor_is_gone(store: MemoryStore) -> None:
    first = make(store, id="1")
    with pytest.raises(Conflict):
        make(store, id="2")
    with pytest.raises(Conflict):
        make(store, "g", id="1")
    store.run(lambda tx: commands.delete_flavor(tx, DeleteFlavor(caller=ADMIN, flavor_id=first.id)))
    assert make(store, id="1").created_at_us > first.created_at_us


def test_a_name_may_be_long_but_must_fit_a_key(store: MemoryStore) -> None:
    assert make(store, "é" * 250).name == "é" * 250
    with pytest.raises(BadRequest):
        make(store, "€" * 255)


def test_a_private_flavor_is_seen_by_those_on_its_list(store: MemoryStore) -> None:
    flavor = make(store, is_public=False)

    def access(present: bool) -> None:
        request = ChangeFlavorAccess(caller=ADMIN, flavor_id=flavor.id, project_id="p1", present=present)
        store.run(lambda tx: commands.change_flavor_access(tx, request))

    def seen() -> list[str]:
        return [found.name for found in store.read(lambda reader: flavors.listing(reader, FlavorFilter(), ALICE))]

    assert seen() == []
    access(True)
    assert seen() == ["f"]
    with pytest.raises(Conflict):
        access(True)
    access(False)
    assert seen() == []
    with pytest.raises(NotFound):
        access(False)
    with pytest.raises(NotFound):
        store.read(lambda reader: flavors.get(reader, flavor.id, ALICE))


def test_extra_specs_have_a_bound_and_are_removed_once(store: MemoryStore) -> None:
    flavor = make(store)

    def put(specs: dict[str, str]) -> None:
        request = SetExtraSpecs(caller=ADMIN, flavor_id=flavor.id, extra_specs=specs)
        store.run(lambda tx: commands.set_extra_specs(tx, request))

    put({f"k{number}": "v" for number in range(128)})
    with pytest.raises(BadRequest):
        put({"one-more": "v"})
    put({"k0": "changed"})
    remove = DeleteExtraSpec(caller=ADMIN, flavor_id=flavor.id, key="k0")
    store.run(lambda tx: commands.delete_extra_spec(tx, remove))
    with pytest.raises(NotFound):
        store.run(lambda tx: commands.delete_extra_spec(tx, remove))


def test_an_update_that_says_nothing_changes_nothing(store: MemoryStore) -> None:
    flavor = make(store, description="old")
    same = store.run(lambda tx: commands.update_flavor(tx, UpdateFlavor(caller=ADMIN, flavor_id=flavor.id)))
    assert same.flavor == flavor  # type: ignore[attr-defined]
    request = UpdateFlavor(caller=ADMIN, flavor_id=flavor.id, description=None)
    store.run(lambda tx: commands.update_flavor(tx, request))
    assert store.read(lambda reader: flavors.get(reader, flavor.id, ADMIN)).description is None
