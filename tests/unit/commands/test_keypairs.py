"""Key pairs as records: whose they are, and that no two commands can pass the limit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nova_fast.commands import keypairs as commands
from nova_fast.model.commands.keypairs import CreateKeyPair, DeleteKeyPair
from nova_fast.model.errors import Conflict, Forbidden, NotFound, OverQuota
from nova_fast.model.identity import Caller
from nova_fast.model.quotas import Quota
from nova_fast.queries import keypairs
from nova_fast.state import schema as tables
from nova_fast.state.testing import MemoryStore, memory_store

ADMIN = Caller(user_id="root", project_id="admins", roles=("admin",))
ALICE = Caller(user_id="alice", project_id="p1", roles=("member",))


@pytest.fixture
def store() -> Iterator[MemoryStore]:
    with memory_store() as made:
        yield made


def make(store: MemoryStore, name: str, caller: Caller = ALICE, user_id: str = "alice") -> None:
    request = CreateKeyPair(
        caller=caller, user_id=user_id, name=name, key_type="ssh", public_key="ssh-rsa A", fingerprint="00"
    )
    store.run(lambda tx: commands.create_key_pair(tx, request))


def test_a_user_whose_id_begins_another_has_only_its_own(store: MemoryStore) -> None:
    make(store, "mine")
    make(store, "theirs", ADMIN, "alice2")
    assert [key.name for key in store.read(lambda reader: keypairs.listing(reader, "alice"))] == ["mine"]
    assert store.read(lambda reader: keypairs.count(reader, "alice2")) == 1


def test_only_an_admin_acts_for_another_user(store: MemoryStore) -> None:
    with pytest.raises(Forbidden):
        make(store, "k", ALICE, "bob")
    make(store, "k", ADMIN, "bob")
    request = DeleteKeyPair(caller=ALICE, user_id="bob", name="k")
    with pytest.raises(Forbidden):
        store.run(lambda tx: commands.delete_key_pair(tx, request))


def test_the_limit_counts_what_the_user_has(store: MemoryStore) -> None:
    store.run(lambda tx: tx.put(tables.QUOTAS, Quota(project_id="p1", limits={"key_pairs": 2})))
    make(store, "a")
    make(store, "b")
    with pytest.raises(OverQuota):
        make(store, "c")
    with pytest.raises(Conflict):
        make(store, "a")
    store.run(lambda tx: commands.delete_key_pair(tx, DeleteKeyPair(caller=ALICE, user_id="alice", name="a")))
    make(store, "c")
    with pytest.raises(NotFound):
        store.run(lambda tx: commands.delete_key_pair(tx, DeleteKeyPair(caller=ALICE, user_id="alice", name="a")))


def test_numbers_are_never_used_twice(store: MemoryStore) -> None:
    make(store, "a")
    store.run(lambda tx: commands.delete_key_pair(tx, DeleteKeyPair(caller=ALICE, user_id="alice", name="a")))
    make(store, "b")
    assert store.read(lambda reader: keypairs.get(reader, "alice", "b")).number == 2
